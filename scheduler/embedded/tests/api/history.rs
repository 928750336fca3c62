//! Pages, watches and what is left of the past.

use coffer_embedded::store::{
    CommitError, EventKind, Expect, HistoryError, Key, Limits, Operation, PageRequest, Store, Watched,
};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::ResourceExt as _;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::json;

use crate::fixture::{Fixture, code, node, pod};

fn put(name: &str, expect: Expect) -> Operation {
    let key = Key::new(&"things".into(), "ns", name);
    Operation::Put { key, object: json!({"metadata": {"name": name}}), expect }
}

fn all(resource: &'static str, revision: Option<u64>) -> PageRequest<'static> {
    PageRequest { resource, namespace: None, revision, after: None }
}

#[tokio::test]
async fn pages_of_one_list_show_one_moment_whatever_changes_meanwhile() {
    let fixture = Fixture::new().await;
    let pods = fixture.pods();
    for name in ["a", "b", "c", "d", "e"] {
        pods.create(&PostParams::default(), &pod(name)).await.unwrap();
    }
    let first = pods.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    pods.create(&PostParams::default(), &pod("bb")).await.unwrap();
    pods.delete("c", &kube::api::DeleteParams::default()).await.unwrap();
    let mut names: Vec<String> = first.items.iter().map(|pod| pod.name_any()).collect();
    let mut token = first.metadata.continue_.clone();
    while let Some(next) = token.filter(|token| !token.is_empty()) {
        let page = pods.list(&ListParams::default().limit(2).continue_token(&next)).await.unwrap();
        assert_eq!(page.metadata.resource_version, first.metadata.resource_version);
        names.extend(page.items.iter().map(|pod| pod.name_any()));
        token = page.metadata.continue_;
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn a_watch_from_before_the_ring_is_told_that_it_expired() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { ring: 4, history: 1000 };
    let store = Store::open(&directory.path().join("s"), limits).unwrap();
    let things = "things".into();
    let mut slow = store.watch(&things, 0).unwrap();
    for name in 0..10 {
        store.commit(vec![put(&format!("t{name}"), Expect::Absent)]).await.unwrap();
    }
    assert_eq!(store.watch(&things, 3).err(), Some(HistoryError::Expired { asked: 3, oldest: 6 }));
    assert!(matches!(slow.next().await, Watched::Overtaken(_)));
    assert_eq!(store.watch(&things, 11).err(), Some(HistoryError::Future { asked: 11, newest: 10 }));
    assert_eq!(
        store.page(&all("things", Some(3))).err(),
        Some(HistoryError::Expired { asked: 3, oldest: 6 })
    );
    assert_eq!(store.page(&all("things", Some(7))).unwrap().objects.len(), 7);
    let mut watch = store.watch(&things, 6).unwrap();
    let Watched::Events(events, cursor) = watch.next().await else { panic!() };
    assert_eq!((events.len(), cursor), (4, 10));
}

#[tokio::test]
async fn what_is_compacted_is_gone_and_what_is_present_stays_also_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("s");
    let store = Store::open(&file, Limits::default()).unwrap();
    for name in ["a", "b"] {
        store.commit(vec![put(name, Expect::Absent)]).await.unwrap();
    }
    store.commit(vec![put("a", Expect::Revision(1))]).await.unwrap();
    let key = Key::new(&"things".into(), "ns", "b");
    store.commit(vec![Operation::Delete { key, expect: 2 }]).await.unwrap();
    store.commit(vec![put("c", Expect::Absent)]).await.unwrap();
    store.compact(4).await.unwrap();
    assert!(store.watch(&"things".into(), 3).is_err());
    drop(store);
    let rows: i64 = {
        let connection = rusqlite::Connection::open(&file).unwrap();
        connection.query_row("SELECT count(*) FROM change", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(rows, 2, "the present of a, and c");
    let store = Store::open(&file, Limits::default()).unwrap();
    assert_eq!(store.revision(), 5);
    assert!(store.watch(&"things".into(), 3).is_err());
    let Watched::Events(events, _) = store.watch(&"things".into(), 4).unwrap().next().await else { panic!() };
    assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::Added]);
    assert_eq!(store.page(&all("things", None)).unwrap().objects.len(), 2);
}

#[tokio::test]
async fn a_transaction_with_one_failing_condition_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("s"), Limits::default()).unwrap();
    store.commit(vec![put("a", Expect::Absent)]).await.unwrap();
    let outcome = store.commit(vec![put("b", Expect::Absent), put("a", Expect::Absent)]).await;
    assert!(matches!(outcome, Err(CommitError::Conflict { operation: 1, found: Some(1), .. })));
    assert_eq!(store.revision(), 1);
    assert_eq!(store.page(&all("things", None)).unwrap().objects.len(), 1);
    let twice = vec![put("b", Expect::Absent), put("b", Expect::Revision(2))];
    let stored = store.commit(twice).await.unwrap();
    assert_eq!(stored.iter().map(|one| one.revision).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test]
async fn writers_at_the_same_time_all_get_in_and_no_revision_is_given_twice() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("s"), Limits::default()).unwrap();
    let writers: Vec<_> = (0..32)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                store.commit(vec![put(&format!("w{writer}"), Expect::Absent)]).await.unwrap()
            })
        })
        .collect();
    let mut revisions = Vec::new();
    for writer in writers {
        revisions.extend(writer.await.unwrap().iter().map(|stored| stored.revision));
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=32).collect::<Vec<u64>>());
}

#[tokio::test]
async fn an_object_that_leaves_a_selection_is_shown_as_deleted_from_it() {
    let fixture = Fixture::new().await;
    let pods = fixture.pods();
    let params = WatchParams::default().labels("app=site");
    let mut watch = pods.watch(&params, "0").await.unwrap().boxed();
    pods.create(&PostParams::default(), &pod("a")).await.unwrap();
    assert!(matches!(watch.try_next().await.unwrap(), Some(WatchEvent::Added(_))));
    let patch = kube::api::Patch::Merge(json!({"metadata": {"labels": {"app": "else"}}}));
    pods.patch("a", &kube::api::PatchParams::default(), &patch).await.unwrap();
    let Some(WatchEvent::Deleted(gone)) = watch.try_next().await.unwrap() else { panic!() };
    assert_eq!(gone.labels()["app"], "site");
}

#[tokio::test]
async fn the_watcher_of_the_controllers_sees_the_present_and_then_changes() {
    let fixture = Fixture::new().await;
    let pods = fixture.pods();
    pods.create(&PostParams::default(), &pod("a")).await.unwrap();
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let mut seen = watcher(pods.clone(), config).applied_objects().boxed();
        assert_eq!(seen.try_next().await.unwrap().unwrap().name_any(), "a");
    }
}

#[tokio::test]
async fn odd_revisions_are_refused_with_the_reason_that_clients_know() {
    let fixture = Fixture::new().await;
    let pods = fixture.pods();
    let future = ListParams { resource_version: Some("999999".into()), ..ListParams::default() };
    assert_eq!(code(pods.list(&future).await), 504);
    let mut watch = pods.watch(&WatchParams::default(), "999999").await.unwrap().boxed();
    let Some(WatchEvent::Error(status)) = watch.try_next().await.unwrap() else { panic!() };
    assert_eq!(status.code, 410);
    assert_eq!(code(pods.list(&ListParams::default().continue_token("nonsense")).await), 400);
    assert_eq!(code(pods.list(&ListParams::default().fields("spec.nope=1")).await), 400);
    assert_eq!(code(pods.list(&ListParams::default().labels("a in (")).await), 400);
}

/// What the store holds as of a revision, by name.
type Moment = std::collections::BTreeMap<String, u64>;

fn moment(store: &Store, revision: Option<u64>) -> Moment {
    let page = store.page(&all("things", revision)).unwrap();
    page.objects.iter().map(|stored| (stored.key.name.to_string(), stored.revision)).collect()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 24, ..Default::default() })]

    /// The oracle writes down the whole present after every change.
    #[test]
    fn every_past_revision_is_shown_as_it_was_also_after_opening_again(
        steps in proptest::collection::vec((0_u8..5, proptest::bool::ANY), 1..40), forgotten in 0_u64..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("s");
            let store = Store::open(&file, Limits::default()).unwrap();
            let mut moments = vec![Moment::new()];
            for (name, deletes) in steps {
                let name = format!("t{name}");
                let mut now = moments.last().unwrap().clone();
                let revision = u64::try_from(moments.len()).unwrap();
                let operation = match now.get(&name) {
                    None => put(&name, Expect::Absent),
                    Some(at) if deletes => {
                        Operation::Delete { key: Key::new(&"things".into(), "ns", &name), expect: *at }
                    }
                    Some(at) => put(&name, Expect::Revision(*at)),
                };
                if matches!(operation, Operation::Delete { .. }) { now.remove(&name); } else { now.insert(name, revision); }
                let stored = store.commit(vec![operation]).await.unwrap();
                assert_eq!(stored[0].revision, revision);
                moments.push(now);
            }
            store.compact(forgotten).await.unwrap();
            let newest = store.revision();
            let oldest = forgotten.min(newest.saturating_sub(1));
            let is_right = |store: &Store| {
                for revision in oldest..=newest {
                    assert_eq!(moment(store, Some(revision)), moments[usize::try_from(revision).unwrap()]);
                }
                assert!(oldest == 0 || store.page(&all("things", Some(oldest - 1))).is_err());
            };
            is_right(&store);
            drop(store);
            is_right(&Store::open(&file, Limits::default()).unwrap());
        });
    }
}

#[tokio::test]
async fn a_quiet_watch_says_after_half_a_minute_up_to_where_it_knows_everything() {
    let fixture = Fixture::new().await;
    let pods = fixture.pods();
    let made = pods.create(&PostParams::default(), &pod("a")).await.unwrap();
    let from = made.resource_version().unwrap();
    let start = tokio::time::Instant::now();
    let mut events = pods.watch(&WatchParams::default(), &from).await.unwrap().boxed();
    let silent = WatchParams::default().disable_bookmarks();
    let mut none = pods.watch(&silent, &from).await.unwrap().boxed();
    // Not shown to whoever watches pods, and known to him all the same.
    let made = fixture.nodes().create(&PostParams::default(), &node("n")).await.unwrap();
    let known: u64 = made.resource_version().unwrap().parse().unwrap();
    // From here on time is what the runtime waits for next.
    tokio::time::pause();
    let event = events.try_next().await.unwrap();
    let Some(WatchEvent::Bookmark(bookmark)) = event else { panic!("{event:?}") };
    assert!(start.elapsed().as_secs() >= 30, "it came after {:?}", start.elapsed());
    assert_eq!((&*bookmark.types.kind, &*bookmark.types.api_version), ("Pod", "v1"));
    let revision = bookmark.metadata.resource_version;
    assert!(revision.parse::<u64>().unwrap() >= known, "{revision}, and {known} is known");
    // Another one each half minute, and none for whoever did not ask until the watch ends.
    let event = events.try_next().await.unwrap();
    assert!(matches!(event, Some(WatchEvent::Bookmark(_))), "{event:?}");
    assert!(none.try_next().await.unwrap().is_none());
    assert!(start.elapsed().as_secs() >= 290, "it ended after {:?}", start.elapsed());
    tokio::time::resume();
    // Whoever goes on from there misses nothing.
    let mut events = pods.watch(&WatchParams::default(), &revision).await.unwrap().boxed();
    pods.create(&PostParams::default(), &pod("b")).await.unwrap();
    let event = events.try_next().await.unwrap();
    assert!(matches!(&event, Some(WatchEvent::Added(pod)) if pod.name_any() == "b"), "{event:?}");
}
