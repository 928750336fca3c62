//! Nothing that a client sends makes the server panic, or is taken for what it is not.

use proptest::prelude::*;
use serde_json::json;

use crate::fixture::Fixture;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn on_a_fresh_api<T>(test: impl AsyncFnOnce(Fixture) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { test(Fixture::new().await).await })
}

#[tokio::test]
async fn odd_requests_get_an_answer_that_says_whose_fault_it_is() {
    let fixture = Fixture::new().await;
    let json = "application/json";
    let deep = format!("{{\"metadata\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    let huge = vec![b' '; (3 << 20) + 1];
    let table: Vec<(&str, &str, &str, Vec<u8>, u16)> = vec![
        ("GET", "/", "", vec![], 404),
        ("GET", "/api/v1/nothing", "", vec![], 404),
        ("GET", "/api/v1/pods/a", "", vec![], 404),
        ("GET", "/api/v1//pods", "", vec![], 400),
        ("GET", "/api/v1/namespaces/%ff/pods", "", vec![], 400),
        ("GET", "/api/v1/namespaces/..%2f..%2fetc/pods", "", vec![], 400),
        ("GET", "/api/v1/namespaces/%zz/pods", "", vec![], 400),
        ("GET", "/api/v1/namespaces/default/pods/a/exec", "", vec![], 404),
        ("PUT", PODS, json, b"{}".to_vec(), 405),
        ("POST", "/api/v1/pods", json, b"{}".to_vec(), 405),
        ("POST", "/version", json, b"{}".to_vec(), 405),
        ("POST", PODS, json, b"".to_vec(), 400),
        ("POST", PODS, json, b"[1]".to_vec(), 400),
        ("POST", PODS, json, b"{\"a\":\xff}".to_vec(), 400),
        ("POST", PODS, json, b"{}".to_vec(), 400),
        ("POST", PODS, json, deep.into_bytes(), 400),
        ("POST", PODS, json, huge, 413),
        ("POST", PODS, "application/vnd.kubernetes.protobuf", b"k8s\0".to_vec(), 415),
        ("POST", PODS, json, b"{\"kind\":\"Node\",\"metadata\":{\"name\":\"a\"}}".to_vec(), 400),
        ("POST", PODS, json, b"{\"metadata\":\"a\"}".to_vec(), 400),
        ("POST", PODS, json, b"{\"metadata\":{\"name\":\"A b\"},\"spec\":{}}".to_vec(), 422),
        ("POST", PODS, json, b"{\"metadata\":{\"name\":7},\"spec\":{}}".to_vec(), 400),
        ("POST", PODS, json, b"{\"metadata\":{\"name\":\"a\"},\"spec\":{\"containers\":{}}}".to_vec(), 422),
        (
            "POST",
            PODS,
            json,
            b"{\"metadata\":{\"name\":\"a\",\"labels\":{\"a\":1}},\"spec\":{}}".to_vec(),
            422,
        ),
        ("POST", "/api/v1/namespaces/default/pods?dryRun=Some", json, b"{}".to_vec(), 400),
        ("GET", "/api/v1/pods?limit=-1", "", vec![], 400),
        ("GET", "/api/v1/pods?resourceVersion=x", "", vec![], 400),
        ("PATCH", "/api/v1/namespaces/default/pods/a", "text/plain", b"{}".to_vec(), 415),
        ("PATCH", "/api/v1/namespaces/default/pods/a", "application/json-patch+json", b"{}".to_vec(), 400),
    ];
    for (method, path, media, body, expected) in table {
        let start = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let (status, answer) = fixture.send(method, path, media, body).await;
        assert_eq!(status, expected, "{method} {path} {start}: {answer}");
        assert_eq!(answer["kind"], "Status", "{method} {path}: {answer}");
        assert_eq!(answer["code"], expected);
    }
}

#[tokio::test]
async fn patches_do_not_pile_up_what_could_not_be_read_back() {
    let Fixture { embedded, directory } = Fixture::new().await;
    let fixture = Fixture { embedded, directory };
    let crd = crate::custom::definition().to_string();
    fixture
        .send("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "application/json", crd)
        .await;
    let sets = "/apis/fleet.coffer/v1/namespaces/default/sitesets";
    let set = json!({"metadata": {"name": "s"}, "spec": {"k": 4, "free": {}}}).to_string();
    assert_eq!(fixture.send("POST", sets, "application/json", set).await.0, 201);
    let (one, media) = (format!("{sets}/s"), "application/json-patch+json");
    let mut path = "/spec/free".to_owned();
    let mut answers = Vec::new();
    for _ in 0..4 {
        let nested = format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40));
        let patch = format!("[{{\"op\":\"add\",\"path\":\"{path}/a\",\"value\":{nested}}}]");
        answers.push(fixture.send("PATCH", &one, media, patch).await.0);
        path.push_str(&"/a".repeat(40));
    }
    assert_eq!(answers[0], 200);
    assert!(answers[1..].contains(&400), "{answers:?}");
    let mut answers = Vec::new();
    for at in 0..4 {
        let patch = json!({"spec": {"free": {format!("large{at}"): "x".repeat(600_000)}}}).to_string();
        answers.push(fixture.send("PATCH", &one, "application/merge-patch+json", patch).await.0);
    }
    assert_eq!(answers, [200, 200, 413, 413]);
    let Fixture { embedded, directory } = fixture;
    drop(embedded);
    coffer_embedded::Embedded::open(crate::fixture::options(&directory)).await.unwrap();
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|one| json!(one)),
        any::<i64>().prop_map(|one| json!(one)),
        any::<f64>().prop_map(|one| json!(one)),
        ".{0,12}".prop_map(|one| json!(one)),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        let name = prop_oneof![
            prop::sample::select(vec![
                "metadata",
                "name",
                "namespace",
                "labels",
                "annotations",
                "finalizers",
                "ownerReferences",
                "managedFields",
                "fieldsV1",
                "spec",
                "containers",
                "image",
                "ports",
                "containerPort",
                "resources",
                "limits",
                "volumes",
                "tolerations",
                "status",
                "conditions",
                "type",
                "$patch",
                "$retainKeys",
                "$setElementOrder/containers",
                "f:spec",
                "k:{\"name\":\"a\"}",
                "resourceVersion",
                "uid",
            ])
            .prop_map(str::to_owned),
            "[a-z.$/:{}\"]{0,8}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|list| json!(list)),
            prop::collection::btree_map(name, inner, 0..6).prop_map(|members| json!(members)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_body_makes_the_server_fail(bodies in prop::collection::vec(value(), 8), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        on_a_fresh_api(async |fixture| {
            let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "i"}]}}).to_string();
            fixture.send("POST", PODS, "application/json", pod).await;
            let mut payloads: Vec<Vec<u8>> = bodies.iter().map(|body| body.to_string().into_bytes()).collect();
            payloads.push(bytes);
            for payload in payloads {
                for (method, path, media) in [
                    ("POST", PODS, "application/json"),
                    ("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "application/json"),
                    ("POST", "/api/v1/nodes", "application/yaml"),
                    ("PUT", "/api/v1/namespaces/default/pods/a", "application/json"),
                    ("PATCH", "/api/v1/namespaces/default/pods/a", "application/merge-patch+json"),
                    ("PATCH", "/api/v1/namespaces/default/pods/a", "application/strategic-merge-patch+json"),
                    ("PATCH", "/api/v1/namespaces/default/pods/a", "application/json-patch+json"),
                    ("PATCH", "/api/v1/namespaces/default/pods/a?fieldManager=m&force=true", "application/apply-patch+yaml"),
                    ("POST", "/api/v1/namespaces/default/pods/a/eviction", "application/json"),
                    ("POST", "/api/v1/namespaces/default/pods/a/binding", "application/json"),
                    ("DELETE", "/api/v1/namespaces/default/pods/b", "application/json"),
                ] {
                    let (status, _) = fixture.send(method, path, media, payload.clone()).await;
                    assert!(status < 500, "{method} {path}: {status}");
                }
            }
        });
    }

    #[test]
    fn no_path_and_no_query_makes_the_server_fail(parts in prop::collection::vec("[a-z0-9%._~!*'();:@&=+$,-]{0,12}", 0..8), query in "[ -~&&[^#<>\"{}|\\\\^`\\[\\] ]]{0,60}") {
        on_a_fresh_api(async |fixture| {
            for prefix in ["", "/api/v1", "/apis/fleet.coffer/v1", "/api/v1/namespaces/default/pods"] {
                let path = format!("{prefix}/{}?{query}", parts.join("/"));
                if path.parse::<http::Uri>().is_ok() && !query.contains("watch") {
                    let (status, _) = fixture.send("GET", &path, "", "").await;
                    assert!(status < 500 || status == 504, "{path}: {status}");
                }
            }
        });
    }
}
