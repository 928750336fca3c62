//! Challenges: entered with the version whose shards they are about, drawn
//! one by one, and never new again once drawn.

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::{SiteId, VersionId};
use rusqlite::{Connection, Row, params};

use super::{change, every, first, limit};
use crate::stored::{digest, id, integer, number};
use crate::{CatalogError, ChallengeCounts, ChallengeRow, DrawnChallenge, NewChallenges};

/// Enters challenges in the place of those of the same version and sites.
pub(crate) fn add(
    connection: &Connection,
    version: VersionId,
    new: &NewChallenges,
) -> Result<(), CatalogError> {
    if new.rows.is_empty() && !new.whole {
        return Ok(());
    }
    let mark = "UPDATE version SET challenged = max(challenged, ?2) WHERE id = ?1";
    if change(connection, mark, params![version.as_bytes(), new.whole])? == 0 {
        return Ok(());
    }
    let sites: BTreeSet<SiteId> = new.rows.iter().map(|row| row.site).collect();
    for site in sites {
        let old = "DELETE FROM challenge WHERE version = ?1 AND site = ?2";
        change(connection, old, params![version.as_bytes(), site.as_bytes()])?;
    }
    for row in &new.rows {
        change(
            connection,
            "INSERT INTO challenge (version, site, record, nonce, answer) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![version.as_bytes(), row.site.as_bytes(), row.record.as_bytes(), row.nonce, row.answer.0],
        )?;
    }
    Ok(())
}

/// Draws one challenge for each number, and counts it as asked.
pub(crate) fn draw(
    connection: &Connection,
    site: SiteId,
    chance: &[u64],
) -> Result<Vec<DrawnChallenge>, CatalogError> {
    let mut drawn: Vec<DrawnChallenge> = Vec::new();
    for chance in chance {
        let Some(asked) = least_asked(connection, site)? else { break };
        let Some((found, row)) = near(connection, site, asked, *chance)? else { break };
        // Everything was drawn in this very call.
        if drawn.iter().any(|before| before.id == found) {
            break;
        }
        let count = "UPDATE challenge SET asked = asked + 1 WHERE id = ?1";
        change(connection, count, params![integer(found, "challenge")?])?;
        let fresh = "SELECT 1 FROM challenge WHERE version = ?1 AND site = ?2 AND asked = 0 LIMIT 1";
        let more = first(connection, fresh, params![row.version.as_bytes(), site.as_bytes()], |_| Ok(()))?;
        drawn.push(DrawnChallenge { id: found, row, repeated: asked > 0, last: more.is_none() });
    }
    Ok(drawn)
}

/// How often those that were asked least often were asked.
fn least_asked(connection: &Connection, site: SiteId) -> Result<Option<i64>, CatalogError> {
    let sql = "SELECT asked FROM challenge WHERE site = ?1 ORDER BY asked LIMIT 1";
    first(connection, sql, params![site.as_bytes()], |row| Ok(row.get(0)?))
}

/// A challenge at a place that chance names, among those asked that often.
fn near(
    connection: &Connection,
    site: SiteId,
    asked: i64,
    chance: u64,
) -> Result<Option<(u64, ChallengeRow)>, CatalogError> {
    let end = |order: &str| {
        let sql =
            format!("SELECT id FROM challenge WHERE site = ?1 AND asked = ?2 ORDER BY id {order} LIMIT 1");
        let end = first(connection, &sql, params![site.as_bytes(), asked], |row| number(row, 0, "challenge"));
        end.map(Option::unwrap_or_default)
    };
    let (low, high) = (end("ASC")?, end("DESC")?);
    let from = low + chance % (high.saturating_sub(low) + 1);
    let sql = "SELECT id, version, site, record, nonce, answer FROM challenge
         WHERE site = ?1 AND asked = ?2 AND id >= ?3 ORDER BY id LIMIT 1";
    first(connection, sql, params![site.as_bytes(), asked, integer(from, "challenge")?], read)
}

fn read(row: &Row<'_>) -> Result<(u64, ChallengeRow), CatalogError> {
    let challenge = ChallengeRow {
        version: id(row, 1, "version id")?,
        site: id(row, 2, "site id")?,
        record: id(row, 3, "record id")?,
        nonce: row.get(4).map_err(|_| CatalogError::Damaged("nonce"))?,
        answer: digest(row, 5, "answer")?,
    };
    Ok((number(row, 0, "challenge")?, challenge))
}

/// Removes challenges; a version without any is unchallenged again.
pub(crate) fn forget(connection: &Connection, ids: &[u64]) -> Result<(), CatalogError> {
    for gone in ids {
        let gone = integer(*gone, "challenge")?;
        let of = "SELECT version FROM challenge WHERE id = ?1";
        let version: Option<VersionId> =
            first(connection, of, params![gone], |row| id(row, 0, "version id"))?;
        let Some(version) = version else { continue };
        change(connection, "DELETE FROM challenge WHERE id = ?1", params![gone])?;
        change(
            connection,
            "UPDATE version SET challenged = 0
             WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM challenge WHERE version = ?1)",
            params![version.as_bytes()],
        )?;
    }
    Ok(())
}

/// Striped versions that lack a challenge, by id.
pub(crate) fn unchallenged(
    connection: &Connection,
    after: Option<VersionId>,
    most: usize,
) -> Result<Vec<VersionId>, CatalogError> {
    let sql = "SELECT id FROM version WHERE challenged = 0 AND inline = 0 AND id > ?1 ORDER BY id LIMIT ?2";
    let after = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    every(connection, sql, params![after, limit(most)], |row| id(row, 0, "version id"))
}

pub(crate) fn counts(connection: &Connection) -> Result<ChallengeCounts, CatalogError> {
    let sql = "SELECT site, count(*) FROM challenge WHERE asked = 0 GROUP BY site";
    let fresh = every(connection, sql, [], |row| Ok((id(row, 0, "site id")?, number(row, 1, "count")?)))?;
    let sql = "SELECT count(*) FROM version WHERE challenged = 0 AND inline = 0";
    let unchallenged = first(connection, sql, [], |row| number(row, 0, "count"))?;
    Ok(ChallengeCounts {
        fresh: fresh.into_iter().collect::<BTreeMap<_, _>>(),
        unchallenged_versions: unchallenged.unwrap_or_default(),
    })
}
