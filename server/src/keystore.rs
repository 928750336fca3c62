//! The key store: what lies, wrapped, in the overwritable key slots of the
//! sites. One slot for the deployment, sealed under the root key; one for
//! each tenant, sealed under the key-store epoch key that the deployment slot
//! holds, and inside that wrapped by the hierarchy. None of it ever enters a
//! catalogue or an append-only volume.

use std::collections::BTreeMap;

use bytes::Bytes;
use coffer_keys::{Context, Dek, OpenError, RootKey, SealError, open_bytes, seal_bytes};
use coffer_model::{Entropy, Geometry, KeyId, ResidencyPolicy, SiteId, SlotId, TenantId};
use coffer_regions::{SiteError, SlotContent};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::sites::Sites;
use crate::stored::Principal;

const DEPLOYMENT_SLOT: u8 = 1;
const TENANT_SLOT: u8 = 2;

/// Why keys could not be read from, or written to, the sites' slots.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// No slot opened under this root key.
    #[error(
        "no key slot at {sites} reachable site(s) opens with this root key: wrong shares, or another deployment's sites"
    )]
    NoDeployment {
        /// Sites that answered.
        sites: usize,
    },
    /// Too few sites hold the new keys; the old ones stand.
    #[error(
        "only {stored} of {wanted} sites stored the key slot, {needed} are needed; nothing depends on it yet"
    )]
    TooFewSites {
        /// Sites with an fsynced copy.
        stored: usize,
        /// Sites asked.
        wanted: usize,
        /// Sites needed so that every recovery finds one.
        needed: usize,
    },
    /// A slot opened, and holds what this program does not read.
    #[error("a key slot has a format that this program does not read")]
    Format,
    /// The keys could not be sealed.
    #[error("the keys could not be sealed: {0}")]
    Seal(#[from] SealError),
    /// The keys could not be serialised.
    #[error("the keys could not be serialised")]
    Serialise,
}

/// The deployment's own secrets, as they are sealed into their slot. The only
/// secrets here that serialise, because storing them is what this is for.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct DangerDeploymentSecrets {
    pub(crate) deployment: [u8; 16],
    pub(crate) keystore_epoch: u32,
    pub(crate) keystore_key: [u8; 32],
    pub(crate) evidence_seed: [u8; 32],
    pub(crate) authority_key_pem: String,
    #[zeroize(skip)]
    pub(crate) authority_ca_pem: String,
    #[zeroize(skip)]
    pub(crate) operators: Vec<Principal>,
}

/// A KEK epoch, wrapped under the tenant root.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct WrappedKek {
    pub(crate) id: KeyId,
    pub(crate) epoch: u32,
    pub(crate) wrap: Vec<u8>,
}

/// A tenant's keys, every one wrapped.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct TenantKeys {
    pub(crate) tenant: TenantId,
    pub(crate) name: String,
    pub(crate) policy: ResidencyPolicy,
    /// The service's own realm: its log takes what belongs to no tenant.
    pub(crate) service: bool,
    /// Which root version wrapped the tenant root.
    pub(crate) root_key: KeyId,
    pub(crate) tenant_root: KeyId,
    pub(crate) root_wrap: Vec<u8>,
    pub(crate) keks: Vec<WrappedKek>,
    /// The catalogue's key, wrapped under the newest KEK.
    pub(crate) catalog_wrap: Vec<u8>,
}

/// What the slots of all reachable sites add up to.
pub(crate) struct Found {
    pub(crate) deployment: DangerDeploymentSecrets,
    pub(crate) tenants: Vec<TenantKeys>,
}

/// Reads the newest generation of every slot from all reachable sites.
pub(crate) async fn read(sites: &Sites, root: &RootKey) -> Result<Found, KeystoreError> {
    let (slots, answered) = readable_slots(sites).await;
    let mut deployment = None;
    let root_sealing = root.sealing_key("deployment slot v1");
    for (slot, contents) in &slots {
        if let Some((plain, _)) = newest_that_opens(DEPLOYMENT_SLOT, &root_sealing, *slot, contents) {
            let secrets = postcard::from_bytes(&plain).map_err(|_| KeystoreError::Format)?;
            deployment = Some(secrets);
        }
    }
    let deployment: DangerDeploymentSecrets =
        deployment.ok_or(KeystoreError::NoDeployment { sites: answered })?;
    let epoch = epoch_key(&deployment);
    let mut tenants = Vec::new();
    for (slot, contents) in &slots {
        if let Some((plain, _)) = newest_that_opens(TENANT_SLOT, &epoch, *slot, contents) {
            let keys = postcard::from_bytes(&plain).map_err(|_| KeystoreError::Format)?;
            tenants.push(keys);
        }
    }
    Ok(Found { deployment, tenants })
}

/// What a slot holds, as the sites give it back, newest first and each once.
type Contents = Vec<SlotContent>;

/// Every readable content of every slot, and how many sites answered. A site
/// says which generation it has, and may lie: which content counts is for the
/// key to tell.
async fn readable_slots(sites: &Sites) -> (BTreeMap<SlotId, Contents>, usize) {
    let mut found: BTreeMap<SlotId, Contents> = BTreeMap::new();
    let mut answered = 0;
    for description in &sites.topology().sites {
        let Some(site) = sites.get(description.id) else { continue };
        let Ok(listing) = site.list_slots().await else { continue };
        answered += 1;
        for line in listing {
            match site.read_slot(line.slot).await {
                Ok(content) => {
                    let contents = found.entry(line.slot).or_default();
                    if !contents.contains(&content) {
                        contents.push(content);
                    }
                }
                Err(SiteError::Unreachable) => break,
                Err(_) => sites.report(description.id),
            }
        }
    }
    found.values_mut().for_each(|contents| contents.sort_by_key(|one| std::cmp::Reverse(one.generation)));
    (found, answered)
}

/// The newest content that opens. One that does not hides none that does,
/// whatever its site says of its generation.
fn newest_that_opens<'a>(
    kind: u8,
    key: &Dek,
    slot: SlotId,
    contents: &'a Contents,
) -> Option<(Zeroizing<Vec<u8>>, &'a SlotContent)> {
    contents.iter().find_map(|content| Some((open_slot(kind, key, slot, content).ok()?, content)))
}

/// Every slot that is this deployment's, its newest content, and the sites
/// that should hold it.
pub(crate) async fn wanted_slots(
    sites: &Sites,
    root: &RootKey,
    deployment: &DangerDeploymentSecrets,
) -> Vec<(SlotId, SlotContent, Vec<SiteId>)> {
    let (root_sealing, epoch) = (root.sealing_key("deployment slot v1"), epoch_key(deployment));
    let mut wanted = Vec::new();
    for (slot, contents) in readable_slots(sites).await.0 {
        if let Some((_, content)) = newest_that_opens(DEPLOYMENT_SLOT, &root_sealing, slot, &contents) {
            let everywhere = sites.topology().sites.iter().map(|site| site.id).collect();
            wanted.push((slot, content.clone(), everywhere));
        } else if let Some((plain, content)) = newest_that_opens(TENANT_SLOT, &epoch, slot, &contents)
            && let Ok(keys) = postcard::from_bytes::<TenantKeys>(&plain)
        {
            let admitted = sites.admitted(&keys.policy);
            wanted.push((slot, content.clone(), admitted));
        }
    }
    wanted
}

/// Writes the deployment's slot to every site.
pub(crate) async fn write_deployment(
    sites: &Sites,
    root: &RootKey,
    slot: SlotId,
    generation: u64,
    secrets: &DangerDeploymentSecrets,
    entropy: &dyn Entropy,
) -> Result<(), KeystoreError> {
    let plain = Zeroizing::new(postcard::to_allocvec(secrets).map_err(|_| KeystoreError::Serialise)?);
    let key = root.sealing_key("deployment slot v1");
    let everywhere: Vec<SiteId> = sites.topology().sites.iter().map(|site| site.id).collect();
    let losable = Geometry::DEFAULT.m().min(everywhere.len().saturating_sub(1));
    let body = seal_slot(DEPLOYMENT_SLOT, &key, slot, &plain, entropy)?;
    write(sites, &everywhere, losable, slot, generation, body).await
}

/// Writes a tenant's slot to every site that its policy admits: keys stay
/// inside the jurisdictions as data does.
pub(crate) async fn write_tenant(
    sites: &Sites,
    deployment: &DangerDeploymentSecrets,
    slot: SlotId,
    generation: u64,
    keys: &TenantKeys,
    entropy: &dyn Entropy,
) -> Result<(), KeystoreError> {
    let plain = postcard::to_allocvec(keys).map_err(|_| KeystoreError::Serialise)?;
    let body = seal_slot(TENANT_SLOT, &epoch_key(deployment), slot, &plain, entropy)?;
    write(sites, &sites.admitted(&keys.policy), keys.policy.geometry.m(), slot, generation, body).await
}

async fn write(
    sites: &Sites,
    to: &[SiteId],
    losable: usize,
    slot: SlotId,
    generation: u64,
    body: Bytes,
) -> Result<(), KeystoreError> {
    let calls = to.iter().map(|id| {
        let (site, content) = (sites.get(*id), SlotContent { generation, body: body.clone() });
        async move {
            match site {
                Some(site) => site.write_slot(slot, content).await,
                None => Err(SiteError::Unreachable),
            }
        }
    });
    let stored = futures::future::join_all(calls).await.iter().filter(|answer| answer.is_ok()).count();
    // One more than may be lost: every recovery then meets at least one copy.
    let needed = losable + 1;
    if stored >= needed {
        Ok(())
    } else {
        Err(KeystoreError::TooFewSites { stored, wanted: to.len(), needed })
    }
}

fn epoch_key(deployment: &DangerDeploymentSecrets) -> Dek {
    Dek::danger_from_bytes(Zeroizing::new(deployment.keystore_key))
}

fn slot_context(kind: u8, slot: SlotId) -> Context {
    Context::named("coffer key slot v1", &[&[kind], slot.as_bytes()])
}

fn seal_slot(
    kind: u8,
    key: &Dek,
    slot: SlotId,
    plain: &[u8],
    entropy: &dyn Entropy,
) -> Result<Bytes, SealError> {
    seal_bytes(key, &slot_context(kind, slot), entropy, plain).map(Bytes::from)
}

fn open_slot(
    kind: u8,
    key: &Dek,
    slot: SlotId,
    content: &SlotContent,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    open_bytes(key, &slot_context(kind, slot), &content.body)
}
