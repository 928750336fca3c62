//! `coffer-site create` and `coffer-site serve`: the daemon as a process, its
//! files and its signals.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use coffer_model::{FailureDomain, SiteDescription, Tier};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use crate::daemon::{self, Callers, DaemonOptions};
use crate::host::{HostClock, HostEntropy};
use crate::{DirectorySite, LeaseFile, ReceiptSigner, SiteIdentity, disk};

/// No certificate, key or list comes near. In bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How often the file of the lease is read: a small part of any sensible lease.
const LEASE_LOOK: Duration = Duration::from_millis(200);

/// Flags of `create`.
#[derive(Args)]
pub(crate) struct CreateFlags {
    /// A directory that does not exist yet, or is empty.
    dir: PathBuf,
    /// The site's certificate, PEM; it says which site this is.
    #[arg(long)]
    certificate: PathBuf,
}

/// Flags of `serve`.
#[derive(Args)]
pub(crate) struct ServeFlags {
    /// The site's directory, made by `create`.
    #[arg(long)]
    dir: PathBuf,
    /// Where to listen, for example 127.0.0.2:7441.
    #[arg(long)]
    listen: SocketAddr,
    /// The site's certificate, PEM: names site, country and receipt key.
    #[arg(long)]
    certificate: PathBuf,
    /// Its private key, PEM; nobody else may be able to read the file.
    #[arg(long)]
    key: PathBuf,
    /// The key that signs receipts; nobody else may be able to read the file.
    #[arg(long)]
    receipt_key: PathBuf,
    /// Who certifies callers, PEM.
    #[arg(long)]
    ca: PathBuf,
    /// A caller: the SHA-256 of its certificate, and `/NAME` for people. May
    /// be given again.
    #[arg(long = "allow-caller", value_name = "FINGERPRINT[/NAME]")]
    allow_callers: Vec<String>,
    /// A file with a caller in each line.
    #[arg(long)]
    callers: Option<PathBuf>,
    /// The lease of this pod: JSON with `epoch` and `valid_until_unix_ms`, which
    /// somebody renews by replacing the file. Once it has run out nothing is
    /// written any more; reads go on. Without this flag none is needed.
    #[arg(long)]
    lease_file: Option<PathBuf>,
}

fn text(path: &Path) -> Result<String, String> {
    let bytes =
        disk::read_bounded(path, FILE_BYTES_MAX).map_err(|error| format!("{}: {error}", path.display()))?;
    String::from_utf8(bytes).map_err(|_| format!("{}: this is no text", path.display()))
}

/// A file that holds a key, unless others can read it too.
fn secret(path: &Path) -> Result<Zeroizing<String>, String> {
    let mode = path.metadata().map_err(|error| format!("{}: {error}", path.display()))?.mode();
    if mode & 0o077 != 0 {
        return Err(format!("{}: others can read this key; chmod 600 it", path.display()));
    }
    text(path).map(Zeroizing::new)
}

/// The site as its certificate describes it; what only the topology knows is
/// left empty, since a pod places nothing.
fn described(certificate: &Path, certificate_pem: &str) -> Result<SiteDescription, String> {
    let wrong = |error: String| format!("{}: {error}", certificate.display());
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
        .map_err(|_| wrong("this is no certificate in PEM".to_owned()))?;
    let identity = SiteIdentity::of_certificate(&der).map_err(|error| wrong(error.to_string()))?;
    Ok(SiteDescription {
        id: identity.site,
        name: identity.site.to_string(),
        country: identity.country,
        domain: FailureDomain(String::new()),
        tier: Tier::I,
    })
}

fn say(line: std::fmt::Arguments<'_>) -> Result<(), String> {
    writeln!(std::io::stdout(), "{line}").map_err(|error| format!("standard output: {error}"))
}

pub(crate) fn create(flags: &CreateFlags) -> Result<(), String> {
    let description = described(&flags.certificate, &text(&flags.certificate)?)?;
    let site = description.id;
    let created = DirectorySite::create(&flags.dir, description, Arc::new(HostEntropy));
    drop(created.map_err(|error| error.to_string())?);
    say(format_args!("created the store of {site} in {}", flags.dir.display()))
}

pub(crate) fn serve(flags: ServeFlags) -> Result<(), String> {
    let certificate_pem = text(&flags.certificate)?;
    let description = described(&flags.certificate, &certificate_pem)?;
    let mut callers = Callers::default();
    flags.allow_callers.iter().try_for_each(|caller| callers.add(caller)).map_err(|e| e.to_string())?;
    if let Some(path) = &flags.callers {
        callers.add_lines(&text(path)?).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let receipts = ReceiptSigner::danger_from_text(&secret(&flags.receipt_key)?)
        .ok_or_else(|| format!("{}: this is no receipt key", flags.receipt_key.display()))?;
    let lease = match &flags.lease_file {
        None => None,
        Some(path) => Some(Arc::new(
            LeaseFile::open(path, Arc::new(HostClock::default())).map_err(|error| error.to_string())?,
        )),
    };
    let options = DaemonOptions {
        certificate_pem,
        key_pem: secret(&flags.key)?,
        ca_pem: text(&flags.ca)?,
        receipts,
        callers,
        lease,
        notices: Arc::new(|notice| eprintln!("coffer-site: {notice}")),
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let served = runtime.block_on(run(flags.dir, flags.listen, description, options));
    // Whoever still waits for the disk is waited for: the store closes whole.
    drop(runtime);
    served
}

async fn run(
    dir: PathBuf,
    listen: SocketAddr,
    description: SiteDescription,
    options: DaemonOptions,
) -> Result<(), String> {
    let watch = |kind| signal(kind).map_err(|error| error.to_string());
    let (mut terminate, mut interrupt) = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
    // First of all, so that a taken address opens nothing.
    let listener =
        TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let id = description.id;
    let opening = move || DirectorySite::open(&dir, description, Arc::new(HostEntropy));
    let opened = tokio::task::spawn_blocking(opening).await.map_err(|error| error.to_string())?;
    let site = Arc::new(opened.map_err(|error| error.to_string())?);
    if let Some(lease) = &options.lease {
        let trouble = |error| eprintln!("coffer-site: {error}");
        tokio::spawn(Arc::clone(lease).keep_looking(LEASE_LOOK, trouble));
    }
    say(format_args!("ready: {id} on {address}"))?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    daemon::serve(site, options, listener, shutdown).await.map_err(|error| error.to_string())
}
