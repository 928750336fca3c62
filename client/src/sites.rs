//! The sites of the deployment, for its operator.

use coffer_model::{Country, SiteId, Tier, Timestamp};
use coffer_proto::v1;

use crate::call::{CallError, bad_answer, once, repeat};
use crate::connect::Client;

/// One site as the service sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteInfo {
    /// Its id, for life.
    pub id: SiteId,
    /// Its short name.
    pub name: String,
    /// Where its disks stand.
    pub country: Country,
    /// What it fails together with.
    pub domain: String,
    /// Tier of its building.
    pub tier: Tier,
    /// Whether it answers.
    pub alive: bool,
    /// Whether it is simulated, and can be killed and revived.
    pub simulated: bool,
    /// Records that it holds.
    pub records: u64,
    /// Bytes of its volume files.
    pub volume_bytes: u64,
    /// Damaged records that it found itself.
    pub damaged: u64,
    /// Reads in which it returned damaged, wrong or no bytes for a record
    /// that it had acknowledged.
    pub reported: u64,
    /// What is wanted of it: active, draining, quarantined or retired.
    pub standing: String,
    /// Bytes of removed records that it has not reclaimed yet.
    pub dead_bytes: u64,
    /// Bytes that may still be written there, where somebody knows.
    pub free_bytes: Option<u64>,
    /// Whether it has less room than a shard of a whole stripe takes.
    pub full: bool,
    /// Whether it takes no writes.
    pub read_only: bool,
    /// Records that reads, scrubs or repairs know to be wrong there.
    pub known_damage: u64,
    /// Shards there that no version named when repair last looked at everything,
    /// those of puts under way among them, and their bytes.
    pub unnamed_shards: Option<(u64, u64)>,
    /// When it was last seen to answer, since the service started.
    pub last_seen: Option<Timestamp>,
    /// Bytes of shards and manifest records that it acknowledged since the service started.
    pub written_bytes: u64,
    /// Whether it came back older than it was, and is not believed until it
    /// has been repaired.
    pub quarantined: bool,
    /// Whether its disk is a new one, and repair has not yet brought it what the
    /// old one held.
    pub refilling: bool,
}

/// Work that the service timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// Versions, or bytes.
    pub amount: u64,
    /// How long it took.
    pub nanos: u64,
    /// When it ended, or until when it was looked at, by the service's clock.
    pub until: Timestamp,
}

/// What a service has counted and timed of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Versions, hidden ones included: of the caller's tenant, or of all.
    pub versions: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// The counts are over all tenants: an operator asked.
    pub all_tenants: bool,
    /// Versions that its last rebuild since it was started entered.
    pub rebuild: Option<Timed>,
    /// Bytes that the repair which runs, or the last one that moved any, read and wrote.
    pub repair: Option<Timed>,
}

fn measured(message: v1::Measured) -> Measured {
    let timed = |timed: v1::Timed| Timed {
        amount: timed.amount,
        nanos: timed.nanos,
        until: Timestamp(timed.until_ns),
    };
    Measured {
        versions: message.versions,
        bytes: message.bytes,
        all_tenants: message.all_tenants,
        rebuild: message.rebuild.map(timed),
        repair: message.repair.map(timed),
    }
}

pub(crate) fn info(message: v1::SiteInfo) -> Result<SiteInfo, CallError> {
    Ok(SiteInfo {
        id: coffer_proto::id("id", &message.id).map_err(bad_answer)?,
        name: message.name,
        country: message.country.parse().map_err(bad_answer)?,
        domain: message.domain,
        tier: message.tier.parse().map_err(bad_answer)?,
        alive: message.alive,
        simulated: message.simulated,
        records: message.records,
        volume_bytes: message.volume_bytes,
        damaged: message.damaged,
        reported: message.reported,
        standing: message.standing,
        dead_bytes: message.dead_bytes,
        free_bytes: message.free_bytes,
        full: message.full,
        read_only: message.read_only,
        known_damage: message.known_damage,
        unnamed_shards: message.unnamed_shards.map(|shards| (shards, message.unnamed_shard_bytes)),
        last_seen: (message.last_seen_ns > 0).then_some(Timestamp(message.last_seen_ns)),
        written_bytes: message.written_bytes,
        quarantined: message.quarantined,
        refilling: message.refilling,
    })
}

impl Client {
    /// All sites, in the order of the topology.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_sites(&self) -> Result<Vec<SiteInfo>, CallError> {
        self.ask_sites(false).await?.sites.into_iter().map(info).collect()
    }

    /// The same, and what the service has measured of itself; none from a
    /// service that knows no such thing.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_sites_measured(&self) -> Result<(Vec<SiteInfo>, Option<Measured>), CallError> {
        let answer = self.ask_sites(true).await?;
        let sites = answer.sites.into_iter().map(info).collect::<Result<_, _>>()?;
        Ok((sites, answer.measured.map(measured)))
    }

    async fn ask_sites(&self, measured: bool) -> Result<v1::ListSitesResponse, CallError> {
        let answer = repeat(&self.patience, self.entropy.as_ref(), || async {
            let answer = self.site_calls().list_sites(v1::ListSitesRequest { measured }).await;
            answer.map_err(|status| CallError::from_status(&status))
        });
        Ok(answer.await?.into_inner())
    }

    /// Makes a simulated site stop or start answering.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::Precondition`] if the site is a real one.
    pub async fn set_site_alive(&self, name: &str, alive: bool) -> Result<SiteInfo, CallError> {
        let request = v1::SetSiteAliveRequest { name: name.to_owned(), alive };
        let answer = once(self, || async { self.site_calls().set_site_alive(request.clone()).await })
            .await?
            .into_inner();
        info(answer.site.ok_or_else(|| bad_answer("no site"))?)
    }
}
