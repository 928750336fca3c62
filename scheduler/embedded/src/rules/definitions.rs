//! Definitions of custom resources: what is taken is served at once, and what
//! could not be held to is refused.

use serde_json::{Value, json};

use crate::api::Api;
use crate::kinds::built_in;
use crate::moment;
use crate::object::{elements, field, meta, set, text};
use crate::refusal::{Cause, Fault};
use crate::schema::custom;
use crate::selector::is_subdomain;

/// Fills in names and status.
pub(super) fn on_write(api: &Api, crd: &mut Value, old: Option<&Value>) {
    let kind = text(crd, "/spec/names/kind").to_owned();
    if let Some(names) = crd.pointer_mut("/spec/names") {
        if field(names, "singular").is_empty() {
            set(names, "singular", Some(kind.to_lowercase().into()));
        }
        if field(names, "listKind").is_empty() {
            set(names, "listKind", Some(format!("{kind}List").into()));
        }
    }
    if let Some(spec) = crd.get_mut("spec")
        && spec.get("conversion").is_none()
    {
        set(spec, "conversion", Some(json!({"strategy": "None"})));
    }
    let since = |kind: &str| {
        let before = old.map(|old| elements(old, "/status/conditions")).unwrap_or_default();
        let found = before.iter().find(|one| field(one, "type") == kind && field(one, "status") == "True");
        found.map_or_else(|| moment::text(api.clock.now()), |one| field(one, "lastTransitionTime").to_owned())
    };
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": since(kind)});
    let mut stored: Vec<Value> =
        old.map(|old| elements(old, "/status/storedVersions").to_vec()).unwrap_or_default();
    for version in elements(crd, "/spec/versions") {
        let name = json!(field(version, "name"));
        if version.get("storage") == Some(&Value::Bool(true)) && !stored.contains(&name) {
            stored.push(name);
        }
    }
    let status = json!({
        "acceptedNames": crd.pointer("/spec/names"),
        "storedVersions": stored,
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    });
    set(crd, "status", Some(status));
}

pub(super) fn check(crd: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let (group, plural) = (text(crd, "/spec/group"), text(crd, "/spec/names/plural"));
    if !group.contains('.') || !is_subdomain(group, 253) {
        causes.push(Cause::new(
            Fault::Invalid,
            "spec.group",
            format!("{group:?}: a domain with a dot is needed"),
        ));
    }
    if built_in().iter().any(|kind| kind.group == group) {
        causes.push(Cause::new(
            Fault::Forbidden,
            "spec.group",
            format!("{group} is a group of the server itself"),
        ));
    }
    if plural.contains('.') || !is_subdomain(plural, 63) {
        causes.push(Cause::new(
            Fault::Invalid,
            "spec.names.plural",
            format!("{plural:?}: an RFC 1123 label is needed"),
        ));
    }
    if meta(crd, "name") != format!("{plural}.{group}") {
        let message = format!("must be spec.names.plural+\".\"+spec.group, {plural}.{group}");
        causes.push(Cause::new(Fault::Invalid, "metadata.name", message));
    }
    if text(crd, "/spec/names/kind").is_empty() {
        causes.push(Cause::new(Fault::Required, "spec.names.kind", "must be given"));
    }
    let scope = text(crd, "/spec/scope");
    if !matches!(scope, "Namespaced" | "Cluster") {
        let message = format!("{scope:?}: supported values: \"Cluster\", \"Namespaced\"");
        causes.push(Cause::new(Fault::Unsupported, "spec.scope", message));
    }
    if !matches!(text(crd, "/spec/conversion/strategy"), "" | "None") {
        let message = "this server calls no webhooks; only the strategy None is supported";
        causes.push(Cause::new(Fault::Unsupported, "spec.conversion.strategy", message));
    }
    if let Some(old) = old {
        for fixed in ["/spec/group", "/spec/scope", "/spec/names/plural", "/spec/names/kind"] {
            if text(old, fixed) != text(crd, fixed) {
                let field = fixed.trim_start_matches('/').replace('/', ".");
                causes.push(Cause::new(Fault::Invalid, field, "field is immutable"));
            }
        }
    }
    check_versions(crd, &mut causes);
    causes
}

fn check_versions(crd: &Value, causes: &mut Vec<Cause>) {
    let versions = elements(crd, "/spec/versions");
    let storing =
        versions.iter().filter(|version| version.get("storage") == Some(&Value::Bool(true))).count();
    if storing != 1 {
        let message = "must have exactly one version marked as storage version";
        causes.push(Cause::new(Fault::Invalid, "spec.versions", message));
    }
    let mut names = std::collections::BTreeSet::new();
    for (at, version) in versions.iter().enumerate() {
        let place = format!("spec.versions[{at}]");
        let name = field(version, "name");
        if name.contains('.') || !is_subdomain(name, 63) {
            causes.push(Cause::new(
                Fault::Invalid,
                format!("{place}.name"),
                format!("{name:?}: an RFC 1123 label is needed"),
            ));
        }
        if !names.insert(name) {
            causes.push(Cause::new(Fault::Duplicate, format!("{place}.name"), name));
        }
        let schema = version.pointer("/schema/openAPIV3Schema").unwrap_or(&Value::Null);
        if let Err(error) = custom(schema) {
            causes.push(Cause::new(Fault::Invalid, format!("{place}.schema"), error.to_string()));
        }
    }
}
