//! Two tenants, one service: no call of one reaches anything of the other,
//! and each attempt is a leaf.
#![expect(clippy::unwrap_used, clippy::panic, reason = "cases of tests: what fails here fails the test")]

use std::collections::BTreeSet;

use bytes::Bytes;
use coffer_client::audit::RangeRequest;
use coffer_client::{CallError, Credentials, GetError};
use coffer_model::TenantId;
use coffer_proto::DESCRIPTORS;
use coffer_proto::v1::put_object_request::Part;
use coffer_proto::v1::{
    AddSiteRequest, ChangeSiteRequest, CountHoldersRequest, CreateBucketRequest, CreateTenantRequest,
    DeleteObjectRequest, GetCheckpointRequest, GetFactsRequest, GetLeafRequest, GetObjectRequest,
    GetRepairStatusRequest, GetScrubStatusRequest, ListBucketsRequest, ListHoldsRequest, ListObjectsRequest,
    ListResidencyRequest, ListShortRequest, ListSitesRequest, NoteDigestRequest, PlaceHoldRequest,
    PlanRepairRequest, Policy, PutEnd, PutHeader, PutObjectRequest, PutSmallRequest, ReadLeavesRequest,
    RebalanceRequest, ReleaseHoldRequest, RemoveBucketRequest, RunChallengesRequest, RunRepairRequest,
    RunScrubRequest, SetBucketPolicyRequest, SetSiteAliveRequest, SignCaseRequest, SignRecordRequest,
    SignStatementRequest, StatObjectRequest, StatShardsRequest,
};
use coffer_tests::{Deployment, Files, Wire, bucket_name, copy_tree, object_key, pattern, replace_tree};
use prost::Message as _;
use tonic::{Code, Status};
use zeroize::Zeroizing;

/// The part of `google.protobuf.FileDescriptorSet` that names calls, with the
/// field numbers of `descriptor.proto`.
#[derive(Clone, PartialEq, prost::Message)]
struct DescriptorSet {
    #[prost(message, repeated, tag = "1")]
    files: Vec<FileDescriptor>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct FileDescriptor {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    services: Vec<ServiceDescriptor>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ServiceDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<MethodDescriptor>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MethodDescriptor {
    #[prost(string, tag = "1")]
    name: String,
}

/// Every call that the service offers, as its own description lists them.
fn every_call() -> Vec<String> {
    let set = DescriptorSet::decode(DESCRIPTORS).unwrap();
    // The description of what sites offer to the service lies beside its own.
    let own = set.files.iter().filter(|file| file.package == "coffer.v1");
    let services = own.flat_map(|file| &file.services);
    services
        .flat_map(|service| service.methods.iter().map(|method| format!("{}/{}", service.name, method.name)))
        .collect()
}

/// Makes one call that names `tenant` wherever the call can name one, on a
/// bucket and an object that every tenant here has.
async fn make(wire: &Wire, call: &str, tenant: Option<TenantId>) -> Result<(), Status> {
    let mut wire = wire.clone();
    let tenant = tenant.map(|id| Bytes::copy_from_slice(id.as_bytes())).unwrap_or_default();
    let (bucket, key) = ("things".to_owned(), Bytes::from_static(b"object"));
    match call {
        "Tenants/CreateTenant" => {
            let (name, policy) = ("intruder".to_owned(), Some(Policy::default()));
            let request = CreateTenantRequest { name, policy, certificate_request: Bytes::new() };
            wire.tenants.create_tenant(request).await.map(drop)
        }
        "Buckets/CreateBucket" => {
            let request = CreateBucketRequest { tenant, name: "planted".to_owned(), policy: None };
            wire.buckets.create_bucket(request).await.map(drop)
        }
        "Buckets/ListBuckets" => wire.buckets.list_buckets(ListBucketsRequest { tenant }).await.map(drop),
        "Buckets/RemoveBucket" => {
            let request = RemoveBucketRequest { tenant, name: "empty".to_owned() };
            wire.buckets.remove_bucket(request).await.map(drop)
        }
        "Objects/PutObject" => {
            let header = PutHeader { tenant, bucket, key, ..Default::default() };
            let data = Part::Data(Bytes::from_static(b"planted"));
            let parts = [Part::Header(header), data, Part::End(PutEnd { size: 7 })];
            let stream = tokio_stream::iter(parts.map(|part| PutObjectRequest { part: Some(part) }));
            wire.objects.put_object(stream).await.map(drop)
        }
        "Objects/PutSmall" => {
            let header = Some(PutHeader { tenant, bucket, key, ..Default::default() });
            let request = PutSmallRequest { header, data: Bytes::from_static(b"planted") };
            wire.objects.put_small(request).await.map(drop)
        }
        "Objects/GetObject" => {
            let request = GetObjectRequest { tenant, bucket, key, ..Default::default() };
            let mut stream = wire.objects.get_object(request).await?.into_inner();
            while stream.message().await?.is_some() {}
            Ok(())
        }
        "Objects/StatObject" => wire
            .objects
            .stat_object(StatObjectRequest { tenant, bucket, key, ..Default::default() })
            .await
            .map(drop),
        "Objects/ListObjects" => {
            let request = ListObjectsRequest { tenant, bucket, ..Default::default() };
            wire.objects.list_objects(request).await.map(drop)
        }
        "Objects/DeleteObject" => {
            wire.objects.delete_object(DeleteObjectRequest { tenant, bucket, key }).await.map(drop)
        }
        "Log/NoteDigest" => {
            let (label, digest) = ("planted".to_owned(), vec![7; 32].into());
            wire.log.note_digest(NoteDigestRequest { tenant, label, digest }).await.map(drop)
        }
        "Log/GetCheckpoint" => {
            let request = GetCheckpointRequest { tenant, ..Default::default() };
            wire.log.get_checkpoint(request).await.map(drop)
        }
        "Log/GetLeaf" => wire.log.get_leaf(GetLeafRequest { tenant, index: 0, size: 1 }).await.map(drop),
        "Sites/ListSites" => wire.sites.list_sites(ListSitesRequest::default()).await.map(drop),
        "Sites/SetSiteAlive" => {
            let request = SetSiteAliveRequest { name: "fra1".to_owned(), alive: false };
            wire.sites.set_site_alive(request).await.map(drop)
        }
        "Drills/SignRecord" => {
            let text = r#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"urn:coffer:drill:1"}"#;
            let statement = Bytes::from_static(text.as_bytes());
            wire.drills.sign_record(SignRecordRequest { tenant, statement }).await.map(drop)
        }
        other => maintain(&mut wire, other, tenant, bucket, key).await,
    }
}

/// The same for what keeps the sites whole, and for the log in ranges.
async fn maintain(
    wire: &mut Wire,
    call: &str,
    tenant: Bytes,
    bucket: String,
    key: Bytes,
) -> Result<(), Status> {
    match call {
        "Audit/ReadLeaves" => {
            let request = ReadLeavesRequest { tenant, limit: 1, ..Default::default() };
            let mut stream = wire.audit.read_leaves(request).await?.into_inner();
            while stream.message().await?.is_some() {}
            Ok(())
        }
        "Holds/PlaceHold" => {
            let request =
                PlaceHoldRequest { tenant, bucket, reason: "planted".to_owned(), ..Default::default() };
            wire.holds.place_hold(request).await.map(drop)
        }
        "Holds/ReleaseHold" => {
            wire.holds.release_hold(ReleaseHoldRequest { tenant, hold: vec![7; 16].into() }).await.map(drop)
        }
        "Holds/ListHolds" => wire.holds.list_holds(ListHoldsRequest { tenant }).await.map(drop),
        "Holds/SignCase" => {
            let request = SignCaseRequest { tenant, hold: vec![7; 16].into(), statement: Bytes::new() };
            wire.holds.sign_case(request).await.map(drop)
        }
        "Evidence/GetFacts" => wire.evidence.get_facts(GetFactsRequest { tenant }).await.map(drop),
        "Evidence/ListResidency" => {
            let request = ListResidencyRequest { tenant, ..Default::default() };
            wire.evidence.list_residency(request).await.map(drop)
        }
        "Evidence/SignStatement" => {
            let request = SignStatementRequest { tenant, statement: Bytes::new() };
            wire.evidence.sign_statement(request).await.map(drop)
        }
        "Repair/AddSite" => wire.repair.add_site(AddSiteRequest::default()).await.map(drop),
        "Repair/ChangeSite" => {
            let request =
                ChangeSiteRequest { name: "fra1".to_owned(), change: 1, certificate: None, must: false };
            wire.repair.change_site(request).await.map(drop)
        }
        "Repair/PlanRepair" => wire.repair.plan_repair(PlanRepairRequest::default()).await.map(drop),
        "Repair/RunRepair" => wire.repair.run_repair(RunRepairRequest::default()).await.map(drop),
        "Repair/Rebalance" => wire.repair.rebalance(RebalanceRequest::default()).await.map(drop),
        "Repair/GetRepairStatus" => wire.repair.get_repair_status(GetRepairStatusRequest {}).await.map(drop),
        "Repair/CountHolders" => wire.repair.count_holders(CountHoldersRequest::default()).await.map(drop),
        "Repair/ListShort" => wire.repair.list_short(ListShortRequest { tenant }).await.map(drop),
        "Repair/StatShards" => {
            let request = StatShardsRequest { tenant, bucket, key, ..Default::default() };
            wire.repair.stat_shards(request).await.map(drop)
        }
        "Repair/SetBucketPolicy" => {
            let request = SetBucketPolicyRequest { tenant, name: bucket, policy: Some(Policy::default()) };
            wire.repair.set_bucket_policy(request).await.map(drop)
        }
        "Scrub/GetScrubStatus" => wire.scrub.get_scrub_status(GetScrubStatusRequest {}).await.map(drop),
        "Scrub/RunScrub" => {
            wire.scrub.run_scrub(RunScrubRequest { name: String::new(), anew: true }).await.map(drop)
        }
        "Scrub/RunChallenges" => {
            let request = RunChallengesRequest { name: String::new(), answers: 1, enrol_delays: true };
            wire.scrub.run_challenges(request).await.map(drop)
        }
        other => panic!("{other} has no case here: what may a tenant do with it that is another's business?"),
    }
}

/// What every principal may ask, because it is about no tenant.
const OPEN_TO_ALL: &str = "Sites/ListSites";
/// What an operator may ask too, of the log of the service itself.
const OWN_LOG: [&str; 3] = ["Audit/ReadLeaves", "Log/GetCheckpoint", "Log/GetLeaf"];
/// What only operators may ask.
const OPERATORS: [&str; 12] = [
    "Tenants/CreateTenant",
    "Sites/SetSiteAlive",
    "Repair/AddSite",
    "Repair/ChangeSite",
    "Repair/PlanRepair",
    "Repair/RunRepair",
    "Repair/Rebalance",
    "Repair/GetRepairStatus",
    "Repair/CountHolders",
    "Scrub/GetScrubStatus",
    "Scrub/RunScrub",
    "Scrub/RunChallenges",
];
/// Operations that several calls have, and how many those are.
const FAMILIES: [(&str, usize); 7] = [
    ("object_put", 2),
    ("log_read", 3),
    ("facts_read", 2),
    ("object_stat", 2),
    ("sites", 3),
    ("repair", 6),
    ("scrub", 2),
];

async fn two_tenants(deployment: &Deployment) -> (coffer_tests::TenantClient, coffer_tests::TenantClient) {
    let (a, b) = (deployment.tenant("a").await, deployment.tenant("b").await);
    for (tenant, seed) in [(&a, 1), (&b, 2)] {
        for bucket in ["things", "empty"] {
            tenant.client.create_bucket(&bucket_name(bucket), None).await.unwrap();
        }
        tenant.put(&bucket_name("things"), "object", pattern(seed, 100_000)).await;
        tenant.put(&bucket_name("things"), "small", pattern(seed, 100)).await;
    }
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_one_tenant_that_names_another_is_denied_and_is_a_leaf_of_the_caller() {
    let deployment = Deployment::six_sites().await;
    let (a, b) = two_tenants(&deployment).await;
    let wire = deployment.wire(&a.credentials).await;
    let (before_a, before_b) = (a.leaves().await.len(), b.leaves().await.len());
    let calls: Vec<_> = every_call().into_iter().filter(|call| call != OPEN_TO_ALL).collect();
    assert!(calls.len() >= 14, "the description of the service lists its calls: {calls:?}");
    for call in &calls {
        let refused = make(&wire, call, Some(b.tenant)).await;
        assert_eq!(refused.map_err(|status| status.code()), Err(Code::PermissionDenied), "{call}");
    }

    let leaves = a.leaves().await;
    let denied: Vec<_> = leaves[before_a..].iter().filter(|leaf| leaf.outcome == "denied").collect();
    assert_eq!(denied.len(), calls.len(), "{denied:?}");
    let operations: BTreeSet<_> = denied.iter().map(|leaf| leaf.operation.as_str()).collect();
    // Every call has an operation of its own, but for the families.
    let shared: usize = FAMILIES.iter().map(|(_, calls)| calls - 1).sum();
    assert_eq!(operations.len(), calls.len() - shared, "{operations:?}");
    for (operation, calls) in FAMILIES {
        let of_family = denied.iter().filter(|leaf| leaf.operation == operation).count();
        assert_eq!(of_family, calls, "{operation}");
    }
    let named = denied.iter().filter(|leaf| leaf.subject == b.tenant.to_string()).count();
    assert_eq!(named, calls.len() - OPERATORS.len(), "each says whose business it was");

    let b_leaves = b.leaves().await;
    let own = |operation: &str| operation == "log_read";
    assert!(
        b_leaves[before_b..].iter().all(|leaf| own(&leaf.operation)),
        "nothing happened in the other's log"
    );
    assert!(b.get(&bucket_name("things"), "object").await.unwrap() == pattern(2, 100_000));
    assert_eq!(b.client.list_buckets().await.unwrap().len(), 2);
    assert!(deployment.site("fra1").await.alive);
}

/// Leaves of the tenant's log, the one of this reading among them.
async fn log_size(tenant: &coffer_tests::TenantClient) -> u64 {
    let (checkpoint, _) = tenant.watch().read_now(&tenant.client, RangeRequest::From(0, 0)).await.unwrap();
    checkpoint.size
}

/// Leaves of the service's own log.
async fn own_log_size(deployment: &Deployment) -> u64 {
    deployment.service().own_leaves(0, usize::MAX).await.unwrap().len() as u64
}

/// A certificate that the deployment's CA signed, and that names nobody whom
/// the service knows any more.
async fn stranger(deployment: &mut Deployment, tenant: TenantId) -> Credentials {
    let before = deployment.scratch().join("before");
    deployment.stop().await;
    copy_tree(&deployment.data(), &before);
    deployment.start().await;
    let issued = deployment.service().issue_tenant_credential(tenant).await.unwrap();
    deployment.stop().await;
    replace_tree(&before, &deployment.data());
    deployment.start().await;
    Credentials {
        ca_pem: issued.ca_pem,
        certificate_pem: issued.certificate_pem,
        key_pem: issued.key_pem,
        endpoint: String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_leaves_a_leaf_whoever_makes_it_and_however_it_ends() {
    let deployment = Deployment::six_sites().await;
    let (a, b) = two_tenants(&deployment).await;
    let own = deployment.wire(&a.credentials).await;
    let operator = deployment.wire(deployment.operator_credentials()).await;
    for call in every_call() {
        for named in [None, Some(b.tenant)] {
            let before = log_size(&a).await;
            // However it ends.
            drop(make(&own, &call, named).await);
            let after = log_size(&a).await;
            assert!(after > before + 1, "{call} naming {named:?} left no leaf in its tenant's log");
            let before = own_log_size(&deployment).await;
            drop(make(&operator, &call, named).await);
            let after = own_log_size(&deployment).await;
            assert!(after > before, "{call} of the operator naming {named:?} left no leaf");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_calls_and_calls_of_no_method_leave_a_leaf_of_their_own() {
    let deployment = Deployment::six_sites().await;
    let (a, _) = two_tenants(&deployment).await;
    let before = a.leaves().await.len();
    let mut wire = deployment.wire(&a.credentials).await;
    let malformed = Bytes::from_static(b"no id");
    let request = ListBucketsRequest { tenant: malformed.clone() };
    assert_eq!(wire.buckets.list_buckets(request).await.unwrap_err().code(), Code::InvalidArgument);
    let request = GetLeafRequest { tenant: malformed, index: 0, size: 1 };
    assert_eq!(wire.log.get_leaf(request).await.unwrap_err().code(), Code::InvalidArgument);
    let request = PutSmallRequest { header: None, data: Bytes::new() };
    assert_eq!(wire.objects.put_small(request).await.unwrap_err().code(), Code::InvalidArgument);
    let leaves = a.leaves().await;
    let calls = leaves[before..].iter().filter(|leaf| leaf.operation == "call");
    let calls: Vec<_> = calls.map(|leaf| (leaf.outcome.as_str(), leaf.subject.as_str())).collect();
    let expected = ["Buckets/ListBuckets", "Log/GetLeaf", "Objects/PutSmall"];
    let expected = expected.map(|call| ("failed", format!("coffer.v1.{call}")));
    assert_eq!(calls, expected.each_ref().map(|(outcome, call)| (*outcome, call.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_knocks_all_day_is_in_the_log_of_the_service_and_does_not_fill_it() {
    let mut deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await.tenant;
    let stranger = stranger(&mut deployment, tenant).await;
    let mut wire = deployment.wire(&stranger).await;
    let before = deployment.service().own_leaves(0, usize::MAX).await.unwrap().len();
    for _ in 0..300 {
        let refused = wire.buckets.list_buckets(ListBucketsRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    let leaves = deployment.service().own_leaves(before as u64, usize::MAX).await.unwrap();
    let of_strangers = leaves.iter().filter(|leaf| String::from_utf8_lossy(leaf).contains("\"anonymous\""));
    let count = of_strangers.count();
    assert!((1..=96).contains(&count), "{count} leaves for 300 calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_and_keys_of_one_name_in_two_tenants_have_nothing_to_do_with_each_other() {
    let deployment = Deployment::six_sites().await;
    let (a, b) = two_tenants(&deployment).await;
    let things = bucket_name("things");
    for (tenant, seed) in [(&a, 1), (&b, 2)] {
        assert!(tenant.get(&things, "object").await.unwrap() == pattern(seed, 100_000));
        assert!(tenant.get(&things, "small").await.unwrap() == pattern(seed, 100));
    }
    a.client.delete(&things, &object_key("object")).await.unwrap();
    a.client.delete(&things, &object_key("small")).await.unwrap();
    a.client.remove_bucket(&things).await.unwrap();
    assert!(matches!(a.get(&things, "object").await, Err(GetError::Call(CallError::NotFound(_)))));
    assert!(b.get(&things, "object").await.unwrap() == pattern(2, 100_000));
    assert_eq!(b.client.list(&things, b"").await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_reads_and_changes_nothing_of_a_tenant_named_or_not() {
    let deployment = Deployment::six_sites().await;
    let (a, _) = two_tenants(&deployment).await;
    let wire = deployment.wire(deployment.operator_credentials()).await;
    let of_tenants = |call: &String| call != OPEN_TO_ALL && !OPERATORS.contains(&call.as_str());
    for call in every_call().iter().filter(|call| of_tenants(call)) {
        for named in [Some(a.tenant), None] {
            if OWN_LOG.contains(&call.as_str()) && named.is_none() {
                continue;
            }
            let refused = make(&wire, call, named).await.map_err(|status| status.code());
            assert_eq!(refused, Err(Code::PermissionDenied), "{call} naming {named:?}");
        }
    }
    assert_eq!(a.client.list_buckets().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_this_deployment_did_not_sign_gets_no_connection() {
    let deployment = Deployment::six_sites().await;
    let stranger = Deployment::six_sites().await;
    let ca_pem = &deployment.operator_credentials().ca_pem;
    let with = |certificate_pem: &str, key_pem: &str| Credentials {
        ca_pem: ca_pem.clone(),
        certificate_pem: certificate_pem.to_owned(),
        key_pem: Zeroizing::new(key_pem.to_owned()),
        endpoint: String::new(),
    };
    let foreign = stranger.operator_credentials();
    let own = rcgen::generate_simple_self_signed(["coffer.internal".to_owned()]).unwrap();
    let cases = [
        ("another CA", with(&foreign.certificate_pem, &foreign.key_pem)),
        ("self-signed", with(&own.cert.pem(), &own.signing_key.serialize_pem())),
    ];
    for (name, credentials) in cases {
        refused_by_tls(name, Wire::connect(deployment.endpoint(), &credentials).await).await;
    }
    refused_by_tls("none", Wire::connect_anonymously(deployment.endpoint(), ca_pem).await).await;
    assert!(Wire::connect(deployment.endpoint(), deployment.operator_credentials()).await.is_ok());
    let distrusting = Wire::connect(stranger.endpoint(), deployment.operator_credentials()).await;
    assert!(distrusting.is_err(), "nor does a client speak to a service of another CA");
}

/// With TLS 1.3 a client may only learn at its first call that the server did
/// not take its certificate; an answer of the service's own would be a failure.
async fn refused_by_tls(name: &str, connected: Result<Wire, tonic::transport::Error>) {
    let Ok(wire) = connected else { return };
    for call in every_call() {
        let status = make(&wire, &call, None).await.unwrap_err();
        assert!(
            std::error::Error::source(&status).is_some(),
            "{name}, {call}: the service answered {status}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_right_ca_that_belongs_to_no_principal_may_do_nothing() {
    let mut deployment = Deployment::six_sites().await;
    let kept = deployment.scratch().join("kept");
    deployment.stop().await;
    copy_tree(&deployment.data(), &kept);
    deployment.start().await;
    let forgotten = deployment.tenant("forgotten").await;
    let credentials = forgotten.credentials;
    drop(forgotten.client);
    deployment.stop().await;
    replace_tree(&kept, &deployment.data());
    deployment.start().await;
    let wire = deployment.wire(&credentials).await;
    for call in every_call() {
        let refused = make(&wire, &call, None).await.map_err(|status| status.code());
        assert_eq!(refused, Err(Code::Unauthenticated), "{call}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn catalogues_are_two_encrypted_files_and_exchanged_ones_are_set_aside_and_rebuilt() {
    let mut deployment = Deployment::six_sites().await;
    let (a, b) = two_tenants(&deployment).await;
    let (one, other) = (a.tenant, b.tenant);
    drop((a.client, b.client));
    let credentials = [a.credentials, b.credentials];
    deployment.stop().await;
    let folder = deployment.data().join("service/catalogues");
    let files = Files::of(&folder);
    let bytes = |tenant: TenantId| {
        let name = format!("{tenant}.db");
        files.iter().find(|(path, _)| path.to_str() == Some(&name)).unwrap().1
    };
    assert_ne!(bytes(one)[..16], bytes(other)[..16], "each has a salt of its own");
    for (path, content) in files.iter() {
        let clear = content.windows(15).any(|window| window == b"SQLite format 3");
        assert!(!clear, "{} is not encrypted", path.display());
    }
    let path = |name: &str| folder.join(name);
    let (first, second) = (path(&format!("{one}.db")), path(&format!("{other}.db")));
    std::fs::rename(&first, path("kept")).unwrap();
    std::fs::rename(&second, &first).unwrap();
    std::fs::rename(path("kept"), &second).unwrap();
    deployment.start().await;
    for tenant in [one, other] {
        let aside = folder.join(format!("{tenant}.damaged-1"));
        assert!(aside.exists(), "neither was believed, both are kept: {}", aside.display());
    }
    for (credentials, seed) in credentials.iter().zip([1, 2]) {
        let client = deployment.connect(credentials).await;
        let (_, body) = client.get(&bucket_name("things"), &object_key("small"), None).await.unwrap();
        assert!(body.collect(100).await.unwrap() == pattern(seed, 100), "each has what was its own");
    }
}
