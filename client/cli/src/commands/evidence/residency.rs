//! `coffer evidence residency`: where each object lies only, and since when.

use std::collections::BTreeMap;

use coffer_client::report::{Dwelling, dwellings};
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
        Some(address) => Some(client.stat(&address.bucket, &address.key).await?.object.version.to_string()),
        None => None,
    };
    let mut flags = flags.clone();
    flags.residency = true;
    let material = material(context, &client, &tenant, &flags).await?.material;
    let items = material.residency.as_deref().unwrap_or_default();
    let wanted = wanted.map(|version| {
        let item = items.iter().find(|item| item.version == version);
        item.map(|item| item.object.clone()).unwrap_or_default()
    });
    let buckets: BTreeMap<&str, &str> =
        material.facts.facts.buckets.iter().map(|one| (one.id.as_str(), one.name.as_str())).collect();
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
