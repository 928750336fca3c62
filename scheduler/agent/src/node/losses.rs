//! Says at a pod that its log lost lines: a pod whose log cannot be written goes
//! on without one, and somebody has to make room.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Context;
use super::record::PodRecord;
use crate::logs;
use crate::runtime::ContainerId;

/// Looks after the logs of all pods for ever.
pub(super) async fn keep(context: Arc<Context>) {
    let mut told: BTreeMap<ContainerId, u64> = BTreeMap::new();
    loop {
        tokio::time::sleep(context.config.status_every).await;
        let mut seen = BTreeMap::new();
        for record in PodRecord::all(&context.places) {
            let Ok(id) = record.container() else { continue };
            let lost = logs::lost(&context.runtime.log(&id));
            let new = lost.saturating_sub(told.get(&id).copied().unwrap_or(0));
            if new > 0 {
                let message = format!(
                    "{new} lines of its output are lost, {lost} in all, because its log could not be written; the pod runs on; make room on the disk of this node's agent"
                );
                context.note(&record, "Warning", "LogLost", &message);
            }
            seen.insert(id, lost);
        }
        told = seen;
    }
}
