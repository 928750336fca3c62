//! What a repair asks and says: versions page by page, what was accepted below
//! its promise, a manifest in the place of an older one.

use coffer_model::{RecordId, VersionId};
use rusqlite::{Connection, Row, params};

use super::{buckets, change, every, first, limit, log};
use crate::stored::{decode_manifest, encode_manifest, id, number};
use crate::{BucketError, BucketRow, CatalogError, Content, Leaf, ManifestRow, ReplaceError, VersionRow};

/// Bytes of manifests in one page, beyond which it ends early.
const PAGE_BYTES: usize = 4 << 20;

/// Hidden: a tombstone covers it, or its bucket is gone.
const PAGE: &str = "SELECT v.record, v.manifest, v.wrap, v.reduced, v.inline,
       EXISTS (SELECT 1 FROM tombstone t WHERE t.object = v.object AND t.ord >= v.ord)
           OR NOT EXISTS (SELECT 1 FROM name n JOIN bucket b ON b.id = n.bucket WHERE n.id = v.name)
     FROM version v WHERE v.id > ?1";

/// Versions after `after` in order of their ids, hidden or not; at most
/// `most`, and fewer where their manifests are long, but at least one.
pub(crate) fn versions(
    connection: &Connection,
    after: Option<VersionId>,
    reduced_only: bool,
    most: usize,
) -> Result<Vec<VersionRow>, CatalogError> {
    let only = if reduced_only { " AND v.reduced > 0" } else { "" };
    let mut statement = connection.prepare_cached(&format!("{PAGE}{only} ORDER BY v.id LIMIT ?2"))?;
    // An empty blob comes before every id.
    let after = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    let mut rows = statement.query(params![after, limit(most)])?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        bytes += row.get_ref(1)?.as_blob().map_err(|_| CatalogError::Damaged("manifest"))?.len();
        page.push(read(row)?);
        if bytes >= PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}

fn read(row: &Row<'_>) -> Result<VersionRow, CatalogError> {
    let manifest = row.get_ref(1)?.as_blob().map_err(|_| CatalogError::Damaged("manifest"))?;
    let manifest = ManifestRow {
        record: id(row, 0, "record id")?,
        manifest: decode_manifest(manifest)?,
        wrap: row.get(2)?,
        reduced: row.get(3)?,
        inline: row.get(4)?,
    };
    Ok(VersionRow { manifest, hidden: row.get(5)? })
}

/// Puts a newer manifest of a version in the place of the one with the record
/// `old`, together with its leaf.
pub(crate) fn replace(
    connection: &Connection,
    old: RecordId,
    row: &ManifestRow,
    leaf: &Leaf,
) -> Result<u64, ReplaceError> {
    let changed = change(
        connection,
        "UPDATE version SET record = ?3, reduced = ?4, wrap = ?5, manifest = ?6, challenged = 0
         WHERE id = ?1 AND record = ?2",
        params![
            row.manifest.version.as_bytes(),
            old.as_bytes(),
            row.record.as_bytes(),
            row.reduced,
            row.wrap,
            encode_manifest(&row.manifest)?,
        ],
    )?;
    if changed == 0 {
        return Err(ReplaceError::Superseded);
    }
    // A site that is left would fail the questions about what was there.
    let questions = "DELETE FROM challenge WHERE version = ?1";
    change(connection, questions, params![row.manifest.version.as_bytes()])?;
    Ok(log::append(connection, leaf)?)
}

/// Notes how many sites each version is short of its promise, with one leaf
/// for all of them. A version that is gone, or has another manifest by now,
/// keeps what it says.
pub(crate) fn set_reduced(
    connection: &Connection,
    versions: &[(VersionId, RecordId, u8)],
    leaf: &Leaf,
) -> Result<u64, CatalogError> {
    for (version, record, reduced) in versions {
        let sql = "UPDATE version SET reduced = ?3 WHERE id = ?1 AND record = ?2";
        change(connection, sql, params![version.as_bytes(), record.as_bytes(), reduced])?;
    }
    log::append(connection, leaf)
}

/// Gives a bucket another policy and registry record, with its leaf.
pub(crate) fn set_policy(connection: &Connection, row: &BucketRow, leaf: &Leaf) -> Result<u64, BucketError> {
    let known = "SELECT 1 FROM bucket WHERE id = ?1 AND name = ?2";
    let key = params![row.id.as_bytes(), row.name.as_str()];
    if first(connection, known, key, |_| Ok(()))?.is_none() {
        return Err(BucketError::Missing);
    }
    buckets::upsert(connection, row)?;
    buckets::over(connection, row.id)?;
    Ok(log::append(connection, leaf)?)
}

/// Whether a tombstone with this record stands.
pub(crate) fn has_tombstone(connection: &Connection, record: RecordId) -> Result<bool, CatalogError> {
    let sql = "SELECT 1 FROM tombstone WHERE record = ?1";
    Ok(first(connection, sql, params![record.as_bytes()], |_| Ok(()))?.is_some())
}

/// All versions, hidden ones included.
pub(crate) fn version_count(connection: &Connection) -> Result<u64, CatalogError> {
    let count = first(connection, "SELECT count(*) FROM version", [], |row| number(row, 0, "count"))?;
    count.ok_or(CatalogError::Damaged("count"))
}

/// Striped versions, and the sum of their sizes.
pub(crate) fn striped(connection: &Connection) -> Result<Content, CatalogError> {
    sums(connection, "SELECT count(*), coalesce(sum(size), 0) FROM version WHERE inline = 0")
}

/// All versions, hidden ones included, and the sum of their sizes.
pub(crate) fn content(connection: &Connection) -> Result<Content, CatalogError> {
    sums(connection, "SELECT count(*), coalesce(sum(size), 0) FROM version")
}

fn sums(connection: &Connection, sql: &str) -> Result<Content, CatalogError> {
    let read =
        |row: &Row<'_>| Ok(Content { versions: number(row, 0, "count")?, bytes: number(row, 1, "size")? });
    first(connection, sql, [], read)?.ok_or(CatalogError::Damaged("count"))
}

/// Whether a version is there and no tombstone covers it.
pub(crate) fn stands(connection: &Connection, version: VersionId) -> Result<bool, CatalogError> {
    let sql = "SELECT 1 FROM version v WHERE v.id = ?1 AND NOT EXISTS (
                   SELECT 1 FROM tombstone t WHERE t.object = v.object AND t.ord >= v.ord)";
    Ok(first(connection, sql, params![version.as_bytes()], |_| Ok(()))?.is_some())
}

/// The ids of versions after `after` with their manifest records, in order.
pub(crate) fn manifest_records(
    connection: &Connection,
    after: Option<VersionId>,
    most: usize,
) -> Result<Vec<(VersionId, RecordId)>, CatalogError> {
    let after = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    let sql = "SELECT id, record FROM version WHERE id > ?1 ORDER BY id LIMIT ?2";
    every(connection, sql, params![after, limit(most)], |row| {
        Ok((id(row, 0, "version id")?, id(row, 1, "record id")?))
    })
}
