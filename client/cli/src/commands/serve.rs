//! `coffer serve`: found a deployment or unlock it, then serve until told to
//! stop.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coffer_client::Credentials;
use coffer_client::keys::{DEFAULT_COUNT, DEFAULT_THRESHOLD, RootKey, split_for};
use coffer_client::profile::write_atomically;
use coffer_custody::{Custodian as _, PassphraseFile, Quorum, write_shares};
use coffer_server::{
    Custody, CustodyKind, EndpointsFile, Host, HostSites, HttpWitness, JobSettings, LeaseFile, RecoveryKit,
    Service, SiteFile, Witness,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::home::{Home, Wanted};
use super::replica::{self, Replica};
use super::site::SITE_FILE_LIMIT;
use super::witness::read_policy;
use super::{stdin_closed, until_told};
use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files;
use crate::flags::{CustodianKind, JobFlags, Seconds, ServeFlags};
use crate::output::trouble;

/// How often the lease is read: a small part of any sensible lease.
const LEASE_LOOK: Duration = Duration::from_millis(200);

/// Where everything is.
struct Places {
    slot: PathBuf,
    passphrase: PathBuf,
    shares: PathBuf,
    kit: PathBuf,
}

impl Places {
    fn of(context: &Context<'_>, flags: &ServeFlags) -> Self {
        let config = |name: &str| context.profile.dir().join(name);
        Self {
            slot: flags.data_dir.join("service").join("root.slot"),
            passphrase: flags.passphrase_file.clone().unwrap_or_else(|| config("passphrase")),
            shares: flags.shares_out.clone().unwrap_or_else(|| config("custodians")),
            kit: flags.kit_out.clone().unwrap_or_else(|| config("recovery-kit.json")),
        }
    }
}

pub(super) async fn run(context: &Context<'_>, flags: ServeFlags) -> Result<Exit, Failure> {
    let places = Places::of(context, &flags);
    let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stdin = flags.exit_with_stdin.then(stdin_closed);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        until_told(terminate, interrupt, stdin).await;
        stop.send_replace(true);
        // Kept, so that whoever asks later is told as well.
        stop.closed().await;
    });
    // First of all, so that a taken port founds nothing.
    let listener = if flags.replica.lease.is_some() {
        drop(replica::reserve(&flags)?);
        None
    } else {
        Some(listen(flags.listen).await?)
    };
    let home = if flags.fleet { Some(fleet(context, &flags).await?) } else { None };
    let replica = Replica::of(context, &flags).await?;
    let one = Serving { context, flags: &flags, places: &places, home: home.as_ref(), replica: &replica };
    let ended = match (&replica.tenure, listener) {
        (Some(tenure), _) => {
            let serve = |listener, epoch, until| one.serve(listener, Some(epoch), until);
            replica::in_turn(context, &flags, tenure, &stopped, serve).await
        }
        (None, Some(listener)) => one.serve(listener, None, replica::told(stopped)).await,
        (None, None) => Ok(()),
    };
    if let Some(home) = home {
        home.stop(context).await;
    }
    replica.end(context).await;
    ended.map(|()| Exit::Success)
}

/// The fleet whose pods are the sites: a node for each site of the site file.
async fn fleet(context: &Context<'_>, flags: &ServeFlags) -> Result<Home, Failure> {
    let sites = sites_of_nodes(flags.sites.as_deref(), &flags.data_dir)?;
    let mut wanted = Wanted::of(&sites, flags.fleet_listen);
    (wanted.spare, wanted.rebuild_after) = (flags.fleet_spare, flags.fleet_rebuild_after.0);
    wanted.runtime = flags.fleet_runtime;
    Home::start(context, &flags.data_dir, wanted).await
}

/// What one time of serving needs.
struct Serving<'a> {
    context: &'a Context<'a>,
    flags: &'a ServeFlags,
    places: &'a Places,
    home: Option<&'a Home>,
    replica: &'a Replica,
}

impl Serving<'_> {
    /// Serves until `until` is over.
    async fn serve(
        &self,
        listener: TcpListener,
        epoch: Option<u64>,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Failure> {
        let (context, flags) = (self.context, self.flags);
        let endpoint = format!("https://{}", listener.local_addr()?);
        let metrics = match flags.metrics {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let service = self.open(&endpoint).await?;
        let metrics = metrics.map(|listener| figures(&service, listener)).transpose()?;
        let told = metrics.as_ref().map(|figures| &figures.url);
        let ready = json!({ "ready": true, "endpoint": endpoint, "metrics": told, "epoch": epoch });
        context.output.object(&ready);
        if let Some(url) = told {
            context.output.text(format_args!("figures on {url}"));
        }
        context.output.text(format_args!("ready on {endpoint}; stop with Ctrl-C"));
        let jobs = jobs(&flags.jobs);
        let served = coffer_server::serve_with(service, listener, jobs, until).await;
        // They end with the catalogues that they look into.
        drop(metrics);
        served.advise("every acknowledged write is durable", "start it again")
    }

    /// Founds a deployment or unlocks it, and keeps the profile and the kit as it is now.
    async fn open(&self, endpoint: &str) -> Result<Arc<Service>, Failure> {
        let Self { context, flags, places, home, replica } = *self;
        let pods = match home {
            Some(home) => home.serving(context, Service::is_founded(&flags.data_dir)).await?,
            None => Vec::new(),
        };
        let own = home.map(|_| Home::endpoints_file(&flags.data_dir)).filter(|path| path.exists());
        let endpoints = flags.endpoints_file.as_ref().or(replica.endpoints.as_ref()).or(own.as_ref());
        let host = host(context, flags, endpoints, replica)?;
        if !Service::is_founded(&flags.data_dir) && Service::has_sites(&flags.data_dir) {
            restore_topology(context, flags, places)?;
        }
        let service = if Service::is_founded(&flags.data_dir) {
            let root = unlock(flags, places)?;
            let opened = Service::open(host, &flags.data_dir, &root).await;
            opened.advise("nothing was changed", "mend the cause and start again")?
        } else {
            let sites = match home {
                Some(home) => home.site_file(context, &flags.data_dir, &pods).await?,
                None => sites(flags.sites.as_deref())?,
            };
            found(context, flags, places, host, (endpoint, &sites)).await?
        };
        for (site, reason) in service.unopened_sites() {
            context.output.remark(format_args!("site {site} counts as lost until it is mended: {reason}"));
        }
        if context.profile.operator().is_ok_and(|operator| operator.ca_pem == service.ca_pem()) {
            // The profile is this deployment's; only the port may have changed.
            context.profile.save_endpoint(endpoint)?;
        }
        match service.kit().await {
            Ok(kit) => write_atomically(&places.kit, kit.to_json()?.as_bytes())?,
            // With too few sites no checkpoint is signed; reading goes on.
            Err(error) => context.output.remark(format_args!("the recovery kit was not renewed: {error}")),
        }
        let noted = service.kept_by(custody(flags)).await;
        noted.advise(
            "every acknowledged write is durable",
            "make room for the service's own log, then start it again",
        )?;
        witness(&service, flags)?;
        if let Some(home) = home {
            home.asks(&service);
        }
        Ok(service)
    }
}

/// This machine, with what whoever runs pods and replicas tells it.
fn host(
    context: &Context<'_>,
    flags: &ServeFlags,
    endpoints: Option<&PathBuf>,
    replica: &Replica,
) -> Result<Host, Failure> {
    let mut host = Host::of_this_machine(context.clock.clone(), context.entropy.clone());
    host.given_up.extend(flags.without_sites.iter().cloned());
    let safe = "nothing was opened";
    if let Some(path) = endpoints {
        let file = EndpointsFile::open(path).advise(safe, "mend the file, or leave the flag out")?;
        host.sites = Arc::new(HostSites::new(context.entropy.clone()).finding(Arc::new(file)));
    }
    if let Some(path) = &flags.lease_file {
        let lease = LeaseFile::open(path, context.clock.clone());
        let lease = Arc::new(lease.advise(safe, "wait until this replica is granted the lease")?);
        tokio::spawn(Arc::clone(&lease).keep_looking(LEASE_LOOK, trouble));
        host.owner = Some(lease);
    }
    if let Some(owner) = replica.owner() {
        host.owner = Some(owner);
    }
    Ok(host)
}

/// The figures, until this is dropped.
struct Figures {
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Figures {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn figures(service: &Arc<Service>, listener: TcpListener) -> Result<Figures, Failure> {
    let address = listener.local_addr()?;
    let scheme = if address.ip().is_loopback() { "http" } else { "https" };
    let service = Arc::clone(service);
    let task = tokio::spawn(async move {
        // It ends only where TLS cannot be set up, which the collector sees.
        let _ = coffer_server::serve_metrics(service, listener).await;
    });
    Ok(Figures { url: format!("{scheme}://{address}/metrics"), task })
}

/// Who gave the root key this time. The shares are those of every founding.
fn custody(flags: &ServeFlags) -> Custody {
    let kind = match flags.custodian {
        CustodianKind::Passphrase if flags.shares.is_empty() => CustodyKind::PassphraseFile,
        _ => CustodyKind::Quorum,
    };
    Custody { kind, threshold: DEFAULT_THRESHOLD, shares: DEFAULT_COUNT }
}

/// Has the logs witnessed by those of the policy that say where they are.
fn witness(service: &Service, flags: &ServeFlags) -> Result<(), Failure> {
    let Some(path) = &flags.witnesses else { return Ok(()) };
    let policy = read_policy(path)?;
    policy.admits(&service.evidence_key()).map_err(Failure::usage)?;
    let mut witnesses: Vec<Arc<dyn Witness>> = Vec::new();
    for listed in policy.witnesses() {
        if let Some(url) = &listed.url {
            witnesses.push(Arc::new(HttpWitness::new(listed.key.clone(), url).map_err(Failure::usage)?));
        }
    }
    if witnesses.is_empty() {
        return Err(Failure::usage(format!("{} names no witness with a URL", path.display())));
    }
    let every = Some(Duration::from_secs(flags.witness_every.0)).filter(|every| !every.is_zero());
    service.witness_by(witnesses, every);
    Ok(())
}

fn jobs(flags: &JobFlags) -> JobSettings {
    let every = |beat: Seconds| Some(Duration::from_secs(beat.0)).filter(|beat| !beat.is_zero());
    JobSettings {
        scrub_rate: NonZeroU64::new(flags.scrub_rate << 20),
        scrub_within: Duration::from_secs(flags.scrub_within.0),
        challenge_every: every(flags.challenge_every),
        repair_every: every(flags.repair_every),
    }
}

/// Sites without their topology file are never taken for an empty directory.
fn restore_topology(context: &Context<'_>, flags: &ServeFlags, places: &Places) -> Result<(), Failure> {
    let missing = || {
        Failure::new(format!(
            "{} holds sites, but not the topology file of their deployment",
            flags.data_dir.display()
        ))
        .safe("nothing was touched; the sites hold everything")
    };
    let kit = files::read_small(&places.kit, SITE_FILE_LIMIT).map_err(|_| {
        missing().next(format!(
            "put the deployment's recovery kit at {} (or name it with --kit-out) and start again",
            places.kit.display()
        ))
    })?;
    let kit = RecoveryKit::from_json(&String::from_utf8_lossy(&kit))?;
    Service::restore_topology(&flags.data_dir, &kit)?;
    context
        .output
        .remark(format_args!("the topology file was missing; written anew from {}", places.kit.display()));
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| taken(address, &error))
}

/// An address that cannot be listened on.
pub(super) fn taken(address: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot listen on {address}: {error}"))
        .safe("nothing was started")
        .next("stop what listens there, or choose another address with --listen")
}

fn unlock(flags: &ServeFlags, places: &Places) -> Result<RootKey, Failure> {
    let unlocked = match flags.custodian {
        CustodianKind::Passphrase if flags.shares.is_empty() => {
            PassphraseFile::new(&places.slot, &places.passphrase).unlock()
        }
        _ => Quorum { share_paths: flags.shares.clone() }.unlock(),
    };
    unlocked.advise(
        "nothing was opened",
        "name the passphrase file with --passphrase-file, or bring three share files with --share",
    )
}

/// The site file of a new deployment.
pub(super) fn sites(file: Option<&Path>) -> Result<SiteFile, Failure> {
    match file {
        None => Ok(SiteFile::shipped()?),
        Some(path) => {
            let text = files::read_small(path, SITE_FILE_LIMIT)?;
            SiteFile::parse(&String::from_utf8_lossy(&text))
                .advise("nothing was founded", "mend the site file")
        }
    }
}

/// The site file of a fleet's nodes. It is read with every start: nodes that are there stand where they stand.
pub(super) fn sites_of_nodes(file: Option<&Path>, data_dir: &Path) -> Result<SiteFile, Failure> {
    let Some(path) = file else { return sites(None) };
    let text = files::read_small(path, SITE_FILE_LIMIT)?;
    let nodes = data_dir.join("fleet").join("nodes");
    SiteFile::parse_where_some_are(&String::from_utf8_lossy(&text), |name| nodes.join(name).exists())
        .advise("nothing was started", "mend the site file")
}

/// Founds a deployment. The shares, then the passphrase slot, then the
/// deployment: a root key that nobody could give back never seals anything.
async fn found(
    context: &Context<'_>,
    flags: &ServeFlags,
    places: &Places,
    host: Host,
    (endpoint, sites): (&str, &SiteFile),
) -> Result<Arc<Service>, Failure> {
    let (root, shares) = root_key(context, flags, places)?;
    let founded = Service::found(host, &flags.data_dir, &root, sites).await;
    let (service, operator) = founded.advise(
        "nothing that existed before was changed; the share files that were just written belong to no deployment",
        "mend the cause, then start again with a new --data-dir and --shares-out",
    )?;
    let operator = Credentials {
        ca_pem: operator.ca_pem,
        certificate_pem: operator.certificate_pem,
        key_pem: operator.key_pem,
        endpoint: endpoint.to_owned(),
    };
    context.profile.save_operator(&operator)?;
    context.output.text(format_args!("founded a deployment in {}", flags.data_dir.display()));
    context.output.text(format_args!("operator's credentials are in {}", context.profile.dir().display()));
    context
        .output
        .text(format_args!("recovery kit, public, keep copies elsewhere: {}", places.kit.display()));
    context.output.text(format_args!(
        "the root key is split {DEFAULT_THRESHOLD} of {DEFAULT_COUNT}; hand these files to five custodians and delete them here:"
    ));
    for path in &shares {
        context.output.text(format_args!("  {}", path.display()));
    }
    if flags.custodian == CustodianKind::Passphrase {
        context.output.text(format_args!(
            "this machine opens it with the passphrase in {}",
            places.passphrase.display()
        ));
    }
    Ok(service)
}

fn root_key(
    context: &Context<'_>,
    flags: &ServeFlags,
    places: &Places,
) -> Result<(RootKey, Vec<PathBuf>), Failure> {
    let entropy = context.entropy.as_ref();
    if flags.custodian == CustodianKind::Passphrase && places.slot.exists() {
        // A founding that a crash cut short got as far as its slot.
        return Ok((unlock(flags, places)?, Vec::new()));
    }
    let root = RootKey::generate(entropy);
    let purpose = "coffer deployment root key";
    let shares = split_for(purpose, root.danger_expose(), DEFAULT_THRESHOLD, DEFAULT_COUNT, entropy)?;
    files::make_directory(&places.shares)?;
    let paths = write_shares(&places.shares, "custodian", &shares)
        .advise("nothing was founded", "move the old share files away, or name another --shares-out")?;
    if flags.custodian == CustodianKind::Passphrase {
        for path in [&places.slot, &places.passphrase] {
            files::make_directory(path.parent().unwrap_or_else(|| Path::new(".")))?;
        }
        PassphraseFile::create(&places.slot, &places.passphrase, &root, entropy)?;
    }
    Ok((root, paths))
}
