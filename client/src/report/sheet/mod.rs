//! The report on paper.

use super::Report;

pub(super) fn pdf(_report: &Report<'_>) -> Vec<u8> {
    Vec::new()
}
