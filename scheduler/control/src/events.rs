//! What the fleet tells people: Kubernetes Events on the objects concerned. One
//! that cannot be posted is nobody's loss. What is said again is counted; what is
//! said in other words is another event.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

/// A sentence in an event has this many bytes at most.
const NOTE_MAX: usize = 1000;

/// How many different things are remembered as said; of what is forgotten an event begins anew.
const REMEMBERED: usize = 256;

/// What tells one event from another: the object by uid and name, whether it is a warning, reason, text.
type Said = (Option<String>, Option<String>, bool, String, Option<String>);

/// Posts events.
#[derive(Clone)]
pub(crate) struct Teller {
    client: Client,
    reporter: Reporter,
    said: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    /// A recorder counts what has the same reason as one, and keeps its first text: so each text has its own.
    recorders: BTreeMap<Said, (u64, Recorder)>,
    turn: u64,
}

impl Teller {
    pub(crate) fn new(client: Client, instance: &str) -> Self {
        let reporter =
            Reporter { controller: "fleet.coffer".to_owned(), instance: Some(instance.to_owned()) };
        Self { client, reporter, said: Arc::default() }
    }

    fn recorder(&self, event: &Event, about: &ObjectReference) -> Recorder {
        let is_warning = matches!(event.type_, EventType::Warning);
        let said =
            (about.uid.clone(), about.name.clone(), is_warning, event.reason.clone(), event.note.clone());
        let mut memory = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        memory.turn = memory.turn.saturating_add(1);
        let turn = memory.turn;
        let fresh = || (turn, Recorder::new(self.client.clone(), self.reporter.clone()));
        let (last, recorder) = memory.recorders.entry(said).or_insert_with(fresh);
        *last = turn;
        let recorder = recorder.clone();
        if memory.recorders.len() > REMEMBERED {
            memory.recorders.retain(|_, (last, _)| turn.saturating_sub(*last) < REMEMBERED as u64 / 2);
        }
        recorder
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
        drop(self.recorder(&event, about).publish(&event, about).await);
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
