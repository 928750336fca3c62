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
    for record in PodRecord::all(&context.places) {
        if let (Some(networks), Some(network)) = (&context.networks, &record.network) {
            networks.detach(record.uid(), network);
        }
        for directory in volumes::data_directories(context, &record).unwrap_or_default() {
            if directory.exists()
                && let Err(error) = crate::disk::unmount_sized(&directory)
            {
                troubles.push(format!("{}: {error}", directory.display()));
            }
        }
        if let Err(error) = record.forget(&context.places) {
            troubles.push(format!("what was noted of {}: {error}", record.name()));
        }
    }
    troubles
}
