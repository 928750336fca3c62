//! The story of a fleet with data whose nodes are drained by the `kubectl` of
//! this machine: no budget is written by hand, the ledger of shards says what may go.

use std::fmt;
use std::path::Path;

use super::{Home, Plan, kubectl, until};
use crate::fleet::Programs;

/// What the story came to.
#[derive(Clone, Debug)]
pub struct Drains {
    /// What the refused drain said.
    pub refused: String,
    /// Objects that were read back after each step.
    pub objects: usize,
}

impl fmt::Display for Drains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refused, objects } = self;
        write!(
            f,
            "kubectl drain: the second node was refused ({refused}) until the data of the first lay elsewhere, "
        )?;
        write!(f, "then passed; all {objects} objects read back after each step")
    }
}

/// The line in which a refused drain says why.
fn why(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.contains("Cannot evict pod as it would violate"))?;
    Some(line.rsplit_once("disruption budget. ")?.1.to_owned())
}

/// Two nodes of a fleet whose objects lie on all six pods are drained one after the other. The first pod may
/// be missing. The second may not, until what lay on the first is on a spare node, which takes pods again only then.
/// `None`, and a word about it: there is no such binary here.
///
/// # Panics
/// If a drain passes that must not, something does not come, or an object is lost.
pub fn drained_by_kubectl(programs: &Programs, objects: usize, size: u64) -> Option<Drains> {
    let Some(binary) = kubectl::find() else {
        kubectl::say_that_there_is_none("drain of a fleet with data");
        return None;
    };
    let plan = Plan::seven("1h");
    let mut home = Home::start(programs, &plan);
    home.put(objects, size);
    home.put(objects, 3000);
    let homes = home.homes();
    let (first, second) = ("sites-2", "sites-3");

    // Whoever empties a cordoned node wants its data elsewhere: that has to wait.
    let places = plan.places.iter().map(|(name, _)| name);
    let spare = places.into_iter().find(|name| !homes.values().any(|node| node == *name)).unwrap();
    good(&home, binary, &format!("cordon {spare}"));
    passes(&home, binary, &homes[first]);
    home.reads_back();

    let drain = format!("drain {} --timeout=2s", homes[second]);
    let refused = until("a drain is refused for the shards' sake", || {
        let said = home.kubectl(binary, &drain);
        assert!(!said.good, "the second pod was given away: {}", said.text);
        // In the first moment the reason may still be that of the state before.
        why(&said.text).filter(|why| why.starts_with("sites: 0 of 5 pods may be missing"))
    });
    assert!(refused.contains("fewer than 5 readable shards"), "{refused}");
    assert_eq!(home.homes().get(second), Some(&homes[second]), "it stays where it is");
    home.reads_back();

    // Another site joins on the spare node, and gets what lay on the first.
    good(&home, binary, &format!("uncordon {spare}"));
    until("its site is retired", || (home.standing(first).as_deref() == Some("retired")).then_some(()));
    until("everything is whole", || home.is_whole().then_some(()));
    passes(&home, binary, &homes[second]);
    home.reads_back();

    // It goes back to its disk.
    good(&home, binary, &format!("uncordon {}", homes[second]));
    until("it serves again", || home.active().contains(second).then_some(()));
    assert_eq!(home.homes().get(second), Some(&homes[second]));
    until("everything is whole again", || home.is_whole().then_some(()));
    Some(Drains { refused, objects: home.reads_back() })
}

fn good(home: &Home, binary: &Path, words: &str) {
    let said = home.kubectl(binary, words);
    assert!(said.good, "{words}: {}", said.text);
}

/// A drain that is let through, and empties the node.
fn passes(home: &Home, binary: &Path, node: &str) {
    let said = home.kubectl(binary, &format!("drain {node} --timeout=60s"));
    assert!(said.good && said.text.contains("drained"), "{}", said.text);
    let left = home.kubectl(binary, &format!("get pods --field-selector spec.nodeName={node} -o name"));
    assert!(left.good && left.text.trim().is_empty(), "{node} still has {}", left.text);
}
