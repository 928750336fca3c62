//! Loading what the sites hold into a new catalogue. No leaf is written: the
//! leaves come from the sites too. A batch may come twice and in any order,
//! its leaves excepted.

use std::collections::BTreeSet;

use coffer_model::{ObjectId, TenantId};
use rusqlite::{Connection, params};

use super::{buckets, change, deletes, facts, first, log, puts};
use crate::file::{WAL_PAGES, WAL_PAGES_OF_LOADS, WRITER_CACHE_PAGES};
use crate::schema::{LATE_INDICES, Late, NEWEST};
use crate::stored::integer;
use crate::{CatalogError, ManifestRow, RebuildBatch};

pub(crate) fn load(
    connection: &Connection,
    tenant: TenantId,
    batch: &RebuildBatch,
) -> Result<(), CatalogError> {
    for bucket in &batch.buckets {
        let twice = "SELECT 1 FROM bucket WHERE name = ?1 AND id <> ?2";
        let key = params![bucket.name.as_str(), bucket.id.as_bytes()];
        if first(connection, twice, key, |_| Ok(()))?.is_some() {
            return Err(CatalogError::BucketNameTwice(bucket.name.clone()));
        }
        buckets::upsert(connection, bucket)?;
    }
    let mut highest = batch.order_floor;
    for tombstone in &batch.tombstones {
        highest = highest.max(tombstone.order);
        deletes::insert(connection, tombstone)?;
    }
    if let Some(foreign) = batch.manifests.iter().find(|row| row.manifest.tenant != tenant) {
        return Err(CatalogError::OtherTenant(foreign.manifest.tenant));
    }
    highest = batch.manifests.iter().map(|row| row.manifest.order).fold(highest, u64::max);
    load_versions(connection, &batch.manifests)?;
    if !batch.leaves.is_empty() {
        log::append_all(connection, &batch.leaves)?;
    }
    for fact in &batch.facts {
        facts::put(connection, &fact.kind, fact.id, &fact.body)?;
    }
    let sql = "UPDATE catalogue SET next_order = max(next_order, ?1)";
    change(connection, sql, params![integer(highest.saturating_add(1), "order")?])?;
    Ok(())
}

/// Enters versions in two sweeps over the file, each in the order of the tree
/// it fills: names first, then the versions themselves. What comes in the
/// order of random ids would touch a page of each tree for every row.
fn load_versions(connection: &Connection, manifests: &[ManifestRow]) -> Result<(), CatalogError> {
    let mut by_name: Vec<&ManifestRow> = manifests.iter().collect();
    by_name.sort_unstable_by(|a, b| {
        let place = |row: &ManifestRow| (row.manifest.bucket, row.manifest.order);
        let names = (a.manifest.bucket, &a.manifest.key).cmp(&(b.manifest.bucket, &b.manifest.key));
        names.then_with(|| place(a).cmp(&place(b)))
    });
    let mut entered = Vec::with_capacity(by_name.len());
    let mut crowded = BTreeSet::new();
    let mut rows = by_name.into_iter().peekable();
    while let Some(row) = rows.next() {
        let manifest = &row.manifest;
        let same = |next: &&ManifestRow| {
            next.manifest.bucket == manifest.bucket && next.manifest.key == manifest.key
        };
        let alone = !rows.peek().is_some_and(same);
        let name = match puts::find_name(connection, manifest.bucket, &manifest.key)? {
            // Of a single new version it is known now whether it shows.
            None if alone => {
                let shown = !hidden(connection, manifest.object, manifest.order)?;
                puts::insert_name(connection, manifest, shown.then_some(manifest.version))?
            }
            None => puts::insert_name(connection, manifest, None)?,
            Some((name, _)) => {
                crowded.insert(name);
                name
            }
        };
        if !alone {
            crowded.insert(name);
        }
        entered.push((name, row));
    }
    entered.sort_unstable_by_key(|(_, row)| (row.manifest.version, row.manifest.revision, row.record));
    for (name, row) in entered {
        if !puts::superseded(connection, row)? {
            puts::enter_version(connection, name, row)?;
        }
    }
    crowded.into_iter().try_for_each(|name| puts::refresh_latest(connection, name))
}

/// The fact that says from where on the orders of this catalogue go, until
/// that is kept elsewhere.
const ORDERS: &str = "orders";
/// There is one, under this id.
const ONLY: [u8; 16] = [0; 16];

/// Lets the orders go on that much higher, and remembers from where.
pub(crate) fn skip_orders(connection: &Connection, gap: u64) -> Result<(), CatalogError> {
    let floor = puts::order_to_come(connection)?.saturating_add(gap);
    change(connection, "UPDATE catalogue SET next_order = ?1", params![integer(floor, "order")?])?;
    facts::put(connection, ORDERS, ONLY, &floor.to_be_bytes())
}

/// Where the orders of this catalogue begin, if nobody has kept that yet.
pub(crate) fn order_floor(connection: &Connection) -> Result<Option<u64>, CatalogError> {
    let known = facts::all(connection, ORDERS)?;
    let read = |(_, body): &([u8; 16], Vec<u8>)| body.as_slice().try_into().map(u64::from_be_bytes);
    known.first().map(read).transpose().map_err(|_| CatalogError::Damaged("order"))
}

pub(crate) fn order_floor_kept(connection: &Connection) -> Result<(), CatalogError> {
    facts::remove(connection, ORDERS, ONLY)
}

fn hidden(connection: &Connection, object: ObjectId, order: u64) -> Result<bool, CatalogError> {
    let sql = "SELECT 1 FROM tombstone WHERE object = ?1 AND ord >= ?2";
    let key = params![object.as_bytes(), integer(order, "order")?];
    Ok(first(connection, sql, key, |_| Ok(()))?.is_some())
}

/// Readies the connection for many loads. It may keep more pages: loads touch
/// pages all over the file, and one that was dropped is read, verified and
/// opened again. Indices that loads do not ask are made in the end, in one
/// sweep instead of a random page for each row. And no load waits for the disk:
/// a file that a crash leaves half filled is thrown away whatever of it is there.
pub(crate) fn begin(connection: &Connection, cache_mib: u16) -> Result<(), CatalogError> {
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES_OF_LOADS)?;
    for Late { name, .. } in LATE_INDICES {
        connection.execute(&format!("DROP INDEX IF EXISTS {name}"), [])?;
    }
    Ok(connection.pragma_update(None, "cache_size", -(i64::from(cache_mib) << 10))?)
}

/// Gives the pages back, makes the indices, and returns when all that was
/// loaded is fsynced.
pub(crate) fn finish(connection: &Connection) -> Result<(), CatalogError> {
    // First: the sort needs memory of its own, some hundred bytes for each row.
    connection.pragma_update(None, "cache_size", WRITER_CACHE_PAGES)?;
    connection.release_memory()?;
    for Late { name, on } in LATE_INDICES {
        connection.execute(&format!("CREATE INDEX IF NOT EXISTS {name} ON {on}"), [])?;
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The checkpoint that commits begin by themselves keeps its failures to itself.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // A page for the checkpoint to write: one that finds all of them in the
    // file already would leave the file as it is, which nobody has fsynced.
    connection.pragma_update(None, "user_version", NEWEST)?;
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    if busy == 0 { Ok(()) } else { Err(CatalogError::Busy) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::migrate;

    fn schema(connection: &Connection) -> Vec<(String, Option<String>)> {
        let sql = "SELECT name, sql FROM sqlite_schema ORDER BY name";
        let mut rows = connection.prepare(sql).unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn what_loads_do_without_is_there_again_when_they_end_word_for_word() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        let whole = schema(&connection);
        begin(&connection, 2).unwrap();
        assert_eq!(schema(&connection).len(), whole.len() - LATE_INDICES.len());
        finish(&connection).unwrap();
        assert_eq!(schema(&connection), whole);
    }
}
