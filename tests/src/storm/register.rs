//! What a key may hold: the obvious model of a register that is written and
//! read, with writes whose outcome nobody knows. It knows nothing of sites,
//! orders or tombstones.
//!
//! Each key has one writer, which does one thing after the other; anybody reads.

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::VersionId;

/// What a read can bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Absent,
    /// The content of that number.
    Content(u64),
}

/// One key.
#[derive(Clone, Debug)]
pub(crate) struct Register {
    base: Value,
    version: Option<VersionId>,
    /// Writes after the base that may have happened, or may yet, in order.
    ghosts: Vec<Value>,
    /// The write under way.
    writing: Option<Value>,
    /// Acknowledged with less than the promised redundancy: a loss within the
    /// budget may take it, and show what was before.
    weak: bool,
    ever: BTreeSet<Value>,
    /// Reads of others under way, and all that was possible meanwhile.
    open: BTreeMap<u64, BTreeSet<Value>>,
}

impl Default for Register {
    fn default() -> Self {
        Self {
            base: Value::Absent,
            version: None,
            ghosts: Vec::new(),
            writing: None,
            weak: false,
            ever: BTreeSet::from([Value::Absent]),
            open: BTreeMap::new(),
        }
    }
}

impl Register {
    /// Everything that a read may bring now.
    pub(crate) fn possible(&self) -> BTreeSet<Value> {
        if self.weak {
            return self.ever.clone();
        }
        let mut all = BTreeSet::from([self.base]);
        all.extend(&self.ghosts);
        all.extend(self.writing);
        all
    }

    fn changed(&mut self) {
        let now = self.possible();
        self.open.values_mut().for_each(|seen| seen.extend(&now));
    }

    pub(crate) fn write_begins(&mut self, value: Value) {
        self.writing = Some(value);
        self.ever.insert(value);
        self.changed();
    }

    /// The write stands, and everything before it is over.
    pub(crate) fn acknowledged(&mut self, version: VersionId, weak: bool) {
        if let Some(value) = self.writing.take() {
            (self.base, self.version, self.weak) = (value, Some(version), weak);
            self.ghosts.clear();
        }
        self.changed();
    }

    /// The write stands; others of unknown outcome may still appear.
    pub(crate) fn stands_beside(&mut self) {
        if let Some(value) = self.writing.take() {
            self.base = value;
        }
        self.changed();
    }

    /// The content that stands, and its version; nothing where it was acknowledged
    /// with less than the promised redundancy. What only a read has shown was put
    /// with an outcome that nobody knows: it may lack its manifest somewhere.
    pub(crate) fn standing(&self) -> Option<(u64, VersionId)> {
        match (self.base, self.version) {
            (Value::Content(number), Some(version)) if !self.weak => Some((number, version)),
            _ => None,
        }
    }

    /// Nobody knows what became of the write.
    pub(crate) fn unknown(&mut self) {
        self.ghosts.extend(self.writing.take());
        self.changed();
    }

    /// The service said that nothing of the write stands.
    pub(crate) fn refused(&mut self) {
        self.writing = None;
    }

    /// A deletion of `version` stands: that version and all before it are gone.
    pub(crate) fn deleted(&mut self, version: VersionId) {
        self.writing = None;
        if self.version == Some(version) {
            // A write of unknown outcome came later, and may still appear.
            self.ghosts.retain(|ghost| *ghost != Value::Absent);
        }
        (self.base, self.version, self.weak) = (Value::Absent, None, false);
        self.changed();
    }

    /// What the writer of this key itself read; whether that may be.
    pub(crate) fn read_by_writer(&mut self, value: Value, version: Option<VersionId>) -> bool {
        if !self.possible().contains(&value) {
            return false;
        }
        if self.weak {
            return true;
        }
        if value != self.base {
            // The first ghost of that value happened; those before it are past.
            if let Some(at) = self.ghosts.iter().position(|ghost| *ghost == value) {
                self.ghosts.drain(..=at);
            }
            (self.base, self.version) = (value, version);
        } else if version.is_some() {
            self.version = version;
        }
        self.changed();
        true
    }

    pub(crate) fn read_begins(&mut self, reader: u64) {
        let now = self.possible();
        self.open.insert(reader, now);
    }

    pub(crate) fn was_watched(&self, reader: u64) -> bool {
        self.open.contains_key(&reader)
    }

    /// What somebody else read; whether that was possible at any moment of it.
    pub(crate) fn read_by_other(&mut self, reader: u64, value: Option<Value>) -> bool {
        let seen = self.open.remove(&reader).unwrap_or_default();
        value.is_none_or(|value| seen.contains(&value))
    }

    /// Whether nothing was ever acknowledged that a read could owe: what shows
    /// is a write of unknown outcome, of which one site may have the only copy.
    pub(crate) fn owes_nothing(&self) -> bool {
        self.base == Value::Absent && self.ghosts.iter().any(|ghost| *ghost != Value::Absent)
    }

    /// Whether a loss within the budget may take it.
    pub(crate) fn is_weak(&self) -> bool {
        self.weak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(n: u8) -> VersionId {
        VersionId::from_bytes([n; 16])
    }

    #[test]
    fn what_was_overwritten_or_deleted_is_never_possible_again() {
        let mut register = Register::default();
        register.write_begins(Value::Content(1));
        register.acknowledged(version(1), false);
        register.write_begins(Value::Content(2));
        assert!(register.read_by_writer(Value::Content(1), None));
        register.acknowledged(version(2), false);
        assert!(!register.read_by_writer(Value::Content(1), None));
        register.deleted(version(2));
        assert!(!register.read_by_writer(Value::Content(2), None));
        assert!(register.read_by_writer(Value::Absent, None));
    }

    #[test]
    fn a_write_of_unknown_outcome_is_possible_until_the_next_one_stands() {
        let mut register = Register::default();
        register.write_begins(Value::Content(1));
        register.acknowledged(version(1), false);
        register.write_begins(Value::Content(2));
        register.unknown();
        assert!(register.read_by_writer(Value::Content(1), Some(version(1))));
        assert!(register.read_by_writer(Value::Content(2), Some(version(2))));
        assert!(!register.read_by_writer(Value::Content(1), Some(version(1))), "it was seen: it stays");
        register.write_begins(Value::Content(3));
        register.refused();
        assert!(!register.read_by_writer(Value::Content(3), None));
    }

    #[test]
    fn only_a_write_of_unknown_outcome_over_nothing_may_be_lost() {
        let mut register = Register::default();
        assert!(!register.owes_nothing());
        register.write_begins(Value::Content(1));
        register.unknown();
        assert!(register.owes_nothing());
        assert!(register.read_by_writer(Value::Content(1), Some(version(1))));
        assert!(!register.owes_nothing(), "it was seen: it stays");
        register.write_begins(Value::Content(2));
        register.acknowledged(version(2), false);
        register.write_begins(Value::Content(3));
        register.unknown();
        assert!(!register.owes_nothing(), "what was acknowledged is not hidden by what was not");
    }

    #[test]
    fn a_deletion_hides_no_later_write_of_unknown_outcome() {
        let mut register = Register::default();
        register.write_begins(Value::Content(1));
        register.acknowledged(version(1), false);
        register.write_begins(Value::Content(2));
        register.unknown();
        register.deleted(version(1));
        assert!(register.read_by_writer(Value::Content(2), Some(version(2))));
    }

    #[test]
    fn a_read_of_others_may_bring_whatever_was_possible_meanwhile() {
        let mut register = Register::default();
        register.read_begins(7);
        register.write_begins(Value::Content(1));
        register.acknowledged(version(1), false);
        register.write_begins(Value::Content(2));
        register.acknowledged(version(2), false);
        assert!(register.clone().read_by_other(7, Some(Value::Content(1))));
        register.read_begins(8);
        assert!(!register.read_by_other(8, Some(Value::Content(1))));
    }
}
