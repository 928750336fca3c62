//! Calls whose answers are lost on the way: what is repeated has its effect
//! once. Real sockets, with a relay between client and service that swallows.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coffer_client::{Client, Credentials};
use coffer_model::{Degraded, Geometry, ObjectKey, ResidencyPolicy};
use coffer_proto::v1::{PutHeader, PutSmallRequest};
use coffer_server::OwnerLease;
use coffer_tests::{Deployment, TenantClient, bucket_name, object_key, pattern, policy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::Code;

const LONG: Duration = Duration::from_secs(60);

/// What becomes of what the service says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    Arrive,
    /// They go nowhere, and nobody is told.
    Swallowed,
}

/// A relay before a service.
struct Relay {
    address: SocketAddr,
    answers: Arc<watch::Sender<Answers>>,
    /// Connections that began before this number was told are cut.
    cut: Arc<watch::Sender<u64>>,
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    answers: Option<Arc<watch::Sender<Answers>>>,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read) = from.read(&mut bytes).await
        && read > 0
    {
        if answers.as_ref().is_some_and(|answers| *answers.borrow() == Answers::Swallowed) {
            continue;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

impl Relay {
    async fn before(endpoint: &str) -> Self {
        let service: SocketAddr = endpoint.strip_prefix("https://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answers, cut) = (Arc::new(watch::Sender::new(Answers::Arrive)), Arc::new(watch::Sender::new(0)));
        let (swallows, cuts) = (Arc::clone(&answers), Arc::clone(&cut));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (swallows, mut cuts) = (Arc::clone(&swallows), cuts.subscribe());
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(service).await else { return };
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::select! {
                        () = forward(from_client, to_server, None) => {}
                        () = forward(from_server, to_client, Some(swallows)) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, answers, cut }
    }

    fn swallow(&self) {
        self.answers.send_replace(Answers::Swallowed);
    }

    /// What there is breaks; what comes then gets through.
    fn mend(&self) {
        self.answers.send_replace(Answers::Arrive);
        self.cut.send_modify(|cut| *cut += 1);
    }
}

/// The tenant through the relay.
async fn through(relay: &Relay, deployment: &Deployment, tenant: &TenantClient) -> Client {
    let credentials = Credentials {
        ca_pem: tenant.credentials.ca_pem.clone(),
        certificate_pem: tenant.credentials.certificate_pem.clone(),
        key_pem: tenant.credentials.key_pem.clone(),
        endpoint: format!("https://{}", relay.address),
    };
    Client::connect(&credentials, deployment.options()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_whose_answer_was_lost_is_repeated_and_is_there_once() {
    let deployment = Deployment::six_sites().await;
    let (tenant, bucket) = (deployment.tenant("acme").await, bucket_name("things"));
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let relay = Relay::before(deployment.endpoint()).await;
    let client = through(&relay, &deployment, &tenant).await;
    for (n, size) in [3_000, 300_000].into_iter().enumerate() {
        let key = object_key(&format!("object-{n}"));
        relay.swallow();
        let (putting, name, into) = (client.clone(), key.clone(), bucket.clone());
        let put = tokio::spawn(async move {
            putting.put_bytes(&into, &name, &Default::default(), pattern(7, size)).await
        });
        let stands = async {
            loop {
                match tenant.client.stat(&bucket, &key).await {
                    Ok(found) => return found.object.version,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let first = tokio::time::timeout(LONG, stands).await.expect("the put arrives");
        assert!(!put.is_finished(), "and its caller does not know");
        relay.mend();
        let told = tokio::time::timeout(LONG, put).await.expect("a put hangs").unwrap().unwrap();
        assert_eq!(told.object.version, first);
        assert_eq!(tenant.get(&bucket, &format!("object-{n}")).await.unwrap(), pattern(7, size));
        assert_eq!(tenant.client.residency().await.unwrap().len(), n + 1, "a version of each, and no more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_says_that_it_repeats_is_written_where_something_else_stands() {
    let deployment = Deployment::six_sites().await;
    let (tenant, bucket) = (deployment.tenant("acme").await, bucket_name("things"));
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let mut wire = deployment.wire(&tenant.credentials).await;
    let (old, new) = (Bytes::from_static(b"old"), Bytes::from_static(b"new"));
    let header = |repeats: &[u8], metadata: &[(&str, &str)]| PutHeader {
        bucket: bucket.to_string(),
        key: Bytes::from_static(b"object"),
        metadata: metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        repeats_blake3: Bytes::copy_from_slice(repeats),
        ..PutHeader::default()
    };
    let digest = |data: &Bytes| *blake3::hash(data).as_bytes();
    let puts = [
        // A repetition whose first attempt never arrived.
        (header(&digest(&old), &[]), old.clone(), 1),
        // One that did.
        (header(&digest(&old), &[]), old.clone(), 1),
        // The same content is another object to who says something else of it.
        (header(&digest(&old), &[("of", "monday")]), old.clone(), 2),
        (header(&digest(&new), &[]), new.clone(), 3),
        // Meanwhile somebody wrote something newer: an older attempt is not taken for it.
        (header(&digest(&old), &[]), old.clone(), 4),
        // Who repeats nothing writes.
        (header(&[], &[]), old.clone(), 5),
    ];
    for (n, (header, data, versions)) in puts.into_iter().enumerate() {
        wire.objects.put_small(PutSmallRequest { header: Some(header), data }).await.unwrap();
        assert_eq!(tenant.client.residency().await.unwrap().len(), versions, "put {n}");
    }
    for bad in [&[1; 31][..], &[1; 33]] {
        let request = PutSmallRequest { header: Some(header(bad, &[])), data: old.clone() };
        assert_eq!(wire.objects.put_small(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    // What is deleted does not stand any more.
    tenant.client.delete(&bucket, &ObjectKey::new(b"object").unwrap()).await.unwrap();
    let request = PutSmallRequest { header: Some(header(&digest(&old), &[])), data: old.clone() };
    wire.objects.put_small(request).await.unwrap();
    assert_eq!(tenant.get(&bucket, "object").await.unwrap(), old);
}

/// A lease that nobody else ever gets.
struct Always(u64);

impl OwnerLease for Always {
    fn held(&self) -> Option<u64> {
        Some(self.0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_among_several_acknowledges_two_copies_to_nobody_who_repeats_his_put_either() {
    let mut deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await;
    let (geometry, degraded) = (Geometry::new(1, 2).unwrap(), Degraded::Accept);
    let three = ResidencyPolicy { geometry, degraded, ..policy(&["DE", "FR", "NL"]) };
    let bucket = bucket_name("three");
    tenant.client.create_bucket(&bucket, Some(&three)).await.unwrap();
    let data = Bytes::from_static(b"said twice");
    let put = |repeats: bool| {
        let digest = if repeats { blake3::hash(&data).as_bytes().to_vec() } else { Vec::new() };
        let (bucket, key, repeats_blake3) =
            (bucket.to_string(), Bytes::from_static(b"object"), digest.into());
        let header = PutHeader { bucket, key, repeats_blake3, ..PutHeader::default() };
        PutSmallRequest { header: Some(header), data: data.clone() }
    };
    let (home, away) = (deployment.site_dir("ams1"), deployment.scratch().join("away"));
    deployment.stop().await;
    std::fs::rename(&home, &away).unwrap();
    deployment.start().await;
    // Without replicas that is what the bucket's policy accepts.
    let mut wire = deployment.wire(&tenant.credentials).await;
    for repeats in [false, true] {
        let stored = wire.objects.put_small(put(repeats)).await.unwrap().into_inner();
        assert_eq!(stored.reduced_by, 1, "{stored:?}");
    }
    drop(wire);
    deployment.stop().await;
    deployment.set_owner(Arc::new(Always(1)));
    deployment.start().await;
    let mut wire = deployment.wire(&tenant.credentials).await;
    for repeats in [false, true] {
        let refused = wire.objects.put_small(put(repeats)).await;
        assert!(refused.is_err(), "repeats: {repeats}: {refused:?}");
    }
    drop(wire);
    deployment.stop().await;
    std::fs::rename(&away, &home).unwrap();
    deployment.start().await;
    let mut wire = deployment.wire(&tenant.credentials).await;
    let stored = wire.objects.put_small(put(true)).await.unwrap().into_inner();
    assert_eq!(stored.reduced_by, 0, "{stored:?}");
}
