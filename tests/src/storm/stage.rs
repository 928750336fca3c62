//! The deployment on the stage: machines, a service that dies and comes back,
//! custodians who hold the root key in shares, and the doors between them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use coffer_client::{Client, ConnectOptions};
use coffer_keys::{RootKey, Share, combine, split};
use coffer_model::{Entropy, Execution, SiteId};
use coffer_server::{
    Host, IssuedCredential, OpenedSite, RecoveryKit, Service, SiteAddress, SiteFile, SiteOpener,
    serve_in_process,
};
use coffer_site::OpenSiteError;
use tempfile::TempDir;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Endpoint;

use super::catalogues::Shelf;
use super::chance::{Chance, SeededEntropy, StormClock};
use super::ledger::Ledger;
use super::link::{Link, Network};
use super::machine::{Machine, Storage};
use super::plan::Plan;
use super::secrets::Patterns;
use super::trace::Trace;
use super::weather::Weather;
use super::wire::{Connector, FrontDoor};
use crate::files;

/// What the service loses in a crash, beside its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing: the catalogues are there.
    Nothing,
    /// Nothing, but catalogues of an earlier moment are put in their place.
    Newest,
    /// One of the catalogues.
    OneCatalogue,
    /// All catalogues.
    Catalogues,
    /// All but sites, shares and kit.
    Everything,
}

/// How disks are made.
pub(crate) type Disks = dyn Fn(&Path, &coffer_model::SiteDescription) -> Box<dyn Storage> + Send + Sync;

/// Makes the links of each start of the service.
struct Sites {
    seed: u64,
    disks: Box<Disks>,
    expendable: BTreeSet<String>,
    network: Arc<Network>,
    machines: Mutex<BTreeMap<SiteId, Arc<Machine>>>,
    severed: Mutex<Arc<AtomicBool>>,
    made: AtomicU64,
}

impl Sites {
    fn machines(&self) -> MutexGuard<'_, BTreeMap<SiteId, Arc<Machine>>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn severed(&self) -> MutexGuard<'_, Arc<AtomicBool>> {
        self.severed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, machine: &Arc<Machine>) -> OpenedSite {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let chance = Arc::new(Chance::new(self.seed, &format!("link {number} {}", machine.name())));
        let severed = Arc::clone(&self.severed());
        let link = Link::new(Arc::clone(machine), Arc::clone(&self.network), chance, severed);
        OpenedSite { site: Arc::new(link), link: None }
    }
}

#[async_trait]
impl SiteOpener for Sites {
    async fn create(&self, data_dir: &Path, address: &SiteAddress) -> Result<OpenedSite, OpenSiteError> {
        let path = data_dir.join("sites").join(&address.site.name);
        std::fs::create_dir_all(&path)
            .map_err(|source| OpenSiteError::Disk { path: path.clone(), source })?;
        let expendable = self.expendable.contains(&address.site.name);
        let storage = (self.disks)(&path, &address.site);
        let machine = Arc::new(Machine::new(address.site.clone(), expendable, storage));
        machine.start();
        self.machines().insert(address.site.id, Arc::clone(&machine));
        self.network.ledger.joins(&address.site);
        Ok(self.link(&machine))
    }

    async fn open(&self, _: &Path, address: &SiteAddress) -> Result<Option<OpenedSite>, OpenSiteError> {
        let machine = self.machines().get(&address.site.id).cloned();
        Ok(machine.filter(|machine| !machine.is_destroyed()).map(|machine| self.link(&machine)))
    }
}

struct Running {
    service: Arc<Service>,
    server: AbortHandle,
}

/// Everything of one storm that does not decide what happens.
pub(crate) struct Stage {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) trace: Arc<Trace>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) patterns: Arc<Patterns>,
    pub(crate) clock: Arc<StormClock>,
    pub(crate) entropy: Arc<SeededEntropy>,
    pub(crate) chance: Chance,
    door: FrontDoor,
    dir: TempDir,
    host: Host,
    sites: Arc<Sites>,
    custodians: Vec<Share>,
    running: Mutex<Option<Running>>,
    kit: Mutex<Option<RecoveryKit>>,
    losses: AtomicU64,
    /// Catalogues of an earlier moment.
    pub(crate) shelf: Shelf,
}

/// Custodians, and how many of them are a quorum.
const CUSTODIANS: (u8, u8) = (5, 3);

impl Stage {
    /// Founds the deployment in fine weather; its operator.
    pub(crate) async fn found(
        seed: u64,
        dir: TempDir,
        disks: Box<Disks>,
        trace: Arc<Trace>,
    ) -> Option<(Arc<Self>, IssuedCredential)> {
        let plan = Plan::draw(seed);
        let weather = Arc::new(Weather::new(plan.rates, Arc::clone(&trace)));
        let patterns = Arc::new(Patterns::default());
        let ledger = Arc::new(Ledger::new(Arc::clone(&patterns), Arc::clone(&trace)));
        let entropy = Arc::new(SeededEntropy::new(seed));
        let clock = Arc::new(StormClock::start());
        let network =
            Network { weather: Arc::clone(&weather), ledger: Arc::clone(&ledger), trace: Arc::clone(&trace) };
        let sites = Arc::new(Sites {
            seed,
            disks,
            expendable: plan.expendable(seed),
            network: Arc::new(network),
            machines: Mutex::default(),
            severed: Mutex::default(),
            made: AtomicU64::new(0),
        });
        let host = Host {
            clock: Arc::clone(&clock) as _,
            entropy: Arc::clone(&entropy) as _,
            sites: Arc::clone(&sites) as _,
            catalogues: Execution::Inline,
            owner: None,
            given_up: BTreeSet::new(),
        };
        let root = RootKey::generate(entropy.as_ref());
        let (people, quorum) = CUSTODIANS;
        let custodians = split(root.danger_expose(), quorum, people, entropy.as_ref()).ok()?;
        let data = dir.path().join("data");
        let file = SiteFile::parse(&plan.sites).ok()?;
        ledger.learn_everywhere(0);
        let (service, operator) = Service::found(host.clone(), &data, &root, &file).await.ok()?;
        let stage = Arc::new(Self {
            seed,
            plan,
            trace,
            weather,
            ledger,
            patterns,
            clock,
            entropy,
            chance: Chance::new(seed, "stage"),
            door: FrontDoor::default(),
            dir,
            host,
            sites,
            custodians,
            running: Mutex::default(),
            kit: Mutex::default(),
            losses: AtomicU64::new(0),
            shelf: Shelf::default(),
        });
        stage.serve(service);
        Some((stage, operator))
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where there is room for copies.
    pub(crate) fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// In order of their ids.
    pub(crate) fn machines(&self) -> Vec<Arc<Machine>> {
        self.sites.machines().values().cloned().collect()
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often catalogues were lost.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running().is_some()
    }

    pub(crate) fn service(&self) -> Option<Arc<Service>> {
        self.running().as_ref().map(|running| Arc::clone(&running.service))
    }

    fn serve(&self, service: Arc<Service>) {
        let incoming = UnboundedReceiverStream::new(self.door.open());
        let served = Arc::clone(&service);
        let server = tokio::spawn(async move {
            let _ = serve_in_process(served, incoming).await;
        });
        *self.running() = Some(Running { service, server: server.abort_handle() });
    }

    /// A client of the bearer of this certificate, PEM.
    pub(crate) fn client(&self, who: &str, certificate_pem: &str) -> Option<Client> {
        let connector = Connector::new(
            self.door.clone(),
            Arc::clone(&self.weather),
            self.seed,
            who,
            der_of(certificate_pem)?,
        );
        let channel = Endpoint::from_static("http://in.process").connect_with_connector_lazy(connector);
        let mut options = ConnectOptions::new(Arc::clone(&self.entropy) as Arc<dyn Entropy>);
        options.patience.deadline = Duration::from_secs(40);
        Some(Client::over(channel, options))
    }

    /// Cuts every connection of clients.
    pub(crate) fn cut_wires(&self) {
        self.door.cut_all();
    }

    /// Keeps the newest recovery kit, where one can be signed now.
    pub(crate) async fn refresh_kit(&self) -> bool {
        let Some(service) = self.service() else { return false };
        let kit = service.kit().await;
        let signed = kit.is_ok();
        if let Ok(kit) = kit {
            *self.kit.lock().unwrap_or_else(PoisonError::into_inner) = Some(kit);
        }
        signed
    }

    /// The service dies at this instant. Its memory is gone; of its disk, what
    /// `loss` says.
    pub(crate) async fn crash(&self, loss: Loss) {
        let Some(running) = self.running().take() else { return };
        self.door.shut();
        running.server.abort();
        // From here on nothing of it reaches a site or is answered.
        let severed = std::mem::take(&mut *self.sites.severed());
        severed.store(true, Ordering::Relaxed);
        let image = self.dir.path().join("image");
        let catalogues = self.data().join("service").join("catalogues");
        copy(&catalogues, &image);
        let sizes = self.data().join("log-sizes.json");
        let remembered = files::read(&sizes);
        // What still runs of it finds its catalogues closed; what it did to
        // them after the crash, the image takes back.
        let _ = running.service.shut_down().await;
        drop(running);
        let _ = std::fs::remove_dir_all(&catalogues);
        if let Some(remembered) = remembered {
            let _ = files::write(&sizes, &remembered);
        }
        self.losses.fetch_add(u64::from(loss != Loss::Nothing), Ordering::Relaxed);
        match loss {
            Loss::Nothing => {
                copy(&image, &catalogues);
                super::catalogues::tear(self, &catalogues);
            }
            Loss::Newest => {
                copy(&image, &catalogues);
                super::catalogues::tear(self, &catalogues);
                super::catalogues::put_back(self, &catalogues);
            }
            Loss::OneCatalogue => {
                copy(&image, &catalogues);
                self.lose_one(&catalogues);
            }
            Loss::Catalogues => {}
            Loss::Everything => {
                let _ = std::fs::remove_dir_all(self.data().join("service"));
                let _ = std::fs::remove_file(self.data().join("topology.json"));
            }
        }
        let _ = std::fs::remove_dir_all(&image);
    }

    fn lose_one(&self, catalogues: &Path) {
        let mut names: Vec<PathBuf> = files_in(catalogues);
        names.retain(|path| path.extension().is_some_and(|extension| extension == "db"));
        let Some(lost) = self.chance.pick(&names) else { return };
        for suffix in ["", "-wal", "-shm"] {
            let mut name = lost.clone().into_os_string();
            name.push(suffix);
            let _ = std::fs::remove_file(name);
        }
    }

    /// The root key, from a quorum of custodians.
    fn root(&self) -> Option<RootKey> {
        let mut present: Vec<&Share> = self.custodians.iter().collect();
        while present.len() > usize::from(CUSTODIANS.1) {
            present.remove(self.chance.index(present.len()));
        }
        let texts: Option<Vec<Share>> =
            present.iter().map(|share| Share::from_text(&share.to_text()).ok()).collect();
        Some(RootKey::danger_from_bytes(combine(&texts?).ok()?))
    }

    /// Starts the service over what is left; why it does not start, otherwise.
    pub(crate) async fn open(&self) -> Result<(), String> {
        let root = self.root().ok_or("no quorum")?;
        let data = self.data();
        let service = if Service::is_founded(&data) {
            Service::open(self.host.clone(), &data, &root).await.map_err(|error| error.to_string())?
        } else {
            let kit = self.kit.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or("no kit")?;
            let recovered = Service::recover(self.host.clone(), &data, &root, &kit, &|_, _| ()).await;
            recovered.map_err(|error| error.to_string())?.0
        };
        self.serve(service);
        Ok(())
    }
}

/// The DER of the first certificate of a PEM text.
fn der_of(pem: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    let body: String = pem.lines().skip(1).take_while(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(body).ok()
}

pub(crate) fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Copies the files of one folder.
pub(super) fn copy(from: &Path, to: &Path) {
    let _ = std::fs::create_dir_all(to);
    for path in files_in(from) {
        if let Some(name) = path.file_name() {
            let _ = std::fs::copy(&path, to.join(name));
        }
    }
}
