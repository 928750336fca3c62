//! A drill that begins cold: a service is made again, in a process of its own,
//! from copies of the sites, the kit and what people bring; the tree comes back
//! over it, while plan, log and signature stay with the service that lives.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coffer_client::backup::Repository;
use coffer_client::drill::{Origin, ScenarioKind, Shares};
use coffer_client::keys::RecoverySecret;
use coffer_client::{BucketStore, Client, Credentials};
use coffer_custody::combine_share_files;
use coffer_model::BucketName;
use serde_json::Value;

use super::exercise::Desk;
use super::left::{Left, recombined};
use crate::commands::child::Child;
use crate::context::Context;
use crate::exit::{Advise as _, Failure};
use crate::flags::LeftFlags;

/// How long a stand-in that has told its last may take to end.
const ENDING: Duration = Duration::from_secs(30);

/// The service that was made again, and how to reach it.
pub(super) struct Cold {
    /// Dropped, it ends.
    _child: Option<Child>,
    client: Option<Client>,
    repository: Option<Repository>,
    shares: Shares,
    failed: Option<String>,
    /// What a reader of the record should know.
    pub(super) facts: Vec<String>,
}

/// What a stand-in told.
struct Told {
    credentials: Credentials,
    versions: u64,
    unreadable: u64,
}

impl Cold {
    /// Makes the service again and reaches the bucket in it.
    pub(super) async fn begin(
        context: &Context<'_>,
        desk: &Desk,
        kind: ScenarioKind,
        bucket: &BucketName,
        left: &mut Left,
        flags: &LeftFlags,
    ) -> Result<Self, Failure> {
        let (kept, all) = left.sites;
        let mut facts = vec![format!(
            "a service was made again in a process of its own, from copies of {kept} of {all} sites; it was reached on loopback, signed nothing and ended with the drill"
        )];
        let mut child = Child::spawn(&arguments(context, desk, kind, left, flags)?)?;
        let told = hear(&mut child, desk, left).await?;
        // Only shares that opened something are evidence: those of the root key
        // have when the service is there, the people's when the repository is.
        let mut shares = Shares::default();
        let told = match told {
            Ok(told) => told,
            Err(class) => {
                left.timeline.end_phase("catalogue", 0);
                return Ok(Self {
                    _child: None,
                    client: None,
                    repository: None,
                    shares,
                    failed: Some(class),
                    facts,
                });
            }
        };
        facts.push(format!(
            "its catalogues were made again with {} versions; {} records could not be read",
            told.versions, told.unreadable
        ));
        shares.provider = recombined(&flags.provider_shares)?;
        let client = context.connect(&told.credentials).await?;
        left.timeline.end_phase("serve", 0);
        let mut cold =
            Self { _child: Some(child), client: Some(client), repository: None, shares, failed: None, facts };
        if kind == ScenarioKind::LostHost {
            cold.open_with_people(bucket, left, &flags.tenant_shares).await?;
        }
        Ok(cold)
    }

    /// The repository's key is lost with the profile: the tenant's people open it.
    async fn open_with_people(
        &mut self,
        bucket: &BucketName,
        left: &mut Left,
        shares: &[PathBuf],
    ) -> Result<(), Failure> {
        let secret = combine_share_files(shares).advise(
            "the service was made again, nothing was restored",
            "bring the shares of more of the tenant's people with --tenant-share",
        )?;
        let secret = RecoverySecret::danger_from_bytes(secret);
        left.timeline.end_phase("recovery key", 0);
        let Some(client) = &self.client else { return Ok(()) };
        let store = Arc::new(BucketStore::new(client.clone(), bucket.clone()));
        match Repository::open_with_recovery(store, &secret).await {
            Ok(repository) => {
                self.repository = Some(repository);
                self.shares.tenant = recombined(shares)?;
            }
            // What it looks like to somebody who has lost everything else.
            Err(error) => {
                self.facts.push(format!("the repository did not open: {error}"));
                self.failed = Some("the repository did not open".to_owned());
            }
        }
        left.timeline.end_phase("repository", 0);
        Ok(())
    }

    /// Where the drill reads from.
    pub(super) fn origin(&self) -> Origin<'_> {
        Origin {
            client: self.client.as_ref(),
            repository: self.repository.as_ref(),
            shares: self.shares.clone(),
            failed: self.failed.clone(),
            ..Origin::default()
        }
    }
}

fn arguments(
    context: &Context<'_>,
    desk: &Desk,
    kind: ScenarioKind,
    left: &Left,
    flags: &LeftFlags,
) -> Result<Vec<OsString>, Failure> {
    let mut arguments: Vec<OsString> = ["--json", "--quiet", "drill", "stand-in"].map(Into::into).to_vec();
    let mut flag = |name: &str, value: &Path| {
        arguments.push(name.into());
        arguments.push(value.into());
    };
    flag("--config-dir", &left.beside("no-profile"));
    flag("--data-dir", &left.data());
    flag("--kit", &left.kit());
    if kind == ScenarioKind::LostHost {
        flag("--issue-to", Path::new(&desk.party.tenant));
    }
    let by_passphrase = kind == ScenarioKind::Catalogue && flags.provider_shares.is_empty();
    match (&flags.data_dir, by_passphrase) {
        // Only the catalogues are lost: the key service opens itself.
        (Some(data), true) => {
            flag("--slot", &data.join("service").join("root.slot"));
            flag("--passphrase-file", &context.profile.dir().join("passphrase"));
        }
        _ if flags.provider_shares.is_empty() => {
            return Err(Failure::usage("this drill begins with the provider's custodians")
                .next("bring their shares with --provider-share"));
        }
        _ => flags.provider_shares.iter().for_each(|share| flag("--provider-share", share)),
    }
    Ok(arguments)
}

/// Hears a stand-in until it is ready, or says why there is none.
async fn hear(child: &mut Child, desk: &Desk, left: &mut Left) -> Result<Result<Told, String>, Failure> {
    let mut failed = None;
    while let Some(event) = child.next_event().await {
        let text = |name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
        let number = |name: &str| event.get(name).and_then(Value::as_u64).unwrap_or_default();
        match text("event").as_deref() {
            Some("phase") => left.timeline.end_phase(&text("phase").unwrap_or_default(), 0),
            Some("failed") => failed = text("class"),
            Some("ready") => {
                let own = desk.tenant.credentials()?;
                let endpoint = text("endpoint").unwrap_or_default();
                let credentials = match (text("ca_pem"), text("certificate_pem"), text("key_pem")) {
                    (Some(ca_pem), Some(certificate_pem), Some(key_pem)) => {
                        Credentials { ca_pem, certificate_pem, key_pem: key_pem.into(), endpoint }
                    }
                    _ => Credentials { endpoint, ..own },
                };
                let (versions, unreadable) = (number("versions"), number("unreadable"));
                return Ok(Ok(Told { credentials, versions, unreadable }));
            }
            _ => child.remember_error(&event),
        }
    }
    let exit = child.wait(ENDING).await?;
    match failed {
        Some(class) => Ok(Err(class)),
        None => Err(child.failure("the service that was to be made again", exit)),
    }
}
