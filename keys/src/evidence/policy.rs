//! Which witnesses must have cosigned a checkpoint (C2SP tlog-policy): a text
//! file with witnesses, groups of them, and one quorum.

use std::collections::BTreeSet;

use super::cosign::{WitnessName, verify_cosignature};
use super::note::VerifierName;

/// The longest policy that is read, in bytes.
pub const POLICY_BYTES_MAX: usize = 256 << 10;

/// Logs, witnesses or groups at most, each.
const LINES_MAX: usize = 256;

/// A witness as a policy names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedWitness {
    /// Its name in the policy, not in notes.
    pub name: String,
    /// Its key, with the name under which it cosigns.
    pub key: WitnessName,
    /// Where it takes submissions.
    pub url: Option<String>,
}

/// So many of the members, each a witness or a group that was named before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    needed: usize,
    members: Vec<String>,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessPolicy {
    logs: Vec<VerifierName>,
    witnesses: Vec<ListedWitness>,
    groups: Vec<Group>,
    /// `None`: no cosignature is asked for.
    quorum: Option<String>,
}

/// A text that is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Too long, or characters that none may have.
    #[error("not a policy: too long, or with control characters")]
    Text,
    /// A line of another form.
    #[error(
        "line {0}: not one of `log VKEY [URL]`, `witness NAME VKEY [URL]`, `group NAME K|any|all MEMBER...`, `quorum NAME`"
    )]
    Line(usize),
    /// A key that is none, or of the wrong type.
    #[error("line {line}: {reason}")]
    Key {
        /// From 1.
        line: usize,
        /// What is wrong.
        reason: super::note::VerifierNameError,
    },
    /// A name twice, or a key.
    #[error("line {0}: this name or key is there already")]
    Twice(usize),
    /// A member or quorum that no line before names, or that counts elsewhere already.
    #[error("line {0}: a member must be named on a line before, and in one group only")]
    Member(usize),
    /// No quorum, or two.
    #[error("a policy has exactly one quorum line")]
    Quorum,
}

/// Why a checkpoint is not one that a policy trusts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwitnessed {
    /// The policy names logs, and not this one.
    #[error("the policy of witnesses is for other logs: it does not name {0}")]
    OtherLog(VerifierName),
    /// The cosignatures are too few.
    #[error(
        "the checkpoint lacks the quorum \"{quorum}\" of witnesses; cosigned by {}",
        if cosigned.is_empty() { "none of them".to_owned() } else { cosigned.join(", ") }
    )]
    NoQuorum {
        /// Its name in the policy.
        quorum: String,
        /// Names of the witnesses that did cosign.
        cosigned: Vec<String>,
    },
}

impl WitnessPolicy {
    /// All of these witnesses, under the names in their keys.
    pub fn all_of(witnesses: Vec<WitnessName>) -> Self {
        let listed = |key: WitnessName| ListedWitness { name: key.name.clone(), key, url: None };
        let witnesses: Vec<ListedWitness> = witnesses.into_iter().map(listed).collect();
        let members: Vec<String> = witnesses.iter().map(|witness| witness.name.clone()).collect();
        let group = Group { name: "all of them".to_owned(), needed: members.len(), members };
        let quorum = (!witnesses.is_empty()).then(|| group.name.clone());
        Self { logs: Vec::new(), witnesses, groups: vec![group], quorum }
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let strange = |c: char| c.is_control() && c != '\n' && c != '\t';
        if text.len() > POLICY_BYTES_MAX || text.chars().any(strange) {
            return Err(PolicyError::Text);
        }
        let mut reading = Reading::default();
        for (line, number) in text.split('\n').zip(1..) {
            let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            if words.first().is_none_or(|word| word.starts_with('#')) {
                continue;
            }
            reading.line(&words, number)?;
        }
        let quorum = reading.quorum.ok_or(PolicyError::Quorum)?;
        let Reading { logs, witnesses, groups, .. } = reading;
        Ok(Self { logs, witnesses, groups, quorum: (quorum != NONE).then_some(quorum) })
    }

    /// The witnesses.
    pub fn witnesses(&self) -> &[ListedWitness] {
        &self.witnesses
    }

    /// Whether the policy trusts this log: one that names none trusts the one
    /// that is known from elsewhere.
    ///
    /// # Errors
    /// [`Unwitnessed::OtherLog`].
    pub fn admits(&self, log: &VerifierName) -> Result<(), Unwitnessed> {
        let admitted = self.logs.is_empty() || self.logs.contains(log);
        if admitted { Ok(()) } else { Err(Unwitnessed::OtherLog(log.clone())) }
    }

    /// Whether the policy trusts the log of this key and enough of the
    /// witnesses cosigned its checkpoint; the names, in the policy, of those
    /// that did.
    ///
    /// # Errors
    /// [`Unwitnessed`].
    pub fn check(&self, log: &VerifierName, note: &str) -> Result<Vec<String>, Unwitnessed> {
        self.admits(log)?;
        let cosigned = |witness: &&ListedWitness| verify_cosignature(note, &witness.key).is_ok();
        let names = self.witnesses.iter().filter(cosigned).map(|witness| witness.name.clone());
        let names: Vec<String> = names.collect();
        let mut reached: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        for group in &self.groups {
            let members = group.members.iter().filter(|member| reached.contains(member.as_str())).count();
            if members >= group.needed {
                reached.insert(&group.name);
            }
        }
        match &self.quorum {
            Some(quorum) if !reached.contains(quorum.as_str()) => {
                Err(Unwitnessed::NoQuorum { quorum: quorum.clone(), cosigned: names })
            }
            _ => Ok(names),
        }
    }
}

/// The name that asks for nothing.
const NONE: &str = "none";

#[derive(Default)]
struct Reading {
    logs: Vec<VerifierName>,
    witnesses: Vec<ListedWitness>,
    groups: Vec<Group>,
    quorum: Option<String>,
    /// Names that a group counts already.
    counted: BTreeSet<String>,
}

impl Reading {
    fn line(&mut self, words: &[&str], line: usize) -> Result<(), PolicyError> {
        let key = |reason| PolicyError::Key { line, reason };
        match words {
            ["log", vkey] | ["log", vkey, _] => {
                let log: VerifierName = vkey.parse().map_err(key)?;
                if self.logs.iter().any(|known| known.key == log.key) || self.logs.len() == LINES_MAX {
                    return Err(PolicyError::Twice(line));
                }
                self.logs.push(log);
            }
            ["witness", name, vkey, url @ ..] if url.len() <= 1 => {
                let key: WitnessName = vkey.parse().map_err(key)?;
                self.fresh(name, line)?;
                let known = self.witnesses.iter().any(|witness| witness.key.key == key.key);
                if known || self.witnesses.len() == LINES_MAX {
                    return Err(PolicyError::Twice(line));
                }
                let url = url.first().map(|url| (*url).to_owned());
                self.witnesses.push(ListedWitness { name: (*name).to_owned(), key, url });
            }
            ["group", name, needed, members @ ..] if !members.is_empty() => {
                self.fresh(name, line)?;
                let needed = match *needed {
                    "any" => 1,
                    "all" => members.len(),
                    count => count.parse().map_err(|_| PolicyError::Line(line))?,
                };
                if !(1..=members.len()).contains(&needed) || self.groups.len() == LINES_MAX {
                    return Err(PolicyError::Line(line));
                }
                for member in members {
                    // Each counts in one way only.
                    if !self.is_known(member) || !self.counted.insert((*member).to_owned()) {
                        return Err(PolicyError::Member(line));
                    }
                }
                let members = members.iter().map(|member| (*member).to_owned()).collect();
                self.groups.push(Group { name: (*name).to_owned(), needed, members });
            }
            ["quorum", name] => {
                if *name != NONE && !self.is_known(name) {
                    return Err(PolicyError::Member(line));
                }
                if self.quorum.replace((*name).to_owned()).is_some() {
                    return Err(PolicyError::Quorum);
                }
            }
            _ => return Err(PolicyError::Line(line)),
        }
        Ok(())
    }

    fn is_known(&self, name: &str) -> bool {
        let witness = self.witnesses.iter().any(|witness| witness.name == name);
        witness || self.groups.iter().any(|group| group.name == name)
    }

    fn fresh(&self, name: &str, line: usize) -> Result<(), PolicyError> {
        if name == NONE || self.is_known(name) { Err(PolicyError::Twice(line)) } else { Ok(()) }
    }
}
