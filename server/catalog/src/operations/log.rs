//! The audit log: leaves in order, and how many of them are safe at the sites.

use coffer_model::Digest;
use rusqlite::{Connection, params};

use super::{change, every, first, limit};
use crate::stored::{digest, integer, number};
use crate::{CatalogError, Leaf};

/// Appends a leaf; its position, counted from zero.
pub(crate) fn append(connection: &Connection, leaf: &Leaf) -> Result<u64, CatalogError> {
    append_all(connection, std::slice::from_ref(leaf))
}

/// Appends leaves in order; the position of the first.
pub(crate) fn append_all(connection: &Connection, leaves: &[Leaf]) -> Result<u64, CatalogError> {
    let first = size(connection)?;
    for (seq, leaf) in (first..).zip(leaves) {
        change(
            connection,
            "INSERT INTO leaf (seq, hash, body) VALUES (?1, ?2, ?3)",
            params![integer(seq, "log")?, leaf.hash.0, leaf.body],
        )?;
    }
    Ok(first)
}

pub(crate) fn size(connection: &Connection) -> Result<u64, CatalogError> {
    let size =
        first(connection, "SELECT coalesce(max(seq) + 1, 0) FROM leaf", [], |row| number(row, 0, "leaf"))?;
    size.ok_or(CatalogError::Damaged("log"))
}

pub(crate) fn bodies(connection: &Connection, from: u64, most: usize) -> Result<Vec<Vec<u8>>, CatalogError> {
    let sql = "SELECT body FROM leaf WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
    every(connection, sql, params![start(from), limit(most)], |row| Ok(row.get(0)?))
}

pub(crate) fn hashes(connection: &Connection, from: u64, most: usize) -> Result<Vec<Digest>, CatalogError> {
    let sql = "SELECT hash FROM leaf WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
    every(connection, sql, params![start(from), limit(most)], |row| digest(row, 0, "leaf hash"))
}

pub(crate) fn replicated(connection: &Connection) -> Result<u64, CatalogError> {
    let size = first(connection, "SELECT replicated FROM catalogue", [], |row| number(row, 0, "log size"))?;
    size.ok_or(CatalogError::Damaged("log size"))
}

/// Notes that the first `claimed` leaves are safe; a lower number than before
/// changes nothing, for what was safe stays so.
pub(crate) fn set_replicated(connection: &Connection, claimed: u64) -> Result<(), CatalogError> {
    let size = size(connection)?;
    if claimed > size {
        return Err(CatalogError::BeyondLog { size, claimed });
    }
    let sql = "UPDATE catalogue SET replicated = max(replicated, ?1)";
    change(connection, sql, params![integer(claimed, "log size")?])?;
    Ok(())
}

/// A position past every leaf that can be stored finds none.
fn start(from: u64) -> i64 {
    i64::try_from(from).unwrap_or(i64::MAX)
}
