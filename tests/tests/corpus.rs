//! The kept corpus: every file, cut anywhere and with any bit flipped, goes
//! through its entrance without a panic; good ones in, bad ones not.
#![expect(clippy::unwrap_used, reason = "a corpus that cannot be read fails the test")]
#![expect(clippy::disallowed_methods, reason = "the corpus is files")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use coffer_site::entrances::ENTRANCES;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The files of one entrance, by name.
fn files(entrance: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(corpus().join(entrance)).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Longer files are cut and flipped at every so many bytes only.
const STEPS_MAX: usize = 512;

#[test]
fn what_is_good_is_accepted_and_what_is_bad_is_refused() {
    for (entrance, enter) in ENTRANCES {
        let files = files(entrance);
        assert!(files.iter().any(|(name, _)| name.starts_with("bad-")), "{entrance} has nothing bad");
        for (name, bytes) in files {
            let good = name.starts_with("good-");
            assert!(good || name.starts_with("bad-"), "{entrance}/{name}: good or bad?");
            assert_eq!(enter(&bytes), good, "{entrance}/{name}");
        }
    }
}

#[test]
fn every_folder_of_the_corpus_has_its_entrance() {
    let known: BTreeSet<&str> = ENTRANCES.iter().map(|(name, _)| *name).collect();
    for entry in std::fs::read_dir(corpus()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        assert!(!entry.path().is_dir() || known.contains(name.to_str().unwrap()), "{name:?}");
    }
}

#[test]
fn whatever_is_cut_or_flipped_nothing_panics_through_any_entrance() {
    let mut sent = 0_u64;
    for (folder, _) in ENTRANCES {
        for (_, bytes) in files(folder) {
            let step = bytes.len().div_ceil(STEPS_MAX).max(1);
            for at in (0..bytes.len()).step_by(step) {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << (at % 8);
                for (_, enter) in ENTRANCES {
                    enter(&bytes[..at]);
                    enter(&changed);
                    sent += 2;
                }
            }
        }
    }
    assert!(sent > 10_000, "{sent} is no corpus");
}
