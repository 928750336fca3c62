//! Opaque facts about the tenant.

use rusqlite::{Connection, params};

use super::{change, every};
use crate::CatalogError;

pub(crate) fn put(
    connection: &Connection,
    kind: &str,
    id: [u8; 16],
    body: &[u8],
) -> Result<(), CatalogError> {
    let sql = "INSERT OR REPLACE INTO fact (kind, id, body) VALUES (?1, ?2, ?3)";
    change(connection, sql, params![kind, id, body])?;
    Ok(())
}

/// Removes a fact; one that is not there is no error.
pub(super) fn remove(connection: &Connection, kind: &str, id: [u8; 16]) -> Result<(), CatalogError> {
    change(connection, "DELETE FROM fact WHERE kind = ?1 AND id = ?2", params![kind, id])?;
    Ok(())
}

/// Ids and bodies.
type Facts = Vec<([u8; 16], Vec<u8>)>;

/// All facts of a kind, in order of their ids.
pub(crate) fn all(connection: &Connection, kind: &str) -> Result<Facts, CatalogError> {
    let sql = "SELECT id, body FROM fact WHERE kind = ?1 ORDER BY id";
    every(connection, sql, params![kind], |row| Ok((row.get(0)?, row.get(1)?)))
}
