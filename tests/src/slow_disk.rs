//! Sites on disks of a stated latency: whatever fsync takes on this machine,
//! here it takes so much longer. For measurements that should hold for other
//! disks than the one at hand.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coffer_model::Entropy;
use coffer_server::{OpenedSite, SiteAddress, SiteOpener};
use coffer_site::{DirectorySite, Disk, HostDisk, OpenSiteError, Room, SiteOptions};

/// The disk of this machine, each fsync of a file later.
#[derive(Clone, Copy, Debug)]
pub struct SlowDisk {
    fsync: Duration,
}

impl SlowDisk {
    /// Each fsync takes so much longer.
    pub fn of(fsync: Duration) -> Self {
        Self { fsync }
    }

    #[expect(clippy::disallowed_methods, reason = "the latency of a disk is time that passes")]
    fn wait(self) {
        std::thread::sleep(self.fsync);
    }
}

impl Disk for SlowDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        HostDisk.create(path)
    }

    fn write(&self, file: &File, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        HostDisk.write(file, parts, offset)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.wait();
        HostDisk.sync_data(file)
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.wait();
        HostDisk.sync_all(file)
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        HostDisk.cut(file, length)
    }

    fn reserve(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        HostDisk.reserve(file, offset, bytes)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        HostDisk.make_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        HostDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        HostDisk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        HostDisk.sync_dir(path)
    }

    fn forget_cached(&self, file: &File) {
        HostDisk.forget_cached(file);
    }

    fn room(&self, path: &Path) -> io::Result<Room> {
        HostDisk.room(path)
    }
}

/// Directories on such a disk in the place of a deployment's sites.
pub struct SlowSites {
    disk: SlowDisk,
    entropy: Arc<dyn Entropy>,
}

impl SlowSites {
    /// All sites on one kind of disk.
    pub fn on(disk: SlowDisk, entropy: Arc<dyn Entropy>) -> Self {
        Self { disk, entropy }
    }

    fn options(&self) -> SiteOptions {
        SiteOptions { disk: Arc::new(self.disk), ..SiteOptions::default() }
    }
}

#[async_trait]
impl SiteOpener for SlowSites {
    async fn create(&self, data_dir: &Path, address: &SiteAddress) -> Result<OpenedSite, OpenSiteError> {
        let path = data_dir.join("sites").join(&address.site.name);
        let (site, entropy) = (address.site.clone(), Arc::clone(&self.entropy));
        let site = DirectorySite::create_with(&path, site, entropy, self.options())?;
        Ok(OpenedSite { site: Arc::new(site), link: None })
    }

    async fn open(
        &self,
        data_dir: &Path,
        address: &SiteAddress,
    ) -> Result<Option<OpenedSite>, OpenSiteError> {
        let path = data_dir.join("sites").join(&address.site.name);
        let (site, entropy) = (address.site.clone(), Arc::clone(&self.entropy));
        let site = DirectorySite::open_with(&path, site, entropy, self.options())?;
        Ok(Some(OpenedSite { site: Arc::new(site), link: None }))
    }
}
