//! Hostile sites and callers of sites: whatever a pod refuses, and whatever a
//! pod is refused for, has its leaf in the log of the service.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "credentials are files that the story reads and writes")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use coffer_model::RecordId;
use coffer_proto::InvalidMessage;
use coffer_proto::site::v1::store_client::StoreClient;
use coffer_proto::site::v1::{self, PutHeader, PutRequest};
use coffer_proto::v1::ReadLeavesRequest;
use coffer_proto::v1::read_leaves_response::Part;
use coffer_server::{Host, SiteAuthority, write_site_files};
use coffer_site::{IdentityError, PodRefusal, Witness as _};
use coffer_tests::{AuditLeaf, Deployment, Pod, host};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer-test-site");
const COUNTRIES: [&str; 6] = ["DE", "FR", "NL", "CH", "SE", "ES"];

struct Estate {
    deployment: Deployment,
    pods: Vec<Pod>,
}

async fn estate() -> Estate {
    let dir = TempDir::new().unwrap();
    let authority = SiteAuthority::open_or_create(&dir.path().join("authority")).unwrap();
    let shown = dir.path().join("data/credentials/pods");
    write_site_files(&shown, &authority.caller().unwrap().files).unwrap();
    let start = |n: usize| {
        let listen = SocketAddr::from(([127, 0, 0, u8::try_from(n + 2).unwrap()], 0));
        let (files, store) = (dir.path().join(format!("pod{n}")), dir.path().join(format!("store{n}")));
        Pod::start(Path::new(PROGRAM), &authority, COUNTRIES[n], &files, &store, listen)
    };
    let pods: Vec<Pod> = (0..6).map(start).collect();
    let entry = |(n, pod): (usize, &Pod)| {
        let (country, id, address) = (COUNTRIES[n], pod.site, pod.address);
        format!(
            "[[site]]\nname = \"s{n}\"\ncountry = \"{country}\"\ndomain = \"d{n}\"\ntier = \"III\"\nid = \"{id}\"\npod = \"https://{address}\"\n"
        )
    };
    let file: String = pods.iter().enumerate().map(entry).collect();
    let deployment = Deployment::with_credentials_on(dir, host(), &file).await;
    Estate { deployment, pods }
}

/// A client of a pod that shows these files and says what it likes.
async fn raw(pod: &Pod, shown: &Path) -> StoreClient<Channel> {
    let read = |name: &str| std::fs::read_to_string(shown.join(name)).unwrap();
    let tls = ClientTlsConfig::new()
        .domain_name("site.coffer.internal")
        .ca_certificate(Certificate::from_pem(read("ca.pem")))
        .identity(Identity::from_pem(read("certificate.pem"), read("key.pem")));
    let endpoint = Endpoint::from_shared(format!("https://{}", pod.address)).unwrap();
    StoreClient::new(endpoint.tls_config(tls).unwrap().connect().await.unwrap())
        .max_encoding_message_size(8 << 20)
}

/// The service's own log, as its operator reads it.
async fn service_log(deployment: &Deployment) -> Vec<AuditLeaf> {
    let mut wire = deployment.wire(deployment.operator_credentials()).await;
    let request = ReadLeavesRequest { limit: 10_000, ..Default::default() };
    let mut parts = wire.audit.read_leaves(request).await.unwrap().into_inner();
    let mut leaves = Vec::new();
    while let Some(message) = parts.message().await.unwrap() {
        if let Some(Part::Run(run)) = message.part {
            leaves.extend(run.leaves.iter().map(|leaf| AuditLeaf::read(leaf)));
        }
    }
    leaves
}

/// The kinds of refusals at a site that the service's log tells of, each with
/// the sum of its counts.
fn told(leaves: &[AuditLeaf], site: &str, kind: &str) -> u64 {
    let of = |subject: &str| {
        let mut words = subject.split(' ');
        let same = words.next() == Some(site) && words.next() == Some(kind);
        same.then(|| words.next().and_then(|count| count.parse::<u64>().ok())).flatten()
    };
    let told = leaves.iter().filter(|leaf| leaf.operation == "sites" && leaf.outcome == "denied");
    told.filter_map(|leaf| of(&leaf.subject)).sum()
}

/// Waits until a site was seen to answer, or not to.
async fn until_alive(deployment: &Deployment, name: &str, alive: bool) {
    let seen = async {
        while deployment.site(name).await.alive != alive {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_request_that_a_pod_refuses_is_told_in_the_log_of_the_service() {
    let mut estate = estate().await;
    let shown = estate.deployment.data().join("credentials/pods");
    let pod = &estate.pods[0];
    let mut listed = raw(pod, &shown).await;
    let short = v1::GetRequest { id: vec![1; 15].into() };
    assert!(listed.get(short).await.is_err());
    let many = v1::ListRequest { kind: 1, after: vec![].into(), limit: 4097 };
    assert!(listed.list(many).await.is_err());
    // More than a message may have.
    let long = v1::WriteSlotRequest {
        slot: vec![1; 16].into(),
        generation: 1,
        body: vec![0; 3 << 20].into(),
        fence: None,
    };
    assert!(listed.write_slot(long).await.is_err());
    let header = PutHeader { nonce: vec![1; 32].into(), records: 5000, body_bytes: 1, fence: None };
    let put = PutRequest { header: Some(header), parts: Vec::new() };
    assert!(listed.put(tokio_stream::iter([put])).await.is_err());

    // The pod's own list no longer has the service.
    let kept = std::fs::read(estate.pods[1].files().join("callers")).unwrap();
    estate.pods[1].terminate();
    std::fs::write(estate.pods[1].files().join("callers"), format!("{}/nobody\n", "ab".repeat(32))).unwrap();
    estate.pods[1].restart();
    until_alive(&estate.deployment, "s1", false).await;
    std::fs::write(estate.pods[1].files().join("callers"), kept).unwrap();
    estate.pods[1].terminate();
    estate.pods[1].restart();
    until_alive(&estate.deployment, "s1", true).await;
    // The first is asked again, which passes on what it counted.
    estate.pods[0].stop();
    until_alive(&estate.deployment, "s0", false).await;
    estate.pods[0].go_on();
    until_alive(&estate.deployment, "s0", true).await;
    let sites: Vec<String> = estate.pods.iter().map(|pod| pod.site.to_string()).collect();
    // What the requests were refused for, and the service itself.
    let all_told = async {
        loop {
            let leaves = service_log(&estate.deployment).await;
            let there = told(&leaves, &sites[0], "request-refused-there");
            if there >= 4 && told(&leaves, &sites[1], "caller-refused") > 0 {
                return leaves;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let leaves = tokio::time::timeout(Duration::from_secs(60), all_told).await.unwrap();
    assert_eq!(told(&leaves, &sites[0], "request-refused-there"), 4);
    assert_eq!(told(&leaves, &sites[3], "request-refused-there"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_refusal_has_its_leaf_with_its_site_and_its_count() {
    let host = host();
    let refusals = host.sites.refusals().unwrap();
    let dir = TempDir::new().unwrap();
    let mut deployment =
        Deployment::with_credentials_on(dir, Host { ..host }, &coffer_tests::fast_sites()).await;
    let site = deployment.service().kit().await.unwrap().sites[0].site.id;
    let country = |code: &str| code.parse().unwrap();
    let kinds = [
        PodRefusal::Identity(IdentityError::Uri),
        PodRefusal::OtherSite(site),
        PodRefusal::OtherCountry { found: country("US"), promised: country("DE") },
        PodRefusal::EarlierIncarnation { found: 1, known: 2 },
        PodRefusal::Caller,
        PodRefusal::ReplayedReceipt,
        PodRefusal::ReceiptOfOtherSite(site),
        PodRefusal::WrongReceipt,
        PodRefusal::ForgedReceipt,
        PodRefusal::WrongRecord(RecordId::from_bytes([1; 16])),
        PodRefusal::Message(InvalidMessage::Missing("part")),
    ];
    for (times, refusal) in (1..).zip(&kinds) {
        (0..times).for_each(|_| refusals.refused(site, refusal));
    }
    refusals.refused_there(site, "request-refused-there", 40);
    // Stopping passes on what waits.
    deployment.stop().await;
    let leaves = deployment.service_leaves().await;
    for (times, refusal) in (1..).zip(&kinds) {
        assert_eq!(told(&leaves, &site.to_string(), refusal.name()), times, "{refusal}");
    }
    assert_eq!(told(&leaves, &site.to_string(), "request-refused-there"), 40);
}
