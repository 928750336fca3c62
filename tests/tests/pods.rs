//! Deployments whose sites are real: directories, pods in processes of their
//! own, buckets on an S3 server; mixed, killed, stopped, cut off, filled up.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "steps of stories: what fails here fails the test"
)]
#![expect(clippy::disallowed_methods, reason = "credentials are files that the story writes")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use coffer_client::profile::Profile;
use coffer_client::{CallError, Client, GetError};
use coffer_model::{BucketName, Degraded, ResidencyPolicy};
use coffer_server::{SiteAuthority, write_site_files};
use coffer_tests::{
    ACCESS_KEY, Deployment, Firewall, Launch, Namespace, Pod, S3Server, SECRET_KEY, TenantClient,
    bucket_name, object_key, pattern, policy,
};
use tempfile::TempDir;
use tokio::sync::Notify;

const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer-test-site");
const COUNTRIES: [&str; 6] = ["DE", "FR", "NL", "CH", "SE", "ES"];

/// Longer than any deadline of a call and its second attempts together: who
/// comes here hangs.
const HANG: Duration = Duration::from_secs(60);

/// An authority whose caller's credentials lie where the service looks.
fn authority(dir: &Path) -> SiteAuthority {
    let authority = SiteAuthority::open_or_create(&dir.join("authority")).unwrap();
    let shown = dir.join("data/credentials/pods");
    write_site_files(&shown, &authority.caller().unwrap().files).unwrap();
    authority
}

fn start_pod(dir: &Path, authority: &SiteAuthority, n: usize, store: Option<PathBuf>) -> Pod {
    let listen = SocketAddr::from(([127, 0, 0, u8::try_from(n + 2).unwrap()], 0));
    let files = dir.join(format!("pod{n}"));
    let store = store.unwrap_or_else(|| dir.join(format!("store{n}")));
    Pod::start(Path::new(PROGRAM), authority, COUNTRIES[n], &files, &store, listen)
}

fn entry(n: usize, home: &str) -> String {
    let country = COUNTRIES[n];
    format!("[[site]]\nname = \"s{n}\"\ncountry = \"{country}\"\ndomain = \"d{n}\"\ntier = \"III\"\n{home}\n")
}

fn pod_entry(n: usize, pod: &Pod, address: SocketAddr) -> String {
    entry(n, &format!("id = \"{}\"\npod = \"https://{address}\"", pod.site))
}

/// What was acknowledged, and must come back.
struct Kept {
    tenant: TenantClient,
    bucket: BucketName,
    objects: Vec<(String, Bytes)>,
    /// Puts so far: no name is used twice, so that nothing is overwritten.
    puts: u64,
}

impl Kept {
    async fn new(deployment: &Deployment) -> Self {
        let accepting = ResidencyPolicy { degraded: Degraded::Accept, ..policy(&[]) };
        let tenant = deployment.tenant_with("acme", accepting).await;
        let bucket = bucket_name("things");
        tenant.client.create_bucket(&bucket, None).await.unwrap();
        Self { tenant, bucket, objects: Vec::new(), puts: 0 }
    }

    /// Puts one object: what must come back, or the refusal. Nothing hangs.
    async fn put_as(&self, n: u64, size: usize) -> Result<(String, Bytes), CallError> {
        let (key, body) = (format!("object-{n}"), pattern(n, size));
        let (name, metadata) = (object_key(&key), Default::default());
        let put = self.tenant.client.put_bytes(&self.bucket, &name, &metadata, body.clone());
        tokio::time::timeout(HANG, put).await.expect("a put hangs").map(|_| (key, body))
    }

    /// Puts one object; whether it was acknowledged.
    async fn put(&mut self, size: usize) -> bool {
        self.puts += 1;
        let stored = self.put_as(self.puts, size).await;
        let acknowledged = stored.is_ok();
        self.objects.extend(stored);
        acknowledged
    }

    async fn put_some(&mut self) {
        for size in [100, 70_000, 300_000, 5_000] {
            assert!(self.put(size).await, "one site of six is within the budget");
        }
    }

    async fn all_there(&self, when: &str) {
        self.are_there(&self.objects, when).await;
    }

    async fn are_there(&self, objects: &[(String, Bytes)], when: &str) {
        for (key, body) in objects {
            let get = self.tenant.get(&self.bucket, key);
            let read = tokio::time::timeout(HANG, get).await.expect("a get hangs");
            let same = read.as_ref().is_ok_and(|read| read == body);
            assert!(same, "{key} {when}: {:?}", read.map(|read| read.len()));
        }
    }
}

/// What `coffer site ls` prints for the operator.
async fn listed(deployment: &Deployment) -> String {
    let program = Path::new(PROGRAM).with_file_name("coffer");
    assert!(program.exists(), "build the programs first: cargo build --workspace --bins");
    let profile = deployment.scratch().join("operator");
    Profile::at(&profile).save_operator(deployment.operator_credentials()).unwrap();
    let mut command = Command::new(program);
    command.args(["-q", "site", "ls", "--config-dir"]).arg(profile).env_clear();
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether the list says of a site that it is so, and nothing else.
fn says(listed: &str, n: usize, state: &str) -> bool {
    let line = listed.lines().find(|line| line.starts_with(&format!("s{n} ")));
    line.is_some_and(|line| line.contains(&format!(" {state}  ")))
}

/// Waits until the deployment sees a site alive, or down.
async fn until_seen(deployment: &Deployment, name: &str, alive: bool) {
    let seen = async {
        while deployment.site(name).await.alive != alive {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(HANG, seen).await.expect("the state of a site becomes clear");
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_pods_and_buckets_are_sites_of_one_deployment_and_rebuild_it() {
    let dir = TempDir::new().unwrap();
    let authority = authority(dir.path());
    let server = S3Server::over(&dir.path().join("s3"), &["shards"]).await;
    let mut pods =
        vec![start_pod(dir.path(), &authority, 2, None), start_pod(dir.path(), &authority, 3, None)];
    let mut file = entry(0, "") + &entry(1, "");
    for (n, pod) in (2..).zip(&pods) {
        file += &pod_entry(n, pod, pod.address);
    }
    for n in 4..6 {
        let credentials = dir.path().join(format!("data/credentials/s{n}"));
        std::fs::create_dir_all(&credentials).unwrap();
        std::fs::write(credentials.join("access-key-id"), ACCESS_KEY).unwrap();
        std::fs::write(credentials.join("secret-access-key"), format!("{SECRET_KEY}\n")).unwrap();
        let bucket = format!(
            "bucket = {{ endpoint = \"{}\", name = \"shards\", prefix = \"s{n}\", region = \"eu\" }}",
            server.endpoint()
        );
        file += &entry(n, &bucket);
    }
    let mut deployment = Deployment::with_credentials(dir, &file).await;
    let mut kept = Kept::new(&deployment).await;
    kept.put_some().await;
    assert!(kept.put(6 << 20).await);
    kept.all_there("when it was put").await;
    let (gone, _) = kept.objects.remove(1);
    kept.tenant.client.delete(&kept.bucket, &object_key(&gone)).await.unwrap();
    for n in 0..6 {
        let site = deployment.site(&format!("s{n}")).await;
        assert!(site.alive && site.records > 0, "s{n}: {site:?}");
    }

    let kit = deployment.service().kit().await.unwrap();
    let text = kit.to_json().unwrap();
    assert!(!text.contains(SECRET_KEY) && !text.contains("PRIVATE KEY"), "the kit is public");
    deployment.stop().await;
    deployment.lose_all_but_sites();
    pods[0].terminate();
    deployment.recover(&kit).await;
    deployment.reconnect(&mut kept.tenant).await;
    kept.all_there("after the catalogue was rebuilt without one pod").await;
    let read = kept.tenant.get(&kept.bucket, &gone).await;
    assert!(matches!(read, Err(GetError::Call(CallError::NotFound(_)))), "{read:?}");
    pods[0].restart();
    until_seen(&deployment, "s2", true).await;
    kept.put_some().await;
    kept.all_there("with the pod back").await;
}

/// A file system of this size; `None`, said aloud, where none can be mounted.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(at));
        }
        eprintln!("no tmpfs can be mounted here: the story goes on without a full disk");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the pod on it may be ending.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Size of the file system of the pod that fills up.
const SMALL_MIB: u32 = 24;

/// What cuts the third pod off.
enum Wall {
    /// A process before it that lets nothing through any more.
    Proxy(Firewall),
    /// The packet filter of its own network namespace.
    Filter(Vec<Namespace>),
}

impl Wall {
    fn cut(&self) {
        match self {
            Self::Proxy(firewall) => firewall.cut(),
            Self::Filter(namespaces) => namespaces[2].cut(),
        }
    }

    fn mend(&self) {
        match self {
            Self::Proxy(firewall) => firewall.mend(),
            Self::Filter(namespaces) => namespaces[2].mend(),
        }
    }
}

/// Six pods on six addresses, a wall before the third, the fourth on a small
/// disk.
struct Six {
    kept: Kept,
    // In this order they end: the pods, their networks, the disk of one, the
    // directory of all.
    pods: Vec<Pod>,
    wall: Wall,
    small: Option<SmallDisk>,
    deployment: Deployment,
}

impl Six {
    async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let authority = authority(dir.path());
        let small = SmallDisk::mount(dir.path().join("small"), SMALL_MIB);
        let start = |n| {
            let store = small.as_ref().filter(|_| n == 3).map(|disk| disk.0.join("store"));
            start_pod(dir.path(), &authority, n, store)
        };
        let pods: Vec<Pod> = (0..6).map(start).collect();
        let firewall = Firewall::before(pods[2].address).await;
        let address = |n: usize| if n == 2 { firewall.address } else { pods[n].address };
        let addresses: Vec<SocketAddr> = (0..6).map(address).collect();
        Self::over(dir, pods, &addresses, Wall::Proxy(firewall), small).await
    }

    /// The same with each pod in a network of its own.
    async fn start_in(namespaces: Vec<Namespace>) -> Self {
        let dir = TempDir::new().unwrap();
        let authority = authority(dir.path());
        let start = |(n, namespace): (usize, &Namespace)| {
            let launch = Launch {
                program: PROGRAM.into(),
                files: dir.path().join(format!("pod{n}")),
                store: dir.path().join(format!("store{n}")),
                launcher: namespace.launcher(),
                lease: None,
            };
            Pod::launch(launch, &authority, COUNTRIES[n], SocketAddr::from((namespace.address, 7441)))
        };
        let pods: Vec<Pod> = namespaces.iter().enumerate().map(start).collect();
        let addresses: Vec<SocketAddr> = pods.iter().map(|pod| pod.address).collect();
        Self::over(dir, pods, &addresses, Wall::Filter(namespaces), None).await
    }

    async fn over(
        dir: TempDir,
        pods: Vec<Pod>,
        addresses: &[SocketAddr],
        wall: Wall,
        small: Option<SmallDisk>,
    ) -> Self {
        let entry = |((n, pod), address): ((usize, &Pod), &SocketAddr)| pod_entry(n, pod, *address);
        let file: String = pods.iter().enumerate().zip(addresses).map(entry).collect();
        let deployment = Deployment::with_credentials(dir, &file).await;
        let kept = Kept::new(&deployment).await;
        Self { kept, pods, wall, small, deployment }
    }

    /// The site list says, all at the same time, that exactly these do not
    /// answer, accuses nobody who was always there, and quarantines nobody.
    async fn only_down(&self, down: &[usize]) {
        let mut other = String::new();
        let settled = async {
            while let Some(found) = self.other_than_down(down).await {
                other = found;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let settled = tokio::time::timeout(HANG, settled).await;
        assert!(settled.is_ok(), "not exactly {down:?} are down: {other}");
        for n in 0..6 {
            let site = self.deployment.site(&format!("s{n}")).await;
            assert!(!site.quarantined && site.standing == "active", "{site:?}");
            // A reader charges the others with what they missed while they were down.
            let missed_nothing = n > 3;
            assert!(!missed_nothing || (site.damaged, site.reported) == (0, 0), "{site:?}");
        }
    }

    /// What the service or the operator's list says other than that exactly
    /// these are down.
    async fn other_than_down(&self, down: &[usize]) -> Option<String> {
        for n in 0..6 {
            let site = self.deployment.site(&format!("s{n}")).await;
            if site.alive == down.contains(&n) {
                return Some(format!("{site:?}"));
            }
        }
        let listed = listed(&self.deployment).await;
        (0..6).find_map(|n| {
            let small = n == 3 && says(&listed, n, "alive, full");
            let state = if down.contains(&n) { "down" } else { "alive" };
            let right = small || says(&listed, n, state);
            (!right).then(|| format!("s{n} is not {state}:\n{listed}"))
        })
    }

    /// Puts and gets go on, and amid them this happens to one pod.
    async fn amid(&mut self, when: &str, down: usize, happen: impl FnOnce(&mut Vec<Pod>, &Wall)) {
        let before = self.kept.objects.clone();
        let (mut puts, begun) = (Vec::new(), Notify::new());
        let (kept, count) = (&self.kept, self.kept.puts);
        let putting = async {
            for (n, size) in (1..).zip([100, 6 << 20, 70_000, 3 << 20, 300_000, 5_000]) {
                puts.push(kept.put_as(count + n, size).await);
                begun.notify_one();
            }
        };
        let getting = async {
            begun.notified().await;
            happen(&mut self.pods, &self.wall);
            kept.are_there(&before, when).await;
        };
        tokio::join!(putting, getting);
        self.kept.puts += u64::try_from(puts.len()).unwrap();
        self.kept.objects.extend(puts.into_iter().map(|put| put.expect(when)));
        self.kept.all_there(when).await;
        self.only_down(&[down]).await;
    }

    /// The small disk takes what it can; the others take the rest.
    async fn fill_up(&mut self) {
        if self.small.is_none() {
            return;
        }
        for _ in 0..5 {
            assert!(self.kept.put(16 << 20).await, "a full site is within the budget");
        }
        self.kept.put_some().await;
        self.kept.all_there("with one pod full").await;
        self.only_down(&[]).await;
        let full = self.deployment.site("s3").await;
        // Less is left than one shard takes: the reserve for deletes is not room.
        assert!(full.free_bytes.is_some_and(|free| free < 1 << 20), "{full:?}");
        assert!(full.volume_bytes < u64::from(SMALL_MIB) << 20, "{full:?}");
        let listed = listed(&self.deployment).await;
        assert!(full.full && says(&listed, 3, "alive, full"), "{listed}");
        let other = self.deployment.site("s4").await;
        assert!(other.free_bytes.is_none_or(|free| free > 1 << 20), "{other:?}");
        assert!(other.volume_bytes > u64::from(SMALL_MIB) << 20, "the others took more: {other:?}");
    }
    /// Beyond the budget nothing is acknowledged, and who is told so is told
    /// by the service, not by the clock.
    async fn too_many_lost(&mut self) {
        let lost = [3, 4, 5];
        lost.into_iter().for_each(|n| self.pods[n].kill());
        self.only_down(&lost).await;
        let mut options = self.deployment.options();
        options.patience.deadline = Duration::from_secs(2);
        self.kept.tenant.client = Client::connect(&self.kept.tenant.credentials, options).await.unwrap();
        let refused = self.kept.put_as(0, 300_000).await.map(|(key, _)| key);
        assert!(matches!(refused, Err(CallError::Unavailable(_))), "{refused:?}");
        lost.into_iter().for_each(|n| self.pods[n].restart());
        self.only_down(&[]).await;
        self.deployment.reconnect(&mut self.kept.tenant).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn six_pods_one_killed_one_stopped_one_cut_off_one_full_lose_nothing_and_hold_nobody() {
    let mut six = Six::start().await;
    six.kept.put_some().await;
    six.only_down(&[]).await;

    six.amid("with one pod killed", 0, |pods, _| pods[0].kill()).await;
    six.pods[0].restart();
    six.only_down(&[]).await;
    six.amid("with one pod stopped", 1, |pods, _| pods[1].stop()).await;
    six.pods[1].go_on();
    six.only_down(&[]).await;
    six.amid("with one pod cut off", 2, |_, wall| wall.cut()).await;
    six.wall.mend();
    six.only_down(&[]).await;
    six.fill_up().await;

    // What was acknowledged with one pod missing bears one more loss.
    six.pods[4].kill();
    six.only_down(&[4]).await;
    six.kept.all_there("with one more pod lost").await;
    six.pods[4].restart();
    six.only_down(&[]).await;
    six.too_many_lost().await;
    six.kept.all_there("after all of it").await;
}

/// The same with the real thing: six networks, and a packet filter that drops
/// what goes to one of them and comes from it.
#[tokio::test(flavor = "multi_thread")]
async fn six_pods_in_networks_of_their_own_one_cut_off_by_a_packet_filter_lose_nothing_and_hold_nobody() {
    let Some(namespaces) = Namespace::make_all(6) else { return };
    let mut six = Six::start_in(namespaces).await;
    six.kept.put_some().await;
    six.only_down(&[]).await;
    six.amid("with one network cut off", 2, |_, wall| wall.cut()).await;
    six.pods[0].kill();
    six.only_down(&[0, 2]).await;
    six.kept.all_there("with one network cut off and one pod killed").await;
    six.wall.mend();
    six.pods[0].restart();
    six.only_down(&[]).await;
    six.amid("with one pod stopped in its network", 1, |pods, _| pods[1].stop()).await;
    six.pods[1].go_on();
    six.only_down(&[]).await;
    six.kept.all_there("after all of it").await;
}
