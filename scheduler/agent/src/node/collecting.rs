//! Images that no pod of the node uses are removed, now and then; where that
//! does not make room on a full disk, the node says so.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Resource as _;
use kube::runtime::events::{Event, EventType};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Context;
use super::record::PodRecord;
use crate::clock;
use crate::image::{CollectError, Collected, ImageReference, PodImage};

/// The word of a kubelet for a disk on which not enough could be freed.
const NOT_ENOUGH: &str = "FreeDiskSpaceFailed";
/// And for a collection that did not go as it should.
const FAILED: &str = "ImageGCFailed";
/// What lasts is told again after so long: an event is kept for an hour.
const AGAIN: Duration = Duration::from_secs(3600);

/// What is wrong, in the words of an event.
#[derive(Debug, PartialEq, Eq)]
struct Trouble {
    reason: &'static str,
    note: String,
}

/// Removes what is not used for ever.
pub(super) async fn keep(context: Arc<Context>, seen: watch::Receiver<Option<Node>>) {
    let mut told: Option<(&'static str, Instant)> = None;
    loop {
        tokio::time::sleep(context.config.keeping.every).await;
        let node = Arc::clone(&context);
        let Ok(trouble) = tokio::task::spawn_blocking(move || round(&node)).await else { continue };
        let is_news = trouble.as_ref().is_some_and(|trouble| {
            told.is_none_or(|(reason, then)| reason != trouble.reason || then.elapsed() >= AGAIN)
        });
        let about = seen.borrow().clone();
        match (trouble, about) {
            (None, _) => told = None,
            (Some(trouble), Some(about)) if is_news && tell(&context, &about, &trouble).await => {
                told = Some((trouble.reason, Instant::now()));
            }
            // It is told already, or is with the next round.
            _ => {}
        }
    }
}

/// Whether the API has taken it.
async fn tell(context: &Context, about: &Node, trouble: &Trouble) -> bool {
    let event = Event {
        type_: EventType::Warning,
        reason: trouble.reason.to_owned(),
        note: Some(trouble.note.chars().take(1000).collect()),
        action: "CollectImages".to_owned(),
        secondary: None,
    };
    let about = about.object_ref(&());
    let told = context.teller.tell(&event, &about);
    matches!(tokio::time::timeout(Duration::from_secs(5), told).await, Ok(Ok(())))
}

fn round(context: &Context) -> Option<Trouble> {
    let (keeping, now) = (&context.config.keeping, clock::wall());
    let at_most = context.images.is_full(keeping).then_some(keeping.unused);
    let forgotten = context.puller.forget(now, at_most);
    let collected = context.images.collect(keeping, &|| of_pods(context), now);
    trouble(keeping.high, forgotten, collected)
}

/// What the pods here have of the image store, also those that have ended.
fn of_pods(context: &Context) -> io::Result<Vec<PodImage>> {
    let mut images = Vec::new();
    for record in PodRecord::without_exception(&context.places)? {
        let began = record.started_unix_ms.is_some();
        let root = record.root.clone().filter(|_| began);
        let named = record.pod.spec.iter().flat_map(|spec| &spec.containers);
        let named = named.filter_map(|container| ImageReference::parse(container.image.as_deref()?).ok());
        images.push(PodImage { image: None, root: root.clone(), began });
        images.extend(named.map(|image| PodImage { image: Some(image), root: root.clone(), began }));
    }
    Ok(images)
}

/// What of a round is to be told: that nothing was done before what was not enough.
fn trouble(
    high: u8,
    forgotten: io::Result<()>,
    collected: Result<Collected, CollectError>,
) -> Option<Trouble> {
    let failed = |note| Some(Trouble { reason: FAILED, note });
    let round = match collected {
        Ok(round) => round,
        Err(error) => return failed(format!("images that no pod uses stay: {error}")),
    };
    if let Some((path, error)) = &round.failed {
        return failed(format!("images that no pod uses stay: {}: {error}", path.display()));
    }
    if let Err(error) = forgotten {
        return failed(format!("what pulls began and nobody goes on with stays: {error}"));
    }
    if let Some((percent, wanted)) = round.full {
        let note = format!(
            "{percent} % of the disk of this node's images are used, and {high} % is the mark: {} bytes were freed, {wanted} more are wanted, and nothing more of the images is unused; make room, or set the mark higher where the data of pods fills this disk (coffer-node run --image-disk-high)",
            round.freed
        );
        return Some(Trouble { reason: NOT_ENOUGH, note });
    }
    let image = round.unsure?;
    failed(format!(
        "no root file system is removed: a pod runs {image}, which no layout has any more; put it back, or start the pod anew"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_somebody_can_do_something_about() {
        let reason = |forgotten, collected| trouble(85, forgotten, collected).map(|trouble| trouble.reason);
        let error = || io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(reason(Ok(()), Ok(Collected::default())), None);
        assert_eq!(reason(Err(error()), Ok(Collected::default())), Some(FAILED));
        assert_eq!(reason(Ok(()), Err(CollectError::Pods(error()))), Some(FAILED));
        let full = || Collected { full: Some((93, 7)), ..Collected::default() };
        assert_eq!(reason(Ok(()), Ok(full())), Some(NOT_ENOUGH));
        let failed = Collected { failed: Some(("oci".into(), error())), ..full() };
        assert_eq!(reason(Ok(()), Ok(failed)), Some(FAILED), "it may be why there is no room");
        let unsure = Collected { unsure: Some("site@sha256:0".to_owned()), ..Collected::default() };
        assert!(trouble(85, Ok(()), Ok(unsure)).unwrap().note.contains("site@sha256:0"));
    }
}
