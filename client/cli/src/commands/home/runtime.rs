//! What runs the pods of a fleet at home. It is chosen with the first start and
//! kept: an agent finds only the containers of its own runtime, and pods that another
//! one left running would hold the disks of those that it starts.

use std::path::Path;

use clap::ValueEnum as _;
use coffer_client::profile::write_atomically;

use crate::exit::Failure;
use crate::files;
use crate::flags::PodRuntime;

/// No name is longer.
const TEXT_MAX: u64 = 64;

/// What runs the pods of the fleet in this directory.
pub(super) fn chosen(dir: &Path, wish: Option<PodRuntime>) -> Result<PodRuntime, Failure> {
    let path = dir.join("runtime");
    // Fleets of before there was a choice have no such file, and a store.
    let kept = if path.exists() {
        let text = String::from_utf8_lossy(&files::read_small(&path, TEXT_MAX)?).into_owned();
        let kept = PodRuntime::from_str(text.trim(), false).map_err(|_| {
            Failure::new(format!("{}: this is no runtime of pods", path.display()))
                .safe("nothing was started")
                .next("write process or runc into it, whichever ran the pods so far")
        })?;
        Some(kept)
    } else {
        dir.join("fleet.sqlite").exists().then_some(PodRuntime::Process)
    };
    match (kept, wish) {
        (Some(kept), Some(wish)) if kept != wish => Err(Failure::usage(format!(
            "the pods of this fleet are run by {}, not by {}",
            kept.name(),
            wish.name()
        ))
        .next("leave the flag out, or take another data directory")),
        (kept, wish) => {
            let chosen = kept.or(wish).unwrap_or(PodRuntime::Process);
            write_atomically(&path, format!("{}\n", chosen.name()).as_bytes())?;
            Ok(chosen)
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests make directories")]
mod tests {
    use super::*;

    #[test]
    fn what_runs_the_pods_is_chosen_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(chosen(dir.path(), Some(PodRuntime::Runc)).unwrap(), PodRuntime::Runc);
        assert_eq!(chosen(dir.path(), None).unwrap(), PodRuntime::Runc);
        assert!(chosen(dir.path(), Some(PodRuntime::Process)).is_err());
        assert_eq!(chosen(dir.path(), Some(PodRuntime::Runc)).unwrap(), PodRuntime::Runc);
        std::fs::write(dir.path().join("runtime"), "crane\n").unwrap();
        assert!(chosen(dir.path(), None).is_err());
    }

    #[test]
    fn a_fleet_of_before_there_was_a_choice_has_processes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("fleet.sqlite"), "").unwrap();
        assert!(chosen(dir.path(), Some(PodRuntime::Runc)).is_err());
        assert_eq!(chosen(dir.path(), None).unwrap(), PodRuntime::Process);
    }
}
