//! Compliance reports: from facts, a log and drill records, each verified, to
//! findings, and from findings to formats. Pure: no clock, no network, and the
//! same material always makes the same bytes, so that whoever doubts a report
//! makes it again.

mod check;
mod checks;
mod dwelling;
mod facts;
mod identity;
mod limits;
mod mapping;
mod material;
mod oscal;
mod page;
mod sheet;
mod table;

pub use check::{Answer, Check, Evidence, Finding, Status, Theme};
pub use checks::all as checks;
pub use dwelling::{Dwelling, dwellings};
pub use facts::{
    BucketFacts, CertificateFacts, CustodyFacts, DeletionFacts, EpochFacts, FACTS_BYTES_MAX, Facts,
    FactsError, KeyFacts, LogFacts, PolicyFacts, PrincipalFacts, ScrubFacts, SiteFacts, SiteScrubFacts,
    SoftwareFacts, TenantFacts, TierCertificateFacts, VerifiedFacts, VersionSums, WitnessedFacts,
    verify_facts,
};
pub use limits::{LIMITS, Limit};
pub use mapping::{CAUTION, Reference, Standard};
pub use material::{DrillItem, ExtractError, LogEvent, LogExtract, Material, Period, ResidencyItem};
pub use oscal::{OscalDocuments, PREDICATE_TYPE as OSCAL_PREDICATE_TYPE, signing_statement};

/// The canonical form of what is signed.
pub use coffer_keys::to_canonical;

use identity::Identity;

/// The version of the program that makes reports.
pub const SOFTWARE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a report says, before it has a format.
pub struct Report<'a> {
    /// What it was made from.
    pub material: &'a Material,
    /// Every check and its answer.
    pub findings: Vec<Finding>,
    identity: Identity,
}

impl<'a> Report<'a> {
    /// Asks every check.
    pub fn new(material: &'a Material) -> Self {
        let findings =
            checks::all().map(|check| Finding { check, answer: (check.query)(material) }).collect();
        Self { material, findings, identity: Identity::of(material) }
    }

    /// How many objectives are satisfied.
    pub fn satisfied(&self) -> usize {
        self.findings.iter().filter(|finding| finding.answer.status == Status::Satisfied).count()
    }

    /// Findings of one theme, in order.
    pub fn of_theme(&self, theme: Theme) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.check.theme == theme)
    }

    /// Findings that are not satisfied.
    pub fn failed(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.answer.status == Status::NotSatisfied)
    }

    /// Everything that any finding rests on, each once.
    pub fn evidence(&self) -> Vec<Evidence> {
        let mut all: Vec<Evidence> =
            self.findings.iter().flat_map(|finding| finding.answer.evidence.iter().cloned()).collect();
        all.extend([Evidence::Facts, Evidence::Log]);
        all.extend(self.material.drills.iter().map(|drill| Evidence::Drill(drill.record.drill.clone())));
        all.sort();
        all.dedup();
        all
    }

    /// The findings as a table: one line for a check.
    pub fn csv(&self) -> String {
        table::findings(self)
    }

    /// Where each version lies, as a table; `None`: it was not asked for.
    pub fn residency_csv(&self) -> Option<String> {
        table::residency(self.material)
    }

    /// Where each object lies and since when, as a table; `None`: it was not
    /// asked for.
    pub fn dwelling_csv(&self) -> Option<String> {
        table::dwellings(self.material)
    }

    /// The documents of NIST's Open Security Controls Assessment Language.
    pub fn oscal(&self) -> OscalDocuments {
        oscal::documents(self)
    }

    /// The same on paper.
    pub fn pdf(&self) -> Vec<u8> {
        sheet::pdf(self)
    }

    /// One self-contained page. `linked`: it lies in `reports/` of a pack, and
    /// its evidence beside it.
    pub fn html(&self, linked: bool) -> String {
        page::html(self, linked)
    }
}
