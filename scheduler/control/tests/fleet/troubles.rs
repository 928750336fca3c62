//! What a look at a set runs into is seen by whoever looks at the fleet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use coffer_control::{CertificateError, Control, SiteCertificates, SiteIdentity};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;

use crate::world::World;

/// An issuer that is out of order.
struct OutOfOrder;

#[async_trait]
impl SiteCertificates for OutOfOrder {
    async fn issue(&self, site: &SiteIdentity) -> Result<BTreeMap<String, Vec<u8>>, CertificateError> {
        Err(CertificateError::NotIssued {
            pod: site.pod.clone(),
            why: "the issuer is out of order".to_owned(),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_fails_is_an_event_on_its_set_and_a_line_for_the_operator() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&lines);
    let mut world = World::with(6, |control| Control {
        certificates: Arc::new(OutOfOrder),
        trouble: Arc::new(move |what: &str| told.lock().unwrap().push(what.to_owned())),
        ..control
    })
    .await;
    world.set(6, 1).await;
    for _ in 0..8 {
        world.turn().await;
    }
    let lines = lines.lock().unwrap().clone();
    assert!(lines.iter().all(|line| line.contains("gold") && line.contains("out of order")), "{lines:?}");
    assert!((1..8).contains(&lines.len()), "told, and not with every look: {lines:?}");
    let events = world.api::<Event>();
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let told =
        events.iter().find(|event| event.note.as_ref().is_some_and(|note| note.contains("out of order")));
    let told = told.unwrap();
    assert_eq!(told.regarding.as_ref().and_then(|set| set.name.as_deref()), Some("gold"));
    assert_eq!(told.type_.as_deref(), Some("Warning"));
}
