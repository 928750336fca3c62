//! Whose log is read, and with which key it is believed.

use std::path::Path;

use coffer_client::keys::VerifierName;
use coffer_client::profile::TenantProfile;
use coffer_client::{Client, LogWatch, PublicKit};

use crate::context::Context;
use crate::exit::{Advise as _, Failure};
use crate::files;
use crate::flags::{KeyFlags, LogFlags};

/// No kit comes near. In bytes.
const KIT_LIMIT: u64 = 16 << 20;

/// A log that is read from its service.
pub(super) struct Source {
    pub(super) client: Client,
    pub(super) watch: LogWatch,
    /// `None`: the service's own log.
    tenant: Option<TenantProfile>,
}

impl Source {
    pub(super) async fn open(context: &Context<'_>, log: &LogFlags) -> Result<Self, Failure> {
        if log.service {
            let key = match pinned(&log.key)? {
                Some(key) => key,
                None => kit_key(&context.profile.dir().join("recovery-kit.json")).advise(
                    "nothing was asked of the service",
                    "name the recovery kit with --kit, or the key with --key",
                )?,
            };
            let watch = context.profile.service_watch(key)?;
            return Ok(Self { client: context.operator().await?, watch, tenant: None });
        }
        let (client, tenant) = context.tenant_unchecked().await?;
        let watch = tenant.log_watch()?;
        if let Some(key) = pinned(&log.key)?.filter(|key| *key != watch.key()) {
            return Err(Failure::usage(format!("{} is not the key of this tenant's log", key.name))
                .next("leave out --kit and --key, or name another --tenant"));
        }
        Ok(Self { client, watch, tenant: Some(tenant) })
    }

    /// Keeps how far the log was seen to be.
    pub(super) fn remember(&self, context: &Context<'_>) -> Result<(), Failure> {
        match &self.tenant {
            Some(tenant) => Ok(tenant.remember(&self.watch)?),
            None => Ok(context.profile.remember_service(&self.watch)?),
        }
    }
}

/// The key that was named.
pub(in crate::commands) fn pinned(flags: &KeyFlags) -> Result<Option<VerifierName>, Failure> {
    match (&flags.kit, &flags.key) {
        (Some(kit), _) => kit_key(kit).map(Some),
        (None, Some(key)) => key.parse().map(Some).map_err(Failure::usage),
        (None, None) => Ok(None),
    }
}

pub(in crate::commands) fn kit_key(kit: &Path) -> Result<VerifierName, Failure> {
    let text = files::read_small(kit, KIT_LIMIT)?;
    let text = String::from_utf8(text).map_err(|_| Failure::new(format!("{}: not a kit", kit.display())))?;
    let read = PublicKit::from_json(&text);
    Ok(read.map_err(|error| Failure::new(format!("{}: {error}", kit.display())))?.evidence)
}
