//! What every command works with: the profile, the connection, time and
//! chance, and the words.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coffer_client::backup::Repository;
use coffer_client::profile::{Profile, TenantProfile};
use coffer_client::{BucketStore, CallError, Client, ConnectOptions, Credentials, LogError};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_model::{BucketName, Clock, Entropy};

use crate::exit::{Advise as _, Failure};
use crate::output::Output;

/// The surroundings of one command.
pub(crate) struct Context<'a> {
    pub(crate) output: &'a Output,
    pub(crate) profile: Profile,
    pub(crate) tenant: Option<String>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// `$XDG_CONFIG_HOME/coffer`, or `~/.config/coffer`.
pub(crate) fn default_config_dir() -> Result<PathBuf, Failure> {
    let directory = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = directory("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(directory("HOME")?.join(".config")));
    base.map(|base| base.join("coffer")).ok_or_else(|| {
        Failure::usage("neither HOME nor XDG_CONFIG_HOME is set").next("name a directory with --config-dir")
    })
}

/// Says once in a process why nothing seems to happen.
fn tell_waiting(at_most: Duration) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        let seconds = at_most.as_secs();
        // A closed stderr is nobody's loss.
        drop(writeln!(std::io::stderr(), "the service does not answer; trying again for up to {seconds} s"));
    }
}

/// Says which address leads to somebody else.
fn tell_stranger(what: &str) {
    drop(writeln!(std::io::stderr(), "remark: {what}"));
}

impl<'a> Context<'a> {
    pub(crate) fn new(output: &'a Output, profile: Profile, tenant: Option<String>) -> Self {
        Self { output, profile, tenant, clock: Arc::new(SystemClock), entropy: Arc::new(OsEntropy) }
    }

    pub(crate) async fn connect(&self, credentials: &Credentials) -> Result<Client, Failure> {
        let mut options = ConnectOptions::new(Arc::clone(&self.entropy));
        options.patience.on_wait = (!self.output.is_quiet()).then_some(tell_waiting);
        options.on_stranger = (!self.output.is_quiet()).then_some(tell_stranger);
        Client::connect(credentials, options)
            .await
            .advise("nothing was asked of the service", "start it with `coffer serve`, then run this again")
    }

    /// A connection as the operator.
    pub(crate) async fn operator(&self) -> Result<Client, Failure> {
        self.connect(&self.profile.operator()?).await
    }

    /// A connection as the tenant, and what its profile remembers. A service
    /// that went back behind what it signed for this profile is refused here,
    /// before anything is asked of it.
    pub(crate) async fn tenant(&self) -> Result<(Client, TenantProfile), Failure> {
        let (client, tenant) = self.tenant_unchecked().await?;
        self.advance(&client, &tenant).await?;
        Ok((client, tenant))
    }

    /// A connection as the tenant, for commands that do not depend on its past.
    pub(crate) async fn tenant_unchecked(&self) -> Result<(Client, TenantProfile), Failure> {
        let tenant = self.profile.tenant(self.tenant.as_deref())?;
        Ok((self.connect(&tenant.credentials()?).await?, tenant))
    }

    /// Verifies that the tenant's log extends what is remembered of it, and
    /// remembers how far it is now. While too few sites answer, the service
    /// signs nothing: that is a remark, for the data may still be had.
    pub(crate) async fn advance(&self, client: &Client, tenant: &TenantProfile) -> Result<(), Failure> {
        let mut watch = tenant.log_watch()?;
        match watch.advance_once(client).await {
            Ok(_) => Ok(tenant.remember(&watch)?),
            Err(LogError::Call(CallError::Unavailable(reason))) => {
                self.output.remark(format_args!(
                    "remark: the service signs no checkpoint now ({reason}); it was not checked for having gone back"
                ));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The repository in a bucket, opened with the key of the profile.
    pub(crate) async fn repository(
        &self,
        client: &Client,
        tenant: &TenantProfile,
        bucket: &BucketName,
    ) -> Result<Repository, Failure> {
        self.repository_in(tenant, bucket, BucketStore::new(client.clone(), bucket.clone())).await
    }

    /// The same through a store of the caller's own terms.
    pub(crate) async fn repository_in(
        &self,
        tenant: &TenantProfile,
        bucket: &BucketName,
        store: BucketStore,
    ) -> Result<Repository, Failure> {
        let key = tenant.repository_key(bucket)?.ok_or_else(|| {
            Failure::new(format!("this profile has no repository key for bucket {bucket}"))
                .safe("nothing was changed")
                .next(format!("make a first backup with `coffer backup DIR --bucket {bucket}`"))
        })?;
        Ok(Repository::open(Arc::new(store), &key).await?)
    }
}
