//! Tombstones: a deletion hides, and the rows stay until retention ends.

use rusqlite::{Connection, params};

use super::{change, every, facts, first, log, puts};
use crate::stored::{id, integer, number};
use crate::{CatalogError, Leaf, TombstoneError, TombstoneRow};
use coffer_model::{BucketId, ObjectId, RecordId, VersionId};

/// Hides every version of the object up to the tombstone's order, together
/// with the leaf. The version must be there and visible.
pub(crate) fn tombstone(
    connection: &Connection,
    version: VersionId,
    tombstone: &TombstoneRow,
    leaf: &Leaf,
) -> Result<u64, TombstoneError> {
    let found = first(
        connection,
        "SELECT v.object, v.ord, n.bucket FROM version v JOIN name n ON n.id = v.name
         WHERE v.id = ?1 AND NOT EXISTS (
             SELECT 1 FROM tombstone t WHERE t.object = v.object AND t.ord >= v.ord)",
        params![version.as_bytes()],
        |row| {
            let object: ObjectId = id(row, 0, "object id")?;
            let bucket: BucketId = id(row, 2, "bucket id")?;
            Ok((object, number(row, 1, "order")?, bucket))
        },
    )?;
    let (object, order, bucket) = found.ok_or(TombstoneError::Missing)?;
    // An order that was not given yet would hide versions of the future.
    let next = puts::order_to_come(connection)?;
    let fields = [
        ("version", tombstone.version == version),
        ("object", tombstone.object == object),
        ("bucket", tombstone.bucket == bucket),
        ("order", (order..next).contains(&tombstone.order)),
    ];
    if let Some((field, _)) = fields.into_iter().find(|(_, same)| !same) {
        return Err(TombstoneError::Mismatch(field));
    }
    insert(connection, tombstone)?;
    facts::remove(connection, PENDING, *tombstone.record.as_bytes())?;
    Ok(log::append(connection, leaf)?)
}

/// The kind of fact that a deletion under way is.
pub(crate) const PENDING: &str = "deletion";

/// Keeps a deletion that is about to reach the sites, with its intent leaf.
pub(crate) fn reserve(
    connection: &Connection,
    record: RecordId,
    body: &[u8],
    leaf: &Leaf,
) -> Result<u64, CatalogError> {
    facts::put(connection, PENDING, *record.as_bytes(), body)?;
    log::append(connection, leaf)
}

/// Forgets a deletion that has nothing left to hide, with the leaf that says so.
pub(crate) fn forget(connection: &Connection, record: RecordId, leaf: &Leaf) -> Result<u64, CatalogError> {
    facts::remove(connection, PENDING, *record.as_bytes())?;
    log::append(connection, leaf)
}

/// Enters a tombstone and hides what it covers, now and when it comes later.
pub(super) fn insert(connection: &Connection, tombstone: &TombstoneRow) -> Result<(), CatalogError> {
    change(
        connection,
        "INSERT OR REPLACE INTO tombstone (record, bucket, object, version, ord, created)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            tombstone.record.as_bytes(),
            tombstone.bucket.as_bytes(),
            tombstone.object.as_bytes(),
            tombstone.version.as_bytes(),
            integer(tombstone.order, "order")?,
            integer(tombstone.created.0, "time")?,
        ],
    )?;
    let names = "SELECT DISTINCT name FROM version WHERE object = ?1";
    let names: Vec<i64> =
        every(connection, names, params![tombstone.object.as_bytes()], |row| Ok(row.get(0)?))?;
    names.into_iter().try_for_each(|name| puts::refresh_latest(connection, name))
}
