//! Who owns whom: the metadata of all objects, and which of them have to be
//! judged because something about their owners changed. Pure.
//!
//! Who owns nothing can only be told once all kinds were listed: until then nobody is judged.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The finalizer of an owner that waits for what it owns.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner that lets go of what it owns.
pub const ORPHAN: &str = "orphan";

/// An object, as much of it as matters here.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Group of its kind.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, if it has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Who owns it.
    pub owners: Vec<OwnerReference>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What holds up its deletion.
    pub finalizers: Vec<String>,
}

impl Entry {
    /// From the metadata of an object of that kind; None without name and uid.
    #[must_use]
    pub fn of(group: &str, kind: &str, metadata: &ObjectMeta) -> Option<Self> {
        Some(Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            owners: metadata.owner_references.clone().unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
            finalizers: metadata.finalizers.clone().unwrap_or_default(),
        })
    }

    fn waits_for_dependents(&self) -> bool {
        self.deleting && self.finalizers.iter().any(|finalizer| finalizer == FOREGROUND)
    }
}

/// What is to be done about one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// It goes: all its owners are gone, or wait for it to go.
    Delete {
        /// It waits in turn for what it owns.
        foreground: bool,
    },
    /// These of its owners' uids are struck from it: they are gone, and it has others;
    /// or their deletion asked for it.
    Disown(Vec<String>),
    /// Its finalizer of that name goes: nobody waits any more.
    Release(&'static str),
}

/// What is known of an owner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It is there.
    There,
    /// It is there no more, as the API itself says.
    Gone,
    /// Nobody knows: then it counts as being there.
    Unknown,
}

/// The graph of all objects.
#[derive(Debug, Default)]
pub struct Graph {
    entries: HashMap<String, Entry>,
    /// By uid of an owner: the uids of those that name it.
    dependents: HashMap<String, BTreeSet<String>>,
    dirty: BTreeSet<String>,
    /// Kinds, by group and name, whose objects are not all known yet.
    unlisted: BTreeSet<(String, String)>,
}

impl Graph {
    /// A kind is watched from now on: nobody is judged until it was listed.
    pub fn expect(&mut self, group: &str, kind: &str) {
        self.unlisted.insert((group.to_owned(), kind.to_owned()));
    }

    /// An object is there, as new or changed.
    pub fn apply(&mut self, entry: Entry) {
        let uid = entry.uid.clone();
        if self.entries.get(&uid) == Some(&entry) {
            return;
        }
        let before = self.entries.get(&uid).map(|before| before.owners.clone()).unwrap_or_default();
        self.unlink(&uid);
        for owner in &entry.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        // Owners that wait must hear of dependents that came or left, and the other way round.
        let waiting = before.iter().chain(&entry.owners).map(|owner| owner.uid.clone());
        let waiting: Vec<String> = waiting.filter(|owner| self.entries.contains_key(owner)).collect();
        self.dirty.extend(waiting);
        if entry.deleting {
            self.dirty.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
        }
        if !entry.owners.is_empty() || entry.deleting {
            self.dirty.insert(uid.clone());
        }
        self.entries.insert(uid, entry);
    }

    /// An object is gone. All that name it have to be judged, and those that wait for it.
    pub fn remove(&mut self, uid: &str) {
        let owners = self.entries.get(uid).map(|entry| entry.owners.clone()).unwrap_or_default();
        self.unlink(uid);
        self.entries.remove(uid);
        self.dirty.remove(uid);
        self.dirty.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        let waiting = owners.into_iter().map(|owner| owner.uid);
        let waiting: Vec<String> = waiting.filter(|owner| self.entries.contains_key(owner)).collect();
        self.dirty.extend(waiting);
    }

    /// Objects of a kind that were listed: whatever else is known of that kind is gone.
    pub fn retain(&mut self, group: &str, kind: &str, listed: &BTreeSet<String>) {
        self.unlisted.remove(&(group.to_owned(), kind.to_owned()));
        let gone: Vec<String> = self
            .entries
            .values()
            .filter(|entry| entry.group == group && entry.kind == kind && !listed.contains(&entry.uid))
            .map(|entry| entry.uid.clone())
            .collect();
        for uid in gone {
            self.remove(&uid);
        }
    }

    /// Those that have to be judged; none as long as something may be owned that is not known. They are judged once; see
    /// [`Graph::again`].
    pub fn take_dirty(&mut self) -> Vec<Entry> {
        if !self.unlisted.is_empty() {
            return Vec::new();
        }
        std::mem::take(&mut self.dirty).iter().filter_map(|uid| self.entries.get(uid)).cloned().collect()
    }

    /// Has an object judged again: its verdict could not be carried out.
    pub fn again(&mut self, uid: &str) {
        if self.entries.contains_key(uid) {
            self.dirty.insert(uid.to_owned());
        }
    }

    /// Whether that owner is in the graph.
    #[must_use]
    pub fn knows(&self, owner: &str) -> bool {
        self.entries.contains_key(owner)
    }

    /// What is to be done about an object, given how its owners stand that the graph does not know.
    #[must_use]
    pub fn judge(&self, entry: &Entry, standing: &dyn Fn(&OwnerReference) -> Standing) -> Verdict {
        if entry.deleting {
            return self.judge_deleting(entry);
        }
        if entry.owners.is_empty() {
            return Verdict::Keep;
        }
        let (mut there, mut gone, mut waiting, mut orphaning) = (0, Vec::new(), 0, Vec::new());
        for owner in &entry.owners {
            match self.entries.get(&owner.uid) {
                Some(known) if known.deleting && known.finalizers.iter().any(|name| name == ORPHAN) => {
                    orphaning.push(owner.uid.clone());
                }
                Some(known) if known.waits_for_dependents() => waiting += 1,
                Some(_) => there += 1,
                None => match standing(owner) {
                    Standing::Gone => gone.push(owner.uid.clone()),
                    Standing::There | Standing::Unknown => there += 1,
                },
            }
        }
        if !orphaning.is_empty() {
            return Verdict::Disown(orphaning);
        }
        match (there, waiting) {
            (0, 0) => Verdict::Delete { foreground: false },
            (0, _) => Verdict::Delete { foreground: self.owns(&entry.uid) },
            _ if gone.is_empty() => Verdict::Keep,
            _ => Verdict::Disown(gone),
        }
    }

    /// An object that is being deleted: whether it may go on.
    fn judge_deleting(&self, entry: &Entry) -> Verdict {
        let has = |finalizer: &str| entry.finalizers.iter().any(|name| name == finalizer);
        if has(ORPHAN) && !self.owns(&entry.uid) {
            return Verdict::Release(ORPHAN);
        }
        if has(FOREGROUND) && !self.blocked(&entry.uid) {
            return Verdict::Release(FOREGROUND);
        }
        Verdict::Keep
    }

    fn dependents_of(&self, uid: &str) -> impl Iterator<Item = &Entry> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|dependent| self.entries.get(dependent))
    }

    fn owns(&self, uid: &str) -> bool {
        self.dependents_of(uid).next().is_some()
    }

    /// Whether a dependent says that its owner has to wait for it.
    fn blocked(&self, uid: &str) -> bool {
        self.dependents_of(uid)
            .flat_map(|dependent| &dependent.owners)
            .any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
    }

    fn unlink(&mut self, uid: &str) {
        let owners = self.entries.get(uid).map(|entry| entry.owners.clone()).unwrap_or_default();
        for owner in owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: &str) -> OwnerReference {
        OwnerReference { uid: uid.into(), block_owner_deletion: Some(true), ..OwnerReference::default() }
    }

    fn entry(uid: &str, owners: &[&str]) -> Entry {
        Entry {
            group: String::new(),
            kind: "Pod".into(),
            namespace: Some("n".into()),
            name: uid.into(),
            uid: uid.into(),
            owners: owners.iter().map(|uid| owner(uid)).collect(),
            deleting: false,
            finalizers: Vec::new(),
        }
    }

    fn deleting(uid: &str, finalizer: &str) -> Entry {
        Entry { deleting: true, finalizers: vec![finalizer.into()], ..entry(uid, &[]) }
    }

    fn graph(entries: &[Entry]) -> Graph {
        let mut graph = Graph::default();
        for entry in entries {
            graph.apply(entry.clone());
        }
        graph
    }

    fn gone(_: &OwnerReference) -> Standing {
        Standing::Gone
    }

    #[test]
    fn what_lost_its_owner_is_judged_and_goes() {
        let mut graph = graph(&[entry("set", &[]), entry("pod", &["set"])]);
        for entry in graph.take_dirty() {
            assert_eq!(graph.judge(&entry, &gone), Verdict::Keep);
        }
        graph.remove("set");
        let dirty = graph.take_dirty();
        assert_eq!(dirty.len(), 1);
        assert_eq!(graph.judge(&dirty[0], &gone), Verdict::Delete { foreground: false });
    }

    #[test]
    fn an_owner_that_nobody_can_ask_about_counts_as_there() {
        let graph = graph(&[entry("pod", &["elsewhere"])]);
        assert_eq!(graph.judge(&entry("pod", &["elsewhere"]), &|_| Standing::Unknown), Verdict::Keep);
    }

    #[test]
    fn one_of_two_owners_is_enough_to_stay_and_the_other_is_struck() {
        let graph = graph(&[entry("a", &[]), entry("pod", &["a", "b"])]);
        assert_eq!(graph.judge(&entry("pod", &["a", "b"]), &gone), Verdict::Disown(vec!["b".into()]));
    }

    #[test]
    fn an_owner_that_waits_goes_after_what_it_owns() {
        let mut graph = graph(&[deleting("set", FOREGROUND), entry("pod", &["set"])]);
        assert_eq!(graph.judge(&entry("pod", &["set"]), &gone), Verdict::Delete { foreground: false });
        assert_eq!(graph.judge(&deleting("set", FOREGROUND), &gone), Verdict::Keep);
        graph.take_dirty();
        graph.remove("pod");
        let dirty = graph.take_dirty();
        assert_eq!(dirty.iter().map(|entry| entry.uid.as_str()).collect::<Vec<_>>(), ["set"]);
        assert_eq!(graph.judge(&dirty[0], &gone), Verdict::Release(FOREGROUND));
    }

    #[test]
    fn an_owner_that_lets_go_leaves_what_it_owned() {
        let mut graph = graph(&[deleting("set", ORPHAN), entry("pod", &["set"])]);
        assert_eq!(graph.judge(&entry("pod", &["set"]), &gone), Verdict::Disown(vec!["set".into()]));
        assert_eq!(graph.judge(&deleting("set", ORPHAN), &gone), Verdict::Keep);
        graph.take_dirty();
        graph.apply(entry("pod", &[]));
        assert_eq!(graph.take_dirty(), [deleting("set", ORPHAN)], "who waits hears of it");
        assert_eq!(graph.judge(&deleting("set", ORPHAN), &gone), Verdict::Release(ORPHAN));
    }

    #[test]
    fn nobody_is_judged_before_every_kind_was_listed() {
        let mut graph = Graph::default();
        graph.expect("", "Pod");
        graph.expect("", "Secret");
        graph.apply(deleting("set", ORPHAN));
        graph.retain("", "Pod", &BTreeSet::from(["set".to_owned()]));
        assert!(graph.take_dirty().is_empty(), "what it owns may be a secret");
        let owned = Entry { kind: "Secret".into(), ..entry("owned", &["set"]) };
        graph.apply(owned.clone());
        assert!(graph.take_dirty().is_empty(), "it is one of many");
        graph.retain("", "Secret", &BTreeSet::from(["owned".to_owned()]));
        let dirty = graph.take_dirty();
        let verdicts: Vec<Verdict> = dirty.iter().map(|entry| graph.judge(entry, &gone)).collect();
        assert_eq!(dirty, [owned, deleting("set", ORPHAN)]);
        assert_eq!(verdicts, [Verdict::Disown(vec!["set".into()]), Verdict::Keep]);
    }

    #[test]
    fn a_kind_that_is_gone_is_not_waited_for() {
        let mut graph = graph(&[entry("pod", &["set"])]);
        graph.expect("fleet.coffer", "SiteSet");
        assert!(graph.take_dirty().is_empty());
        graph.retain("fleet.coffer", "SiteSet", &BTreeSet::new());
        assert_eq!(graph.take_dirty().len(), 1);
    }

    #[test]
    fn what_a_new_list_does_not_name_is_gone() {
        let mut graph = graph(&[entry("set", &[]), entry("pod", &["set"])]);
        graph.take_dirty();
        graph.retain("", "Pod", &BTreeSet::from(["pod".to_owned()]));
        assert!(!graph.knows("set"));
        assert_eq!(graph.take_dirty().len(), 1);
    }

    #[test]
    fn what_did_not_change_is_not_judged_again() {
        let mut graph = graph(&[entry("set", &[]), entry("pod", &["set"])]);
        graph.take_dirty();
        graph.apply(entry("pod", &["set"]));
        assert!(graph.take_dirty().is_empty());
    }
}
