//! `coffer evidence residency`: where each object lies only, and since when.

use std::collections::BTreeMap;

use coffer_client::CallError;
use coffer_client::report::{Dwelling, ResidencyItem, dwellings};
use serde_json::json;

use crate::commands::report::material;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::{MaterialFlags, ObjectAddress};

pub(super) async fn run(
    context: &Context<'_>,
    object: Option<&ObjectAddress>,
    flags: &MaterialFlags,
) -> Result<Exit, Failure> {
    let (client, tenant) = context.tenant().await?;
    let wanted = match object {
        Some(address) => {
            let found = client.stat(&address.bucket, &address.key).await.map_err(|error| match error {
                CallError::NotFound(_) => Failure::from(error)
                    .next("without --object, the versions of deleted objects are listed too"),
                error => error.into(),
            })?;
            Some(found.object.version.to_string())
        }
        None => None,
    };
    let mut flags = flags.clone();
    flags.residency = true;
    let material = material(context, &client, &tenant, &flags).await?.material;
    let items = material.residency.as_deref().unwrap_or_default();
    let wanted = wanted.map(|version| object_of(items, &version)).transpose()?;
    let buckets: BTreeMap<&str, &str> =
        material.facts.facts.buckets.iter().map(|one| (one.id.as_str(), one.name.as_str())).collect();
    if items.is_empty() {
        context.output.remark("no version of any object is kept");
    }
    let mut sound = true;
    for one in dwellings(&material).unwrap_or_default() {
        if wanted.as_ref().is_some_and(|object| *object != one.object) {
            continue;
        }
        sound &= one.inside && one.doubt.is_empty();
        let bucket = buckets.get(one.bucket.as_str()).copied().unwrap_or(&one.bucket);
        tell(context, bucket, &one);
    }
    Ok(if sound { Exit::Success } else { Exit::Differences })
}

/// The object of a version that the service has just shown.
fn object_of(items: &[ResidencyItem], version: &str) -> Result<String, Failure> {
    let item = items.iter().find(|item| item.version == version);
    item.map(|item| item.object.clone()).ok_or_else(|| {
        Failure::new(format!("the service's list of versions lacks {version}, which it has just shown"))
            .exit(Exit::Differences)
            .safe("nothing was changed")
            .next("run it again; unless the object was deleted meanwhile, do not rely on that list")
    })
}

fn tell(context: &Context<'_>, bucket: &str, one: &Dwelling) {
    context.output.object(&json!({
        "bucket": bucket,
        "object": one.object,
        "only_in": one.countries,
        "since": one.since.to_string(),
        "since_first_version": one.always(),
        "versions": one.versions,
        "moves": one.moves,
        "inside": one.inside,
        "doubt": one.doubt,
    }));
    let outside = if one.inside { "" } else { "; outside its policy" };
    context.output.text(format_args!("{bucket}: {}{outside}", one.sentence()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_lacks_the_object_that_is_asked_for_is_no_empty_answer() {
        let missing = object_of(&[], "ver-01").unwrap_err();
        assert_eq!(missing.exit, Exit::Differences);
        assert!(missing.what.contains("ver-01"), "{}", missing.what);
    }
}
