//! Four stories about bytes that move: a reboot, a loss for good, a new site, and
//! ten sites that become three.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rustix::process::Signal;
use serde_json::json;

use super::{Home, Lies, Plan, WHOLE, until};
use crate::fleet::Programs;

/// Shards that suffice to read an object of the default geometry.
const K: u64 = 4;

/// What a story came to.
#[derive(Clone, Debug)]
pub struct Figures {
    story: &'static str,
    /// The least that could have been copied, from where the objects lay before and lie after.
    pub least: u64,
    /// Bytes of shards and manifest records that sites acknowledged.
    pub copied: u64,
    /// By how much the volumes of all sites grew; log runs and facts are in it.
    pub grown: u64,
    /// The most that may be copied, in hundredths of the least; `None`: nothing was promised.
    pub bound: Option<u64>,
    /// Objects that were read back.
    pub objects: usize,
    /// What else there is to say.
    pub note: String,
}

impl Figures {
    /// Whether no more was copied than was promised.
    pub fn holds(&self) -> bool {
        self.bound.is_none_or(|bound| self.copied * 100 <= self.least * bound)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { story, least, copied, grown, objects, note, .. } = self;
        write!(f, "{story:<28} least {least:>11} B, copied {copied:>11} B")?;
        if *least > 0 {
            let thousandths = copied * 1000 / least;
            write!(f, " = {}.{:03} times", thousandths / 1000, thousandths % 1000)?;
        }
        if let Some(bound) = self.bound {
            let verdict = if self.holds() { "within" } else { "NOT WITHIN" };
            write!(f, " ({verdict} {}.{:02})", bound / 100, bound % 100)?;
        }
        write!(f, ", volumes grew by {grown} B, all {objects} objects read back{note}")
    }
}

/// What stood before something happened.
struct Before {
    written: BTreeMap<String, u64>,
    disk: BTreeMap<String, u64>,
}

impl Before {
    fn of(home: &Home) -> Self {
        Self { written: home.written(), disk: home.on_disk() }
    }

    fn more(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> u64 {
        after.iter().map(|(site, now)| now.saturating_sub(before.get(site).copied().unwrap_or(0))).sum()
    }

    /// Bytes of data that were acknowledged since, and by how much volumes grew.
    fn since(&self, home: &Home) -> (u64, u64) {
        (Self::more(&self.written, &home.written()), Self::more(&self.disk, &home.on_disk()))
    }
}

/// A machine goes down with its agent and its pod, for longer than a replacement may take, and comes
/// back before anybody has given it up.
///
/// # Panics
/// If something does not come, or an object is lost.
pub fn a_reboot(programs: &Programs, objects: usize, size: u64) -> Figures {
    let mut home = Home::start(programs, &Plan::seven("10m"));
    home.put(objects, size);
    home.put(objects, 3000);
    let pod = "sites-2";
    let node = home.homes()[pod].clone();
    let before = Before::of(&home);
    home.down(&node);
    until("another pod stands in", || home.active().contains("sites-6").then_some(()));
    assert_eq!(home.standing(pod).as_deref(), Some("active"), "nobody has given it up");
    // Stopped it was to its supervisor as good as gone; killed it is started again.
    assert_eq!(home.signal_agent(&node, Signal::KILL), 1, "one agent");
    until("it is back", || home.active().contains(pod).then_some(()));
    let gone = || home.standing("sites-6").as_deref() == Some("retired") && home.homes().len() == 6;
    until("who stood in has gone", || gone().then_some(()));
    assert_eq!(home.homes()[pod], node);
    until("everything is whole", || home.is_whole().then_some(()));
    let (copied, grown) = before.since(&home);
    let objects = home.reads_back();
    let note = "; another pod stood in meanwhile".to_owned();
    Figures { story: "reboot within the grace", least: 0, copied, grown, bound: Some(100), objects, note }
}

/// What a loss for good may cost, in hundredths of what lay there. An object of up to 64 KiB lies whole at three of the
/// sites; a new copy of it costs all three, because each record of it names their sites and is signed so.
const fn loss_bound(size: u64) -> u64 {
    if size <= WHOLE { 3 * 105 } else { 105 }
}

/// A machine goes down and does not come back.
///
/// # Panics
/// If something does not come, or an object is lost.
pub fn a_loss(programs: &Programs, objects: usize, size: u64) -> Figures {
    let mut home = Home::start(programs, &Plan::seven("3s"));
    home.put(objects, size);
    let pod = "sites-2";
    let node = home.homes()[pod].clone();
    let least = home.lies(K).at(pod);
    let before = Before::of(&home);
    home.down(&node);
    until("it is given up", || (home.standing(pod).as_deref() == Some("retired")).then_some(()));
    until("everything is whole", || home.is_whole().then_some(()));
    let after = home.lies_well(K);
    let (copied, grown) = before.since(&home);
    assert_eq!(after.at(pod), 0, "{after:?}");
    let objects = home.reads_back();
    assert!(least > 0, "nothing lay there");
    let (note, bound) = (String::new(), Some(loss_bound(size)));
    Figures { story: "loss for good", least, copied, grown, bound, objects, note }
}

/// A seventh site joins six that are filled alike, and the operator levels them.
///
/// # Panics
/// If something does not come, or an object is lost.
pub fn a_new_site(programs: &Programs, objects: usize, size: u64) -> Figures {
    let mut home = Home::start(programs, &Plan::seven("10m"));
    home.put(objects, size);
    home.patch(&json!({ "replicas": 7 }));
    until("the seventh is a site", || home.active().contains("sites-6").then_some(()));
    // What every site holds, keys and log, comes first.
    home.good(&["repair", "run"]);
    let least = home.lies(K).total() / 7;
    let before = Before::of(&home);
    let plan = home.good(&["site", "rebalance"]);
    assert_eq!(Before::more(&before.written, &home.written()), 0, "a plan moves nothing");
    let run = home.good(&["site", "rebalance", "--run"]);
    assert_eq!(run[0]["done"], plan[0]["moves"], "{run:?}");
    let after = home.lies_well(K);
    until("everything is whole", || home.is_whole().then_some(()));
    let (copied, grown) = before.since(&home);
    let got = after.at("sites-6");
    assert!(got * 100 >= least * 90, "the new site has {got} of {least}");
    let again = home.good(&["site", "rebalance"]);
    assert_eq!(again[0]["moves"], 0, "what is level stays as it is");
    // It was no start that wanted seven, and none takes the seventh back.
    home.restart(&Plan::seven("10m"));
    assert!(home.homes().len() == 7 && home.lies(K).at("sites-6") == got);
    let objects = home.reads_back();
    let note = format!("; the new site has {}.{:02} of its share", got / least, got * 100 / least % 100);
    Figures { story: "a seventh site", least, copied, grown, bound: Some(110), objects, note }
}

/// Bytes that have to move at the least when only these sites are left, of objects with a shard at each of three
/// sites: one for each of its sites that goes.
fn least_for(before: &Lies, left: &BTreeSet<String>, shard: u64) -> u64 {
    let goes = |sites: &BTreeSet<String>| sites.difference(left).count() as u64;
    before.sites.values().map(|sites| goes(sites) * shard).sum()
}

/// Ten pods in three countries become three, while everything can be read.
///
/// # Panics
/// If something does not come, a state on the way is not legal, or an object is lost.
pub fn ten_become_three(programs: &Programs, objects: usize, size: u64) -> Figures {
    let countries = ["DE", "FR", "NL"];
    let places = (0..10).map(|n| (format!("n{n}"), countries[n % 3])).collect::<Vec<_>>();
    let country_of: BTreeMap<String, &str> = places.iter().cloned().collect();
    let plan = Plan { places, spare: 0, rebuild_after: "10m", geometry: "2+1" };
    let mut home = Home::start(programs, &plan);
    let spread = json!({ "countrySkew": 1 });
    home.patch(&json!({ "dataShards": 2, "parityShards": 1, "spread": spread }));
    home.put(objects, size);
    let (lies, before, homes) = (home.lies(2), Before::of(&home), home.homes());
    let count = |home: &Home| {
        let mut counts: BTreeMap<&str, u64> = countries.iter().map(|country| (*country, 0)).collect();
        for node in home.homes().values() {
            *counts.entry(country_of[node]).or_default() += 1;
        }
        counts
    };
    home.patch(&json!({ "replicas": 3 }));
    let (mut fewest, mut looks) = (usize::MAX, 0);
    until("three are left", || {
        let now = count(&home);
        is_legal(&now);
        // Of an object each time, all of them in turn: how many more losses it survives.
        let (name, _) = &home.objects[looks % home.objects.len()];
        looks += 1;
        fewest = fewest.min(home.survives(name, 2));
        (now.values().sum::<u64>() == 3).then_some(())
    });
    until("seven are retired", || (home.active().len() == 3).then_some(()));
    assert_eq!(count(&home), countries.iter().map(|country| (*country, 1)).collect());
    assert!(fewest >= 1, "an object could have been lost with one more site");
    let least = least_for(&lies, &home.active(), size.div_ceil(2));
    // What the last moves left where it should not be is removed after the last site has gone.
    until("everything is whole", || home.is_whole().then_some(()));
    home.lies_well(2);
    let (copied, grown) = before.since(&home);
    let objects = home.reads_back();
    let way = way(&home, &homes.iter().map(|(pod, node)| (pod.as_str(), country_of[node])).collect());
    let note = format!("; by the fleet's events {way}, each object survived {fewest} more at least");
    Figures { story: "ten become three", least, copied, grown, bound: None, objects, note }
}

/// Countries differ by one pod at most.
fn is_legal(counts: &BTreeMap<&str, u64>) {
    let (most, least) = (counts.values().max().unwrap(), counts.values().min().unwrap());
    assert!(most - least <= 1, "{counts:?} is not legal");
}

/// Every state on the way, by the events of the pods that left; each is legal.
fn way(home: &Home, country_of: &BTreeMap<&str, &'static str>) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    country_of.values().for_each(|country| *counts.entry(country).or_default() += 1);
    let text =
        |counts: &BTreeMap<&str, u64>| counts.values().map(u64::to_string).collect::<Vec<_>>().join("-");
    let mut states = vec![text(&counts)];
    // The newest is the last.
    for event in home.good(&["fleet", "events", "--limit", "1000"]) {
        let pod = event["about"].as_str().and_then(|about| about.strip_prefix("Pod/"));
        if let Some(pod) = pod.filter(|_| event["reason"] == "Leaves") {
            *counts.get_mut(country_of[pod]).unwrap() -= 1;
            is_legal(&counts);
            states.push(text(&counts));
        }
    }
    assert_eq!(states.len(), 8, "seven pods left: {states:?}");
    states.join(" ")
}

impl Home {
    /// A machine stops: its agent does nothing any more, its pod is dead.
    fn down(&self, node: &str) {
        // An agent that was killed would be started again at once.
        assert_eq!(self.signal_agent(node, Signal::STOP), 1, "one agent");
        let containers = self.containers(node);
        assert!(!containers.is_empty());
        for container in containers {
            container.shim.signal(Signal::KILL);
            container.init.signal(Signal::KILL);
        }
    }
}
