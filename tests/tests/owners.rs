//! Replicas that own a deployment one after the other, and pods that move:
//! real sockets, pods in processes of their own, leases and endpoints in files
//! that the story rewrites as a fleet would.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "steps of stories: what fails here fails the test"
)]
#![expect(clippy::disallowed_methods, reason = "leases and endpoints are files that the story writes")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffer_client::{CallError, Client, ConnectOptions};
use coffer_custody::OsEntropy;
use coffer_model::{BucketName, Clock as _, Geometry, ResidencyPolicy};
use coffer_server::{
    EndpointsFile, Host, HostSites, OpenError, OwnerLease, RecoverError, RecoveryKit, SiteAuthority,
    TakeUpError, serve_metrics, write_site_files,
};
use coffer_tests::{Deployment, Firewall, Pod, TenantClient, bucket_name, host, object_key, pattern, policy};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer-test-site");
const COUNTRIES: [&str; 6] = ["DE", "FR", "NL", "CH", "SE", "ES"];
const LONG: Duration = Duration::from_secs(60);

/// A lease that the story hands out, and where it says that its holder is.
struct Told(Mutex<Option<u64>>, Mutex<Option<String>>);

impl Told {
    fn of(epoch: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(epoch)), Mutex::new(None)))
    }

    fn grant(&self, epoch: Option<u64>) {
        *self.0.lock().unwrap() = epoch;
    }

    fn says(&self, owner: &str) {
        *self.1.lock().unwrap() = Some(owner.to_owned());
    }
}

impl OwnerLease for Told {
    fn held(&self) -> Option<u64> {
        *self.0.lock().unwrap()
    }

    fn elsewhere(&self) -> Option<String> {
        self.1.lock().unwrap().clone()
    }
}

/// Six pods, and the file that says where they are.
struct Pods {
    pods: Vec<Pod>,
    endpoints: PathBuf,
    site_file: String,
}

fn loopback(n: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, u8::try_from(n + 2).unwrap()], 0))
}

impl Pods {
    /// Starts them; the service's credentials lie below `dir`.
    fn start(dir: &Path) -> Self {
        let authority = SiteAuthority::open_or_create(&dir.join("authority")).unwrap();
        let shown = dir.join("data/credentials/pods");
        write_site_files(&shown, &authority.caller().unwrap().files).unwrap();
        let start = |n: usize| {
            let (files, store) = (dir.join(format!("pod{n}")), dir.join(format!("store{n}")));
            Pod::start(Path::new(PROGRAM), &authority, COUNTRIES[n], &files, &store, loopback(n))
        };
        let pods: Vec<Pod> = (0..6).map(start).collect();
        let entry = |(n, pod): (usize, &Pod)| {
            let (country, id, address) = (COUNTRIES[n], pod.site, pod.address);
            format!(
                "[[site]]\nname = \"s{n}\"\ncountry = \"{country}\"\ndomain = \"d{n}\"\ntier = \"III\"\nid = \"{id}\"\npod = \"https://{address}\"\n"
            )
        };
        let site_file = pods.iter().enumerate().map(entry).collect();
        let started = Self { pods, endpoints: dir.join("endpoints.json"), site_file };
        started.tell();
        started
    }

    /// Rewrites the file of endpoints.
    fn tell(&self) {
        let line =
            |pod: &Pod| format!("{{\"site\":\"{}\",\"endpoint\":\"https://{}\"}}", pod.site, pod.address);
        let lines: Vec<String> = self.pods.iter().map(line).collect();
        let new = self.endpoints.with_extension("new");
        std::fs::write(&new, format!("{{\"format\":1,\"sites\":[{}]}}", lines.join(","))).unwrap();
        std::fs::rename(&new, &self.endpoints).unwrap();
    }

    /// A host that finds the pods by that file, and owns under this lease.
    fn host(&self, lease: Option<&Arc<Told>>) -> Host {
        let file = Arc::new(EndpointsFile::open(&self.endpoints).unwrap());
        let sites = Arc::new(HostSites::new(Arc::new(OsEntropy)).finding(file));
        let owner = lease.map(|lease| Arc::clone(lease) as Arc<dyn OwnerLease>);
        Host { sites, owner, ..host() }
    }
}

async fn until_alive(deployment: &Deployment, name: &str, alive: bool) {
    let seen = async {
        while deployment.site(name).await.alive != alive {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, seen).await.expect("the state of a site becomes clear");
}

struct Things {
    tenant: TenantClient,
    bucket: BucketName,
}

impl Things {
    async fn of(deployment: &Deployment) -> Self {
        let (tenant, bucket) = (deployment.tenant("acme").await, bucket_name("things"));
        tenant.client.create_bucket(&bucket, None).await.unwrap();
        Self { tenant, bucket }
    }

    /// The same tenant at another replica, or anew at this one.
    async fn at(&self, deployment: &Deployment) -> Self {
        self.with(deployment, deployment.options()).await
    }

    /// The same as somebody who does not ask again for half a minute: for
    /// calls that are to be refused. Others may take that long on a busy machine.
    async fn hurried(&self, deployment: &Deployment) -> Self {
        let mut options = deployment.options();
        options.patience.deadline = Duration::from_secs(2);
        self.with(deployment, options).await
    }

    async fn with(&self, deployment: &Deployment, options: ConnectOptions) -> Self {
        let credentials = coffer_client::Credentials {
            ca_pem: self.tenant.credentials.ca_pem.clone(),
            certificate_pem: self.tenant.credentials.certificate_pem.clone(),
            key_pem: self.tenant.credentials.key_pem.clone(),
            endpoint: deployment.endpoint().to_owned(),
        };
        let client = Client::connect(&credentials, options).await.unwrap();
        let (tenant, log_origin) = (self.tenant.tenant, self.tenant.log_origin.clone());
        let tenant = TenantClient { tenant, client, credentials, log_origin, log_key: self.tenant.log_key };
        Self { tenant, bucket: self.bucket.clone() }
    }

    async fn put(&self, n: u64) -> Result<(), CallError> {
        let size = size_of(n);
        let (key, body, none) = (object_key(&format!("object-{n}")), pattern(n, size), Default::default());
        let put = self.tenant.client.put_bytes(&self.bucket, &key, &none, body);
        tokio::time::timeout(LONG, put).await.expect("a put hangs").map(drop)
    }

    async fn has(&self, n: u64) -> bool {
        let size = size_of(n);
        let key = format!("object-{n}");
        let get = self.tenant.get(&self.bucket, &key);
        let read = tokio::time::timeout(LONG, get).await.expect("a get hangs");
        read.is_ok_and(|body| body == pattern(n, size))
    }
}

/// Starts it again. Pods that are there may miss an epoch on a busy machine;
/// then the start is refused, and made again.
async fn start(deployment: &mut Deployment) {
    let started = async {
        while let Err(refused) = deployment.try_start().await {
            let missed = matches!(refused, OpenError::TakeUp(TakeUpError::TooFewSites { .. }));
            assert!(missed, "{refused:?}");
        }
    };
    tokio::time::timeout(LONG, started).await.expect("it starts");
}

/// A replica on a host of its own, made in the same way.
async fn replica(deployment: &Deployment, host: Host, kit: &RecoveryKit) -> Deployment {
    let made = async {
        loop {
            match deployment.replica(host.clone(), kit).await {
                Ok(replica) => return replica,
                Err(RecoverError::Open(OpenError::TakeUp(TakeUpError::TooFewSites { .. }))) => {}
                Err(refused) => unreachable!("{refused:?}"),
            }
        }
    };
    tokio::time::timeout(LONG, made).await.expect("a replica is made")
}

/// A start is refused because too few sites took the epoch: all but as many as
/// are `away`. On a busy machine others may miss it as well, at first.
async fn misses(deployment: &mut Deployment, away: usize, most: usize) {
    let refused = async {
        loop {
            let few = deployment.try_start().await;
            let Err(OpenError::TakeUp(TakeUpError::TooFewSites { missed, losable })) = &few else {
                unreachable!("{few:?}")
            };
            assert!(missed.len() >= away, "{few:?}");
            if missed.len() == away {
                assert_eq!(*losable, most, "{few:?}");
                return;
            }
        }
    };
    tokio::time::timeout(LONG, refused).await.expect("exactly these miss it");
}

/// Every other object is striped.
fn size_of(n: u64) -> usize {
    if n.is_multiple_of(2) { 300_000 } else { 3_000 }
}

/// How the calls of one method ended, by the service's own figures.
async fn outcomes(deployment: &Deployment, method: &str) -> BTreeMap<String, u64> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let figures = tokio::spawn(serve_metrics(Arc::clone(deployment.service()), listener));
    let request = b"GET /metrics HTTP/1.1\r\nhost: coffer\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    figures.abort();
    let begins = format!("coffer_calls_total{{method=\"{method}\",code=\"");
    let lines = text.lines().filter_map(|line| line.strip_prefix(&begins)?.split_once("\"} "));
    lines.map(|(code, count)| (code.to_owned(), count.parse().unwrap())).collect()
}

fn is_not_owner(refused: Result<(), CallError>) -> bool {
    match refused {
        Err(CallError::Unavailable(text)) => text.contains("owner") || text.contains("lease"),
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_killed_and_started_elsewhere_is_found_and_nothing_is_lost() {
    let dir = TempDir::new().unwrap();
    let mut pods = Pods::start(dir.path());
    let host = pods.host(None);
    let mut deployment = Deployment::with_credentials_on(dir, host, &pods.site_file).await;
    let mut things = Things::of(&deployment).await;
    for n in 0..6 {
        things.put(n).await.unwrap();
    }
    let topology = std::fs::read(deployment.data().join("topology.json")).unwrap();
    let before = pods.pods[0].address;
    pods.pods[0].kill();
    until_alive(&deployment, "s0", false).await;
    // Another port on another address; nothing but the file says so.
    pods.pods[0].restart_at(loopback(40), None);
    assert_ne!(pods.pods[0].address, before);
    pods.tell();
    until_alive(&deployment, "s0", true).await;
    let records = deployment.site("s0").await.records;
    for n in 6..12 {
        things.put(n).await.unwrap();
    }
    assert!(deployment.site("s0").await.records > records, "it takes shards where it is now");
    // Two others away: what is read comes from the pod that moved, too.
    pods.pods[1].kill();
    pods.pods[2].kill();
    for n in 0..12 {
        assert!(things.has(n).await, "{n}");
    }
    assert_eq!(std::fs::read(deployment.data().join("topology.json")).unwrap(), topology);
    let site = deployment.site("s0").await;
    assert!(!site.quarantined && (site.damaged, site.reported) == (0, 0), "{site:?}");
    // A restart finds it by the same file.
    pods.pods[1].restart();
    pods.pods[2].restart();
    deployment.stop().await;
    deployment.start().await;
    deployment.reconnect(&mut things.tenant).await;
    until_alive(&deployment, "s0", true).await;
    assert!(things.has(11).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_woke_up_late_is_refused_by_the_sites_and_says_so() {
    let dir = TempDir::new().unwrap();
    let pods = Pods::start(dir.path());
    let first = Told::of(1);
    let mut late = Deployment::with_credentials_on(dir, pods.host(Some(&first)), &pods.site_file).await;
    let mut at_late = Things::of(&late).await;
    for n in 0..4 {
        at_late.put(n).await.unwrap();
    }
    let kit = late.service().kit().await.unwrap();
    // Nobody could tell the first that it lost its lease.
    let second = Told::of(2);
    let mut owner = replica(&late, pods.host(Some(&second)), &kit).await;
    let mut at_owner = at_late.at(&owner).await;
    for n in 0..4 {
        assert!(at_owner.has(n).await, "{n}");
    }
    for n in 4..8 {
        at_owner.put(n).await.unwrap();
    }
    let held = late.site("s0").await.records;
    let hurried = at_late.hurried(&late).await;
    let refused = hurried.put(100).await;
    assert!(refused.is_err(), "nothing is acknowledged by who is no owner");
    assert!(is_not_owner(hurried.put(101).await), "and then it knows");
    assert!(!hurried.has(0).await, "it does not answer from a catalogue that others have outrun");
    assert_eq!(owner.site("s0").await.records, held, "nothing of it lies at the site");
    // Counted as they were told: of the first one nobody could say what became of it.
    for (method, told) in [("PutObject", "Unknown"), ("PutSmall", "Unavailable")] {
        let ended = outcomes(&late, &format!("coffer.v1.Objects/{method}")).await;
        let codes: Vec<&str> = ended.keys().map(String::as_str).collect();
        assert_eq!((codes, ended["Ok"]), (vec!["Ok", told], 2), "{method}: {ended:?}");
    }
    at_owner.put(8).await.unwrap();

    // It comes back as the owner: what it knew is put aside, and made anew.
    // Stopping, it cannot make its log durable any more: that is the owner's.
    drop(late.stop_whatever().await);
    first.grant(Some(3));
    start(&mut late).await;
    late.reconnect(&mut at_late.tenant).await;
    for n in 0..=8 {
        assert!(at_late.has(n).await, "{n}");
    }
    assert!(!at_late.has(100).await && !at_late.has(101).await);
    let aside = std::fs::read_dir(late.data().join("service")).unwrap();
    let aside =
        aside.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().contains("before-2"));
    assert_eq!(aside.count(), 1);
    at_late.put(9).await.unwrap();
    // And the other is none.
    let hurried = at_owner.hurried(&owner).await;
    assert!(hurried.put(200).await.is_err());
    assert!(is_not_owner(hurried.put(201).await));
    drop(owner.stop_whatever().await);
    second.grant(Some(2));
    let refused = owner.try_start().await;
    assert!(
        matches!(refused, Err(OpenError::TakeUp(TakeUpError::Superseded { known: 3, epoch: 2 }))),
        "{refused:?}"
    );
    at_owner = at_late.at(&late).await;
    assert!(at_owner.has(9).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_only_a_replica_without_its_lease_is_led_to_the_owner_and_nowhere_else() {
    let dir = TempDir::new().unwrap();
    let pods = Pods::start(dir.path());
    let (first, second) = (Told::of(1), Told::of(2));
    let mut late = Deployment::with_credentials_on(dir, pods.host(Some(&first)), &pods.site_file).await;
    let things = Things::of(&late).await;
    for n in 1..4 {
        things.put(n).await.unwrap();
    }
    let kit = late.service().kit().await.unwrap();
    let mut owner = replica(&late, pods.host(Some(&second)), &kit).await;
    first.grant(None);
    // It does not know where the owner is, or says what is no address, or where nobody is.
    for at in [None, Some("https://127.0.0.1:1"), Some("127.0.0.1:1"), Some("https://127.0.0.1:1/\r\nx: y")] {
        at.into_iter().for_each(|at| first.says(at));
        assert!(is_not_owner(things.hurried(&late).await.put(4).await), "{at:?}");
    }
    first.says(owner.endpoint());
    things.put(4).await.unwrap();
    things.put(5).await.unwrap();
    // A call that must not happen twice was refused before it began, and is made where it belongs.
    let things = things.at(&late).await;
    things.tenant.client.delete(&things.bucket, &object_key("object-1")).await.unwrap();
    assert!(!things.has(1).await && things.has(2).await && things.has(5).await);
    let versions = things.tenant.client.residency().await.unwrap();
    assert_eq!((versions.len(), versions.iter().filter(|one| one.hidden).count()), (5, 1));
    drop(late.stop_whatever().await);
    owner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_on_the_wrong_side_of_a_partition_gets_nothing_acknowledged_then_or_after_it_healed() {
    let dir = TempDir::new().unwrap();
    let pods = Pods::start(dir.path());
    // The first reaches the last four pods through firewalls.
    let mut walls = Vec::new();
    for pod in &pods.pods[2..] {
        walls.push(Firewall::before(pod.address).await);
    }
    let address = |n: usize| if n < 2 { pods.pods[n].address } else { walls[n - 2].address };
    let line = |(n, pod): (usize, &Pod)| {
        format!("{{\"site\":\"{}\",\"endpoint\":\"https://{}\"}}", pod.site, address(n))
    };
    let lines: Vec<String> = pods.pods.iter().enumerate().map(line).collect();
    let behind = dir.path().join("behind.json");
    std::fs::write(&behind, format!("{{\"format\":1,\"sites\":[{}]}}", lines.join(","))).unwrap();
    let (first, second) = (Told::of(1), Told::of(2));
    let file = Arc::new(EndpointsFile::open(&behind).unwrap());
    let host = Host {
        sites: Arc::new(HostSites::new(Arc::new(OsEntropy)).finding(file)),
        ..pods.host(Some(&first))
    };
    let mut cut_off = Deployment::with_credentials_on(dir, host, &pods.site_file).await;
    let at_cut_off = Things::of(&cut_off).await;
    at_cut_off.put(1).await.unwrap();
    let kit = cut_off.service().kit().await.unwrap();

    walls.iter().for_each(Firewall::cut);
    // The two that both sides reach learn of the new owner as the others do.
    let mut owner = replica(&cut_off, pods.host(Some(&second)), &kit).await;
    let at_owner = at_cut_off.at(&owner).await;
    assert!(at_owner.has(1).await);
    at_owner.put(2).await.unwrap();
    let hurried = at_cut_off.hurried(&cut_off).await;
    assert!(hurried.put(3).await.is_err());
    walls.iter().for_each(Firewall::mend);
    until_alive(&owner, "s5", true).await;
    assert!(hurried.put(4).await.is_err(), "a write of the old epoch after the partition healed");
    assert!(hurried.put(5).await.is_err());
    for n in [1, 2] {
        assert!(at_owner.has(n).await, "{n}");
    }
    for n in [3, 4, 5] {
        assert!(!at_owner.has(n).await, "{n}");
    }
    drop(cut_off.stop_whatever().await);
    owner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_a_lease_or_with_too_few_sites_takes_nothing_up() {
    let dir = TempDir::new().unwrap();
    let mut pods = Pods::start(dir.path());
    let first = Told::of(1);
    let mut deployment = Deployment::with_credentials_on(dir, pods.host(Some(&first)), &pods.site_file).await;
    let mut things = Things::of(&deployment).await;
    things.put(1).await.unwrap();

    // It lost its lease to nobody: it waits, and goes on.
    first.grant(None);
    let hurried = things.hurried(&deployment).await;
    assert!(is_not_owner(hurried.put(2).await));
    assert!(!hurried.has(1).await);
    first.grant(Some(1));
    things.put(2).await.unwrap();

    let kit = deployment.service().kit().await.unwrap();
    let without = deployment.replica(pods.host(None), &kit).await.map(drop);
    let needs = |error: &RecoverError| {
        matches!(error, RecoverError::Open(OpenError::TakeUp(TakeUpError::NeedsLease(1))))
    };
    assert!(without.as_ref().is_err_and(needs), "{without:?}");

    deployment.stop().await;
    pods.pods.iter_mut().take(3).for_each(Pod::kill);
    first.grant(Some(2));
    misses(&mut deployment, 3, 2).await;
    pods.pods[0].restart();
    start(&mut deployment).await;
    deployment.reconnect(&mut things.tenant).await;
    assert!(things.has(1).await && things.has(2).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_up_that_was_refused_vouches_for_no_catalogue_that_another_owner_outran() {
    let dir = TempDir::new().unwrap();
    let mut pods = Pods::start(dir.path());
    let (first, second) = (Told::of(5), Told::of(7));
    let mut early = Deployment::with_credentials_on(dir, pods.host(Some(&first)), &pods.site_file).await;
    let mut at_early = Things::of(&early).await;
    // Two pods may be away, and every write is whole.
    at_early.bucket = bucket_name("fours");
    let fours = ResidencyPolicy { geometry: Geometry::new(2, 2).unwrap(), ..policy(&[]) };
    at_early.tenant.client.create_bucket(&at_early.bucket, Some(&fours)).await.unwrap();
    at_early.put(1).await.unwrap();
    let kit = early.service().kit().await.unwrap();
    early.stop().await;

    // Two pods miss the second owner, and what it writes.
    pods.pods.iter_mut().skip(4).for_each(Pod::kill);
    let mut owner = replica(&early, pods.host(Some(&second)), &kit).await;
    let at_owner = at_early.at(&owner).await;
    for n in 2..4 {
        at_owner.put(n).await.unwrap();
    }
    drop(owner.stop_whatever().await);

    // These two are all that the first one reaches when it comes back.
    pods.pods.iter_mut().take(4).for_each(Pod::kill);
    pods.pods.iter_mut().skip(4).for_each(Pod::restart);
    pods.tell();
    first.grant(Some(8));
    for _ in 0..2 {
        let few = early.try_start().await;
        assert!(matches!(few, Err(OpenError::TakeUp(TakeUpError::TooFewSites { .. }))), "{few:?}");
    }
    pods.pods.iter_mut().take(4).for_each(Pod::restart);
    pods.tell();
    start(&mut early).await;
    early.reconnect(&mut at_early.tenant).await;
    for n in 1..4 {
        assert!(at_early.has(n).await, "{n} was acknowledged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_lease_nobody_renews_takes_no_shard_and_gives_what_it_has() {
    let dir = TempDir::new().unwrap();
    let mut pods = Pods::start(dir.path());
    let lease = dir.path().join("lease");
    let grant = |epoch: u64, lasts: Duration| {
        let until = coffer_custody::SystemClock.now().plus(lasts).0 / 1_000_000;
        let new = lease.with_extension("new");
        std::fs::write(&new, format!("{{\"version\":1,\"epoch\":{epoch},\"valid_until_unix_ms\":{until}}}"))
            .unwrap();
        std::fs::rename(&new, &lease).unwrap();
    };
    grant(1, LONG * 10);
    pods.pods[0].terminate();
    pods.pods[0].restart_at(loopback(41), Some(lease.clone()));
    pods.tell();
    let host = pods.host(None);
    let deployment = Deployment::with_credentials_on(dir, host, &pods.site_file).await;
    let accepting = ResidencyPolicy { degraded: coffer_model::Degraded::Accept, ..policy(&[]) };
    let tenant = deployment.tenant_with("acme", accepting).await;
    let things = Things { tenant, bucket: bucket_name("things") };
    things.tenant.client.create_bucket(&things.bucket, None).await.unwrap();
    for n in 0..4 {
        things.put(n).await.unwrap();
    }
    let read_only = async |wanted: bool| {
        let seen = async {
            while deployment.site("s0").await.read_only != wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, seen).await.expect("the lease is seen");
    };
    grant(1, Duration::ZERO);
    read_only(true).await;
    let records = deployment.site("s0").await.records;
    for n in 4..8 {
        things.put(n).await.unwrap();
    }
    assert_eq!(deployment.site("s0").await.records, records);
    pods.pods[1].kill();
    until_alive(&deployment, "s1", false).await;
    for n in 0..4 {
        assert!(things.has(n).await, "{n}");
    }
    grant(1, LONG * 10);
    read_only(false).await;
    things.put(8).await.unwrap();
    assert!(deployment.site("s0").await.records > records);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_up_that_a_bucket_refuses_leaves_no_note_and_is_repeated() {
    let dir = TempDir::new().unwrap();
    let mut pods = Pods::start(dir.path());
    let lease = Told::of(1);
    let mut deployment = Deployment::with_credentials_on(dir, pods.host(Some(&lease)), &pods.site_file).await;
    let mut things = Things::of(&deployment).await;
    let narrow = ResidencyPolicy { geometry: Geometry::new(2, 1).unwrap(), ..policy(&["DE", "FR", "NL"]) };
    things.tenant.client.create_bucket(&bucket_name("narrow"), Some(&narrow)).await.unwrap();
    things.put(1).await.unwrap();
    deployment.stop().await;
    let note = deployment.data().join("service/owner-epoch");
    // The epoch of the catalogues, and one to which sites are being raised.
    let noted = || std::fs::read_to_string(&note).unwrap().split(' ').next().unwrap().to_owned();
    assert_eq!(noted(), "1");
    // As many as the deployment may lose, and one more than the bucket may.
    pods.pods.iter_mut().skip(1).take(2).for_each(Pod::kill);
    lease.grant(Some(2));
    for _ in 0..2 {
        misses(&mut deployment, 2, 1).await;
        assert_eq!(noted(), "1", "what was refused is not believed by the next attempt");
    }
    pods.pods.iter_mut().skip(1).take(2).for_each(Pod::restart);
    pods.tell();
    start(&mut deployment).await;
    assert_eq!(noted(), "2");
    let kept = std::fs::read_dir(deployment.data().join("service")).unwrap();
    let mut names = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.any(|name| name.contains("before-")), "nobody else was owner: nothing is made anew");
    deployment.reconnect(&mut things.tenant).await;
    assert!(things.has(1).await);
}
