//! Buckets: made, found, removed.

use coffer_model::{BucketId, BucketName, ResidencyPolicy, Timestamp};
use rusqlite::{Connection, Row, params};

use super::{change, every, facts, first, log};
use crate::stored::{decode, encode, id, integer, number};
use crate::{BucketError, BucketRow, CatalogError, Leaf};

const COLUMNS: &str = "SELECT id, name, created, record, policy FROM bucket";

/// The kinds of fact that a change of a bucket leaves until it is over, under
/// the bucket's id: a removal, and any other change.
pub(crate) const LEAVING: &str = "leaving";
pub(crate) const CHANGING: &str = "changing";

/// Keeps a change that is about to reach the sites, with its intent leaf. A
/// removal must find nothing that it would take along.
pub(crate) fn begin(
    connection: &Connection,
    id: BucketId,
    body: &[u8],
    removal: bool,
    leaf: &Leaf,
) -> Result<u64, BucketError> {
    if removal {
        refuse_if_not_empty(connection, id)?;
    }
    facts::put(connection, if removal { LEAVING } else { CHANGING }, *id.as_bytes(), body)?;
    Ok(log::append(connection, leaf)?)
}

/// Forgets a change, with the leaf that says how it ended.
pub(crate) fn forget(connection: &Connection, id: BucketId, leaf: &Leaf) -> Result<u64, CatalogError> {
    over(connection, id)?;
    log::append(connection, leaf)
}

/// No change of this bucket is under way any more.
pub(super) fn over(connection: &Connection, id: BucketId) -> Result<(), CatalogError> {
    [LEAVING, CHANGING].into_iter().try_for_each(|kind| facts::remove(connection, kind, *id.as_bytes()))
}

/// The kind of fact that a removed bucket leaves, under its id: the policy under
/// which its hidden versions still lie.
const REMOVED: &str = "removed";

/// Keeps the policy of a bucket that is no more.
pub(super) fn keep_policy(
    connection: &Connection,
    id: BucketId,
    policy: &ResidencyPolicy,
) -> Result<(), CatalogError> {
    facts::put(connection, REMOVED, *id.as_bytes(), &encode(policy, "policy")?)
}

/// The policy of a removed bucket, if it was kept.
pub(crate) fn removed_policy(
    connection: &Connection,
    id: BucketId,
) -> Result<Option<ResidencyPolicy>, CatalogError> {
    let sql = "SELECT body FROM fact WHERE kind = ?1 AND id = ?2";
    first(connection, sql, params![REMOVED, id.as_bytes()], |row| {
        decode(row.get_ref(0)?.as_blob().map_err(|_| CatalogError::Damaged("policy"))?, "policy")
    })
}

/// The policies of all removed buckets that were kept.
pub(crate) fn removed_policies(
    connection: &Connection,
) -> Result<Vec<(BucketId, ResidencyPolicy)>, CatalogError> {
    let kept = facts::all(connection, REMOVED)?.into_iter();
    kept.map(|(id, body)| Ok((BucketId::from_bytes(id), decode(&body, "policy")?))).collect()
}

/// Whether there is any version of a bucket, hidden or not, that lies so: whole copies or shards.
pub(crate) fn has_versions(
    connection: &Connection,
    id: BucketId,
    inline: bool,
) -> Result<bool, CatalogError> {
    let sql =
        "SELECT 1 FROM name n JOIN version v ON v.name = n.id WHERE n.bucket = ?1 AND v.inline = ?2 LIMIT 1";
    Ok(first(connection, sql, params![id.as_bytes(), inline], |_| Ok(()))?.is_some())
}

/// Whether the removal of a bucket has begun.
pub(super) fn is_leaving(connection: &Connection, id: BucketId) -> Result<bool, CatalogError> {
    let sql = "SELECT 1 FROM fact WHERE kind = ?1 AND id = ?2";
    Ok(first(connection, sql, params![LEAVING, id.as_bytes()], |_| Ok(()))?.is_some())
}

pub(crate) fn insert(connection: &Connection, bucket: &BucketRow, leaf: &Leaf) -> Result<u64, BucketError> {
    let taken = "SELECT 1 FROM bucket WHERE name = ?1 OR id = ?2";
    let key = params![bucket.name.as_str(), bucket.id.as_bytes()];
    if first(connection, taken, key, |_| Ok(()))?.is_some() {
        return Err(BucketError::NameTaken);
    }
    upsert(connection, bucket)?;
    over(connection, bucket.id)?;
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
/// hidden versions keep their rows, as they keep their records at the sites,
/// and the policy that says where these may lie.
pub(crate) fn remove(connection: &Connection, id: BucketId, leaf: &Leaf) -> Result<u64, BucketError> {
    refuse_if_not_empty(connection, id)?;
    over(connection, id)?;
    let bucket = by_id(connection, id)?.ok_or(BucketError::Missing)?;
    keep_policy(connection, id, &bucket.policy)?;
    change(connection, "DELETE FROM bucket WHERE id = ?1", params![id.as_bytes()])?;
    Ok(log::append(connection, leaf)?)
}

fn refuse_if_not_empty(connection: &Connection, id: BucketId) -> Result<(), BucketError> {
    let holds = "SELECT 1 FROM name WHERE bucket = ?1 AND latest IS NOT NULL
                 UNION ALL SELECT 1 FROM reservation WHERE bucket = ?1 LIMIT 1";
    match first(connection, holds, params![id.as_bytes()], |_| Ok(()))? {
        Some(()) => Err(BucketError::NotEmpty),
        None => Ok(()),
    }
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
