//! The fleet at home on one machine: the embedded API, its controllers, and for
//! every site of the site file a node with its agent in a process of its own. The
//! sites run as storage pods on them.

mod agents;
mod api_audit;
mod attestations;
mod authority;
mod endpoints;
mod in_process;
mod ledger;
mod loopback;
mod loss;
mod pods;
mod runtime;
mod set;
mod supervise;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coffer_client::profile::write_atomically;
use coffer_control::attestation::{Attester, TrustedKeys};
use coffer_control::{Control, ControlError, NAMESPACE, Pace, ShardLedger, Transactions, install};
use coffer_embedded::platform::{Settings, Told};
use coffer_embedded::{AgentAccess, Embedded, ListenError, Options, Tls};
use coffer_model::Clock;
use coffer_server::{Service, SiteAuthority, SiteFile, SitePlace};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::commands::fleet::{CERTIFICATE_LASTS, Certificates, KeptLedger, OfProfile, attester};
use crate::context::Context;
use crate::exit::{Advise as _, Failure};
use crate::files;
use crate::flags::PodRuntime;
use crate::output::trouble;
use agents::{Agent, Agents};
use api_audit::{AuditFile, Written};
use attestations::Kept;
use authority::FleetAuthority;
pub(super) use endpoints::Endpoints;
use in_process::InProcess;
use ledger::OwnService;
use loopback::Loopback;

pub(super) use pods::site_entry;

/// The site set of a fleet at home.
pub(super) const SET: &str = "sites";
/// The port of its pods.
const PORT: u16 = 7441;
/// Shards of the default geometry that suffice to read an object.
const DATA_SHARDS: u32 = 4;
/// Its shards beside these.
const PARITY_SHARDS: u32 = 2;
/// How long the API may take to close its store.
const CLOSING: Duration = Duration::from_secs(10);
/// The lease that a node's agent keeps for each of its pods, as the pod sees it.
const LEASE_FILE: &str = "/run/coffer/lease/lease.json";
/// What a node of this machine offers, unless the machine says otherwise.
const NODE_DISK_BYTES: u64 = 1 << 40;
const NODE_IOPS: u64 = 10_000;
/// What a machine takes to start again, and somebody to look after it.
const REBUILD_AFTER: u64 = 600;

/// A place for a storage pod: a node of this machine.
#[derive(Clone)]
pub(super) struct Place {
    /// Its name, and that of its node.
    name: String,
    country: coffer_model::Country,
    domain: coffer_model::FailureDomain,
    tier: coffer_model::Tier,
}

impl Place {
    /// A node for each site of a site file, which stands where the site would.
    pub(super) fn of(sites: &SiteFile) -> Vec<Self> {
        let place = |site: SitePlace| Self {
            name: site.name,
            country: site.country,
            domain: site.domain,
            tier: site.tier,
        };
        sites.places().map(place).collect()
    }
}

/// What a fleet at home is to be.
pub(super) struct Wanted {
    /// Its nodes.
    pub(super) places: Vec<Place>,
    /// Where its API listens.
    pub(super) listen: SocketAddr,
    /// Nodes beyond those that its pods need.
    pub(super) spare: usize,
    /// The disk of each pod.
    pub(super) disk_bytes: u64,
    /// Whether the nodes' agents are started here.
    pub(super) agents: bool,
    /// What runs the pods; `None`: what ran them so far.
    pub(super) runtime: Option<PodRuntime>,
    /// Whether scheduler and controllers are started here.
    pub(super) control: bool,
    /// Whether the service is one of its own, which the profile names, and not in this process.
    pub(super) asks_profile: bool,
    /// Seconds for which a silent node is waited for before what its pods hold is rebuilt elsewhere.
    pub(super) rebuild_after: u64,
}

impl Wanted {
    /// A node and a pod for each site of a site file.
    pub(super) fn of(sites: &SiteFile, listen: SocketAddr) -> Self {
        let (places, disk_bytes) = (Place::of(sites), NODE_DISK_BYTES);
        let (spare, agents, control, runtime) = (0, true, true, None);
        let (asks_profile, rebuild_after) = (false, REBUILD_AFTER);
        Self { places, listen, spare, disk_bytes, agents, control, asks_profile, runtime, rebuild_after }
    }

    /// How many pods there should be.
    fn replicas(&self) -> usize {
        self.places.len().saturating_sub(self.spare)
    }

    /// Nobody waits for a set that no controller takes.
    fn check(&self) -> Result<(), Failure> {
        let (nodes, pods, least) = (self.places.len(), self.replicas(), DATA_SHARDS + PARITY_SHARDS);
        if u32::try_from(pods).is_ok_and(|pods| pods < least) {
            return Err(Failure::usage(format!(
                "{nodes} nodes, {} to spare, are for {pods} pods; objects have {least} shards",
                self.spare
            ))
            .next("name more sites in the site file, or spare fewer"));
        }
        Ok(())
    }
}

/// A fleet at home.
pub(super) struct Home {
    client: kube::Client,
    agents: Agents,
    wanted: Wanted,
    /// The directory of the fleet.
    dir: PathBuf,
    /// Nodes that were given up.
    lost: BTreeSet<String>,
    service: OwnService,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    control: Option<AbortHandle>,
    /// Done when the API has closed its store, and its audit log.
    closed: BoxFuture<'static, ()>,
    /// The directory of the authority of the sites' certificates.
    enrols: PathBuf,
}

impl Home {
    /// Starts the fleet in `data_dir`, with a node for each place.
    pub(super) async fn start(
        context: &Context<'_>,
        data_dir: &Path,
        wanted: Wanted,
    ) -> Result<Self, Failure> {
        wanted.check()?;
        let dir = data_dir.join("fleet");
        files::make_directory(&dir)?;
        // Agents of somebody else run them by what he likes.
        let by_us = wanted.agents.then(|| runtime::chosen(&dir, wanted.runtime)).transpose()?;
        let access = FleetAuthority::open_or_create(&dir.join("access"))?;
        let (audit, written) = AuditFile::open(&dir.join("audit"))?;
        let embedded = Embedded::open(Options {
            path: dir.join("fleet.sqlite"),
            limits: coffer_embedded::store::Limits::default(),
            clock: Arc::clone(&context.clock),
            entropy: Arc::clone(&context.entropy),
            nodes: Arc::new(AgentAccess::new(&access.caller()?)?),
            audit: Arc::new(audit),
        })
        .await
        .advise("nothing was started", "mend the cause; the store is in fleet/ of the data directory")?;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let authority = FleetAuthority::open_or_create(&dir.join("authority"))?;
        let address =
            serve_api(&embedded, &authority, wanted.listen, (&context.clock, stopped.clone()), &mut tasks)
                .await?;
        let operator = authority.kubeconfig(address, "operator", "system:masters")?;
        let fleet_dir = context.profile.dir().join("fleet");
        files::make_directory(&fleet_dir)?;
        write_atomically(&fleet_dir.join("kubeconfig"), operator.to_string().as_bytes())?;
        let attester = attester(context, &fleet_dir.join("attestation.key"))?;
        let client = embedded.client();
        install(&client, NAMESPACE).await.map_err(|error| Failure::new(format!("the fleet: {error}")))?;
        let service = OwnService::new(Arc::clone(&context.clock));
        // Whoever issues the pods' certificates: one for all.
        let sites = SiteAuthority::open_or_create(&site_authority(&fleet_dir))?;
        let (fleet, clock) = (embedded.client(), Arc::clone(&context.clock));
        let shards: Arc<dyn ShardLedger> = if wanted.asks_profile {
            Arc::new(KeptLedger::new(OfProfile::new(context), fleet, NAMESPACE, clock))
        } else {
            Arc::new(KeptLedger::new(service.clone(), fleet, NAMESPACE, clock))
        };
        let control =
            wanted.control.then(|| control(context, &embedded, &attester, (sites, shards), &mut tasks));
        platform(context, &client, stopped, &mut tasks);
        keep_endpoints(context, &client, data_dir, &mut tasks)?;
        let agents = Agents::find(context, by_us.unwrap_or(PodRuntime::Process))?;
        let enrols = site_authority(&fleet_dir);
        let (lost, closed) = (BTreeSet::new(), ended(embedded.closed(), written).boxed());
        drop(embedded);
        let mut home =
            Self { client, agents, wanted, dir, lost, service, stop, tasks, control, closed, enrols };
        let revoked = attestations::revoked(&home.client).await?;
        home.nodes(context, (&authority, &access), (&attester, &revoked), address)?;
        home.keep_attested(context, attester);
        let (image, replicas) = (home.agents.image(), home.wanted.replicas());
        let (disk_bytes, rebuild_after) = (home.wanted.disk_bytes, home.wanted.rebuild_after);
        let founding = set::Founding { image: &image, replicas, disk_bytes, rebuild_after };
        set::keep(&home.client, &founding).await?;
        Ok(home)
    }

    /// A directory, credentials, an attestation and an agent for each node.
    fn nodes(
        &mut self,
        context: &Context<'_>,
        (authority, access): (&FleetAuthority, &FleetAuthority),
        (attester, revoked): (&Attester, &BTreeSet<String>),
        api: SocketAddr,
    ) -> Result<(), Failure> {
        let loopback = Loopback::open_or_choose(&self.dir, context.entropy.as_ref())?;
        for (number, place) in self.wanted.places.iter().enumerate() {
            let own = self.node_dir(&place.name);
            files::make_directory(&own)?;
            let kept = attestations::keep(
                context.clock.as_ref(),
                &own.join("attestation"),
                place,
                attester,
                revoked,
            )?;
            if let Kept::Revoked(id) = kept {
                context.output.remark(format_args!(
                    "{}: its attestation {id} is revoked and is not signed anew; `coffer fleet attest` does",
                    place.name
                ));
            }
            let user = format!("system:node:{}", place.name);
            let kubeconfig = authority.kubeconfig(api, &user, "system:nodes")?;
            write_atomically(&own.join("kubeconfig"), kubeconfig.to_string().as_bytes())?;
            let (certificate, key) = access.node(&place.name)?;
            write_atomically(&own.join("access.pem"), certificate.as_bytes())?;
            write_atomically(&own.join("access.key"), key.as_bytes())?;
            write_atomically(&own.join("access-ca.pem"), access.ca_pem().as_bytes())?;
            if self.wanted.agents {
                self.agents.start(&Agent {
                    name: &place.name,
                    dir: &own,
                    address: loopback.node(number)?,
                    disk_bytes: self.wanted.disk_bytes,
                })?;
            }
        }
        Ok(())
    }

    /// Nodes stay attested for as long as the fleet runs.
    fn keep_attested(&mut self, context: &Context<'_>, attester: Attester) {
        let place = |place: &Place| (self.node_dir(&place.name).join("attestation"), place.clone());
        let places = self.wanted.places.iter().map(place).collect();
        let (client, clock) = (self.client.clone(), Arc::clone(&context.clock));
        self.tasks.spawn(attestations::keep_signed(client, clock, attester, places));
    }

    /// The control plane asks this service from now on what may be taken down.
    pub(super) fn asks(&self, service: &Arc<Service>) {
        self.service.serves(service);
    }

    /// Where everything of a node is.
    fn node_dir(&self, name: &str) -> PathBuf {
        self.dir.join("nodes").join(name)
    }

    /// The file that says where the sites are now.
    pub(super) fn endpoints_file(data_dir: &Path) -> PathBuf {
        endpoints::file(data_dir)
    }

    /// Ends pods, agents and API, in this order: the pods come back to their disks with the next start.
    pub(super) async fn stop(self, context: &Context<'_>) {
        self.end_in_order(context).await;
    }

    /// Ends agents and API, and no pod: what runs serves reads, and writes until its lease ends, and the next
    /// start finds it.
    pub(super) async fn leave(self) {
        self.control.iter().for_each(AbortHandle::abort);
        drop(self.close().await);
    }

    /// The same; who has the agents may end what they left.
    async fn end_in_order(self, context: &Context<'_>) -> Agents {
        // The control plane first: it would make the pods anew. Agents need the API until their pods have ended.
        self.control.iter().for_each(AbortHandle::abort);
        if let Err(error) = pods::end_all(&self.client, &self.lost).await {
            context.output.remark(format_args!("remark: some pods may still run: {}", error.what));
        }
        self.close().await
    }

    async fn close(mut self) -> Agents {
        self.agents.stop().await;
        self.stop.send_replace(true);
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        let Self { client, agents, closed, .. } = self;
        drop(client);
        // Whoever removes the directory must not be overtaken. Somebody may keep a connection open; who waits for him waits long.
        drop(tokio::time::timeout(CLOSING, closed).await);
        agents
    }
}

/// The API has closed its store, and what it did is in the audit log.
async fn ended(closed: impl Future<Output = ()>, written: Written) {
    closed.await;
    written.done().await;
}

/// Whoever was told to stop is not begun anew.
async fn over_if(stopped: &watch::Receiver<bool>) {
    if *stopped.borrow() {
        std::future::pending::<()>().await;
    }
}

/// The API behind mutual TLS, for agents and people.
async fn serve_api(
    embedded: &Embedded,
    authority: &FleetAuthority,
    listen: SocketAddr,
    (clock, stopped): (&Arc<dyn Clock>, watch::Receiver<bool>),
    tasks: &mut JoinSet<()>,
) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        Failure::new(format!("the fleet's API cannot listen on {listen}: {error}"))
            .safe("nothing was started")
            .next("stop what listens there, or choose another address with --fleet-listen")
    })?;
    let address = listener.local_addr()?;
    let (certificate, key) = authority.server(address.ip())?;
    let tls = Tls { certificate, key, clients: authority.ca_pem().to_owned() };
    // One end stays here, so that nobody else takes the address between two beginnings.
    let listener = Arc::new(listener.into_std()?);
    let (serving, clock) = (embedded.clone(), Arc::clone(clock));
    tasks.spawn(async move {
        supervise::for_ever(
            "the fleet's API",
            clock.as_ref(),
            |text: &str| trouble(text),
            || {
                let (serving, listener, tls) = (serving.clone(), Arc::clone(&listener), tls.clone());
                let (mut stopped, told) = (stopped.clone(), stopped.clone());
                async move {
                    let stop = async move { drop(stopped.wait_for(|stop| *stop).await) };
                    let served = async {
                        let listener = TcpListener::from_std(listener.try_clone()?)?;
                        serving.listen(listener, tls, stop).await
                    };
                    let ended = served.await;
                    over_if(&told).await;
                    ended.err().map(|error: ListenError| error.to_string())
                }
            },
        )
        .await;
    });
    Ok(address)
}

/// Scheduler and controllers, begun anew after every error.
fn control(
    context: &Context<'_>,
    embedded: &Embedded,
    attester: &Attester,
    (sites, shards): (SiteAuthority, Arc<dyn ShardLedger>),
    tasks: &mut JoinSet<()>,
) -> AbortHandle {
    let client = embedded.client();
    let transactions = Transactions::new(client.clone(), InProcess(embedded.clone()));
    let control = Control {
        client,
        clock: Arc::clone(&context.clock),
        namespace: NAMESPACE.to_owned(),
        holder: "home".to_owned(),
        lease: Duration::from_secs(10),
        trusted: TrustedKeys::new(&[attester.verifying_key()]).unwrap_or_default(),
        shards,
        certificates: Arc::new(Certificates::new(
            sites,
            CERTIFICATE_LASTS,
            Arc::clone(&context.clock),
            Arc::clone(&context.entropy),
        )),
        bind: Some(Arc::new(transactions)),
        pace: Pace::default(),
        keeps_sets: true,
        preempts: false,
        trouble: Arc::new(|what| trouble(what)),
        measured: None,
    };
    tasks.spawn(async move {
        let clock = Arc::clone(&control.clock);
        supervise::for_ever(
            "the control plane",
            clock.as_ref(),
            |text: &str| trouble(text),
            || {
                let control = control.clone();
                async move { control.run().await.err().map(|error: ControlError| error.to_string()) }
            },
        )
        .await;
    })
}

/// What Kubernetes has of its own.
fn platform(
    context: &Context<'_>,
    client: &kube::Client,
    stopped: watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) {
    let (client, clock) = (client.clone(), Arc::clone(&context.clock));
    tasks.spawn(async move {
        supervise::for_ever(
            "the platform's controllers",
            clock.as_ref(),
            |text: &str| trouble(text),
            || {
                let (client, clock) = (client.clone(), Arc::clone(&clock));
                let (mut stopped, said) = (stopped.clone(), stopped.clone());
                async move {
                    let stop = async move { drop(stopped.wait_for(|stop| *stop).await) };
                    let told: Told = Arc::new(trouble);
                    coffer_embedded::platform::run(client, clock, Settings::default(), told, stop).await;
                    over_if(&said).await;
                    None
                }
            },
        )
        .await;
    });
}

/// The file of where the sites are, as the slices say it.
fn keep_endpoints(
    context: &Context<'_>,
    client: &kube::Client,
    data_dir: &Path,
    tasks: &mut JoinSet<()>,
) -> Result<(), Failure> {
    let (client, clock) = (client.clone(), Arc::clone(&context.clock));
    let file = endpoints::file(data_dir);
    // Written by now, so that whoever looks finds it. Begun anew it is read again.
    let mut opened = Some(Endpoints::open(file.clone())?);
    tasks.spawn(async move {
        supervise::for_ever(
            "the file of endpoints",
            clock.as_ref(),
            |text: &str| trouble(text),
            || {
                let (client, opened) = (client.clone(), opened.take());
                let opened = opened.map_or_else(|| Endpoints::open(file.clone()), Ok);
                async move {
                    match opened {
                        Ok(endpoints) => {
                            endpoints.keep(client, NAMESPACE, SET, &watch::Sender::new(false)).await;
                        }
                        Err(failure) => return Some(failure.what),
                    }
                    None
                }
            },
        )
        .await;
    });
    Ok(())
}

/// Where the authority of the sites' certificates is.
fn site_authority(fleet_dir: &Path) -> PathBuf {
    fleet_dir.join("site-authority")
}
