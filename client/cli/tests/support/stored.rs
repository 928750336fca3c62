//! Objects on the pods of a fleet: where the pods are, how their sites stand,
//! and that every byte comes back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::calls::good;

/// The nodes of the pods.
pub(crate) fn homes(dir: &Path) -> BTreeMap<String, String> {
    let pods = good(dir, &["fleet", "pods"]);
    let text = |pod: &Value, field: &str| pod[field].as_str().unwrap_or_default().to_owned();
    pods.iter().map(|pod| (text(pod, "pod"), text(pod, "node"))).collect()
}

/// How the service counts on a site.
pub(crate) fn standing(dir: &Path, site: &str) -> String {
    let sites = good(dir, &["site", "ls"]);
    let site = sites.iter().find(|one| one["site"] == site).unwrap();
    site["standing"].as_str().unwrap().to_owned()
}

/// Nothing is short, and nothing lies where it should not, as far as the service hears: a pod
/// that is silent for a moment counts against it.
pub(crate) fn is_whole(dir: &Path) -> bool {
    let plan = good(dir, &["repair", "plan"]);
    (plan[0]["steps"].as_u64(), plan[0]["versions_short"].as_u64()) == (Some(0), Some(0))
}

/// Objects of both kinds, with what is in them.
pub(crate) fn put(dir: &Path, from: u8, to: u8) {
    for n in from..to {
        let size = if n % 2 == 0 { 300 } else { 700_000 };
        fs::write(dir.join(format!("in-{n}")), vec![n; size]).unwrap();
        good(dir, &["object", "put", &format!("in-{n}"), &format!("documents/{n}")]);
    }
}

/// The first so many of them are what they were.
pub(crate) fn reads_back(dir: &Path, count: u8) {
    for n in 0..count {
        let out = format!("out-{n}");
        good(dir, &["object", "get", &format!("documents/{n}"), "-o", &out]);
        assert!(fs::read(dir.join(&out)).unwrap() == fs::read(dir.join(format!("in-{n}"))).unwrap(), "{n}");
        fs::remove_file(dir.join(out)).unwrap();
    }
}
