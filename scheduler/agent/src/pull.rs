//! Images from registries, by digest. The agent is root and reads nothing that a
//! registry says: a process of its own, with no privilege and no file, speaks TLS
//! and HTTP with it (`pull/fetcher.rs`), and hands over bytes. The agent counts
//! them, checks them against the digest that the pod named, and keeps them in a
//! layout of the node (`pull/keep.rs`), from which they are unpacked like any
//! other image.

mod challenge;
mod error;
pub(crate) mod fetcher;
mod http;
mod keep;
mod line;
pub(crate) mod login;
pub(crate) mod place;
mod session;
mod story;
mod wire;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex as Turn, Semaphore, watch};
use tokio::time::timeout;

use crate::confine::outward::Outward;
use crate::files;
use crate::image::{ImageDigest, ImageReference, Uses, document};
use crate::layer::Layers;
use keep::{KEPT, Keep};
use line::Line;
use story::Story;
use wire::Setting;

pub use error::{FetchError, PullError};
pub use login::{Login, LoginError};
pub use place::{Registry, RegistryError, Source};
pub use story::Pulled;

/// The most that comes before it is known how much an image is: one document inside the other.
const DOCUMENTS: u64 = document::DOCUMENT_MAX * document::DEPTH_MAX as u64;

/// What a node takes from a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullLimits {
    /// Bytes of one image, as it declares them.
    pub bytes: u64,
    /// Layers of one image.
    pub layers: usize,
    /// How long a registry may be silent, or bring less than 256 KiB.
    pub patience: Duration,
    /// Bytes a second that have to come on the whole, else the pull makes way for others.
    pub pace: u64,
}

impl Default for PullLimits {
    fn default() -> Self {
        Self { bytes: 4 << 30, layers: 128, patience: Duration::from_secs(60), pace: 64 << 10 }
    }
}

impl PullLimits {
    /// How long so many bytes may take.
    fn within(&self, bytes: u64) -> Duration {
        let seconds = (bytes / self.pace.max(1)).min(u64::from(u32::MAX));
        self.patience.saturating_add(Duration::from_secs(seconds))
    }
}

/// Which registries are asked, and how.
#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    /// Those that may be asked; none by default.
    pub registries: Vec<Registry>,
    /// A file of authorities, PEM, in place of the machine's.
    pub roots: Option<PathBuf>,
    /// A file of logins, in the format of docker's `config.json`.
    pub credentials: Option<PathBuf>,
    /// What is taken.
    pub limits: PullLimits,
}

/// How the processes that pull are started.
#[derive(Debug, Clone)]
pub struct PullProcess {
    /// The binary that knows the stages ([`stage`](crate::stage)).
    pub program: PathBuf,
    /// The layers that this machine has.
    pub had: Layers,
    /// A user for each pull that may go on at a time.
    pub users: Vec<u32>,
}

/// Pulls images into one node's layout.
pub struct Puller {
    config: RegistryConfig,
    process: PullProcess,
    keep: Arc<Keep>,
    places: Arc<Semaphore>,
    /// The users that no pull has.
    users: Arc<Mutex<Vec<u32>>>,
    /// One pull for each image: whoever comes second finds what the first one brought.
    turns: Mutex<BTreeMap<ImageDigest, Weak<Turn<()>>>>,
}

impl std::fmt::Debug for Puller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Puller").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Puller {
    /// A puller for the image store in the directory `images`. Nothing is made before the first pull.
    pub fn new(config: RegistryConfig, process: PullProcess, images: &std::path::Path) -> Self {
        Self::into_store(config, process, images, Arc::default())
    }

    /// One for a store from which what nobody uses is removed meanwhile.
    pub(crate) fn into_store(
        config: RegistryConfig,
        process: PullProcess,
        images: &std::path::Path,
        uses: Arc<Uses>,
    ) -> Self {
        Self {
            keep: Arc::new(Keep::new(images.join(crate::image::PULLED), uses)),
            places: Arc::new(Semaphore::new(process.users.len())),
            users: Arc::new(Mutex::new(process.users.clone())),
            turns: Mutex::default(),
            config,
            process,
        }
    }

    /// Where the image is, if its registry is one that this node asks.
    ///
    /// # Errors
    /// Its name names no registry, or one that the operator did not name.
    pub fn source(&self, reference: &ImageReference) -> Result<Source, PullError> {
        place::source(&self.config.registries, reference)
    }

    /// The node's own login for a registry, if it has one. Blocks on the disk.
    ///
    /// # Errors
    /// The file of logins is not understood.
    pub fn login(&self, source: &Source) -> Result<Option<Login>, PullError> {
        let Some(path) = &self.config.credentials else { return Ok(None) };
        let failed = |error| PullError::Credentials(path.display().to_string(), error);
        let list = files::read(path).map_err(|error| failed(LoginError::Read(error)))?;
        let list = zeroize::Zeroizing::new(list);
        Login::find(&list, source).map_err(failed)
    }

    /// Brings the image into the node's layout. What is there already is not asked
    /// for again, unless `ask`: then the registry must still have the document, and
    /// give it to this login. Dropping the future ends the pull; what has come of it
    /// is gone on with by the next one.
    ///
    /// # Errors
    /// Why it is not there.
    pub async fn pull(
        &self,
        reference: &ImageReference,
        login: Option<Login>,
        ask: bool,
    ) -> Result<Pulled, PullError> {
        let source = self.source(reference)?;
        let turn = self.turn(&reference.digest).lock_owned().await;
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|error| PullError::Process(std::io::Error::other(error)))?;
        let user = Loan::of(&self.users)?;
        let (ours, theirs) = UnixStream::pair().map_err(PullError::Process)?;
        let stream = ours.try_clone().map_err(PullError::Process)?;
        let ended = Arc::<AtomicBool>::default();
        let stop = Stop { stream, keep: Arc::clone(&self.keep), ended: Arc::clone(&ended) };
        let (within, mut allowed) = watch::channel(self.config.limits.within(DOCUMENTS));
        let (process, config, digest) = (self.process.clone(), self.config.clone(), reference.digest.clone());
        let keep = Arc::clone(&self.keep);
        let mut pulling = tokio::task::spawn_blocking(move || {
            // Held until the process has ended, whoever waits for it.
            let (_turn, _place, user) = (turn, place, user);
            keep.prepare()?;
            let setting = setting(&config, Outward::new(&process.had, user.user), &source)?;
            let line = Line::start(&process.program, (ours, theirs), &setting, login.as_ref())?;
            let story = Story { line, keep: &keep, limits: config.limits, ask, within, ended: &ended };
            story.run(&digest)
        });
        let failed = |error| PullError::Process(std::io::Error::other(error));
        let late = tokio::select! {
            pulled = &mut pulling => return pulled.map_err(failed)?,
            late = is_over(&mut allowed) => late,
        };
        // What it is in the middle of breaks off.
        drop(stop);
        match pulling.await.map_err(failed)? {
            Err(PullError::BrokeOff(_)) => Err(PullError::Late(late.as_secs())),
            pulled => pulled,
        }
    }

    /// Removes what pulls began and nobody has gone on with for a day before `now`, a time since 1970; where room is
    /// wanted for `at_most`, if that is less. Blocks on the disk.
    ///
    /// # Errors
    /// Something stays; it is tried again the next time.
    pub(crate) fn forget(&self, now: Duration, at_most: Option<Duration>) -> std::io::Result<()> {
        let kept = at_most.map_or(KEPT, |most| most.min(KEPT));
        self.keep.forget(SystemTime::UNIX_EPOCH + now, kept)
    }

    fn turn(&self, digest: &ImageDigest) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(digest).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Turn::new(()));
        turns.insert(digest.clone(), Arc::downgrade(&turn));
        turn
    }
}

/// Waits until the time is over that a pull has: from the beginning, and anew when it is told how much comes.
async fn is_over(allowed: &mut watch::Receiver<Duration>) -> Duration {
    loop {
        let within = *allowed.borrow_and_update();
        match timeout(within, allowed.changed()).await {
            Err(_) => return within,
            Ok(Ok(())) => {}
            // It is ending by itself.
            Ok(Err(_)) => std::future::pending().await,
        }
    }
}

fn setting(config: &RegistryConfig, outward: Outward, source: &Source) -> Result<Setting, PullError> {
    let roots = config.roots.as_ref().map(|path| {
        files::read_text(path).map_err(|error| FetchError::Roots(format!("{}: {error}", path.display())))
    });
    let plain = config.registries.iter().filter_map(|one| match one {
        Registry::Named { host, plain: true } => Some(host.clone()),
        _ => None,
    });
    let patience = u64::try_from(config.limits.patience.as_millis()).unwrap_or(u64::MAX);
    Ok(Setting {
        outward,
        host: source.host.clone(),
        repository: source.repository.clone(),
        plain: plain.collect(),
        roots: roots.transpose()?,
        patience_ms: patience,
    })
}

/// A user that nobody else has meanwhile.
struct Loan {
    user: u32,
    users: Arc<Mutex<Vec<u32>>>,
}

impl Loan {
    fn of(users: &Arc<Mutex<Vec<u32>>>) -> Result<Self, PullError> {
        let user = users.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let user = user.ok_or_else(|| PullError::Process(std::io::ErrorKind::ResourceBusy.into()))?;
        Ok(Self { user, users: Arc::clone(users) })
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.users.lock().unwrap_or_else(PoisonError::into_inner).push(self.user);
    }
}

/// Ends a pull whose waiter or time is gone: its line is closed, and with it the process; and it waits at no door.
struct Stop {
    stream: UnixStream,
    keep: Arc<Keep>,
    ended: Arc<AtomicBool>,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.keep.end(&self.ended);
        // One that has ended needs no stop.
        drop(self.stream.shutdown(std::net::Shutdown::Both));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pull_has_the_time_of_its_documents_and_then_that_of_what_the_image_declares() {
        let limits = PullLimits::default();
        let begun = tokio::time::Instant::now();
        let (within, mut allowed) = watch::channel(limits.within(DOCUMENTS));
        let tell = async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            within.send_replace(limits.within(640 << 10));
        };
        let (late, ()) = tokio::join!(is_over(&mut allowed), tell);
        assert_eq!((late.as_secs(), begun.elapsed().as_secs()), (70, 170));
        let ends = is_over(&mut allowed).await;
        assert_eq!((ends.as_secs(), begun.elapsed().as_secs()), (70, 240));
        assert_eq!(limits.within(u64::MAX).as_secs(), 60 + u64::from(u32::MAX));
    }
}
