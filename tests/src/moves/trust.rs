//! Three stories about where a node is believed to stand: its attestation says
//! another country, is forged, or is revoked. From then on no new byte goes there, what is
//! there moves, and its pod goes once everything can be read without it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Home, Plan, until};
use crate::fleet::Programs;

/// After this time not a byte more may reach a site whose node is not believed.
const NO_BYTE_AFTER: Duration = Duration::from_secs(5);
/// Where a node says that it stands, in words that nobody signed.
const LABEL: &str = "topology.kubernetes.io/region";

/// What a story came to.
#[derive(Clone, Debug)]
pub struct Trust {
    story: &'static str,
    /// When the last write began that reached the site, from the moment on in which it was not believed.
    last: Option<Duration>,
    /// Bytes that the site acknowledged after five seconds.
    late: u64,
    pod_gone: Duration,
    /// `None`: not in this story, in which its shards have nowhere to go at first.
    retired: Option<Duration>,
    objects: usize,
    note: &'static str,
}

impl Trust {
    /// Whether every byte came early enough.
    pub fn holds(&self) -> bool {
        self.late == 0 && self.last.is_none_or(|last| last <= NO_BYTE_AFTER)
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: &Duration| format!("{:.1} s", time.as_secs_f64());
        let last = self.last.as_ref().map_or_else(|| "none".to_owned(), seconds);
        let verdict = if self.holds() { "within" } else { "NOT WITHIN" };
        let gone = seconds(&self.pod_gone);
        let retired = self.retired.as_ref().map(|time| format!("site retired after {}, ", seconds(time)));
        let retired = retired.unwrap_or_default();
        let Self { story, late, objects, note, .. } = self;
        write!(f, "{story:<28} last write there began after {last}, {late} B after 5 s ({verdict} 5 s), ")?;
        write!(f, "pod gone after {gone}, {retired}all {objects} objects read back{note}")
    }
}

fn founded(programs: &Programs, plan: &Plan, size: u64) -> Home {
    let mut home = Home::start(programs, plan);
    home.put(6, size);
    home.put(6, 300);
    home
}

/// Changes a node as whoever may write objects can.
fn apply(home: &Home, node: &str, labels: &Value, attestation: Option<&Value>) {
    let annotations = attestation.map(|text| json!({ "fleet.coffer/attestation": text }));
    let object = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": node, "labels": labels, "annotations": annotations.unwrap_or_else(|| json!({})) },
    });
    std::fs::write(home.file("node.json"), object.to_string()).unwrap();
    home.good(&["fleet", "apply", "node.json"]);
}

/// A statement over a node, by the operator's key or by another one.
fn signed(home: &Home, node: &str, country: &str, key: Option<&str>) -> Value {
    let mut words = vec!["fleet", "attest", node, "--country", country, "--domain", node, "--tier", "III"];
    words.extend(key.iter().flat_map(|key| ["--key", key]));
    home.good(&words)[0]["attestation"].clone()
}

/// Writes go on from the moment of `distrust`, until the site is retired, or its pod is gone where
/// that is enough.
fn watched(
    home: &mut Home,
    story: &'static str,
    pod: &str,
    to_the_end: bool,
    distrust: impl FnOnce(&Home),
) -> Trust {
    let begun = Instant::now();
    distrust(home);
    let (mut last, mut pod_gone, mut retired) = (None, None, None);
    let (mut early, mut newest): (Option<u64>, u64) = (None, 0);
    let mut count = 0_u32;
    until("the site has gone", || {
        let (at, name) = (begun.elapsed(), format!("{}-{count}", story.replace(' ', "-")));
        count += 1;
        if home.try_put(&name, 300_000) {
            home.objects.push((name.clone(), 300_000));
            // Just now a pod may be silent, so that the object is not whole: that is told, with another exit code.
            let stat = home.coffer(&["object", "stat", &format!("documents/{name}"), "--shards"]);
            assert!(matches!(stat.status.code(), Some(0 | 3)), "{stat:?}");
            if String::from_utf8_lossy(&stat.stdout).contains(pod) {
                last = Some(at);
            }
        }
        let site = home.sites().remove(pod)?;
        let is_retired = site["standing"] == "retired";
        if !is_retired {
            newest = site["written_bytes"].as_u64().unwrap();
            if begun.elapsed() > NO_BYTE_AFTER {
                early.get_or_insert(newest);
            }
        }
        if !home.homes().contains_key(pod) && pod_gone.is_none() {
            pod_gone = Some(begun.elapsed());
            home.reads_back();
        }
        retired = is_retired.then(|| begun.elapsed());
        (pod_gone.is_some() && (is_retired || !to_the_end)).then_some(())
    });
    let pod_gone = pod_gone.unwrap();
    let late = newest - early.unwrap_or(newest);
    let objects = home.reads_back();
    Trust { story, last, late, pod_gone, retired, objects, note: "" }
}

/// What holds once a story is over: six pods, none of them the one that went, and everything whole.
fn is_over(home: &Home, pod: &str) {
    until("everything is whole on six pods", || {
        let homes = home.homes();
        (homes.len() == 6 && !homes.contains_key(pod) && home.is_whole()).then_some(())
    });
}

/// The operator signs that a node stands in another country now.
///
/// # Panics
/// If something does not come, or an object is lost.
pub fn relabelled(programs: &Programs, size: u64) -> Trust {
    let mut home = founded(programs, &Plan::seven("10m"), size);
    let pod = "sites-2";
    let node = home.homes()[pod].clone();
    let text = signed(&home, &node, "US", None);
    let told = watched(&mut home, "attested elsewhere", pod, true, |home| {
        apply(home, &node, &json!({}), Some(&text));
    });
    is_over(&home, pod);
    told
}

/// Labels that nobody signed change nothing, whatever they say; an attestation of another key costs a node its
/// pod, and a node that only claims to stand where it should gets none.
///
/// # Panics
/// If something does not come, or an object is lost.
pub fn forged(programs: &Programs, size: u64) -> Trust {
    let plan = Plan::seven("10m");
    let mut home = founded(programs, &plan, size);
    home.patch(&json!({ "residency": { "allow": ["EU"] } }));
    let pod = "sites-2";
    let before = home.homes();
    let node = before[pod].clone();
    let places = plan.places.iter().map(|(name, _)| name);
    let spare = places.into_iter().find(|name| !before.values().any(|node| node == *name)).unwrap();
    let (abroad, at_home) = (json!({ LABEL: "US" }), json!({ LABEL: "DE" }));
    apply(&home, &node, &abroad, None);
    // The spare node stands elsewhere, and claims to stand here.
    let elsewhere = signed(&home, spare, "US", None);
    apply(&home, spare, &at_home, Some(&elsewhere));
    for _ in 0..20 {
        assert!(home.homes() == before && home.standing(pod).as_deref() == Some("active"));
    }
    let text = signed(&home, &node, "DE", Some("another.key"));
    let told = watched(&mut home, "attestation forged", pod, false, |home| {
        apply(home, &node, &at_home, Some(&text));
    });
    let homes = home.homes();
    assert!(homes.values().all(|node| node != spare), "a label brought it a pod: {homes:?}");
    // The operator says the same of the spare node, and signs it.
    let text = signed(&home, spare, "DE", None);
    apply(&home, spare, &at_home, Some(&text));
    until("the site is retired", || (home.standing(pod).as_deref() == Some("retired")).then_some(()));
    is_over(&home, pod);
    home.reads_back();
    Trust {
        note: "; labels changed nothing, and the spare node got a pod only when it was signed for",
        ..told
    }
}

/// The operator revokes what was signed for a node; then again for another one, while two more
/// pods do not answer, so that no shard can be spared.
///
/// # Panics
/// If something does not come, or an object is lost.
pub fn revoked(programs: &Programs, size: u64) -> Trust {
    let mut home = founded(programs, &Plan::seven("10m"), size);
    let pod = "sites-2";
    let homes: BTreeMap<String, String> = home.homes();
    let node = homes[pod].clone();
    let told = watched(&mut home, "attestation revoked", pod, true, |home| {
        home.good(&["fleet", "revoke", &node, "--reason", "the building was sold"]);
    });
    is_over(&home, pod);
    let nodes = home.good(&["fleet", "nodes"]);
    let said = nodes.iter().find(|one| one["node"] == node.as_str()).unwrap();
    assert_eq!(said["revoked"], "the building was sold");
    // A start signs nothing anew that was revoked.
    home.restart(&Plan::seven("10m"));
    let nodes = home.good(&["fleet", "nodes"]);
    let said = nodes.iter().find(|one| one["node"] == node.as_str()).unwrap();
    assert_eq!(said["revoked"], "the building was sold");
    is_over(&home, pod);
    // Signed for anew, it is a node like others.
    let text = signed(&home, &node, "NL", None);
    apply(&home, &node, &json!({}), Some(&text));
    until("it takes pods", || {
        let nodes = home.good(&["fleet", "nodes"]);
        nodes.iter().any(|one| one["node"] == node.as_str() && one["revoked"].is_null()).then_some(())
    });
    for silent in ["sites-0", "sites-1"] {
        home.containers(&homes[silent]).iter().for_each(|container| container.init.signal(Signal::STOP));
        until("a stopped pod is missed", || (!home.active().contains(silent)).then_some(()));
    }
    home.good(&["fleet", "revoke", &homes["sites-3"]]);
    until("its pod has gone", || (!home.homes().contains_key("sites-3")).then_some(()));
    // Four are left that answer, and it takes four.
    home.reads_back();
    for silent in ["sites-0", "sites-1"] {
        home.containers(&homes[silent]).iter().for_each(|container| container.init.signal(Signal::CONT));
    }
    until("the site is retired", || (home.standing("sites-3").as_deref() == Some("retired")).then_some(()));
    until("those that were stopped answer", || (home.active().len() == 6).then_some(()));
    // What they missed meanwhile.
    until("repair has done all", || home.coffer(&["repair", "run"]).status.success().then_some(()));
    is_over(&home, "sites-3");
    let note =
        "; and of another node while two pods did not answer: everything could be read when its pod had gone";
    Trust { objects: home.reads_back(), note, ..told }
}
