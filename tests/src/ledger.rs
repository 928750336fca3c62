//! An independent reader of catalogues: keys from the slots of the sites and
//! rows from SQLCipher, by what `server/RECORDS.md` and
//! `server/catalog/SCHEMA.md` say, without the code of the service or of its
//! catalogue. What it reads it puts into lines of text, in order, and digests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use coffer_custody::OsEntropy;
use coffer_keys::{
    Context, Dek, RootKey, Wrap, open_bytes, unwrap_catalog_key, unwrap_kek, unwrap_tenant_root,
};
use coffer_model::{
    BucketId, CatalogKey, Digest, KeyId, Layout, ObjectId, ObjectKey, ResidencyPolicy, SiteId, SlotId,
    TenantId, Timestamp, VersionId,
};
use coffer_regions::{Site, SlotContent};
use coffer_server::SiteAddress;
use coffer_site::DirectorySite;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use zeroize::Zeroizing;

/// The lines of one kind: how many, and BLAKE3 over all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// How many.
    pub count: u64,
    /// Over all lines, each with its end.
    pub digest: String,
}

/// What one catalogue holds, in what matters: everything that the sites must
/// be able to tell again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// Lines by kind: bucket, name, version, tombstone, fact, leaf.
    pub lines: BTreeMap<&'static str, Lines>,
    /// The order given next.
    pub next_order: u64,
    /// Higher by one than every order of a version or tombstone.
    pub order_floor: u64,
    /// Leaves in the log.
    pub leaves: u64,
    /// Leaves that the catalogue says are safe at the sites.
    pub replicated: u64,
    /// Puts and deletions under way.
    pub pending: u64,
    /// Versions whose `reduced` is not the number of their sites among those
    /// that the reader was told are lost.
    pub reduced_otherwise: u64,
}

/// One tenant's slot: name and catalogue key.
pub struct TenantKey {
    /// Its name; the service's own realm is called `service`.
    pub name: String,
    key: CatalogKey,
}

type TenantSlot =
    (TenantId, String, ResidencyPolicy, bool, KeyId, KeyId, Vec<u8>, Vec<(KeyId, u32, Vec<u8>)>, Vec<u8>);

/// The catalogue keys of every tenant, from the slots of the sites below
/// `data`, which no service may have open.
pub async fn catalogue_keys(data: &Path, root: &RootKey) -> BTreeMap<TenantId, TenantKey> {
    let slots = newest_slots(data).await;
    let open = |kind: u8, key: &Dek, slot: &SlotId, content: &SlotContent| {
        open_bytes(key, &Context::named("coffer key slot v1", &[&[kind], slot.as_bytes()]), &content.body)
    };
    let sealing = root.sealing_key("deployment slot v1");
    let deployment = slots.iter().find_map(|(slot, content)| open(1, &sealing, slot, content).ok()).unwrap();
    type DeploymentStart = ([u8; 16], u32, [u8; 32]);
    let ((_, _, epoch), _) = postcard::take_from_bytes::<DeploymentStart>(&deployment).unwrap();
    let epoch = Dek::danger_from_bytes(Zeroizing::new(epoch));
    let mut keys = BTreeMap::new();
    for (slot, content) in &slots {
        let Ok(plain) = open(2, &epoch, slot, content) else { continue };
        let (tenant, name, _, _, root_key, tenant_root, root_wrap, keks, catalog_wrap): TenantSlot =
            postcard::from_bytes(&plain).unwrap();
        let wrap = Wrap::from_bytes(&root_wrap).unwrap();
        let own = unwrap_tenant_root(root, root_key, 1, tenant, tenant_root, &wrap).unwrap();
        let (kek_id, kek_epoch, wrap) = keks.last().unwrap();
        let wrap = Wrap::from_bytes(wrap).unwrap();
        let kek = unwrap_kek(&own, tenant_root, 1, tenant, *kek_id, &wrap).unwrap();
        let wrap = Wrap::from_bytes(&catalog_wrap).unwrap();
        let key = unwrap_catalog_key(&kek, *kek_id, *kek_epoch, tenant, &wrap).unwrap();
        keys.insert(tenant, TenantKey { name, key });
    }
    keys
}

#[expect(clippy::disallowed_methods, reason = "the topology is a file of the deployment under test")]
async fn newest_slots(data: &Path) -> BTreeMap<SlotId, SlotContent> {
    let text = std::fs::read(data.join("topology.json")).unwrap();
    let addresses: Vec<SiteAddress> = serde_json::from_slice(&text).unwrap();
    let mut newest: BTreeMap<SlotId, SlotContent> = BTreeMap::new();
    for address in addresses {
        let path = data.join("sites").join(&address.site.name);
        let Ok(site) = DirectorySite::open(&path, address.site, Arc::new(OsEntropy)) else { continue };
        for line in site.list_slots().await.unwrap() {
            // One that is damaged has its content elsewhere.
            let Ok(content) = site.read_slot(line.slot).await else { continue };
            if newest.get(&line.slot).is_none_or(|old| old.generation < content.generation) {
                newest.insert(line.slot, content);
            }
        }
    }
    newest
}

/// By how much the orders of a rebuilt catalogue are above those at the sites, at most.
const ORDERS: u64 = 1 << 32;

impl Ledger {
    /// Reads the catalogue of `tenant` below `data`; of its log the first
    /// `leaves` leaves. `lost` are the sites whose loss `reduced` should tell.
    pub fn read(data: &Path, tenant: TenantId, key: &TenantKey, leaves: u64, lost: &[SiteId]) -> Self {
        let db = open(&data.join(format!("service/catalogues/{tenant}.db")), &key.key);
        let lost: BTreeSet<SiteId> = lost.iter().copied().collect();
        let mut lines = BTreeMap::new();
        for (kind, sql) in KINDS {
            lines.insert(kind, digest(&db, sql, i64::try_from(leaves).unwrap_or(i64::MAX)));
        }
        let number = |sql: &str| u64::try_from(db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap());
        Self {
            lines,
            next_order: number("SELECT next_order FROM catalogue").unwrap(),
            order_floor: number(
                "SELECT 1 + max(coalesce((SELECT max(ord) FROM version), 0),
                                coalesce((SELECT max(ord) FROM tombstone), 0))",
            )
            .unwrap(),
            leaves: number("SELECT count(*) FROM leaf").unwrap(),
            replicated: number("SELECT replicated FROM catalogue").unwrap(),
            pending: number(
                "SELECT (SELECT count(*) FROM reservation)
                     + (SELECT count(*) FROM fact WHERE kind IN ('deletion', 'changing', 'leaving'))",
            )
            .unwrap(),
            reduced_otherwise: reduced_otherwise(&db, &lost),
        }
    }

    /// What in `rebuilt` is not as it was here; empty if it is equal in what matters.
    pub fn differences(&self, rebuilt: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (kind, lines) in &self.lines {
            let other = rebuilt.lines.get(kind).cloned().unwrap_or_default();
            if *lines != other {
                found.push(format!("{kind}: {lines:?} was lost, {other:?} was rebuilt"));
            }
        }
        // Above every order that the lost one can have given, and not without end.
        let highest = self.order_floor.max(self.next_order).saturating_add(ORDERS);
        if rebuilt.next_order < self.next_order || rebuilt.next_order > highest {
            let next = self.next_order;
            found.push(format!("next order {} is not within {next} to {highest}", rebuilt.next_order));
        }
        // The rebuild's own leaf follows those that were lost, and may be safe too.
        if rebuilt.replicated < self.replicated || rebuilt.replicated > rebuilt.leaves {
            found.push(format!("{} leaves replicated, not {}", rebuilt.replicated, self.replicated));
        }
        if rebuilt.pending != 0 || rebuilt.reduced_otherwise != 0 {
            let (pending, reduced) = (rebuilt.pending, rebuilt.reduced_otherwise);
            found.push(format!("{pending} pending, {reduced} with another budget than the loss left"));
        }
        found
    }
}

/// The leaves of a tenant's log, as its catalogue below `data` has them.
pub fn leaves(data: &Path, tenant: TenantId, key: &TenantKey) -> Vec<Vec<u8>> {
    let db = open(&data.join(format!("service/catalogues/{tenant}.db")), &key.key);
    let mut statement = db.prepare("SELECT body FROM leaf ORDER BY seq").unwrap();
    let bodies = statement.query_map([], |row| row.get(0)).unwrap();
    bodies.map(Result::unwrap).collect()
}

/// What of a catalogue the sites can tell, row by row in an order of its own.
/// Not among it: rows of removed buckets, names that never got a version, how
/// far intents were found settled, and
/// `reduced`, which says how much of a version is there now.
const KINDS: [(&str, &str); 6] = [
    ("bucket", "SELECT id, name, created, record, policy FROM bucket WHERE ?1 >= 0 ORDER BY id"),
    (
        "name",
        "SELECT n.bucket, n.key, n.object, n.latest FROM name n JOIN bucket b ON b.id = n.bucket
         WHERE ?1 >= 0 AND EXISTS (SELECT 1 FROM version v WHERE v.name = n.id) ORDER BY n.bucket, n.key",
    ),
    (
        "version",
        "SELECT v.id, n.bucket, n.key, v.object, v.ord, v.record, v.created, v.size, v.content, v.inline,
                v.wrap, v.manifest
         FROM version v JOIN name n ON n.id = v.name JOIN bucket b ON b.id = n.bucket
         WHERE ?1 >= 0 ORDER BY v.id",
    ),
    (
        "tombstone",
        "SELECT record, bucket, object, version, ord, created FROM tombstone WHERE ?1 >= 0 ORDER BY record",
    ),
    (
        "fact",
        "SELECT kind, id, body FROM fact
         WHERE ?1 >= 0 AND kind NOT IN ('deletion', 'settled', 'orders', 'removed', 'unheard') ORDER BY kind, id",
    ),
    ("leaf", "SELECT seq, hash, body FROM leaf WHERE seq < ?1 ORDER BY seq"),
];

fn open(path: &Path, key: &CatalogKey) -> Connection {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let digits: String = key.danger_expose().iter().map(|byte| format!("{byte:02x}")).collect();
    db.execute_batch(&format!("PRAGMA key = \"x'{digits}'\"")).unwrap();
    db
}

fn digest(db: &Connection, sql: &str, leaves: i64) -> Lines {
    let mut statement = db.prepare(sql).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([leaves]).unwrap();
    let (mut count, mut hasher) = (0, blake3::Hasher::new());
    while let Some(row) = rows.next().unwrap() {
        let fields: Vec<String> = (0..columns).map(|column| text(row, column)).collect();
        hasher.update(fields.join(" ").as_bytes()).update(b"\n");
        count += 1;
    }
    Lines { count, digest: hasher.finalize().to_hex().to_string() }
}

fn text(row: &Row<'_>, column: usize) -> String {
    match row.get_ref(column).unwrap() {
        ValueRef::Null => "-".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        }
    }
}

/// The fields of a manifest up to its layout, after the blob's format byte.
type ManifestStart = (
    (TenantId, BucketId, ObjectId, VersionId),
    ObjectKey,
    (u64, Timestamp, u64, u64),
    Digest,
    BTreeMap<String, String>,
    Layout,
);

fn reduced_otherwise(db: &Connection, lost: &BTreeSet<SiteId>) -> u64 {
    let mut statement = db.prepare("SELECT reduced, manifest FROM version").unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut otherwise = 0;
    while let Some(row) = rows.next().unwrap() {
        let blob = row.get_ref(1).unwrap().as_blob().unwrap();
        let ((.., layout), _) = postcard::take_from_bytes::<ManifestStart>(&blob[1..]).unwrap();
        let missing = layout.sites().iter().filter(|site| lost.contains(site)).count();
        otherwise += u64::from(row.get::<_, i64>(0).unwrap() != i64::try_from(missing).unwrap());
    }
    otherwise
}
