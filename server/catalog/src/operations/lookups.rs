//! Versions found by name, by id and by prefix; and how much there is.

use coffer_model::{BucketId, ObjectId, ObjectKey, Timestamp, VersionId};
use rusqlite::{Connection, Row, params};

use super::{every, first, limit};
use crate::stored::{decode_manifest, digest, id, number};
use crate::{CatalogError, Counts, ListRow, ManifestRow};

const COLUMNS: &str = "SELECT v.record, v.manifest, v.wrap, v.reduced, v.inline FROM version v";

pub(crate) fn latest(
    connection: &Connection,
    bucket: BucketId,
    key: &ObjectKey,
) -> Result<Option<ManifestRow>, CatalogError> {
    let sql = format!("{COLUMNS} JOIN name n ON n.latest = v.id WHERE n.bucket = ?1 AND n.key = ?2");
    first(connection, &sql, params![bucket.as_bytes(), key.as_bytes()], read)
}

/// Which version of a name was the newest visible one at a moment (`?3` in
/// every statement that holds this): what was written or deleted later does
/// not count.
const LATEST_THEN: &str = "SELECT v.id FROM version v WHERE v.name = n.id AND v.created <= ?3
    AND NOT EXISTS (SELECT 1 FROM tombstone t
                    WHERE t.object = v.object AND t.ord >= v.ord AND t.created <= ?3)
    ORDER BY v.ord DESC, v.id DESC LIMIT 1";

/// The version of a key that was the newest visible one at `moment`.
pub(crate) fn latest_at(
    connection: &Connection,
    bucket: BucketId,
    key: &ObjectKey,
    moment: Timestamp,
) -> Result<Option<ManifestRow>, CatalogError> {
    let sql = format!("{COLUMNS} JOIN name n ON v.id = ({LATEST_THEN}) WHERE n.bucket = ?1 AND n.key = ?2");
    first(connection, &sql, params![bucket.as_bytes(), key.as_bytes(), moment_of(moment)], read)
}

/// A moment as the catalogue's times are stored; one beyond them is their end.
fn moment_of(moment: Timestamp) -> i64 {
    i64::try_from(moment.0).unwrap_or(i64::MAX)
}

/// A version by its id, hidden or not.
pub(crate) fn version(connection: &Connection, id: VersionId) -> Result<Option<ManifestRow>, CatalogError> {
    first(connection, &format!("{COLUMNS} WHERE v.id = ?1"), params![id.as_bytes()], read)
}

/// The newest version of an object that stands and that a tombstone of this
/// order would hide.
pub(crate) fn hidden_by(
    connection: &Connection,
    object: ObjectId,
    order: u64,
) -> Result<Option<ManifestRow>, CatalogError> {
    let order = i64::try_from(order).unwrap_or(i64::MAX);
    let sql = format!(
        "{COLUMNS} WHERE v.object = ?1 AND v.ord <= ?2 AND NOT EXISTS (
             SELECT 1 FROM tombstone t WHERE t.object = v.object AND t.ord >= v.ord)
         ORDER BY v.ord DESC LIMIT 1"
    );
    first(connection, &sql, params![object.as_bytes(), order], read)
}

/// The latest visible versions in bytewise order of their keys.
pub(crate) fn list(
    connection: &Connection,
    bucket: BucketId,
    prefix: &[u8],
    after: Option<&ObjectKey>,
    most: usize,
) -> Result<Vec<ListRow>, CatalogError> {
    // The key that follows `after` immediately is `after` and a zero byte.
    let next = after.map(|after| [after.as_bytes(), &[0]].concat()).unwrap_or_default();
    let from = next.as_slice().max(prefix);
    every(
        connection,
        "SELECT n.key, v.size, v.created, v.id, v.content FROM name n JOIN version v ON v.id = n.latest
         WHERE n.bucket = ?1 AND n.key >= ?2 AND n.key < ?3 AND n.latest IS NOT NULL
         ORDER BY n.key LIMIT ?4",
        params![bucket.as_bytes(), from, end_of(prefix), limit(most)],
        line,
    )
}

/// The versions that were the newest visible ones at `moment`, in bytewise
/// order of their keys.
pub(crate) fn list_at(
    connection: &Connection,
    bucket: BucketId,
    prefix: &[u8],
    after: Option<&ObjectKey>,
    most: usize,
    moment: Timestamp,
) -> Result<Vec<ListRow>, CatalogError> {
    let next = after.map(|after| [after.as_bytes(), &[0]].concat()).unwrap_or_default();
    let from = next.as_slice().max(prefix);
    let sql = format!(
        "SELECT n.key, v.size, v.created, v.id, v.content FROM name n JOIN version v ON v.id = ({LATEST_THEN})
         WHERE n.bucket = ?1 AND n.key >= ?2 AND n.key < ?4 ORDER BY n.key LIMIT ?5"
    );
    let moment = moment_of(moment);
    every(connection, &sql, params![bucket.as_bytes(), from, moment, end_of(prefix), limit(most)], line)
}

fn line(row: &Row<'_>) -> Result<ListRow, CatalogError> {
    let key: Vec<u8> = row.get(0)?;
    Ok(ListRow {
        key: ObjectKey::new(key).map_err(|_| CatalogError::Damaged("object key"))?,
        size: number(row, 1, "size")?,
        created: Timestamp(number(row, 2, "time")?),
        version: id(row, 3, "version id")?,
        content: digest(row, 4, "content digest")?,
    })
}

/// The first key after all keys with the prefix. Without such a one (the
/// prefix is empty or all 0xff), something longer than any key.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if let Some(next) = last.checked_add(1) {
            *last = next;
            return end;
        }
        end.pop();
    }
    vec![0xff; ObjectKey::BYTES_MAX + 1]
}

pub(crate) fn counts(connection: &Connection) -> Result<Counts, CatalogError> {
    let sql = "SELECT (SELECT count(*) FROM bucket), (SELECT count(*) FROM version),
         (SELECT count(*) FROM name n JOIN bucket b ON b.id = n.bucket WHERE n.latest IS NOT NULL),
         (SELECT count(*) FROM leaf), (SELECT count(*) FROM reservation)";
    let counts = first(connection, sql, [], |row| {
        Ok(Counts {
            buckets: number(row, 0, "count")?,
            versions: number(row, 1, "count")?,
            live_objects: number(row, 2, "count")?,
            leaves: number(row, 3, "count")?,
            reservations: number(row, 4, "count")?,
        })
    })?;
    counts.ok_or(CatalogError::Damaged("count"))
}

fn read(row: &Row<'_>) -> Result<ManifestRow, CatalogError> {
    let manifest = row.get_ref(1)?.as_blob().map_err(|_| CatalogError::Damaged("manifest"))?;
    Ok(ManifestRow {
        record: id(row, 0, "record id")?,
        manifest: decode_manifest(manifest)?,
        wrap: row.get(2)?,
        reduced: row.get(3)?,
        inline: row.get(4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one_and_all_ff_after_every_key() {
        assert_eq!(end_of(b"ab"), b"ac");
        assert_eq!(end_of(b"a\xff\xff"), b"b");
        for endless in [&b""[..], b"\xff", b"\xff\xff"] {
            assert!(end_of(endless) > vec![0xff; ObjectKey::BYTES_MAX]);
        }
    }
}
