//! A site in a directory, by the product's own code, on a disk that keeps what
//! was not fsynced apart, and loses it in a power cut, page by page.
#![expect(clippy::disallowed_methods, reason = "this module changes disks behind the site's back")]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use coffer_model::{Entropy, Execution, SiteDescription};
use coffer_regions::Site;
use coffer_site::faults::{RecordingDisk, Survivors};
use coffer_site::{DirectorySite, Room, SiteOptions, Upkeep};
use futures::FutureExt as _;

use super::chance::Chance;
use super::machine::Storage;
use super::stage::files_in;

/// The nonces of one machine's volumes.
struct MachineEntropy(Chance);

impl Entropy for MachineEntropy {
    fn fill(&self, out: &mut [u8]) {
        self.0.fill(out);
    }
}

/// A directory for each life of the disk.
pub(crate) struct DirectoryDisk {
    description: SiteDescription,
    base: PathBuf,
    entropy: Arc<MachineEntropy>,
    upkeep: Chance,
    /// Length of its volumes. Those of the small ones fill up, and are emptied.
    volume_bytes: Option<u64>,
    life: Mutex<Life>,
}

#[derive(Default)]
struct Life {
    number: u64,
    disk: RecordingDisk,
    /// The site that runs on it, as long as it does.
    site: Weak<DirectorySite>,
}

impl DirectoryDisk {
    pub(crate) fn new(base: &Path, description: SiteDescription) -> Self {
        // The ids of sites come out of the seed, and so do their nonces.
        let seed = u64::from_be_bytes(*description.id.as_bytes().first_chunk().unwrap_or(&[0; 8]));
        let entropy = Arc::new(MachineEntropy(Chance::new(seed, "volumes")));
        let upkeep = Chance::new(seed, "upkeep");
        let volume_bytes =
            *upkeep.pick(&[None, Some(16 << 10), Some(64 << 10), Some(256 << 10)]).unwrap_or(&None);
        Self { description, base: base.to_owned(), entropy, upkeep, volume_bytes, life: Mutex::default() }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, life: &Life) -> PathBuf {
        self.base.join(format!("disk-{}", life.number))
    }

    fn image(&self) -> PathBuf {
        self.base.join("image")
    }

    /// A new life, whose directory `make` fills from the old one.
    fn reborn(&self, make: impl FnOnce(&Life, &Path, &Path) -> io::Result<()>) -> io::Result<()> {
        let mut life = self.life();
        let old = self.path(&life);
        life.disk.cut_power();
        life.number += 1;
        let new = self.path(&life);
        make(&life, &old, &new)?;
        life.disk = RecordingDisk::default();
        fs::remove_dir_all(old)
    }
}

impl Storage for DirectoryDisk {
    fn start(&self) -> Option<Arc<dyn Site>> {
        let mut life = self.life();
        let path = self.path(&life);
        let usual = SiteOptions::default();
        let options = SiteOptions {
            disk: Arc::new(life.disk.clone()),
            execution: Execution::Inline,
            volume_bytes: self.volume_bytes,
            checkpoint_bytes: self.volume_bytes.unwrap_or(usual.checkpoint_bytes),
            ..usual
        };
        let entropy = Arc::clone(&self.entropy) as Arc<dyn Entropy>;
        let open = if path.is_dir() { DirectorySite::open_with } else { DirectorySite::create_with };
        let site = Arc::new(open(&path, self.description.clone(), entropy, options).ok()?);
        life.site = Arc::downgrade(&site);
        Some(site)
    }

    fn tend(&self) -> Vec<&'static str> {
        let Some(site) = self.life().site.upgrade().filter(|_| self.upkeep.permille(200)) else {
            return Vec::new();
        };
        let mut did = Vec::new();
        for _ in 0..=self.upkeep.below(6) {
            // Without threads it is done when it is asked for.
            did.push(match site.maintain().now_or_never() {
                Some(Ok(Upkeep::Checkpoint(_))) => "checkpoint",
                Some(Ok(Upkeep::Copied(_))) => "copied out of a volume",
                Some(Ok(Upkeep::Sealed)) => "volume sealed",
                Some(Ok(Upkeep::Reclaimed(_))) => "volume reclaimed",
                Some(Ok(Upkeep::Nothing) | Err(_)) | None => break,
            });
        }
        did
    }

    fn power_off(&self, chance: &Chance) {
        let seed = chance.number();
        let image =
            |life: &Life, old: &Path, new: &Path| life.disk.crash_image(old, new, Survivors::Seeded(seed));
        // What fails here is a site that does not start again.
        let _ = self.reborn(image);
    }

    fn power_fails_soon(&self, chance: &Chance) {
        self.life().disk.cut_power_during(1 + chance.below(8));
    }

    fn take_image(&self) {
        let image = self.image();
        let _ = fs::remove_dir_all(&image);
        let _ = copy_tree(&self.path(&self.life()), &image);
    }

    fn return_to_image(&self) -> bool {
        let image = self.image();
        image.is_dir() && self.reborn(|_, _, new| copy_tree(&image, new)).is_ok()
    }

    fn rot(&self, chance: &Chance) -> bool {
        let volumes = files_in(&self.path(&self.life()).join("volumes"));
        let Some(path) = chance.pick(&volumes) else { return false };
        let flip = || {
            let file = File::options().read(true).write(true).open(path)?;
            let at = chance.below(file.metadata()?.len());
            let mut byte = [0];
            file.read_exact_at(&mut byte, at)?;
            file.write_all_at(&[byte[0] ^ (1 << chance.below(8))], at)
        };
        flip().is_ok()
    }

    fn set_full(&self, full: bool) {
        self.life().disk.set_room(full.then_some(Room { total: 0, free: 0 }));
    }

    fn fail_syncs(&self) {
        self.life().disk.fail_fsync(1);
    }

    fn raw(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        let mut folders = vec![self.base.clone()];
        while let Some(folder) = folders.pop() {
            for path in files_in(&folder) {
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(bytes) = fs::read(&path) {
                    let name = path.strip_prefix(&self.base).unwrap_or(&path);
                    all.push((name.display().to_string(), bytes));
                }
            }
        }
        all
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for path in files_in(from) {
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_tree(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
