//! Any bytes on the disk: what a slot or a volume gives back is what was
//! written there, or nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
#![expect(clippy::disallowed_methods, reason = "tests damage files on purpose")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::path::Path;

use bytes::Bytes;
use coffer_model::SlotId;
use coffer_regions::{Site, SiteError, SlotContent};
use coffer_site::SiteOptions;
use proptest::collection::vec;
use proptest::prelude::*;
use support::{Sample, id, quick, record};
use tempfile::TempDir;

const SLOT: SlotId = SlotId::from_bytes([9; 16]);
/// Two halves of a header sector and room for a body.
const SLOT_FILE_BYTES: usize = 2 * (4096 + 65_536);

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn content(generation: u64, body: &[u8]) -> SlotContent {
    SlotContent { generation, body: Bytes::copy_from_slice(body) }
}

/// Bytes to put over a file's own: where, and which.
fn damage(length: usize) -> impl Strategy<Value = Vec<(usize, u8)>> {
    // Mostly where something lies: the two headers and the beginnings of the bodies.
    let near =
        prop_oneof![0..200_usize, 4096..4200_usize, 69_632..69_840_usize, 73_728..73_840_usize, 0..length];
    vec((near.prop_map(move |at| at % length), any::<u8>()), 0..24)
}

fn open(dir: &Path) -> coffer_site::DirectorySite {
    support::open_with(dir, SiteOptions { ..quick() }).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The oracle is a number and a body: whatever order writes, wipes and
    /// restarts come in, the highest generation is what is read.
    #[test]
    fn a_slot_has_the_highest_generation_that_was_written(
        steps in vec((0_u8..4, 0_u64..12, vec(any::<u8>(), 0..40)), 1..24)
    ) {
        block_on(async {
            let dir = TempDir::new().unwrap();
            let mut site = open(dir.path());
            let mut model: Option<SlotContent> = None;
            for (step, generation, body) in steps {
                let written = content(generation, &body);
                match step {
                    0 | 1 => {
                        let fits = model.as_ref().is_none_or(|now| *now == written || now.generation < generation);
                        let expected = if fits { Ok(()) } else { Err(SiteError::Conflict) };
                        assert_eq!(site.write_slot(SLOT, written.clone()).await, expected);
                        if fits {
                            model = Some(written);
                        }
                    }
                    2 => {
                        let expected = if model.is_some() { Ok(()) } else { Err(SiteError::Missing) };
                        assert_eq!(site.wipe_superseded(SLOT).await, expected);
                    }
                    _ => {
                        drop(site);
                        site = open(dir.path());
                    }
                }
                assert_eq!(site.read_slot(SLOT).await, model.clone().ok_or(SiteError::Missing));
            }
        });
    }

    #[test]
    fn a_slot_with_any_damage_gives_a_generation_that_was_written_or_none(
        changes in damage(SLOT_FILE_BYTES), cut in proptest::option::of(0..SLOT_FILE_BYTES)
    ) {
        block_on(async {
            let dir = TempDir::new().unwrap();
            let site = open(dir.path());
            let (older, newer) = (content(1, b"the older keys"), content(2, b"the newer"));
            site.write_slot(SLOT, older.clone()).await.unwrap();
            site.write_slot(SLOT, newer.clone()).await.unwrap();
            let file = dir.path().join("slots").join("09".repeat(16));
            let mut bytes = std::fs::read(&file).unwrap();
            assert_eq!(bytes.len(), SLOT_FILE_BYTES);
            let whole = bytes.clone();
            changes.iter().for_each(|(at, byte)| bytes[*at] = *byte);
            bytes.truncate(cut.unwrap_or(SLOT_FILE_BYTES));
            std::fs::write(&file, &bytes).unwrap();
            let read = site.read_slot(SLOT).await;
            assert!(
                read == Ok(newer.clone()) || read == Ok(older) || read == Err(SiteError::Damaged),
                "{read:?}"
            );
            let harmed = bytes != whole;
            assert_eq!(site.scrub().await.unwrap().is_empty(), !harmed, "damage of a slot is reported");
            if !harmed {
                assert_eq!(read, Ok(newer));
            }
        });
    }

    #[test]
    fn a_volume_with_any_damage_gives_records_that_were_written_or_none(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        more in vec(any::<u8>(), 0..200),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        block_on(async {
            let written = vec![vec![record(1, 40), record(2, 300)], vec![record(3, 7)], vec![record(4, 0)]];
            let sample = Sample::of(written).await;
            let mut bytes = sample.bytes();
            changes.iter().for_each(|(at, byte)| { let at = at.index(bytes.len()); bytes[at] = *byte; });
            bytes.extend_from_slice(&more);
            if cuts {
                bytes.truncate(cut.index(bytes.len()));
            }
            let image = sample.image(&bytes);
            // It may not open: then it says why, and nothing is made up.
            let Ok(site) = support::open_with(image.path(), quick()) else { return };
            for (n, length) in [(1, 40), (2, 300), (3, 7), (4, 0)] {
                match site.get(id(n)).await {
                    Ok(read) => assert_eq!(read, record(n, length)),
                    Err(error) => assert!(matches!(error, SiteError::Missing | SiteError::Damaged), "{error:?}"),
                }
            }
            let listed = site.list(coffer_regions::RecordKind::Shard, None, 100).await.unwrap();
            assert!(listed.iter().all(|line| (1..=4).any(|n| id(n) == line.id)), "{listed:?}");
        });
    }
}
