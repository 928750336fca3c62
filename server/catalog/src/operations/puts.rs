//! The story of a put: reserved, then committed or abandoned.

use std::cmp::Reverse;

use coffer_model::{BucketId, Manifest, ObjectId, ObjectKey, RecordId, TenantId, VersionId};
use rusqlite::{Connection, Row, params};

use super::{buckets, challenges, change, every, facts, first, log};
use crate::stored::{decode, decode_manifest, encode, encode_manifest, id, integer, number};
use crate::{
    CatalogError, CommitError, Leaf, ManifestRow, NewChallenges, NewReservation, ReservationRow, Reserved,
};

/// Gives the next order and the key's object, and keeps the intent.
pub(crate) fn reserve(
    connection: &Connection,
    new: NewReservation,
    leaf: &Leaf,
) -> Result<Reserved, CatalogError> {
    refuse_if_changed(connection, new.bucket, new.under)?;
    if buckets::is_leaving(connection, new.bucket)? {
        return Err(CatalogError::Leaving);
    }
    let taken = "SELECT 1 FROM version WHERE id = ?1 UNION ALL SELECT 1 FROM reservation WHERE version = ?1";
    if first(connection, taken, params![new.version.as_bytes()], |_| Ok(()))?.is_some() {
        return Err(CatalogError::VersionTaken);
    }
    let (_, object) = name(connection, new.bucket, &new.key, new.object)?;
    let order = next_order(connection)?;
    let row = ReservationRow {
        version: new.version,
        bucket: new.bucket,
        key: new.key,
        object,
        order,
        created: new.created,
        record: new.record,
        sites: new.sites,
        locator: new.locator,
        striped: new.striped,
        wrap: new.wrap,
    };
    change(
        connection,
        "INSERT INTO reservation (version, bucket, ord, body) VALUES (?1, ?2, ?3, ?4)",
        params![
            row.version.as_bytes(),
            row.bucket.as_bytes(),
            integer(order, "order")?,
            encode(&row, "reservation")?
        ],
    )?;
    Ok(Reserved { order, object, audit_seq: log::append(connection, leaf)? })
}

/// Refuses what was decided under another policy than the bucket has. Every
/// change of it gives the bucket another registry record.
fn refuse_if_changed(connection: &Connection, bucket: BucketId, under: RecordId) -> Result<(), CatalogError> {
    let sql = "SELECT record FROM bucket WHERE id = ?1";
    match first(connection, sql, params![bucket.as_bytes()], |row| id::<RecordId>(row, 0, "record id"))? {
        None => Err(CatalogError::NoBucket),
        Some(record) if record == under => Ok(()),
        Some(_) => Err(CatalogError::PolicyChanged),
    }
}

/// Turns a reservation into a version, together with its challenges and its
/// outcome leaf; with `under`, if that is still the registry record of its bucket.
pub(crate) fn commit(
    connection: &Connection,
    tenant: TenantId,
    row: &ManifestRow,
    under: Option<RecordId>,
    new: &NewChallenges,
    leaf: &Leaf,
) -> Result<u64, CommitError> {
    let reserved = reservation(connection, row.manifest.version)?.ok_or(CommitError::NoReservation)?;
    if let Some(field) = contradiction(&reserved, row, tenant) {
        return Err(CommitError::Mismatch(field));
    }
    under.map_or(Ok(()), |under| refuse_if_changed(connection, reserved.bucket, under))?;
    remove_reservation(connection, reserved.version)?;
    insert_version(connection, row)?;
    challenges::add(connection, row.manifest.version, new)?;
    Ok(log::append(connection, leaf)?)
}

/// Takes a reservation back, together with the leaf that says so.
pub(crate) fn abandon(connection: &Connection, version: VersionId, leaf: &Leaf) -> Result<u64, CatalogError> {
    if remove_reservation(connection, version)? == 0 {
        return Err(CatalogError::NoReservation);
    }
    facts::remove(connection, WITHDRAWN, *version.as_bytes())?;
    log::append(connection, leaf)
}

/// The kind of fact that a put whose withdrawal began leaves until it ends: a
/// tombstone of it may lie at some site.
pub(crate) const WITHDRAWN: &str = "withdrawn";

pub(crate) fn reservations(connection: &Connection) -> Result<Vec<ReservationRow>, CatalogError> {
    every(connection, "SELECT body FROM reservation ORDER BY ord", [], read_reservation)
}

/// Whether the catalogue has a manifest of the same version that stands before
/// `row`: see [`precedence`]. So the order in which they come does not matter.
pub(super) fn superseded(connection: &Connection, row: &ManifestRow) -> Result<bool, CatalogError> {
    let sql = "SELECT record, manifest, reduced, inline FROM version WHERE id = ?1";
    let known = first(connection, sql, params![row.manifest.version.as_bytes()], |found| {
        let manifest = found.get_ref(1)?.as_blob().map_err(|_| CatalogError::Damaged("manifest"))?;
        let record: RecordId = id(found, 0, "record id")?;
        Ok(precedence(found.get(3)?, found.get(2)?, decode_manifest(manifest)?.revision, record))
    })?;
    let of_row = precedence(row.inline, row.reduced, row.manifest.revision, row.record);
    Ok(known.is_some_and(|known| known > of_row))
}

/// Of several manifests of one version that with the highest revision stands,
/// and of two repairs that gave the same number that with the highest record id.
/// An object that lies whole in its manifests has its copies nowhere else: there
/// the one stands first that is missing at the fewest of its sites, for a move
/// that came to nothing may have left a copy behind that nobody acknowledged.
fn precedence(inline: bool, reduced: u8, revision: u32, record: RecordId) -> (Reverse<u8>, u32, RecordId) {
    (Reverse(if inline { reduced } else { 0 }), revision, record)
}

/// Enters a version and makes it the latest of its name if it is.
pub(super) fn insert_version(connection: &Connection, row: &ManifestRow) -> Result<(), CatalogError> {
    let manifest = &row.manifest;
    let (name, _) = name(connection, manifest.bucket, &manifest.key, manifest.object)?;
    enter_version(connection, name, row)?;
    refresh_latest(connection, name)
}

/// Enters a version under the row of its name, and leaves it to the caller to
/// compute what the name shows.
pub(super) fn enter_version(
    connection: &Connection,
    name: i64,
    row: &ManifestRow,
) -> Result<(), CatalogError> {
    let manifest = &row.manifest;
    change(
        connection,
        "INSERT OR REPLACE INTO version
         (id, name, object, ord, record, created, size, content, reduced, inline, wrap, manifest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            manifest.version.as_bytes(),
            name,
            manifest.object.as_bytes(),
            integer(manifest.order, "order")?,
            row.record.as_bytes(),
            integer(manifest.created.0, "time")?,
            integer(manifest.size, "size")?,
            manifest.content.0,
            row.reduced,
            row.inline,
            row.wrap,
            encode_manifest(manifest)?,
        ],
    )?;
    Ok(())
}

/// The latest visible version of a name: the highest order above every
/// tombstone of its own object.
const REFRESH_LATEST: &str = "UPDATE name SET latest = (
    SELECT v.id FROM version v WHERE v.name = ?1 AND NOT EXISTS (
        SELECT 1 FROM tombstone t WHERE t.object = v.object AND t.ord >= v.ord)
    ORDER BY v.ord DESC, v.id DESC LIMIT 1)
WHERE id = ?1";

/// Computes the latest visible version of a name again.
pub(super) fn refresh_latest(connection: &Connection, name: i64) -> Result<(), CatalogError> {
    change(connection, REFRESH_LATEST, params![name])?;
    Ok(())
}

/// The row of a key and its object, made with the offered object if the key is new.
fn name(
    connection: &Connection,
    bucket: BucketId,
    key: &ObjectKey,
    offered: ObjectId,
) -> Result<(i64, ObjectId), CatalogError> {
    if let Some(found) = find_name(connection, bucket, key)? {
        return Ok(found);
    }
    change(
        connection,
        "INSERT INTO name (bucket, key, object, latest) VALUES (?1, ?2, ?3, NULL)",
        params![bucket.as_bytes(), key.as_bytes(), offered.as_bytes()],
    )?;
    Ok((connection.last_insert_rowid(), offered))
}

/// The row of a key and its object, if there is one.
pub(super) fn find_name(
    connection: &Connection,
    bucket: BucketId,
    key: &ObjectKey,
) -> Result<Option<(i64, ObjectId)>, CatalogError> {
    let find = "SELECT id, object FROM name WHERE bucket = ?1 AND key = ?2";
    first(connection, find, params![bucket.as_bytes(), key.as_bytes()], |row| {
        Ok((row.get(0)?, id(row, 1, "object id")?))
    })
}

/// Enters the name of a version that has none yet, with what it shows.
pub(super) fn insert_name(
    connection: &Connection,
    manifest: &Manifest,
    latest: Option<VersionId>,
) -> Result<i64, CatalogError> {
    change(
        connection,
        "INSERT INTO name (bucket, key, object, latest) VALUES (?1, ?2, ?3, ?4)",
        params![
            manifest.bucket.as_bytes(),
            manifest.key.as_bytes(),
            manifest.object.as_bytes(),
            latest.as_ref().map(VersionId::as_bytes),
        ],
    )?;
    Ok(connection.last_insert_rowid())
}

/// The order that is given next; it is not given by this.
pub(crate) fn order_to_come(connection: &Connection) -> Result<u64, CatalogError> {
    let sql = "SELECT next_order FROM catalogue";
    first(connection, sql, [], |row| number(row, 0, "order"))?.ok_or(CatalogError::Damaged("order"))
}

/// Takes the next order. It is given once, even if its reservation ends in nothing.
fn next_order(connection: &Connection) -> Result<u64, CatalogError> {
    let sql = "UPDATE catalogue SET next_order = next_order + 1 RETURNING next_order - 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let order = match rows.next()? {
        Some(row) => number(row, 0, "order")?,
        None => return Err(CatalogError::Damaged("order")),
    };
    // To the end, or the update is not finished.
    while rows.next()?.is_some() {}
    Ok(order)
}

fn reservation(connection: &Connection, version: VersionId) -> Result<Option<ReservationRow>, CatalogError> {
    let sql = "SELECT body FROM reservation WHERE version = ?1";
    first(connection, sql, params![version.as_bytes()], read_reservation)
}

fn remove_reservation(connection: &Connection, version: VersionId) -> Result<usize, CatalogError> {
    change(connection, "DELETE FROM reservation WHERE version = ?1", params![version.as_bytes()])
}

fn read_reservation(row: &Row<'_>) -> Result<ReservationRow, CatalogError> {
    let body = row.get_ref(0)?.as_blob().map_err(|_| CatalogError::Damaged("reservation"))?;
    decode(body, "reservation")
}

/// The first field in which a manifest is not what was reserved.
fn contradiction(reserved: &ReservationRow, row: &ManifestRow, tenant: TenantId) -> Option<&'static str> {
    let manifest = &row.manifest;
    [
        ("tenant", manifest.tenant == tenant),
        ("bucket", manifest.bucket == reserved.bucket),
        ("key", manifest.key == reserved.key),
        ("object", manifest.object == reserved.object),
        ("order", manifest.order == reserved.order),
        ("record", row.record == reserved.record),
    ]
    .into_iter()
    .find_map(|(field, same)| (!same).then_some(field))
}

#[cfg(test)]
mod tests {
    use coffer_model::{CatalogKey, Execution};
    use rusqlite::StatementStatus;
    use zeroize::Zeroizing;

    use super::*;
    use crate::file;

    #[test]
    fn what_a_name_shows_is_planned_once_and_not_for_each_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue");
        let (key, tenant) = (CatalogKey::new(Zeroizing::new([7; 32])), TenantId::from_bytes([1; 16]));
        file::create(&path, &key, tenant).unwrap();
        let connection = file::open(&path, &key, tenant, Execution::Threads).unwrap().writer;
        for name in 1..=4 {
            refresh_latest(&connection, name).unwrap();
        }
        let statement = connection.prepare_cached(REFRESH_LATEST).unwrap();
        assert_eq!(statement.get_status(StatementStatus::Run), 4, "another statement than was run");
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    }
}
