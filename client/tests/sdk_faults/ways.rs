//! A client that finds its service wherever it is: addresses that are dead,
//! that stall, that are somebody else's, that are not the owner's, and names
//! whose addresses change.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use coffer_client::{CallError, Client, ConnectError, ConnectOptions, Names};
use coffer_model::{BucketName, Digest, ObjectKey};
use tokio::net::TcpListener;

use super::double::{Authority, Double, Fault, options};

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// An address where nobody is.
async fn nobody() -> SocketAddr {
    TcpListener::bind(anywhere()).await.unwrap().local_addr().unwrap()
}

async fn put(client: &Client) -> Result<(), CallError> {
    let (bucket, key) = (BucketName::new("documents").unwrap(), ObjectKey::new(b"a").unwrap());
    client.put_bytes(&bucket, &key, &BTreeMap::new(), Bytes::from_static(b"body")).await.map(drop)
}

async fn note(client: &Client) -> Result<u64, CallError> {
    client.note_digest("manifest", &Digest([1; 32])).await
}

fn puts(double: &Double) -> u64 {
    double.state.whole_puts.load(Ordering::SeqCst)
}

/// A table of names that the test changes.
#[derive(Default)]
struct Table(Mutex<BTreeMap<String, Vec<SocketAddr>>>);

impl Table {
    fn set(&self, name: &str, sockets: Vec<SocketAddr>) {
        self.0.lock().unwrap().insert(name.to_owned(), sockets);
    }
}

#[async_trait]
impl Names for Table {
    async fn find(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        let found = self.0.lock().unwrap().get(host).cloned();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_addresses_those_where_nobody_is_are_passed_over_and_one_is_enough() {
    let authority = Authority::new();
    let double = Double::of(&authority, Fault::None, anywhere()).await;
    // One takes connections and says nothing: as a process that is stopped.
    let stalls = TcpListener::bind(anywhere()).await.unwrap();
    let list = format!(
        "https://{},https://{} https://no.such.name.invalid:1 {}",
        nobody().await,
        stalls.local_addr().unwrap(),
        double.endpoint
    );
    let client = Client::connect(&authority.credentials(&list), options()).await.unwrap();
    put(&client).await.unwrap();
    assert_eq!(puts(&double), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_anywhere_each_address_is_told_with_its_reason() {
    let authority = Authority::new();
    let stranger = Double::start(Fault::None).await;
    let dead = nobody().await;
    let list = format!("https://{dead},{}", stranger.endpoint);
    let refused = Client::connect(&authority.credentials(&list), options()).await.map(drop);
    let Err(error @ ConnectError::Unreachable { .. }) = refused else { panic!("{refused:?}") };
    let text = error.to_string();
    assert!(text.contains(&format!("https://{dead}: ")) && text.contains("refused"), "{text}");
    assert!(text.contains(&format!("{}: who answers there", stranger.endpoint)), "{text}");
    for bad in ["", "https://a", "http://127.0.0.1:1", "https://127.0.0.1:1,x"] {
        let refused = Client::connect(&authority.credentials(bad), options()).await.map(drop);
        assert!(matches!(refused, Err(ConnectError::Endpoint(_))), "{bad:?}: {refused:?}");
    }
}

static STRANGERS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn tell(what: &str) {
    assert!(STRANGERS.lock().unwrap().insert(what.to_owned()), "told twice: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_moves_is_followed_and_who_takes_its_old_place_is_named_and_asked_nothing() {
    let authority = Authority::new();
    let first = Double::of(&authority, Fault::None, anywhere()).await;
    let (old, new) = (first.address(), nobody().await);
    let list = format!("https://{old},https://{new}");
    let options = ConnectOptions { on_stranger: Some(tell), ..options() };
    let client = Client::connect(&authority.credentials(&list), options).await.unwrap();
    put(&client).await.unwrap();
    assert_eq!(puts(&first), 1);
    first.stop().await;
    // Another deployment's, with a key of its own.
    let stranger = Double::of(&Authority::new(), Fault::None, old).await;
    let second = Double::of(&authority, Fault::None, new).await;
    for n in 1..4 {
        put(&client).await.unwrap();
        assert_eq!((puts(&second), puts(&stranger)), (n, 0));
    }
    second.stop().await;
    let third = Double::of(&authority, Fault::None, new).await;
    put(&client).await.unwrap();
    assert_eq!((puts(&third), puts(&stranger)), (1, 0));
    let told = STRANGERS.lock().unwrap();
    assert!(told.len() == 1 && told.iter().all(|text| text.contains(&old.to_string())), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up_again_whenever_the_service_is_looked_for() {
    let authority = Authority::new();
    let names = Arc::new(Table::default());
    let first = Double::of(&authority, Fault::None, anywhere()).await;
    let dead = nobody().await;
    names.set("coffer.example", vec![dead, first.address()]);
    let options = ConnectOptions { names: Arc::clone(&names) as Arc<dyn Names>, ..options() };
    let at = authority.credentials("https://coffer.example:7420");
    let client = Client::connect(&at, options).await.unwrap();
    put(&client).await.unwrap();
    let second = Double::of(&authority, Fault::None, anywhere()).await;
    names.set("coffer.example", vec![second.address()]);
    first.stop().await;
    put(&client).await.unwrap();
    assert_eq!(puts(&second), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_must_not_happen_twice_waits_for_a_service_that_is_away_and_happens_once() {
    const CALLS: u64 = 32;
    let authority = Authority::new();
    let mut service = Double::of(&authority, Fault::None, anywhere()).await;
    let at = service.address();
    let client = Client::connect(&authority.credentials(&service.endpoint), options()).await.unwrap();
    assert_eq!(note(&client).await, Ok(0));
    // Some are handed to the connection in the moment in which it ends.
    for round in 0..10 {
        service.stop().await;
        let calls = (0..CALLS).map(|turns| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                note(&client).await
            })
        });
        let calls: Vec<_> = calls.collect();
        service = Double::of(&authority, Fault::None, at).await;
        let mut noted = BTreeSet::new();
        for call in calls {
            noted.insert(call.await.unwrap().unwrap_or_else(|error| panic!("round {round}: {error}")));
        }
        assert_eq!(noted, (0..CALLS).collect(), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_the_owner_is_left_for_the_owner_whatever_the_call_and_a_circle_ends() {
    let authority = Authority::new();
    let owner = Double::of(&authority, Fault::None, anywhere()).await;
    let replica = Double::of(&authority, Fault::NotOwner, anywhere()).await;
    *replica.state.owner.lock().unwrap() = owner.endpoint.clone();
    let only = authority.credentials(&replica.endpoint);
    let client = Client::connect(&only, options()).await.unwrap();
    assert_eq!(note(&client).await, Ok(0));
    put(&client).await.unwrap();
    assert_eq!((puts(&owner), owner.state.repeated.load(Ordering::SeqCst)), (1, 0));
    assert_eq!(replica.state.puts.load(Ordering::SeqCst), 0, "it is not asked again");
    // A stream of which little has gone follows, too.
    let (bucket, key) = (BucketName::new("documents").unwrap(), ObjectKey::new(b"b").unwrap());
    let fresh = Client::connect(&only, options()).await.unwrap();
    let source = futures::stream::iter([Ok(Bytes::from_static(b"half")), Ok(Bytes::from_static(b"half"))]);
    let written = fresh.put(&bucket, &key, BTreeMap::new(), source).await.unwrap();
    assert_eq!((written.object.size, puts(&owner)), (8, 2));

    // Two that send to each other, and one that knows nothing.
    let other = Double::of(&authority, Fault::NotOwner, anywhere()).await;
    *other.state.owner.lock().unwrap() = replica.endpoint.clone();
    for says in [other.endpoint.as_str(), "unknown", "https://nonsense"] {
        *replica.state.owner.lock().unwrap() = says.to_owned();
        let client = Client::connect(&only, options()).await.unwrap();
        assert!(matches!(note(&client).await, Err(CallError::Unavailable(_))), "{says}");
    }
}
