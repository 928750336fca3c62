//! Custom resources from their definitions: shape, defaults, scale.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::fixture::{Fixture, code, of};

pub(crate) fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "sitesets.fleet.coffer"},
        "spec": {
            "group": "fleet.coffer", "scope": "Namespaced",
            "names": {"kind": "SiteSet", "plural": "sitesets", "shortNames": ["ss"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.sites", "statusReplicasPath": ".status.ready",
                }},
                "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {
                    "spec": {"type": "object", "required": ["k"], "properties": {
                        "sites": {"type": "integer", "minimum": 1, "maximum": 20, "default": 6},
                        "k": {"type": "integer", "minimum": 1},
                        "tier": {"type": "string", "enum": ["I", "II", "III", "IV"]},
                        "country": {"type": "string", "pattern": "^[A-Z]{2}$"},
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    }},
                    "status": {"type": "object", "properties": {"ready": {"type": "integer"}}},
                }}},
            }],
        },
    })
}

async fn defined(client: &Client) -> Api<DynamicObject> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply("coffer");
    let crd = definitions.patch("sitesets.fleet.coffer", &params, &Patch::Apply(definition())).await.unwrap();
    let conditions = crd.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().any(|one| one.type_ == "Established" && one.status == "True"));
    let resource = ApiResource {
        group: "fleet.coffer".into(),
        version: "v1".into(),
        api_version: "fleet.coffer/v1".into(),
        kind: "SiteSet".into(),
        plural: "sitesets".into(),
    };
    Api::namespaced_with(client.clone(), "default", &resource)
}

fn set(spec: Value) -> DynamicObject {
    of(json!({"apiVersion": "fleet.coffer/v1", "kind": "SiteSet", "metadata": {"name": "s"}, "spec": spec}))
}

#[tokio::test]
async fn a_custom_object_is_pruned_defaulted_and_held_to_its_schema() {
    let fixture = Fixture::new().await;
    let sets = defined(&fixture.embedded.client()).await;
    let create = |spec: Value| {
        let sets = sets.clone();
        async move { sets.create(&PostParams::default(), &set(spec)).await }
    };
    for odd in [
        json!({}),
        json!({"k": 0}),
        json!({"k": "four"}),
        json!({"k": 4, "sites": 21}),
        json!({"k": 4, "tier": "V"}),
        json!({"k": 4, "country": "Germany"}),
    ] {
        assert_eq!(code(create(odd.clone()).await), 422, "{odd}");
    }
    let made = create(json!({"k": 4, "unknown": 1, "free": {"any": [1]}})).await.unwrap();
    assert_eq!(made.data["spec"], json!({"k": 4, "sites": 6, "free": {"any": [1]}}));
    assert_eq!(made.metadata.generation, Some(1));
    let path = "/apis/fleet.coffer/v1/namespaces/default/sitesets?fieldValidation=Strict";
    let strict = set(json!({"k": 4, "unknown": 1}));
    let (status, answer) =
        fixture.send("POST", path, "application/json", serde_json::to_vec(&strict).unwrap()).await;
    assert_eq!(status, 400);
    assert!(answer["message"].as_str().unwrap().contains("spec.unknown"));
}

#[tokio::test]
async fn the_generation_counts_changes_of_the_specification_alone() {
    let fixture = Fixture::new().await;
    let sets = defined(&fixture.embedded.client()).await;
    sets.create(&PostParams::default(), &set(json!({"k": 4}))).await.unwrap();
    let merge = |patch: Value| Patch::Merge(patch);
    let params = PatchParams::default();
    let labelled =
        sets.patch("s", &params, &merge(json!({"metadata": {"labels": {"a": "b"}}}))).await.unwrap();
    assert_eq!(labelled.metadata.generation, Some(1));
    let status = sets.patch_status("s", &params, &merge(json!({"status": {"ready": 3}}))).await.unwrap();
    assert_eq!((status.metadata.generation, &status.data["status"]["ready"]), (Some(1), &json!(3)));
    let scaled = sets.patch_scale("s", &params, &merge(json!({"spec": {"replicas": 9}}))).await.unwrap();
    assert_eq!((scaled.spec.unwrap().replicas, scaled.status.unwrap().replicas), (Some(9), 3));
    let now = sets.get("s").await.unwrap();
    assert_eq!((now.metadata.generation, &now.data["spec"]["sites"]), (Some(2), &json!(9)));
    let too_many = sets.patch_scale("s", &params, &merge(json!({"spec": {"replicas": 99}}))).await;
    assert_eq!(code(too_many), 422, "the schema holds for scale, too");
    let replaced = DynamicObject {
        metadata: kube::api::ObjectMeta { resource_version: None, ..now.metadata.clone() },
        ..now
    };
    assert_eq!(
        code(sets.replace("s", &PostParams::default(), &replaced).await),
        422,
        "an update must name its revision"
    );
}

#[tokio::test]
async fn a_definition_that_could_not_be_held_to_is_refused() {
    let fixture = Fixture::new().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(fixture.embedded.client());
    let edits: [fn(&mut Value); 7] = [
        |crd| crd["metadata"]["name"] = json!("other.fleet.coffer"),
        |crd| crd["spec"]["group"] = json!("apps"),
        |crd| crd["spec"]["scope"] = json!("Sometimes"),
        |crd| crd["spec"]["versions"][0]["storage"] = json!(false),
        |crd| {
            crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["country"]
                ["pattern"] = json!("(")
        },
        |crd| {
            crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] =
                json!([{"rule": "self.k > 1"}])
        },
        |crd| {
            drop(
                crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
                    .as_object_mut()
                    .unwrap()
                    .remove("type"),
            )
        },
    ];
    for (at, edit) in edits.iter().enumerate() {
        let mut crd = definition();
        edit(&mut crd);
        assert_eq!(code(definitions.create(&PostParams::default(), &of(crd)).await), 422, "edit {at}");
    }
}

#[tokio::test]
async fn a_resource_is_served_as_long_as_its_definition_is_there() {
    let fixture = Fixture::new().await;
    let client = fixture.embedded.client();
    let path = "/apis/fleet.coffer/v1/namespaces/default/sitesets";
    assert_eq!(fixture.send("GET", path, "", "").await.0, 404);
    let sets = defined(&client).await;
    assert_eq!(fixture.send("GET", path, "", "").await.0, 200);
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    sets.create(&PostParams::default(), &set(json!({"k": 4}))).await.unwrap();
    let early = definitions.delete("sitesets.fleet.coffer", &DeleteParams::default()).await;
    assert_eq!(code(early), 409, "not while there are objects");
    sets.delete("s", &DeleteParams::default()).await.unwrap();
    definitions.delete("sitesets.fleet.coffer", &DeleteParams::default()).await.unwrap();
    assert_eq!(fixture.send("GET", path, "", "").await.0, 404);
}
