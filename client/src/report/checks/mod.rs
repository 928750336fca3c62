//! The checks, theme by theme. An id stays what it is for life: reports of
//! different years are compared by it.

mod access;
mod integrity;
mod logging;
mod residency;
mod restoration;
mod sealing;

use super::check::Check;

/// Every check, in the order of the report.
pub fn all() -> impl Iterator<Item = &'static Check> {
    let themes: [&'static [Check]; 6] = [
        &sealing::CHECKS,
        &residency::CHECKS,
        &integrity::CHECKS,
        &restoration::CHECKS,
        &access::CHECKS,
        &logging::CHECKS,
    ];
    themes.into_iter().flatten()
}
