//! Every adapter of this crate keeps the promises of the port.

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffer_model::SlotId;
use coffer_regions::{Site, SiteError};
use coffer_site::conformance::{conformance, damaged_slots};
use coffer_site::faults::RecordingDisk;
use coffer_site::{SimulatedSite, SiteOptions};
use tempfile::TempDir;

/// Fresh sites whose directories live as long as this.
#[derive(Default)]
struct Dirs(Mutex<Vec<TempDir>>);

impl Dirs {
    fn fresh(&self) -> Arc<dyn Site> {
        self.fresh_with(SiteOptions::default())
    }

    #[expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
    fn fresh_with(&self, options: SiteOptions) -> Arc<dyn Site> {
        let dir = TempDir::new().unwrap();
        let site = support::open_with(dir.path(), options).unwrap();
        self.0.lock().unwrap().push(dir);
        Arc::new(site)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_keeps_the_promises() {
    let dirs = Dirs::default();
    conformance(async || dirs.fresh()).await;
}

#[tokio::test]
async fn a_directory_without_threads_keeps_the_promises() {
    let dirs = Dirs::default();
    conformance(async || dirs.fresh_with(support::inline())).await;
}

#[tokio::test]
async fn a_directory_on_a_recording_disk_keeps_the_promises() {
    let dirs = Dirs::default();
    let options = || SiteOptions { disk: Arc::new(RecordingDisk::default()), ..support::inline() };
    conformance(async || dirs.fresh_with(options())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_to_a_directory_keeps_the_promises() {
    let dirs = Dirs::default();
    let slow = |inner| -> Arc<dyn Site> {
        Arc::new(SimulatedSite::new(inner, Duration::from_millis(1), NonZeroU64::new(1 << 30)))
    };
    conformance(async || slow(dirs.fresh())).await;
}

/// Flips a byte in each half of a slot's file.
fn damage(dir: &Path, slot: SlotId) {
    let name: String = slot.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let path = dir.join("slots").join(name);
    let mut bytes = support::read(&path);
    let half = bytes.len() / 2;
    bytes[10] ^= 1;
    bytes[half + 10] ^= 1;
    support::write(&path, &bytes);
}

#[tokio::test]
async fn a_directory_shows_the_slots_that_are_damaged_and_takes_them_anew() {
    let dirs = Dirs::default();
    let site = dirs.fresh();
    let path = dirs.0.lock().unwrap()[0].path().to_owned();
    damaged_slots(Arc::clone(&site), async |slot| damage(&path, slot)).await;
    let dirs = Dirs::default();
    let slow = SimulatedSite::new(dirs.fresh_with(support::inline()), Duration::from_millis(1), None);
    let path = dirs.0.lock().unwrap()[0].path().to_owned();
    damaged_slots(Arc::new(slow), async |slot| damage(&path, slot)).await;
}

#[tokio::test]
async fn a_killed_site_answers_nothing_and_comes_back_with_everything() {
    let dirs = Dirs::default();
    let site = SimulatedSite::new(dirs.fresh(), Duration::ZERO, None);
    let record = support::record(1, 100);
    site.put(vec![record.clone()]).await.unwrap();
    site.kill();
    assert_eq!(site.get(record.id()).await, Err(SiteError::Unreachable));
    assert_eq!(site.put(vec![support::record(2, 100)]).await, Err(SiteError::Unreachable));
    assert_eq!(site.list_slots().await, Err(SiteError::Unreachable));
    assert!(!site.state().await.alive);
    site.revive();
    assert!(site.state().await.alive);
    assert_eq!(site.get(record.id()).await, Ok(record));
    assert_eq!(site.get(support::id(2)).await, Err(SiteError::Missing));
}
