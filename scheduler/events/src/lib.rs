//! How Kubernetes Events are told, by node agents and the control plane alike.
//! What is said again is counted; what is said in other words is an event of its
//! own, as with a kubelet: a second reason for a failure is not the first one twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// How many different things are remembered as said; of what is forgotten an event begins anew.
const REMEMBERED: usize = 256;

/// What tells one event from another: the object by uid and name, whether it is a warning, reason, text.
type Said = (Option<String>, Option<String>, bool, String, Option<String>);

/// Posts events. Its clones remember together what was said.
#[derive(Clone)]
pub struct Teller {
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
    /// Nothing was said yet, in the name of this reporter.
    pub fn new(client: Client, reporter: Reporter) -> Self {
        Self { client, reporter, said: Arc::default() }
    }

    /// Tells of something on an object.
    ///
    /// # Errors
    /// The API did not take it.
    pub async fn tell(&self, event: &Event, about: &ObjectReference) -> kube::Result<()> {
        self.recorder(event, about).publish(event, about).await
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
}

#[cfg(test)]
mod tests {
    use super::*;

    use http_body_util::BodyExt;

    /// Method and text of every event.
    type Told = Arc<Mutex<Vec<(String, String)>>>;

    /// An API that takes every event, and what it was told.
    fn api() -> (Client, Told) {
        let told = Told::default();
        let kept = Arc::clone(&told);
        let service = tower::service_fn(move |request: hyper::Request<kube::client::Body>| {
            let kept = Arc::clone(&kept);
            async move {
                let method = request.method().to_string();
                let body = request.into_body().collect().await?.to_bytes();
                let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
                kept.lock().unwrap().push((method, event["note"].as_str().unwrap_or_default().to_owned()));
                Ok::<_, tower::BoxError>(hyper::Response::new(kube::client::Body::from(body.to_vec())))
            }
        });
        (Client::new(service, "coffer"), told)
    }

    #[tokio::test]
    async fn a_second_reason_is_told_too_however_late_it_comes_and_the_same_one_is_counted() {
        let (client, told) = api();
        let teller = Teller::new(client, Reporter::from("agent".to_owned()));
        let about = ObjectReference { uid: Some("1".to_owned()), ..ObjectReference::default() };
        for note in ["missing", "of another type", "missing"] {
            let event = Event {
                type_: EventType::Warning,
                reason: "FailedToRetrieveImagePullSecret".to_owned(),
                note: Some(note.to_owned()),
                action: "Run".to_owned(),
                secondary: None,
            };
            teller.tell(&event, &about).await.unwrap();
        }
        let told = told.lock().unwrap().clone();
        let told: Vec<_> = told.iter().map(|(method, note)| (method.as_str(), note.as_str())).collect();
        assert_eq!(told, [("POST", "missing"), ("POST", "of another type"), ("PATCH", "missing")]);
    }

    #[tokio::test]
    async fn what_was_said_is_not_remembered_without_end() {
        let (client, _) = api();
        let teller = Teller::new(client, Reporter::from("agent".to_owned()));
        for number in 0..2000 {
            let about = ObjectReference { uid: Some(number.to_string()), ..ObjectReference::default() };
            let event = Event {
                type_: EventType::Normal,
                reason: "Pulled".to_owned(),
                note: None,
                action: "Run".to_owned(),
                secondary: None,
            };
            drop(teller.recorder(&event, &about));
            assert!(teller.said.lock().unwrap().recorders.len() <= REMEMBERED);
        }
    }
}
