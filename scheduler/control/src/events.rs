//! What the fleet tells people: Kubernetes Events on the objects concerned. One
//! that cannot be posted is nobody's loss.

use coffer_events::Teller as EventTeller;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Reporter};
use kube::{Client, Resource};

/// A sentence in an event has this many bytes at most.
const NOTE_MAX: usize = 1000;

/// Posts events.
#[derive(Clone)]
pub(crate) struct Teller(EventTeller);

impl Teller {
    pub(crate) fn new(client: Client, instance: &str) -> Self {
        let reporter =
            Reporter { controller: "fleet.coffer".to_owned(), instance: Some(instance.to_owned()) };
        Self(EventTeller::new(client, reporter))
    }

    /// Tells of something on an object.
    pub(crate) async fn tell<K: Resource<DynamicType = ()>>(
        &self,
        about: &K,
        kind: EventType,
        what: (&str, &str),
        note: &str,
    ) {
        self.tell_of(&about.object_ref(&()), kind, what, note).await;
    }

    /// The same, by its reference.
    pub(crate) async fn tell_of(
        &self,
        about: &ObjectReference,
        kind: EventType,
        (action, reason): (&str, &str),
        note: &str,
    ) {
        let mut note = note.to_owned();
        while note.len() > NOTE_MAX {
            note.pop();
        }
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        // The state itself is in the object's status; an event that is lost is said again with the next change.
        drop(self.0.tell(&event, about).await);
    }
}

/// Why a set cannot be placed, and what would help, for people.
pub(crate) fn explanation(why: &coffer_scheduler::Explanation) -> String {
    use coffer_scheduler::Repair;
    let constraints: Vec<String> = why.conflict.iter().map(|one| format!("{one:?}")).collect();
    let mut text = if constraints.is_empty() {
        "there are fewer nodes than pods".to_owned()
    } else {
        format!("these cannot all be kept: {}", constraints.join(", "))
    };
    let repairs: Vec<String> = why
        .repairs
        .iter()
        .map(|repair| match repair {
            Repair::Uncordon(node) => format!("uncordon {node}"),
            Repair::RemoveTaint(node, taint) => format!("take the taint {} off {node}", taint.key),
            Repair::Label(node, label, value) => format!("label {node} with {label}={value}"),
            Repair::BringBack(node) => format!("bring the agent of {node} back"),
            Repair::Grow(node, resource, more) => format!("free {more} more of {resource:?} on {node}"),
            Repair::MoveAway(pod) => format!("move {pod} away"),
            Repair::Waive(demand) => format!("leave {demand:?} out of the template"),
            Repair::AddNode { country, .. } => format!("add a node in {country}"),
            Repair::RaisePerCountry(most) => format!("allow {most} pods in one country"),
            Repair::RaiseCountrySkew(skew) => format!("let countries differ by {skew}"),
        })
        .collect();
    match (repairs.is_empty(), why.cut_off) {
        (true, false) => text.push_str("; no change was found that helps"),
        (true, true) => text.push_str("; no change was found that helps, and the search was cut off"),
        (false, false) => text.push_str(&format!("; this would help: {}", repairs.join(", "))),
        (false, true) => text.push_str(&format!(
            "; this would help, and the search for something cheaper was cut off: {}",
            repairs.join(", ")
        )),
    }
    text
}
