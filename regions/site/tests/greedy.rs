//! Callers that want more than there is, against the real daemon: what goes
//! beyond a limit of `regions/PODS.md` is refused or cut off, and an honest
//! caller is served meanwhile and afterwards.

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

#[path = "support/caller.rs"]
mod caller;
#[path = "support/frames.rs"]
mod frames;
#[path = "support/held.rs"]
mod held;
#[expect(dead_code, reason = "shared with tests that need more of it")]
#[path = "support/pods.rs"]
mod pods;
#[path = "support/scene.rs"]
mod scene;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use caller::header;
use coffer_model::RecordId;
use coffer_proto::site::v1::{self, GetRequest, GetResponse, PutRequest, StateRequest};
use coffer_regions::{ClearGeometry, Record, RecordKind, Site, SiteError};
use coffer_site::daemon::{DaemonError, Notice, serve};
use frames::{FrameCaller, Heard, REFUSED_STREAM};
use held::HeldSite;
use pods::Fleet;
use scene::{Scene, skip, stalled, within};
use support::{id, record};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tonic::{Code, Request, Streaming};

/// A window that one stream of answers fills at once.
const NARROW: u32 = 64 << 10;
const WIDE: u32 = 4 << 20;

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn puts_that_take_all_the_room_and_stall_hold_up_only_puts_and_are_ended_at_their_time() {
    let scene = Scene::new().await;
    let (greedy, other) = (scene.client(WIDE).await, scene.client(WIDE).await);
    // More than there is room for: the last of them is the first that waits.
    let puts: Vec<_> = (0..5).map(|_| stalled(&greedy, 64 * MIB)).collect();
    let honest = scene.put_that_waits(&other).await.unwrap();
    scene.serves_small_calls().await;
    assert_eq!(scene.asks(async |pod| pod.get(id(1)).await).await, record(1, 1000));
    assert!(!honest.is_finished() && !puts.iter().any(|put| put.is_finished()));
    skip(11).await;
    within(honest).await.unwrap().unwrap();
    // Before the honest one came the first that had waited, which brings nothing either.
    skip(11).await;
    for put in puts {
        let refused = within(put).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused:?}");
    }
    scene.serves_everything().await;
}

#[tokio::test]
async fn the_room_of_a_put_that_stalls_is_free_again_when_its_caller_goes_away() {
    let scene = Scene::new().await;
    let (greedy, other) = (scene.client(WIDE).await, scene.client(WIDE).await);
    let puts: Vec<_> = (0..5).map(|_| stalled(&greedy, 64 * MIB)).collect();
    let honest = scene.put_that_waits(&other).await.unwrap();
    scene.serves_small_calls().await;
    assert!(!honest.is_finished());
    puts.iter().for_each(|put| put.abort());
    within(honest).await.unwrap().unwrap();
    scene.serves_everything().await;
}

#[tokio::test]
async fn no_more_than_thirty_two_reads_are_at_the_store_at_once_and_what_is_no_read_passes_them_by() {
    let mut held = None;
    let scene = Scene::with(|store| held.insert(HeldSite::new(store, record(900, 1000))).clone()).await;
    let held = held.unwrap();
    held.set_open(false);
    let (greedy, other) = (scene.client(WIDE).await, scene.client(WIDE).await);
    let read = |n: u64| {
        let mut greedy = greedy.clone();
        let bytes: bytes::Bytes = id(1000 + n).as_bytes().to_vec().into();
        let all = v1::ScrubStepRequest { from: bytes::Bytes::new(), bytes_max: 64 * MIB };
        tokio::spawn(async move {
            // Calls that read bodies share the places.
            match n % 4 {
                0 => greedy.get(GetRequest { id: bytes }).await.is_ok(),
                3 => greedy.scrub_step(all).await.is_ok(),
                1 => greedy.get_range(v1::GetRangeRequest { id: bytes, start: 0, end: 1 }).await.is_ok(),
                _ => {
                    greedy.answer(v1::AnswerRequest { record: bytes, key: vec![1; 32].into() }).await.is_ok()
                }
            }
        })
    };
    let reads: Vec<_> = (0..100).map(read).collect();
    within(held.holds(32)).await;
    scene.rounds(&other, 50).await;
    scene.serves_puts().await;
    scene.serves_small_calls().await;
    assert_eq!(held.most(), 32);
    held.set_open(true);
    let mut answered = 0;
    for read in reads {
        answered += usize::from(within(read).await.unwrap());
    }
    assert_eq!(
        (answered, held.most()),
        (50, 32),
        "all come to their turn; only `get` and a step of a scrub find something"
    );
    scene.serves_everything().await;
}

/// Bytes of a body that still come.
async fn rest_of(mut answer: Streaming<GetResponse>) -> usize {
    let mut bytes = 0;
    while let Ok(Some(message)) = answer.message().await {
        bytes += message.part.map_or(0, |part| part.data.len());
    }
    bytes
}

#[tokio::test]
async fn readers_that_take_nothing_are_left_and_their_places_go_to_others() {
    let large = record(900, 5 << 20);
    let scene = Scene::with(|store| HeldSite::new(store, large.clone())).await;
    let (greedy, other) = (scene.client(NARROW).await, scene.client(WIDE).await);
    let mut answers = Vec::new();
    for n in 0..32 {
        let request = GetRequest { id: id(1000 + n).as_bytes().to_vec().into() };
        answers.push(within(greedy.clone().get(request)).await.unwrap().into_inner());
    }
    // Each of them has a place by now: its answer has begun.
    let mut reader = other.clone();
    let honest = tokio::spawn(async move {
        let request = GetRequest { id: id(2000).as_bytes().to_vec().into() };
        rest_of(reader.get(request).await.unwrap().into_inner()).await
    });
    scene.rounds(&other, 50).await;
    scene.serves_puts().await;
    scene.serves_small_calls().await;
    assert!(!honest.is_finished(), "it waits for a place");
    skip(11).await;
    assert_eq!(within(honest).await.unwrap(), large.body().len());
    // To read what is left of every one would only take longer.
    for answer in answers.into_iter().step_by(8) {
        assert!(within(rest_of(answer)).await < large.body().len(), "it was left in the middle");
    }
    scene.serves_everything().await;
}

#[tokio::test]
async fn an_answer_that_was_cut_for_its_reader_took_nothing_does_not_end_as_a_whole_one() {
    let large = record(900, 8 << 20);
    let scene = Scene::with(|store| HeldSite::new(store, large.clone())).await;
    let other = scene.client(WIDE).await;
    let request = GetRequest { id: id(1000).as_bytes().to_vec().into() };
    let mut answer = within(scene.client(NARROW).await.get(request)).await.unwrap().into_inner();
    scene.rounds(&other, 50).await;
    skip(11).await;
    scene.rounds(&other, 50).await;
    let (mut bytes, mut end) = (0, None);
    while end.is_none() {
        match within(answer.message()).await {
            Ok(Some(message)) => bytes += message.part.unwrap().data.len(),
            Ok(None) => end = Some(Code::Ok),
            Err(error) => end = Some(error.code()),
        }
    }
    assert_eq!(end, Some(Code::DeadlineExceeded), "after {bytes} bytes");
    assert!(bytes < large.body().len());
}

#[tokio::test]
async fn a_service_that_did_not_come_to_read_an_answer_does_not_accuse_the_pod() {
    let large = record(1000, 16 << 20);
    let scene = Scene::with(|store| HeldSite::new(store, large.clone())).await;
    let other = scene.client(WIDE).await;
    {
        let mut get = std::pin::pin!(scene.honest.get(id(1000)));
        // It begins to read, and then its task does not run.
        for _ in 0..3 {
            assert!(futures::poll!(get.as_mut()).is_pending());
            scene.rounds(&other, 50).await;
        }
        skip(11).await;
        scene.rounds(&other, 50).await;
        let read = within(get).await;
        assert!(matches!(read, Ok(_) | Err(SiteError::Unreachable)), "{:?}", read.err());
    }
    assert!(scene.fleet.seen.refusals().is_empty(), "{:?}", scene.fleet.seen.refusals());
    scene.serves_everything().await;
}

/// A body that is counted for as long as it is in memory.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn bodies_of_readers_that_take_nothing_are_in_memory_no_more_often_than_there_are_places() {
    // One whose pieces all wait in the queue, and one of which more come.
    for bytes in [1 << 20, 6 << 20] {
        let in_memory = Arc::new(AtomicUsize::new(0));
        let made = Arc::clone(&in_memory);
        let make = move |id: RecordId| {
            made.fetch_add(1, Ordering::SeqCst);
            let body = bytes::Bytes::from_owner(Counted(vec![7; bytes], Arc::clone(&made)));
            Record::new(RecordKind::Shard, id, ClearGeometry { k: 4, m: 2, index: 0 }, body).unwrap()
        };
        let scene = Scene::with(|store| HeldSite::making(store, Box::new(make))).await;
        let (greedy, other) = (scene.client(NARROW).await, scene.client(WIDE).await);
        let mut answers = Vec::new();
        for _ in 0..3 {
            for n in 0..32 {
                let request = GetRequest { id: id(1000 + n).as_bytes().to_vec().into() };
                answers.push(within(greedy.clone().get(request)).await.unwrap().into_inner());
            }
            assert!(in_memory.load(Ordering::SeqCst) <= 32, "{in_memory:?} bodies of {bytes} bytes");
            skip(11).await;
            scene.rounds(&other, 20).await;
        }
        assert_eq!(in_memory.load(Ordering::SeqCst), 0, "of those that were left, {bytes} bytes each");
    }
}

#[tokio::test]
async fn calls_beyond_those_of_one_connection_are_refused_and_other_connections_are_served() {
    let scene = Scene::new().await;
    let mut greedy = FrameCaller::connect(&scene.fleet, scene.address).await;
    let mut streams = Vec::new();
    for _ in 0..300 {
        streams.push(greedy.begin("Put").await);
    }
    assert!(within(greedy.ping()).await, "the connection itself goes on");
    let refused = |heard: &&Heard| matches!(heard, Heard::Reset(_, REFUSED_STREAM));
    assert_eq!(greedy.heard().iter().filter(refused).count(), 300 - 256);
    scene.serves_everything().await;
    // Whoever takes calls back may make others in their place.
    for stream in streams.into_iter().take(256) {
        greedy.reset(stream).await;
    }
    assert!(within(greedy.ping()).await);
    let state = greedy.begin("State").await;
    greedy.say(state, &StateRequest {}, true).await;
    assert!(within(greedy.hear_until(|heard| heard == Heard::End(state))).await);
    scene.serves_everything().await;
}

#[tokio::test]
async fn headers_over_the_limit_are_refused_and_the_connection_serves_other_calls() {
    let scene = Scene::new().await;
    let mut greedy = scene.client(WIDE).await;
    let asked = |length: usize| {
        let mut request = Request::new(StateRequest {});
        request.metadata_mut().insert("x-long", "y".repeat(length).parse().unwrap());
        request
    };
    within(greedy.state(asked(15 << 10))).await.unwrap();
    let refused = within(greedy.state(asked(17 << 10))).await.unwrap_err();
    assert!(refused.message().contains("431"), "{refused:?}");
    scene.serves_everything().await;
    within(greedy.state(asked(10))).await.unwrap();
}

#[tokio::test]
async fn headers_that_never_end_close_their_connection_and_no_other() {
    let scene = Scene::new().await;
    let mut greedy = FrameCaller::connect(&scene.fleet, scene.address).await;
    let taken = within(greedy.headers_without_end(2000)).await;
    scene.serves_everything().await;
    if taken {
        // Whatever the sockets hold: the pod did not wait for the end.
        assert!(!within(greedy.ping()).await);
    }
    scene.serves_everything().await;
}

/// Waits until the other side has closed a connection.
async fn closed(stream: &mut TcpStream) {
    let mut bytes = [0; 512];
    while let Ok(1..) = stream.read(&mut bytes).await {}
}

#[tokio::test]
async fn handshakes_that_never_end_are_ended_by_the_pod() {
    let scene = Scene::new().await;
    let mut silent = TcpStream::connect(scene.address).await.unwrap();
    let mut begun = TcpStream::connect(scene.address).await.unwrap();
    // The head of a record of 512 bytes with a ClientHello, and a little of it.
    begun.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).await.unwrap();
    // Whoever comes after them is served, so they have been let in.
    let other = scene.client(WIDE).await;
    scene.rounds(&other, 20).await;
    let mut byte = [0];
    assert!(silent.try_read(&mut byte).is_err() && begun.try_read(&mut byte).is_err(), "they are waited for");
    skip(6).await;
    within(closed(&mut silent)).await;
    within(closed(&mut begun)).await;
    scene.serves_everything().await;
}

#[tokio::test]
async fn strangers_of_many_addresses_hold_no_more_places_than_there_are_and_keep_no_caller_out() {
    let scene = Scene::new().await;
    let mut strangers = Vec::new();
    for n in 0..160_u8 {
        let socket = TcpSocket::new_v4().unwrap();
        // Ten addresses, of which each would fill a quarter of the places.
        socket.bind(SocketAddr::from(([127, 0, 1, n / 16 + 1], 0))).unwrap();
        strangers.push(socket.connect(scene.address).await.unwrap());
    }
    let other = scene.client(WIDE).await;
    let open = || {
        let is_open = |stream: &&TcpStream| {
            stream.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        strangers.iter().filter(is_open).count()
    };
    for _ in 0..100 {
        scene.rounds(&other, 5).await;
        if open() <= 64 {
            break;
        }
    }
    assert!(open() <= 64, "{} strangers are there", open());
    assert!(scene.fleet.seen.notices().contains(&Notice::Connections));
    scene.serves_everything().await;
}

#[tokio::test]
async fn connections_of_callers_beyond_the_limit_are_refused_until_one_of_them_leaves() {
    let scene = Scene::new().await;
    let asks = async |mut client: v1::store_client::StoreClient<_>| client.state(StateRequest {}).await;
    let mut greedy = Vec::new();
    // One place is the honest caller's.
    for _ in 0..63 {
        let client = scene.client(WIDE).await;
        within(asks(client.clone())).await.unwrap();
        greedy.push(client);
    }
    let late = scene.client(WIDE).await;
    assert!(within(asks(late)).await.is_err(), "there is no place for one more");
    assert!(scene.fleet.seen.notices().contains(&Notice::Connections));
    scene.serves_everything().await;
    within(asks(greedy[0].clone())).await.unwrap();
    greedy.truncate(10);
    let let_in = async {
        while asks(scene.client(WIDE).await).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within(let_in).await;
    scene.serves_everything().await;
}

#[tokio::test]
async fn a_connection_that_answers_no_ping_is_closed() {
    let scene = Scene::new().await;
    let mut silent = FrameCaller::connect(&scene.fleet, scene.address).await;
    silent.begin("Put").await;
    assert!(within(silent.ping()).await);
    skip(21).await;
    // It is asked whether it is still there, and says nothing.
    while !matches!(within(silent.hear()).await.unwrap(), Heard::Ping(_)) {}
    scene.serves_everything().await;
    skip(21).await;
    while within(silent.hear()).await.is_some() {}
    scene.serves_everything().await;
}

#[tokio::test]
async fn a_call_that_never_ends_does_not_keep_a_pod_from_stopping() {
    let (fleet, dir) = (Fleet::new(), TempDir::new().unwrap());
    let store: Arc<dyn Site> = Arc::new(support::open_with(dir.path(), support::quick()).unwrap());
    let options = fleet.options(&fleet.certificate(store.description()), pods::RECEIPTS);
    let description = store.description().clone();
    let listener = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(store, options, listener, async {
        let _ = stopped.await;
    }));
    let honest = fleet.open(description, address).await;
    honest.put(vec![record(1, 1000)]).await.unwrap();
    let mut greedy = FrameCaller::connect(&fleet, address).await;
    let stream = greedy.begin("Put").await;
    greedy.say(stream, &PutRequest { header: Some(header(1, 1000)), parts: Vec::new() }, false).await;
    assert!(within(greedy.ping()).await);
    drop(stop);
    assert!(within(greedy.hear_until(|heard| heard == Heard::GoAway)).await, "it is told to leave");
    assert!(!server.is_finished(), "and has its time for it");
    skip(31).await;
    assert!(matches!(within(server).await.unwrap(), Err(DaemonError::CutOff)));
}

#[tokio::test]
async fn what_is_exactly_at_a_limit_is_served_and_one_more_is_refused() {
    // On the disk of this machine: 64 MiB are too much to keep a journal of.
    let scene = Scene::on(support::inline(), |store| Arc::new(store)).await;
    let mut client = scene.client(WIDE).await;
    let records: Vec<Record> = (0..4096).map(|n| record(10_000 + n, 3)).collect();
    scene.asks(async |pod| pod.put(records.clone()).await).await;
    let largest: Vec<Record> = (0..4).map(|n| record(20_000 + n, 16 << 20)).collect();
    scene.asks(async |pod| pod.put(largest.clone()).await).await;
    assert!(scene.asks(async |pod| pod.get(id(20_003)).await).await == largest[3]);
    let many = |limit| v1::ListRequest { kind: 1, after: vec![].into(), limit };
    assert_eq!(client.list(many(4096)).await.unwrap().into_inner().records.len(), 4096);
    let slots = |limit| v1::ListSlotsRequest { after: vec![].into(), limit };
    assert_eq!(client.list_slots(slots(4096)).await.unwrap().into_inner().slots.len(), 1);
    let slot = |length| v1::WriteSlotRequest {
        slot: vec![3; 16].into(),
        generation: 1,
        body: vec![0; length].into(),
        fence: None,
    };
    client.write_slot(slot(64 << 10)).await.unwrap();
    let step = |from: &[u8], bytes_max| v1::ScrubStepRequest { from: from.to_vec().into(), bytes_max };
    client.scrub_step(step(&[], 64 * MIB)).await.unwrap();
    let ids: Vec<bytes::Bytes> =
        records.iter().map(|record| record.id().as_bytes().to_vec().into()).collect();
    let removed = client.delete(v1::DeleteRequest { ids, fence: None }).await.unwrap();
    assert_eq!(removed.into_inner().removed, 4096);

    let range = v1::GetRangeRequest { id: id(20_000).as_bytes().to_vec().into(), start: 0, end: u32::MAX };
    let fence = |scope: usize, epoch| Some(v1::Fence { scope: vec![1; scope].into(), epoch });
    let mut unnumbered = Request::new(StateRequest {});
    unnumbered.metadata_mut().insert("coffer-pod-incarnation", "later".parse().unwrap());
    let refused = [
        client.list(many(4097)).await.map(drop),
        client.list_slots(slots(4097)).await.map(drop),
        client.write_slot(slot((64 << 10) + 1)).await.map(drop),
        client.scrub_step(step(&[], 64 * MIB + 1)).await.map(drop),
        client.scrub_step(step(&[1], 1)).await.map(drop),
        client.get_range(range).await.map(drop),
        client.raise_epoch(v1::RaiseEpochRequest { fence: None }).await.map(drop),
        client.raise_epoch(v1::RaiseEpochRequest { fence: fence(16, 0) }).await.map(drop),
        client.raise_epoch(v1::RaiseEpochRequest { fence: fence(15, 1) }).await.map(drop),
        client.get_epoch(v1::GetEpochRequest { scope: vec![1; 17].into() }).await.map(drop),
        client.delete(v1::DeleteRequest { ids: Vec::new(), fence: fence(16, 0) }).await.map(drop),
        client.state(unnumbered).await.map(drop),
    ];
    for (n, refused) in refused.into_iter().enumerate() {
        let code = refused.unwrap_err().code();
        assert!(matches!(code, Code::InvalidArgument | Code::OutOfRange), "request {n}: {code:?}");
    }
    scene.serves_everything().await;
}
