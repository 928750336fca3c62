//! Discovery: which groups, versions, resources and verbs there are. In the
//! aggregated form (`apidiscovery.k8s.io` v2 and v2beta1) that clients ask for
//! first, and in the older one, page by page, that `kubectl drain` still reads.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::kinds::{Kind, Verb, api_version};
use crate::refusal::Refusal;
use crate::registry::Registry;
use crate::reply::{JSON, Reply};
use crate::request::{Accept, Form};

/// A page of discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// `GET /version`.
    Version,
    /// `GET /api`.
    Api,
    /// `GET /apis`.
    Apis,
    /// `GET /apis/GROUP`.
    Group(String),
    /// `GET /api/v1` or `/apis/GROUP/VERSION`.
    Resources {
        /// Group; empty for the core group.
        group: String,
        /// Version.
        version: String,
    },
}

/// The version of Kubernetes that `/version` reports: the newest one whose
/// `kubectl` is tested against this API. A dispatching `kubectl` picks its
/// binary by it.
pub(crate) const KUBERNETES_VERSION: (&str, &str) = ("1", "32");

/// The page, in the first form that the client takes and the page has.
pub(crate) fn answer(page: &Page, accept: &Accept, registry: &Registry) -> Reply {
    let served = registry.all();
    let kinds: Vec<&Kind> = served.iter().map(|resource| &resource.kind).collect();
    match make(page, &accept.forms, &kinds) {
        Some((media_type, body)) => Reply::json(&body).media_type(media_type),
        None => Refusal::NoPath.into(),
    }
}

/// The page's media type and body; None if there is no such group or version.
/// A client that takes none of the page's forms gets the plain one, as from Kubernetes.
fn make(page: &Page, forms: &[Form], kinds: &[&Kind]) -> Option<(String, Value)> {
    if let Page::Api | Page::Apis = page {
        for form in forms {
            match form {
                Form::Discovery(version) => return Some(aggregated(*page == Page::Api, version, kinds)),
                Form::Plain => break,
                Form::Table(_) | Form::Partial => {}
            }
        }
    }
    let body = match page {
        Page::Version => version(),
        Page::Api => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        Page::Apis => {
            let groups = by_group(kinds, false);
            let groups: Vec<Value> = groups.iter().map(|(name, group)| legacy_group(name, group)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        Page::Group(name) => {
            let mut body = legacy_group(name, by_group(kinds, false).get(name.as_str())?);
            body["kind"] = json!("APIGroup");
            body["apiVersion"] = json!("v1");
            body
        }
        Page::Resources { group, version } => resources(group, version, kinds)?,
    };
    Some((JSON.to_owned(), body))
}

fn version() -> Value {
    let (major, minor) = KUBERNETES_VERSION;
    json!({
        "major": major, "minor": minor,
        "gitVersion": format!("v{major}.{minor}.0+coffer.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// Kinds by group and, best first, by version.
type Versions<'a> = Vec<(&'a str, Vec<&'a Kind>)>;

fn by_group<'a>(kinds: &[&'a Kind], core: bool) -> BTreeMap<&'a str, Versions<'a>> {
    let mut groups: BTreeMap<&str, Versions<'a>> = BTreeMap::new();
    for kind in kinds.iter().filter(|kind| kind.group.is_empty() == core).copied() {
        let versions = groups.entry(&kind.group).or_default();
        match versions.iter_mut().find(|(version, _)| *version == kind.version) {
            Some((_, kinds)) => kinds.push(kind),
            None => versions.push((&kind.version, vec![kind])),
        }
    }
    for versions in groups.values_mut() {
        versions.sort_by(|(left, _), (right, _)| rank(right).cmp(&rank(left)).then_with(|| left.cmp(right)));
    }
    groups
}

/// How far a version stands before others: stable before beta before alpha,
/// then by number; what is not named in that manner comes last.
fn rank(version: &str) -> (u8, u64, u64) {
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let Ok(major) = major.parse() else { return (0, 0, 0) };
    let staged = |name: &str| rest.strip_prefix(name).and_then(|number| number.parse().ok());
    match (rest, staged("beta"), staged("alpha")) {
        ("", _, _) => (3, major, 0),
        (_, Some(beta), _) => (2, major, beta),
        (_, _, Some(alpha)) => (1, major, alpha),
        _ => (0, 0, 0),
    }
}

fn aggregated(core: bool, version: &str, kinds: &[&Kind]) -> (String, Value) {
    let items: Vec<Value> = by_group(kinds, core)
        .into_iter()
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .into_iter()
                .map(|(version, kinds)| {
                    let resources: Vec<Value> = kinds.into_iter().map(aggregated_resource).collect();
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            let metadata = if name.is_empty() { json!({}) } else { json!({"name": name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let body = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items,
    });
    (format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"), body)
}

fn aggregated_resource(kind: &Kind) -> Value {
    let scope = if kind.namespaced { "Namespaced" } else { "Cluster" };
    let mut made = json!({
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": scope,
        "singularResource": kind.singular,
        "verbs": words(&kind.verbs),
    });
    if !kind.short_names.is_empty() {
        made["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        made["categories"] = json!(kind.categories);
    }
    if !kind.subresources.is_empty() {
        let subs = kind.subresources.iter().map(|sub| {
            json!({
                "subresource": sub.name,
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind},
                "verbs": words(&sub.verbs),
            })
        });
        made["subresources"] = subs.collect();
    }
    made
}

fn words(verbs: &[Verb]) -> Vec<&'static str> {
    verbs.iter().map(|verb| verb.as_str()).collect()
}

fn legacy_group(name: &str, versions: &Versions<'_>) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|(version, _)| json!({"groupVersion": api_version(name, version), "version": version}))
        .collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

fn resources(group: &str, version: &str, kinds: &[&Kind]) -> Option<Value> {
    let mut found = kinds.iter().filter(|kind| kind.group == group && kind.version == version).peekable();
    found.peek()?;
    let mut resources = Vec::new();
    for kind in found {
        let mut whole = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": words(&kind.verbs),
        });
        if !kind.short_names.is_empty() {
            whole["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            whole["categories"] = json!(kind.categories);
        }
        resources.push(whole);
        for sub in &kind.subresources {
            let mut part = json!({
                "name": format!("{}/{}", kind.plural, sub.name), "singularName": "",
                "namespaced": kind.namespaced, "kind": sub.kind, "verbs": words(&sub.verbs),
            });
            if (&sub.group, &sub.version) != (&kind.group, &kind.version) {
                part["group"] = json!(sub.group);
                part["version"] = json!(sub.version);
            }
            resources.push(part);
        }
    }
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": api_version(group, version), "resources": resources,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::built_in;

    fn kinds() -> Vec<&'static Kind> {
        built_in().iter().collect()
    }

    fn body(page: &Page, forms: &[Form]) -> Option<Value> {
        make(page, forms, &kinds()).map(|(_, body)| body)
    }

    fn resources_of(group: &str, version: &str) -> Option<Value> {
        body(&Page::Resources { group: group.into(), version: version.into() }, &[Form::Plain])
    }

    #[test]
    fn groups_and_versions_that_are_not_there_have_no_page() {
        assert_eq!(body(&Page::Group("apps".into()), &[Form::Plain]), None);
        assert_eq!(resources_of("policy", "v1beta1"), None);
        assert_eq!(resources_of("", "v2"), None);
    }

    #[test]
    fn drain_finds_the_eviction_of_pods_and_its_group_in_the_legacy_list() {
        let list = resources_of("", "v1").unwrap();
        let eviction = list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|resource| resource["name"] == "pods/eviction")
            .unwrap();
        assert_eq!(eviction["kind"], "Eviction");
        assert_eq!(eviction["group"], "policy");
        assert_eq!(eviction["version"], "v1");
    }

    #[test]
    fn the_aggregated_form_is_made_in_the_version_that_was_asked_for() {
        for version in ["v2", "v2beta1"] {
            let asked = [Form::Discovery(version), Form::Plain];
            let (media, list) = make(&Page::Apis, &asked, &kinds()).unwrap();
            assert!(media.contains(&format!("v={version};")), "{media}");
            assert_eq!(list["apiVersion"], format!("apidiscovery.k8s.io/{version}"));
            assert!(list["items"].as_array().unwrap().iter().all(|item| item["metadata"]["name"] != ""));
        }
    }

    #[test]
    fn a_client_that_wants_plain_json_first_gets_the_older_form() {
        let asked = [Form::Plain, Form::Discovery("v2")];
        assert_eq!(body(&Page::Apis, &asked).unwrap()["kind"], "APIGroupList");
        assert_eq!(body(&Page::Api, &asked).unwrap()["kind"], "APIVersions");
    }

    #[test]
    fn both_forms_name_the_same_resources() {
        let aggregated = body(&Page::Apis, &[Form::Discovery("v2")]).unwrap();
        for group in aggregated["items"].as_array().unwrap() {
            for version in group["versions"].as_array().unwrap() {
                let name = group["metadata"]["name"].as_str().unwrap();
                let legacy = resources_of(name, version["version"].as_str().unwrap()).unwrap();
                let mut left: Vec<String> = Vec::new();
                for resource in version["resources"].as_array().unwrap() {
                    let plural = resource["resource"].as_str().unwrap();
                    left.push(plural.to_owned());
                    let subs = resource["subresources"].as_array().map_or(&[][..], Vec::as_slice);
                    left.extend(
                        subs.iter().map(|sub| format!("{plural}/{}", sub["subresource"].as_str().unwrap())),
                    );
                }
                let right: Vec<&str> = legacy["resources"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter_map(|r| r["name"].as_str())
                    .collect();
                assert_eq!(left, right, "{name}");
            }
        }
    }

    #[test]
    fn stable_versions_come_before_others() {
        let mut versions = ["v1alpha1", "foo", "v1", "v2beta1", "v10", "v1beta2"];
        versions.sort_by_key(|version| std::cmp::Reverse(rank(version)));
        assert_eq!(versions, ["v10", "v1", "v2beta1", "v1beta2", "v1alpha1", "foo"]);
    }
}
