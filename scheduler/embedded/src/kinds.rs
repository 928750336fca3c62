//! The kinds that the embedded API serves: what each is called, whether it
//! lives in a namespace, which verbs and subresources it takes. Routing,
//! discovery, OpenAPI and the published table are all made from this one list.

use std::sync::LazyLock;

use serde_json::Value;

/// What may be done with a resource, as discovery and authorization name it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Verb {
    /// POST to the collection.
    Create,
    /// DELETE of one object.
    Delete,
    /// DELETE of the collection.
    DeleteCollection,
    /// GET of one object.
    Get,
    /// GET of the collection.
    List,
    /// PATCH of one object.
    Patch,
    /// PUT of one object.
    Update,
    /// GET of the collection with `watch=true`.
    Watch,
}

impl Verb {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }
}

const FULL: &[Verb] = &[
    Verb::Create,
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Update,
    Verb::Watch,
];
const STATUS: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];
const POST: &[Verb] = &[Verb::Create];
const READ: &[Verb] = &[Verb::Get];
const READ_LIST: &[Verb] = &[Verb::Get, Verb::List];

/// A part of an object with a path of its own, such as `pods/eviction`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subresource {
    /// The last segment of its path.
    pub name: String,
    /// The group of what is sent and answered there.
    pub group: String,
    /// Its version.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// What may be done with it.
    pub verbs: Vec<Verb>,
}

/// A custom column of a printed table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PrinterColumn {
    /// The heading.
    pub name: String,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean`, `date`.
    pub column_type: String,
    /// OpenAPI format, often empty.
    pub format: String,
    /// For whoever asks what the column means.
    pub description: String,
    /// 0 is shown always, more only with `-o wide`.
    pub priority: i64,
    /// Where in the object the cell's value stands, as a simple JSONPath.
    pub path: String,
}

/// One kind of object, in one version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// As it stands in paths, such as `pods`.
    pub plural: String,
    /// As a person may type it, such as `pod`.
    pub singular: String,
    /// As it stands in objects, such as `Pod`.
    pub kind: String,
    /// The kind of a list of them.
    pub list_kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Abbreviations, such as `po`.
    pub short_names: Vec<String>,
    /// Groups of kinds that it is listed in, such as `all`.
    pub categories: Vec<String>,
    /// What may be done with it.
    pub verbs: Vec<Verb>,
    /// Its subresources.
    pub subresources: Vec<Subresource>,
    /// Group and plural under which its objects are stored; events have two
    /// views of one store. None where it is computed for each request.
    pub stored_as: Option<(String, String)>,
    /// Printed columns of a custom kind; None for built-in ones.
    pub columns: Option<Vec<PrinterColumn>>,
    /// Structural schema of a custom kind; None for built-in ones.
    pub schema: Option<Value>,
    /// Whether it comes from a custom resource definition.
    pub custom: bool,
}

impl Kind {
    /// `v1` or `group/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// `plural` or `plural.group`.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The subresource of that name.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// The kinds that a custom resource definition describes, one for each
    /// served version. None at all if it does not name what it must.
    #[must_use]
    pub fn of_crd(crd: &Value) -> Vec<Self> {
        let Some(spec) = crd.get("spec") else { return Vec::new() };
        let versions = spec.get("versions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        versions
            .iter()
            .filter(|version| version.get("served") == Some(&Value::Bool(true)))
            .filter_map(|version| of_crd_version(spec, version))
            .collect()
    }
}

/// `v1` for the core group, else `group/v1`.
#[must_use]
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The kinds that are there without any custom resource definition.
#[must_use]
pub fn built_in() -> &'static [Kind] {
    static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
        let mut kinds = of_core();
        kinds.extend(of_groups());
        kinds
    });
    &KINDS
}

fn of_core() -> Vec<Kind> {
    vec![
        cluster("", "v1", "namespaces", "Namespace").short("ns").status().sub("finalize", &[Verb::Update]),
        cluster("", "v1", "nodes", "Node").short("no").status(),
        namespaced("", "v1", "pods", "Pod")
            .short("po")
            .category("all")
            .status()
            .foreign("binding", "", "v1", "Binding", POST)
            .foreign("eviction", "policy", "v1", "Eviction", POST)
            .sub("log", READ),
        namespaced("", "v1", "services", "Service").short("svc").category("all").status(),
        namespaced("", "v1", "events", "Event").short("ev"),
        namespaced("", "v1", "configmaps", "ConfigMap").short("cm"),
        namespaced("", "v1", "secrets", "Secret"),
        namespaced("", "v1", "serviceaccounts", "ServiceAccount").short("sa"),
        cluster("", "v1", "persistentvolumes", "PersistentVolume").short("pv").status(),
        namespaced("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim").short("pvc").status(),
    ]
}

fn of_groups() -> Vec<Kind> {
    let crd = "CustomResourceDefinition";
    vec![
        namespaced("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget").short("pdb").status(),
        namespaced("coordination.k8s.io", "v1", "leases", "Lease"),
        namespaced("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
        namespaced("events.k8s.io", "v1", "events", "Event").short("ev").stored("", "events"),
        cluster("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass").short("pc"),
        cluster("storage.k8s.io", "v1", "storageclasses", "StorageClass").short("sc"),
        cluster("apiextensions.k8s.io", "v1", "customresourcedefinitions", crd)
            .short("crd")
            .short("crds")
            .category("api-extensions")
            .status(),
        cluster("metrics.k8s.io", "v1beta1", "nodes", "NodeMetrics").computed(READ_LIST),
        namespaced("metrics.k8s.io", "v1beta1", "pods", "PodMetrics").computed(READ_LIST),
        cluster("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview")
            .computed(POST),
    ]
}

fn cluster(group: &str, version: &str, plural: &str, kind: &str) -> Kind {
    Kind { namespaced: false, ..namespaced(group, version, plural, kind) }
}

fn namespaced(group: &str, version: &str, plural: &str, kind: &str) -> Kind {
    Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        namespaced: true,
        short_names: Vec::new(),
        categories: Vec::new(),
        verbs: FULL.to_vec(),
        subresources: Vec::new(),
        stored_as: Some((group.to_owned(), plural.to_owned())),
        columns: None,
        schema: None,
        custom: false,
    }
}

impl Kind {
    fn short(mut self, name: &str) -> Self {
        self.short_names.push(name.to_owned());
        self
    }

    fn category(mut self, name: &str) -> Self {
        self.categories.push(name.to_owned());
        self
    }

    fn status(self) -> Self {
        self.sub("status", STATUS)
    }

    /// A subresource that takes and answers objects of the kind itself.
    fn sub(self, name: &str, verbs: &[Verb]) -> Self {
        let (group, version, kind) = (self.group.clone(), self.version.clone(), self.kind.clone());
        self.foreign(name, &group, &version, &kind, verbs)
    }

    fn foreign(mut self, name: &str, group: &str, version: &str, kind: &str, verbs: &[Verb]) -> Self {
        self.subresources.push(Subresource {
            name: name.to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            verbs: verbs.to_vec(),
        });
        self
    }

    fn stored(mut self, group: &str, plural: &str) -> Self {
        self.stored_as = Some((group.to_owned(), plural.to_owned()));
        self
    }

    fn computed(mut self, verbs: &[Verb]) -> Self {
        self.stored_as = None;
        self.verbs = verbs.to_vec();
        self.list_kind = format!("{}List", self.kind);
        if self.kind.ends_with("Metrics") {
            self.singular = String::new();
        }
        self
    }
}

fn of_crd_version(spec: &Value, version: &Value) -> Option<Kind> {
    let text = |at: &str| spec.pointer(at).and_then(Value::as_str).filter(|text| !text.is_empty());
    let kind = text("/names/kind")?;
    let mut made = namespaced(text("/group")?, version.get("name")?.as_str()?, text("/names/plural")?, kind);
    made.custom = true;
    made.namespaced = text("/scope")? == "Namespaced";
    if let Some(singular) = text("/names/singular") {
        made.singular = singular.to_owned();
    }
    if let Some(list) = text("/names/listKind") {
        made.list_kind = list.to_owned();
    }
    made.short_names = texts(spec.pointer("/names/shortNames"));
    made.categories = texts(spec.pointer("/names/categories"));
    made.columns = Some(columns(version.get("additionalPrinterColumns")));
    made.schema = version.pointer("/schema/openAPIV3Schema").cloned();
    if version.pointer("/subresources/status").is_some() {
        made = made.status();
    }
    if version.pointer("/subresources/scale").is_some() {
        made = made.foreign("scale", "autoscaling", "v1", "Scale", STATUS);
    }
    Some(made)
}

fn texts(array: Option<&Value>) -> Vec<String> {
    let items = array.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn columns(array: Option<&Value>) -> Vec<PrinterColumn> {
    let items = array.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let text =
        |item: &Value, field: &str| item.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    items
        .iter()
        .map(|item| PrinterColumn {
            name: text(item, "name"),
            column_type: text(item, "type"),
            format: text(item, "format"),
            description: text(item, "description"),
            priority: item.get("priority").and_then(Value::as_i64).unwrap_or(0),
            path: text(item, "jsonPath"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_two_kinds_share_a_path() {
        let mut paths: Vec<_> =
            built_in().iter().map(|kind| (&kind.group, &kind.version, &kind.plural)).collect();
        let all = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), all);
    }

    #[test]
    fn a_definition_without_group_or_plural_describes_nothing() {
        let version = json!({"name": "v1", "served": true});
        for spec in [
            json!({"names": {"kind": "Thing", "plural": "things"}, "scope": "Namespaced", "versions": [version]}),
            json!({"group": "g", "names": {"kind": "Thing"}, "scope": "Namespaced", "versions": [version]}),
            json!({"group": "g", "names": {"kind": "Thing", "plural": ""}, "scope": "Namespaced", "versions": [version]}),
        ] {
            assert_eq!(Kind::of_crd(&json!({"spec": spec})), []);
        }
        assert_eq!(Kind::of_crd(&json!({})), []);
    }

    #[test]
    fn a_version_that_is_not_served_is_no_kind() {
        let kinds = Kind::of_crd(&json!({"spec": {
            "group": "g", "scope": "Cluster",
            "names": {"kind": "Thing", "plural": "things", "shortNames": ["th"], "categories": ["all"]},
            "versions": [
                {"name": "v1", "served": true, "subresources": {"status": {}, "scale": {}}},
                {"name": "v0", "served": false},
            ],
        }}));
        assert_eq!(kinds.len(), 1);
        assert_eq!(kinds[0].api_version(), "g/v1");
        assert!(!kinds[0].namespaced);
        assert_eq!(kinds[0].short_names, ["th"]);
        assert_eq!(kinds[0].subresource("scale").map(|sub| sub.kind.as_str()), Some("Scale"));
    }
}
