//! A check and what it finds: an objective in our words, a query that can
//! fail, the evidence that was looked at, and where standards ask for it.

use super::mapping::Reference;
use super::material::Material;

/// Which part of a report a check belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Theme {
    /// Data at rest and its keys.
    Sealing,
    /// Where bytes lie.
    Residency,
    /// Whether enough of them lie there, whole.
    Integrity,
    /// Restorations that were rehearsed.
    Restoration,
    /// Who may do what, and apart from whom.
    Access,
    /// The log.
    Logging,
}

impl Theme {
    /// Every theme, in the order of the report.
    pub const ALL: [Self; 6] =
        [Self::Sealing, Self::Residency, Self::Integrity, Self::Restoration, Self::Access, Self::Logging];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Sealing => "Data at rest and keys",
            Self::Residency => "Where the data lies",
            Self::Integrity => "Whole and readable",
            Self::Restoration => "Restoration, rehearsed",
            Self::Access => "Access and separation",
            Self::Logging => "The log",
        }
    }
}

/// Whether an objective is met on the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It is.
    Satisfied,
    /// It is not, or nothing shows that it is.
    NotSatisfied,
}

impl Status {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Satisfied => "satisfied",
            Self::NotSatisfied => "not satisfied",
        }
    }

    /// As OSCAL writes it.
    pub fn state(self) -> &'static str {
        match self {
            Self::Satisfied => "satisfied",
            Self::NotSatisfied => "not-satisfied",
        }
    }
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// The signed facts.
    Facts,
    /// The signed checkpoint with every leaf.
    Log,
    /// One leaf of the log.
    Leaf(u64),
    /// One drill record, by its id.
    Drill(String),
    /// Where each version lies.
    Residency,
}

impl Evidence {
    /// Where it lies in an evidence pack.
    pub fn path(&self) -> String {
        match self {
            Self::Facts => "facts/facts.dsse.json".to_owned(),
            Self::Log => "log/checkpoint".to_owned(),
            Self::Leaf(index) => format!("log/proofs/{index}.tlog-proof"),
            Self::Drill(id) => format!("drills/{id}.json"),
            Self::Residency => "residency/versions.json".to_owned(),
        }
    }

    /// What it is, for people.
    pub fn title(&self) -> String {
        match self {
            Self::Facts => "signed facts of the service".to_owned(),
            Self::Log => "audit log with signed checkpoint".to_owned(),
            Self::Leaf(index) => format!("leaf {index} of the audit log, with proof"),
            Self::Drill(id) => format!("signed record of drill {}", id.get(..8).unwrap_or(id)),
            Self::Residency => "where each version lies".to_owned(),
        }
    }
}

/// What a query found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the objective is met.
    pub status: Status,
    /// Why, in one or two sentences, with the figures.
    pub reason: String,
    /// What was looked at.
    pub evidence: Vec<Evidence>,
}

impl Answer {
    /// Met if nothing speaks against it; `bad` says what does.
    pub fn unless(bad: &[String], good: impl Into<String>, evidence: Vec<Evidence>) -> Self {
        match bad {
            [] => Self { status: Status::Satisfied, reason: good.into(), evidence },
            some => Self { status: Status::NotSatisfied, reason: listed(some), evidence },
        }
    }

    /// Met or not, with a reason for either.
    pub fn when(met: bool, good: impl Into<String>, bad: impl Into<String>, evidence: Vec<Evidence>) -> Self {
        let (status, reason) =
            if met { (Status::Satisfied, good.into()) } else { (Status::NotSatisfied, bad.into()) };
        Self { status, reason, evidence }
    }
}

/// A number of things, for people.
pub(super) fn counted(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// The first few of a list, and how many more there are.
pub(super) fn listed(items: &[String]) -> String {
    const SHOWN: usize = 6;
    let shown = items.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    match items.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// One check.
pub struct Check {
    /// Its id, for life: `place-inside`.
    pub id: &'static str,
    /// Which part it belongs to.
    pub theme: Theme,
    /// Its title.
    pub title: &'static str,
    /// The objective, in our words.
    pub objective: &'static str,
    /// What to do when it is not met.
    pub remedy: &'static str,
    /// Where standards ask for it; the first is a control of NIST SP 800-53 r5.
    pub references: &'static [Reference],
    /// The query.
    pub query: fn(&Material) -> Answer,
}

impl Check {
    /// The control of NIST SP 800-53 r5 under which it is reported.
    pub fn control(&self) -> &'static str {
        self.references.first().map_or("", |reference| reference.text)
    }
}

/// A check and its answer.
pub struct Finding {
    /// The check.
    pub check: &'static Check,
    /// What it found.
    pub answer: Answer,
}
