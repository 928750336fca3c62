//! What an agent that is gone for good has left: its pods are killed, their
//! disks unmounted, their networks taken away. The bytes stay where they are.

use std::time::Duration;

use super::record::PodRecord;
use super::{Context, volumes};

/// A pod that is killed has ended by then, or its processes hang in the kernel.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends everything that is left; what could not be ended is said, one line each.
pub(super) async fn end(context: &Context) -> Vec<String> {
    let mut troubles = Vec::new();
    let ids = match context.runtime.list().await {
        Ok(ids) => ids,
        Err(error) => return vec![format!("the containers cannot be listed: {error}")],
    };
    for id in ids {
        let killed = tokio::time::timeout(PATIENCE, context.runtime.kill(&id)).await;
        if killed.is_err() {
            troubles.push(format!("container {id} does not end"));
            continue;
        }
        // One that had ended before cannot be killed; one that runs cannot be removed, and that is said.
        if let Err(error) = context.runtime.remove(&id).await {
            troubles.push(format!("container {id}: {error}"));
        }
    }
    if !troubles.is_empty() {
        // Disks and networks of what still runs stay with it.
        return troubles;
    }
    if let Err(error) = context.runtime.close().await {
        troubles.push(format!("what the containers had together: {error}"));
    }
    for record in PodRecord::all(&context.places) {
        let stays = of_pod(context, &record);
        if !stays.is_empty() {
            // What is noted of it is all that the next attempt has.
            troubles.extend(stays);
        } else if let Err(error) = record.forget(&context.places) {
            troubles.push(format!("what was noted of {}: {error}", record.name()));
        }
    }
    troubles
}

/// Takes away what a pod has that runs no more; says what stays.
fn of_pod(context: &Context, record: &PodRecord) -> Vec<String> {
    let mut stays = Vec::new();
    match (&context.networks, &record.network) {
        (_, None) => {}
        (Some(networks), Some(network)) => networks.detach(record.uid(), network),
        (None, Some(network)) if !network.exists() => {}
        (None, Some(network)) => stays.push(format!(
            "{}: its network {} stays; end it again with the --subnet of its agent, where networks can be made",
            record.name(),
            network.name
        )),
    }
    for directory in volumes::data_directories(context, record).unwrap_or_default() {
        if directory.exists()
            && let Err(error) = crate::disk::unmount_sized(&directory)
        {
            stays.push(format!("{}: {error}", directory.display()));
        }
    }
    stays
}
