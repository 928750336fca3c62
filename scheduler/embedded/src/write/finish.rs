//! From what a client wants an object to be to what it becomes: what only the
//! server sets stays as it was, the part that the request does not address
//! stays as it was, and the result is proven valid.

use serde_json::{Value, json};

use super::Write;
use super::create::is_name;
use crate::authorize::is_restricted;
use crate::fields::{self, Operation as Ownership};
use crate::object::{field, is_deleting, meta, revision, set, set_meta, texts};
use crate::refusal::{Cause, Fault, Refusal};
use crate::request::Part;
use crate::rules;
use crate::schema::{check, fit};
use crate::selector::{is_label_name, is_label_value};

/// Set by the server alone, once or by verbs of their own.
const FIXED: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
];
/// Bytes of all annotations of an object, as in Kubernetes.
const ANNOTATION_BYTES_MAX: usize = 256 << 10;

impl Write<'_> {
    /// The new state, and what the client is to be warned of.
    pub(crate) fn finish(
        &self,
        name: &str,
        old: &Value,
        mut new: Value,
        ownership: Ownership,
    ) -> Result<(Value, Vec<String>), Refusal> {
        self.expect_preconditions(name, old, meta(&new, "uid"), revision(&new))?;
        self.expect_kind(&mut new)?;
        for fixed in ["name", "namespace"] {
            if !meta(&new, fixed).is_empty() && meta(&new, fixed) != meta(old, fixed) {
                let cause = Cause::new(Fault::Invalid, format!("metadata.{fixed}"), "field is immutable");
                return Err(self.invalid(name, vec![cause]));
            }
            set_meta(&mut new, fixed, old.pointer(&format!("/metadata/{fixed}")).cloned());
        }
        let warnings = self.unknown_fields(fit(&self.resource().schema, &mut new))?;
        for fixed in FIXED {
            set_meta(&mut new, fixed, old.pointer(&format!("/metadata/{fixed}")).cloned());
        }
        let mut new = self.only_part(old, new);
        self.expect_own_to_change(name, old, &new)?;
        rules::on_update(self.api, self.resource(), self.objects.part, old, &mut new)?;
        if rules::has_generation(self.resource()) && is_other_generation(old, &new) {
            let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
            set_meta(&mut new, "generation", Some(json!(generation + 1)));
        }
        if is_deleting(old) {
            self.expect_no_new_finalizers(name, old, &new)?;
        }
        self.validate(name, &new, Some(old))?;
        fields::on_update(self, old, &mut new, ownership);
        Ok((new, warnings))
    }

    /// The request may say which object and which revision it means.
    pub(crate) fn expect_preconditions(
        &self,
        name: &str,
        old: &Value,
        uid: &str,
        version: &str,
    ) -> Result<(), Refusal> {
        let conflict = |why: String| {
            Err(Refusal::Conflict { subject: self.resource().subject(name), why, causes: Vec::new() })
        };
        if !uid.is_empty() && uid != meta(old, "uid") {
            return conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta(old, "uid")
            ));
        }
        if !version.is_empty() && version != revision(old) {
            return Err(self.contended(name));
        }
        Ok(())
    }

    pub(crate) fn invalid(&self, name: &str, causes: Vec<Cause>) -> Refusal {
        Refusal::Invalid { subject: self.resource().subject_by_kind(name), causes }
    }

    /// Only the part that the request addresses is new.
    fn only_part(&self, old: &Value, new: Value) -> Value {
        match self.objects.part {
            Some(Part::Status) => {
                let mut merged = old.clone();
                set(&mut merged, "status", new.get("status").cloned());
                set_meta(&mut merged, "managedFields", new.pointer("/metadata/managedFields").cloned());
                merged
            }
            Some(Part::Finalize) => {
                let mut merged = old.clone();
                if let Some(spec) = merged.get_mut("spec") {
                    set(spec, "finalizers", new.pointer("/spec/finalizers").cloned());
                }
                merged
            }
            _ if self.resource().has_status() => {
                let mut merged = new;
                set(&mut merged, "status", old.get("status").cloned());
                merged
            }
            _ => new,
        }
    }

    /// A node says what it has, not whether it is to be used: taints and cordons are others' to set.
    fn expect_own_to_change(&self, name: &str, old: &Value, new: &Value) -> Result<(), Refusal> {
        let is_node = self.identity.node().is_some() && self.resource().is("", "nodes");
        if !is_node || !is_restricted(self.identity) || old.get("spec") == new.get("spec") {
            return Ok(());
        }
        let why = "a node may not change its own spec".to_owned();
        Err(Refusal::Forbidden { subject: self.resource().subject(name), why })
    }

    fn expect_no_new_finalizers(&self, name: &str, old: &Value, new: &Value) -> Result<(), Refusal> {
        let before = texts(old, "/metadata/finalizers");
        let added = texts(new, "/metadata/finalizers").into_iter().find(|one| !before.contains(one));
        let Some(added) = added else { return Ok(()) };
        let message = format!("no new finalizers can be added if the object is being deleted, found {added}");
        Err(self.invalid(name, vec![Cause::new(Fault::Forbidden, "metadata.finalizers", message)]))
    }

    /// Metadata, schema, and what the kind itself demands.
    pub(super) fn validate(&self, name: &str, object: &Value, old: Option<&Value>) -> Result<(), Refusal> {
        let mut causes = check_metadata(object, rules::longest_name(self.resource()));
        causes.extend(check(&self.resource().schema, object));
        if causes.is_empty() {
            causes.extend(rules::check(self.resource(), object, old));
        }
        if causes.is_empty() { Ok(()) } else { Err(self.invalid(name, causes)) }
    }
}

/// Everything but metadata and status is what a generation counts.
fn is_other_generation(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return false };
    let counts = |name: &&String| !matches!(name.as_str(), "metadata" | "status" | "apiVersion" | "kind");
    let names = |object: &serde_json::Map<String, Value>| object.keys().filter(counts).count();
    names(old) != names(new) || new.iter().any(|(name, value)| counts(&name) && old.get(name) != Some(value))
}

fn check_metadata(object: &Value, longest: usize) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = meta(object, "name");
    if !is_name(name, longest) {
        let message =
            format!("{name:?}: a lowercase RFC 1123 name of at most {longest} characters is needed");
        causes.push(Cause::new(Fault::Invalid, "metadata.name", message));
    }
    let members = |pointer: &str| object.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    for (label, value) in members("/metadata/labels") {
        if !is_label_name(label) || !value.as_str().is_some_and(is_label_value) {
            causes.push(Cause::new(Fault::Invalid, "metadata.labels", format!("{label:?}: {value}")));
        }
    }
    let mut bytes = 0;
    for (annotation, value) in members("/metadata/annotations") {
        bytes += annotation.len() + value.as_str().map_or(0, str::len);
        if !is_label_name(&annotation.to_lowercase()) {
            causes.push(Cause::new(Fault::Invalid, "metadata.annotations", format!("{annotation:?}")));
        }
    }
    if bytes > ANNOTATION_BYTES_MAX {
        let message = format!("must have at most {ANNOTATION_BYTES_MAX} bytes");
        causes.push(Cause::new(Fault::Invalid, "metadata.annotations", message));
    }
    for finalizer in texts(object, "/metadata/finalizers") {
        if !is_label_name(finalizer) {
            causes.push(Cause::new(Fault::Invalid, "metadata.finalizers", format!("{finalizer:?}")));
        }
    }
    for owner in crate::object::elements(object, "/metadata/ownerReferences") {
        for needed in ["apiVersion", "kind", "name", "uid"] {
            if field(owner, needed).is_empty() {
                causes.push(Cause::new(
                    Fault::Required,
                    format!("metadata.ownerReferences.{needed}"),
                    "must be given",
                ));
            }
        }
    }
    causes
}
