//! Loading what the sites hold into a new catalogue. No leaf is written: the
//! leaves come from the sites too. A batch may come twice and in any order,
//! its leaves excepted.

use coffer_model::TenantId;
use rusqlite::{Connection, params};

use super::{buckets, change, deletes, facts, first, log, puts};
use crate::stored::integer;
use crate::{CatalogError, RebuildBatch};

pub(crate) fn load(
    connection: &Connection,
    tenant: TenantId,
    batch: &RebuildBatch,
) -> Result<(), CatalogError> {
    for bucket in &batch.buckets {
        let twice = "SELECT 1 FROM bucket WHERE name = ?1 AND id <> ?2";
        let key = params![bucket.name.as_str(), bucket.id.as_bytes()];
        if first(connection, twice, key, |_| Ok(()))?.is_some() {
            return Err(CatalogError::BucketNameTwice(bucket.name.clone()));
        }
        buckets::upsert(connection, bucket)?;
    }
    let mut highest = batch.order_floor;
    for tombstone in &batch.tombstones {
        highest = highest.max(tombstone.order);
        deletes::insert(connection, tombstone)?;
    }
    for row in &batch.manifests {
        if row.manifest.tenant != tenant {
            return Err(CatalogError::OtherTenant(row.manifest.tenant));
        }
        highest = highest.max(row.manifest.order);
        if !puts::superseded(connection, row)? {
            puts::insert_version(connection, row)?;
        }
    }
    for leaf in &batch.leaves {
        log::append(connection, leaf)?;
    }
    for fact in &batch.facts {
        facts::put(connection, &fact.kind, fact.id, &fact.body)?;
    }
    let sql = "UPDATE catalogue SET next_order = max(next_order, ?1)";
    change(connection, sql, params![integer(highest.saturating_add(1), "order")?])?;
    Ok(())
}
