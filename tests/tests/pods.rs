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
use std::time::Duration;

use bytes::Bytes;
use coffer_client::GetError;
use coffer_model::{BucketName, Degraded, ResidencyPolicy};
use coffer_server::{SiteAuthority, write_site_files};
use coffer_tests::{
    ACCESS_KEY, Deployment, Pod, S3Server, SECRET_KEY, TenantClient, bucket_name, object_key, pattern, policy,
};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer-test-site");
const COUNTRIES: [&str; 6] = ["DE", "FR", "NL", "CH", "SE", "ES"];

/// Longer than any deadline of a call and its second attempts together: who
/// comes here hangs.
const HANG: Duration = Duration::from_secs(120);

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

    /// Puts one object; whether it was acknowledged. Nothing hangs.
    async fn put(&mut self, size: usize) -> bool {
        self.puts += 1;
        let (key, body) = (format!("object-{}", self.puts), pattern(self.puts, size));
        let (name, metadata) = (object_key(&key), Default::default());
        let put = self.tenant.client.put_bytes(&self.bucket, &name, &metadata, body.clone());
        let stored = tokio::time::timeout(HANG, put).await.expect("a put hangs").is_ok();
        if stored {
            self.objects.push((key, body));
        }
        stored
    }

    async fn put_some(&mut self) {
        for size in [100, 70_000, 300_000, 5_000] {
            assert!(self.put(size).await, "one site of six is within the budget");
        }
    }

    async fn all_there(&self, when: &str) {
        for (key, body) in &self.objects {
            let get = self.tenant.get(&self.bucket, key);
            let read = tokio::time::timeout(HANG, get).await.expect("a get hangs");
            let same = read.as_ref().is_ok_and(|read| read == body);
            assert!(same, "{key} {when}: {:?}", read.map(|read| read.len()));
        }
    }
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
    assert!(matches!(read, Err(GetError::Call(coffer_client::CallError::NotFound(_)))), "{read:?}");
    pods[0].restart();
    until_seen(&deployment, "s2", true).await;
    kept.put_some().await;
    kept.all_there("with the pod back").await;
}
