//! `coffer fleet events`.

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use super::{Fleet, failed, table};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// When it was last seen, in whichever field its reporter says so; nanoseconds since 1970-01-01T00:00:00Z, to sort
/// by: as texts, a time with fewer digits would come after the later one.
fn order(event: &Event) -> i128 {
    when(event).map_or(0, |time| time.as_nanosecond())
}

fn moment(event: &Event) -> String {
    when(event).map(|time| time.to_string()).unwrap_or_default()
}

fn when(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let micro = series.or(event.event_time.as_ref()).map(|time| time.0);
    let plain = event.last_timestamp.as_ref().or(event.metadata.creation_timestamp.as_ref());
    micro.or_else(|| plain.map(|time| time.0))
}

pub(super) async fn list(context: &Context<'_>, fleet: &Fleet, limit: usize) -> Result<Exit, Failure> {
    let api: Api<Event> = Api::namespaced(fleet.client.clone(), &fleet.namespace);
    let mut events = api.list(&ListParams::default()).await.map_err(|error| failed(&error))?.items;
    events.sort_by_key(order);
    let skipped = events.len().saturating_sub(limit);
    let mut rows = Vec::new();
    for event in events.iter().skip(skipped) {
        let about = &event.involved_object;
        let about =
            format!("{}/{}", about.kind.as_deref().unwrap_or("?"), about.name.as_deref().unwrap_or("?"));
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        context.output.object(&json!({
            "time": moment(event),
            "type": event.type_,
            "reason": event.reason,
            "about": about,
            "message": event.message,
        }));
        rows.push(vec![moment(event), text(&event.type_), text(&event.reason), about, text(&event.message)]);
    }
    table(context, &["TIME", "TYPE", "REASON", "ABOUT", "MESSAGE"], &rows);
    Ok(Exit::Success)
}
