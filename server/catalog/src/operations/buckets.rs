//! Buckets: made, found, removed.

use coffer_model::{BucketId, BucketName, Timestamp};
use rusqlite::{Connection, Row, params};

use super::{change, every, first, log};
use crate::stored::{decode, encode, id, integer, number};
use crate::{BucketError, BucketRow, CatalogError, Leaf};

const COLUMNS: &str = "SELECT id, name, created, record, policy FROM bucket";

pub(crate) fn insert(connection: &Connection, bucket: &BucketRow, leaf: &Leaf) -> Result<u64, BucketError> {
    let taken = "SELECT 1 FROM bucket WHERE name = ?1 OR id = ?2";
    let key = params![bucket.name.as_str(), bucket.id.as_bytes()];
    if first(connection, taken, key, |_| Ok(()))?.is_some() {
        return Err(BucketError::NameTaken);
    }
    upsert(connection, bucket)?;
    Ok(log::append(connection, leaf)?)
}

/// Enters a bucket, or replaces the one with its id.
pub(super) fn upsert(connection: &Connection, bucket: &BucketRow) -> Result<(), CatalogError> {
    change(
        connection,
        "INSERT OR REPLACE INTO bucket (id, name, created, record, policy) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            bucket.id.as_bytes(),
            bucket.name.as_str(),
            integer(bucket.created.0, "time")?,
            bucket.record.as_bytes(),
            encode(&bucket.policy, "policy")?,
        ],
    )?;
    Ok(())
}

pub(crate) fn by_name(connection: &Connection, name: &BucketName) -> Result<Option<BucketRow>, CatalogError> {
    first(connection, &format!("{COLUMNS} WHERE name = ?1"), params![name.as_str()], read)
}

pub(crate) fn by_id(connection: &Connection, id: BucketId) -> Result<Option<BucketRow>, CatalogError> {
    first(connection, &format!("{COLUMNS} WHERE id = ?1"), params![id.as_bytes()], read)
}

pub(crate) fn all(connection: &Connection) -> Result<Vec<BucketRow>, CatalogError> {
    every(connection, &format!("{COLUMNS} ORDER BY name"), [], read)
}

/// Removes a bucket in which nothing is visible and no put is under way. Its
/// hidden versions keep their rows, as they keep their records at the sites.
pub(crate) fn remove(connection: &Connection, id: BucketId, leaf: &Leaf) -> Result<u64, BucketError> {
    let holds = "SELECT 1 FROM name WHERE bucket = ?1 AND latest IS NOT NULL
                 UNION ALL SELECT 1 FROM reservation WHERE bucket = ?1 LIMIT 1";
    if first(connection, holds, params![id.as_bytes()], |_| Ok(()))?.is_some() {
        return Err(BucketError::NotEmpty);
    }
    if change(connection, "DELETE FROM bucket WHERE id = ?1", params![id.as_bytes()])? == 0 {
        return Err(BucketError::Missing);
    }
    Ok(log::append(connection, leaf)?)
}

fn read(row: &Row<'_>) -> Result<BucketRow, CatalogError> {
    let name: String = row.get(1)?;
    Ok(BucketRow {
        id: id(row, 0, "bucket")?,
        name: BucketName::new(name).map_err(|_| CatalogError::Damaged("bucket name"))?,
        created: Timestamp(number(row, 2, "time")?),
        record: id(row, 3, "record id")?,
        policy: decode(row.get_ref(4)?.as_blob().map_err(|_| CatalogError::Damaged("policy"))?, "policy")?,
    })
}
