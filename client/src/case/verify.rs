//! Verification of a case with nothing but the log's key: the statement, the
//! list that it signs, every file of the list, no file beside it, and that the
//! log notes the statement.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;

use coffer_keys::{
    STATEMENT_PAYLOAD_TYPE, VerifierName, leaf_hash, statement_kind, to_canonical, verify_envelope,
};
use serde_json::Value;

use super::contents::{CaseContents, CaseFile, CaseLeaf};
use super::{CONTENTS, NOTED, PREDICATE_TYPE, STATEMENT};
use crate::audit::{Finding, LogEvent, TlogProof, disk};
use crate::digits::sha256_hex;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaseReport {
    /// The list, if the statement signs it.
    pub contents: Option<CaseContents>,
    /// Who exported it, and when in milliseconds since 1970, as the log says.
    pub noted: Option<(String, u64)>,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

impl CaseReport {
    /// Whether all of it is as it was signed.
    pub fn is_good(&self) -> bool {
        self.contents.is_some() && self.noted.is_some() && self.findings.is_empty()
    }

    fn find(&mut self, item: impl fmt::Display, what: impl fmt::Display) {
        self.findings.push(Finding { item: item.to_string(), what: what.to_string() });
    }
}

/// Verifies the case in `dir` against the key of its log.
///
/// # Errors
/// What the disk says about the directory itself.
pub fn verify_case(dir: &Path, key: &VerifierName) -> io::Result<CaseReport> {
    let mut present = disk::names(dir)?;
    let mut report = CaseReport::default();
    for name in [STATEMENT, CONTENTS, NOTED] {
        if !present.remove(name) {
            report.find(name, "is missing");
        }
    }
    let Some(statement) = signed(dir, key, &mut report) else { return Ok(report) };
    let Some(contents) = listed(dir, &statement, &mut report) else { return Ok(report) };
    noted(dir, key, &statement, &contents, &mut report);
    for object in &contents.objects {
        file(dir, &object.file, &mut present, &mut report);
    }
    for leaf in &contents.leaves {
        if file(dir, &leaf.file, &mut present, &mut report) {
            proven(dir, key, leaf, &contents, &mut report);
        }
    }
    for name in present {
        report.find(name, "does not belong to this case");
    }
    report.contents = Some(contents);
    Ok(report)
}

fn signed(dir: &Path, key: &VerifierName, report: &mut CaseReport) -> Option<Value> {
    let bytes = read(dir, STATEMENT, report)?;
    match verify_envelope(&bytes, &key.key, &key.name, STATEMENT_PAYLOAD_TYPE) {
        Ok(statement) => Some(statement),
        Err(error) => {
            report.find(STATEMENT, error);
            None
        }
    }
}

/// The list, if the statement is about it.
fn listed(dir: &Path, statement: &Value, report: &mut CaseReport) -> Option<CaseContents> {
    let text = |pointer| statement.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if statement_kind(statement) != Some(PREDICATE_TYPE) || text("/subject/0/name") != CONTENTS {
        report.find(STATEMENT, "is signed, and is no statement about a case of this version");
        return None;
    }
    let bytes = read(dir, CONTENTS, report)?;
    if sha256_hex(&bytes) != text("/subject/0/digest/sha256") {
        report.find(CONTENTS, "is not the list that was signed");
        return None;
    }
    match CaseContents::read(&bytes) {
        Ok(contents) if text("/predicate/hold") == contents.hold.id => Some(contents),
        Ok(_) => {
            report.find(STATEMENT, "is about another hold than its list");
            None
        }
        Err(reason) => {
            report.find(CONTENTS, reason);
            None
        }
    }
}

/// The log notes exactly this statement.
fn noted(
    dir: &Path,
    key: &VerifierName,
    statement: &Value,
    contents: &CaseContents,
    report: &mut CaseReport,
) {
    let Some(event) = event(dir, NOTED, key, contents, report) else { return };
    let digest = to_canonical(statement).map(|bytes| leaf_hash(&bytes).to_string()).unwrap_or_default();
    if (&*event.operation, &*event.outcome, &*event.subject) == ("case_export", "done", &*digest) {
        report.noted = Some((event.actor, event.time_ms));
    } else {
        report.find(NOTED, "proves a leaf that does not note this case");
    }
}

fn proven(dir: &Path, key: &VerifierName, leaf: &CaseLeaf, contents: &CaseContents, report: &mut CaseReport) {
    let Some(event) = event(dir, &leaf.file.name, key, contents, report) else { return };
    if event.index != leaf.index || !event.subject.split(' ').any(|word| word == leaf.about) {
        report.find(
            &leaf.file.name,
            format_args!("proves leaf {}, which is not about {}", event.index, leaf.about),
        );
    }
}

/// The leaf that a proof proves to be in the log of the case.
fn event(
    dir: &Path,
    name: &str,
    key: &VerifierName,
    contents: &CaseContents,
    report: &mut CaseReport,
) -> Option<LogEvent> {
    let text = String::from_utf8(read(dir, name, report)?).unwrap_or_default();
    let verified = TlogProof::parse(&text).and_then(|proof| Ok((proof.verify(key)?, proof)));
    let (checkpoint, proof) = match verified {
        Ok(verified) => verified,
        Err(error) => {
            report.find(name, error);
            return None;
        }
    };
    if checkpoint.origin != contents.log {
        report.find(name, format_args!("is of log {}, not {}", checkpoint.origin, contents.log));
        return None;
    }
    LogEvent::read(proof.index, &proof.leaf).map_err(|error| report.find(name, error)).ok()
}

/// The bytes of a file, or a finding: one that is missing has its own.
fn read(dir: &Path, name: &str, report: &mut CaseReport) -> Option<Vec<u8>> {
    match disk::read(dir, name) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            report.find(name, format_args!("cannot be read: {error}"));
            None
        }
    }
}

/// Whether a file is there and as it was listed.
fn file(dir: &Path, listed: &CaseFile, present: &mut BTreeSet<String>, report: &mut CaseReport) -> bool {
    // A name is one of those that are there, so that none leads elsewhere.
    if !present.remove(&listed.name) {
        report.find(&listed.name, "is missing, or listed twice");
        return false;
    }
    match disk::digest(dir, &listed.name, listed.bytes) {
        Ok(found) if found == (listed.bytes, listed.sha256.clone()) => return true,
        Ok(_) => report.find(&listed.name, "is not what was exported"),
        Err(error) => report.find(&listed.name, format_args!("cannot be read: {error}")),
    }
    false
}
