//! The operations as SQL, one module for each story. Every function here runs
//! inside a savepoint of the writer, or on a reader; none begins or commits.

pub(crate) mod buckets;
pub(crate) mod challenges;
pub(crate) mod deletes;
pub(crate) mod facts;
pub(crate) mod log;
pub(crate) mod lookups;
pub(crate) mod puts;
pub(crate) mod rebuild;
pub(crate) mod repair;

use rusqlite::{Connection, Params, Row};

use crate::CatalogError;

/// The first row, read by `read`, if there is one.
fn first<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, CatalogError>,
) -> Result<Option<T>, CatalogError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(read).transpose()
}

/// All rows, each read by `read`.
fn every<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, CatalogError>,
) -> Result<Vec<T>, CatalogError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}

/// Changes rows; how many.
fn change(connection: &Connection, sql: &str, params: impl Params) -> Result<usize, CatalogError> {
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}

/// A limit as SQLite takes it.
fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
