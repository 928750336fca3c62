//! A site set of the API.

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::{Country, Jurisdiction, PlaceError, Tier};
use coffer_scheduler::{Effect, Pod, Residency, Resources, SetName, Spread, Toleration, Why};

use super::{AffinityError, QuantityError, affinity, millis, whole};
use crate::resources::{SiteSet, SiteTemplate, SiteToleration};

/// Why a site set is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetRefusal {
    /// Its name is none.
    #[error("a site set's name is one DNS label, and short enough for -NUMBER behind it, not \"{0}\"")]
    Name(String),
    /// A place that there is not.
    #[error("spec.residency: {0}")]
    Place(PlaceError),
    /// An amount that cannot be read.
    #[error("spec.template.resources.{0}: {1}")]
    Amount(&'static str, QuantityError),
    /// Not enough shards, or too many, for any object.
    #[error("spec: an object needs at least one data shard, and no more than 256 shards in all")]
    Shards,
    /// Fewer pods than an object has shards.
    #[error("spec.replicas: {replicas} pods cannot hold {shards} shards of an object on a pod each")]
    TooFew {
        /// Pods that are wanted.
        replicas: u32,
        /// Shards of an object.
        shards: u32,
    },
    /// No pods in a failure domain.
    #[error("spec.spread: perDomain and perCountry are at least 1")]
    Spread,
    /// Not the image of one digest.
    #[error("spec.template.image: an image is named by its digest, NAME@sha256:64 digits, not \"{0}\"")]
    Image(String),
    /// An effect that taints do not have.
    #[error("spec.template.tolerations: an effect is NoSchedule or NoExecute, not \"{0}\"")]
    Effect(String),
    /// A place that cannot be read, or that nobody would keep.
    #[error("spec.template: {0}")]
    Affinity(#[from] AffinityError),
}

/// A site set, as far as placing is concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenSet {
    /// Its name.
    pub name: SetName,
    /// Its namespace.
    pub namespace: String,
    /// How many pods are wanted; none once it is on its way out.
    pub replicas: usize,
    /// Shards that suffice to read an object.
    pub needed: u32,
    /// Where its pods may stand.
    pub residency: Residency,
    /// How they are spread.
    pub spread: Spread,
    /// What a new pod is like.
    pub template: Pod,
    /// The version of that.
    pub version: u64,
    /// Its sites, whether pods of theirs exist or not, as its status says.
    pub members: BTreeSet<u32>,
    /// Those of them that are giving way to pods of a higher priority, as its status says.
    pub giving_way: BTreeSet<u32>,
    /// Its former sites whose bytes are on their disks still.
    pub departed: BTreeSet<u32>,
    /// The countries that its sites stand in for life.
    pub countries: BTreeMap<u32, Country>,
    /// For how long a silent node is waited for, in seconds.
    pub grace_seconds: u32,
    /// For how long before what its pods hold is rebuilt elsewhere, in seconds.
    pub rebuild_after_seconds: u32,
}

impl SeenSet {
    /// The sites that have a disk: those of the set, and those that have left it and not yet their disks.
    pub fn on_disks(&self) -> impl Iterator<Item = u32> {
        self.members.iter().chain(&self.departed).copied()
    }

    /// Whether it is one of these.
    pub fn is_on_disk(&self, ordinal: u32) -> bool {
        self.members.contains(&ordinal) || self.departed.contains(&ordinal)
    }
}

/// Reads a site set.
///
/// # Errors
/// [`SetRefusal`].
pub fn site_set(object: &SiteSet) -> Result<SeenSet, SetRefusal> {
    let text = object.metadata.name.clone().unwrap_or_default();
    // SET-NUMBER has to be a label as well.
    let name: SetName = text.parse().map_err(|_| SetRefusal::Name(text.clone()))?;
    if text.len() > 52 {
        return Err(SetRefusal::Name(text));
    }
    let spec = &object.spec;
    let shards = spec.data_shards.saturating_add(spec.parity_shards);
    if spec.data_shards == 0 || shards > 256 {
        return Err(SetRefusal::Shards);
    }
    let going = object.metadata.deletion_timestamp.is_some();
    if spec.replicas < shards && spec.replicas > 0 {
        return Err(SetRefusal::TooFew { replicas: spec.replicas, shards });
    }
    let spread = Spread {
        per_domain: spec.spread.per_domain,
        per_country: spec.spread.per_country,
        country_skew: spec.spread.country_skew,
    };
    if spread.per_domain == 0 || spread.per_country == Some(0) {
        return Err(SetRefusal::Spread);
    }
    let list = |texts: &[String]| -> Result<Vec<Jurisdiction>, SetRefusal> {
        texts.iter().map(|text| text.parse().map_err(SetRefusal::Place)).collect()
    };
    let tier_min: Tier = spec.residency.tier_min.parse().map_err(SetRefusal::Place)?;
    let residency =
        Residency { allow: list(&spec.residency.allow)?, deny: list(&spec.residency.deny)?, tier_min };
    let all = object.status.iter().flat_map(|status| &status.members);
    let countries = all.filter_map(|one| Some((one.ordinal, one.country.as_ref()?.parse().ok()?)));
    let members = object.status.iter().flat_map(|status| &status.members).map(|member| member.ordinal);
    let is_preempted = format!("{:?}", Why::Preempted);
    let all = object.status.iter().flat_map(|status| &status.members);
    let giving_way = all.filter(|one| one.leaves.as_ref() == Some(&is_preempted)).map(|one| one.ordinal);
    let departed = object.status.iter().flat_map(|status| &status.departed).map(|site| site.ordinal);
    Ok(SeenSet {
        name,
        namespace: object.metadata.namespace.clone().unwrap_or_default(),
        replicas: if going { 0 } else { usize::try_from(spec.replicas).unwrap_or(usize::MAX) },
        needed: spec.data_shards,
        residency,
        spread,
        template: template(&spec.template, object.metadata.namespace.as_deref().unwrap_or_default(), &text)?,
        version: version(&spec.template),
        members: members.collect(),
        giving_way: giving_way.collect(),
        departed: departed.collect(),
        countries: countries.collect(),
        grace_seconds: spec.grace_seconds,
        rebuild_after_seconds: spec.rebuild_after_seconds,
    })
}

fn template(template: &SiteTemplate, namespace: &str, set: &str) -> Result<Pod, SetRefusal> {
    if !is_by_digest(&template.image) {
        return Err(SetRefusal::Image(template.image.clone()));
    }
    let resources = &template.resources;
    let tolerations: Result<Vec<Toleration>, SetRefusal> =
        template.tolerations.iter().map(toleration).collect();
    let needs = Resources {
        cpu_millis: millis(&resources.cpu).map_err(|why| SetRefusal::Amount("cpu", why))?,
        memory_bytes: whole(&resources.memory).map_err(|why| SetRefusal::Amount("memory", why))?,
        disk_bytes: resources.disk_bytes,
        iops: resources.iops,
    };
    Ok(Pod {
        selector: template.node_selector.clone(),
        tolerations: tolerations?,
        affinity: affinity::of_set(template.affinity.as_ref(), namespace, set, &BTreeMap::new())?,
        // What its class is worth is said with each pod.
        ..Pod::plain(0, needs)
    })
}

fn is_by_digest(image: &str) -> bool {
    let digest = image.split_once("@sha256:").map(|(_, digest)| digest);
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    digest.is_some_and(|digest| digest.len() == 64 && digest.bytes().all(is_digit))
}

fn toleration(one: &SiteToleration) -> Result<Toleration, SetRefusal> {
    let effect = match one.effect.as_deref() {
        None => None,
        Some("NoSchedule") => Some(Effect::NoSchedule),
        Some("NoExecute") => Some(Effect::NoExecute),
        Some(other) => return Err(SetRefusal::Effect(other.to_owned())),
    };
    Ok(Toleration { key: one.key.clone(), value: one.value.clone(), effect })
}

/// The version of a template: equal templates have equal ones.
pub fn version(template: &SiteTemplate) -> u64 {
    // Texts, numbers and maps with text keys always have a JSON form.
    let bytes = serde_json::to_vec(template).unwrap_or_default();
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(change: impl FnOnce(&mut Value)) -> Result<SeenSet, SetRefusal> {
        let digest = "0123456789abcdef".repeat(4);
        let mut value = json!({
            "apiVersion": "fleet.coffer/v1", "kind": "SiteSet",
            "metadata": { "name": "gold", "namespace": "coffer" },
            "spec": {
                "replicas": 6, "dataShards": 4, "parityShards": 2,
                "residency": { "allow": ["EU"], "deny": ["FR"], "tierMin": "III" },
                "template": {
                    "image": format!("coffer.local/site@sha256:{digest}"),
                    "resources": { "cpu": "250m", "memory": "64Mi", "diskBytes": 5, "iops": 1 },
                },
            },
            "status": { "members": [{ "ordinal": 4 }] },
        });
        change(&mut value);
        site_set(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_site_set_is_read_whole_with_what_it_left_unsaid() {
        let seen = of(|_| ()).unwrap();
        assert_eq!((seen.replicas, seen.needed, seen.spread), (6, 4, Spread::default()));
        assert_eq!(seen.template.needs.cpu_millis, 250);
        assert_eq!(seen.members, [4].into());
    }

    #[test]
    fn a_set_on_its_way_out_wants_no_pods() {
        let going = of(|value| value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        assert_eq!(going.unwrap().replicas, 0);
    }

    #[test]
    fn everything_that_cannot_be_kept_is_refused_by_name() {
        let spec = |path: &str, new: Value| {
            let path = format!("/spec{path}");
            of(move |value| *value.pointer_mut(&path).unwrap() = new)
        };
        assert!(matches!(spec("/dataShards", json!(0)), Err(SetRefusal::Shards)));
        assert!(matches!(spec("/replicas", json!(5)), Err(SetRefusal::TooFew { .. })));
        assert!(matches!(spec("/residency/allow", json!(["XXL"])), Err(SetRefusal::Place(_))));
        assert!(matches!(spec("/residency/tierMin", json!("V")), Err(SetRefusal::Place(_))));
        assert!(matches!(spec("/template/image", json!("site:latest")), Err(SetRefusal::Image(_))));
        assert!(matches!(spec("/template/resources/cpu", json!("-1")), Err(SetRefusal::Amount("cpu", _))));
        let domain = of(|value| value["spec"]["spread"] = json!({ "perDomain": 0 }));
        assert!(matches!(domain, Err(SetRefusal::Spread)));
        let effect = json!([{ "key": "a", "effect": "Sometimes" }]);
        let effect = of(|value| value["spec"]["template"]["tolerations"] = effect);
        assert!(matches!(effect, Err(SetRefusal::Effect(_))));
        let near = json!([{ "topologyKey": "rack", "labelSelector": {} }]);
        let near = json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": near } });
        let near = of(|value| value["spec"]["template"]["affinity"] = near);
        assert!(matches!(near, Err(SetRefusal::Affinity(AffinityError::OwnSet(_)))));
        let long = of(|value| value["metadata"]["name"] = json!("a".repeat(60)));
        assert!(matches!(long, Err(SetRefusal::Name(_))));
    }

    #[test]
    fn a_changed_template_is_another_version() {
        let before = of(|_| ()).unwrap().version;
        assert_eq!(of(|value| value["spec"]["replicas"] = json!(7)).unwrap().version, before);
        let after = of(|value| value["spec"]["template"]["args"] = json!(["--verbose"])).unwrap().version;
        assert_ne!(after, before);
    }
}
