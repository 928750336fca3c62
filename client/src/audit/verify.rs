//! Verification of an export: every byte of every file is either checked or
//! the file is named as one that does not belong. Needs the log's key, no
//! service and no network.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;

use coffer_keys::{
    Checkpoint, TILE_WIDTH, Tiles, Unwitnessed, VerifierName, WitnessPolicy, leaf_hash, open_checkpoint,
    parse_canonical,
};
use coffer_model::Digest;

use super::disk;
use super::export::joined;
use super::paths::{CHECKPOINT, KEY, Tile, entries, tiles_of};

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A file of the export, or a leaf.
    pub item: String,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.item, self.what)
    }
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// The state of the log that was exported, if its signature holds.
    pub checkpoint: Option<Checkpoint>,
    /// Leaves that were read.
    pub leaves: u64,
    /// Everything that is wrong, up to a thousand items.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub more: u64,
}

impl ExportReport {
    /// Whether all of it is as it was signed.
    pub fn is_good(&self) -> bool {
        self.checkpoint.is_some() && self.findings.is_empty()
    }

    fn find(&mut self, item: impl fmt::Display, what: impl fmt::Display) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { item: item.to_string(), what: what.to_string() });
        } else {
            self.more += 1;
        }
    }
}

const FINDINGS_MAX: usize = 1000;

/// What an export is held against.
#[derive(Clone, Copy)]
pub struct Trusted<'a> {
    /// The key of its log.
    pub key: &'a VerifierName,
    /// A checkpoint that is known from elsewhere: the export must extend it.
    pub pinned: Option<&'a Checkpoint>,
    /// Who must have cosigned it.
    pub witnesses: Option<&'a WitnessPolicy>,
}

/// Verifies the export in `dir`. `told` hears of each leaf as it is read,
/// whatever it is worth.
///
/// # Errors
/// What the disk says about the directory itself.
pub fn verify_export(
    dir: &Path,
    trusted: Trusted<'_>,
    told: &mut dyn FnMut(u64, &[u8]),
) -> io::Result<ExportReport> {
    let Trusted { key, pinned, .. } = trusted;
    let mut present = disk::names(dir)?;
    let mut report = ExportReport::default();
    let Some(checkpoint) = signed(dir, trusted, &mut report) else { return Ok(report) };
    present.remove(CHECKPOINT);
    key_file(dir, key, &mut present, &mut report);
    // Of another log it says nothing about these leaves.
    let pinned = pinned.filter(|pinned| pinned.origin == checkpoint.origin);
    let (entries, tiles) = (Tiles::new(), Tiles::new());
    let mut reading = Reading { dir, pinned, report, present, entries, tiles, departed: [false; 2] };
    reading.leaves(&checkpoint, told);
    reading.settle(&checkpoint);
    let Reading { mut report, present, .. } = reading;
    for name in present {
        report.find(name, "does not belong to this export");
    }
    report.checkpoint = Some(checkpoint);
    Ok(report)
}

/// The checkpoint, if the log's key signed it.
fn signed(dir: &Path, trusted: Trusted<'_>, report: &mut ExportReport) -> Option<Checkpoint> {
    let Trusted { key, pinned, witnesses } = trusted;
    let text = match disk::read(dir, CHECKPOINT) {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        Err(error) => {
            report.find(CHECKPOINT, format_args!("cannot be read: {error}"));
            return None;
        }
    };
    let checkpoint = match open_checkpoint(&text, &key.name, &key.key) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            report.find(CHECKPOINT, error);
            return None;
        }
    };
    let cosigned = match witnesses.map(|policy| policy.check(key, &text)) {
        None => 0,
        Some(Ok(names)) => names.len(),
        Some(Err(unwitnessed)) => {
            let count = match &unwitnessed {
                Unwitnessed::NoQuorum { cosigned, .. } => cosigned.len(),
                Unwitnessed::OtherLog(_) => 0,
            };
            report.find(CHECKPOINT, unwitnessed);
            count
        }
    };
    // What nothing checks may not be there.
    if text.matches("\n\u{2014} ").count() != 1 + cosigned {
        report
            .find(CHECKPOINT, "carries signatures of others than the log and the witnesses that were named");
    }
    match pinned {
        Some(pinned) if pinned.origin != checkpoint.origin => {
            report.find(CHECKPOINT, format_args!("is of log {}, not {}", checkpoint.origin, pinned.origin));
        }
        None if checkpoint.origin.strip_prefix(&key.name).is_none_or(|rest| !rest.starts_with("/log/")) => {
            report.find(
                CHECKPOINT,
                format_args!("is of log {}, which is no log of {}", checkpoint.origin, key.name),
            );
        }
        Some(pinned) if pinned.size > checkpoint.size => {
            let (has, known) = (checkpoint.size, pinned.size);
            report.find(
                CHECKPOINT,
                format_args!(
                    "has {has} leaves, {known} are known to be signed: it is older, or was cut short"
                ),
            );
        }
        _ => {}
    }
    Some(checkpoint)
}

/// The copy of the key beside the checkpoint serves other people's programs.
fn key_file(dir: &Path, key: &VerifierName, present: &mut BTreeSet<String>, report: &mut ExportReport) {
    if present.remove(KEY) {
        match disk::read(dir, KEY) {
            Ok(bytes) if bytes == format!("{key}\n").as_bytes() => {}
            Ok(_) => report.find(KEY, "is not the key that the export was verified with"),
            Err(error) => report.find(KEY, format_args!("cannot be read: {error}")),
        }
    } else {
        report.find(KEY, "is missing");
    }
}

/// An export as it is read, from its first leaf to its last.
struct Reading<'a> {
    dir: &'a Path,
    pinned: Option<&'a Checkpoint>,
    report: ExportReport,
    /// Files that were not looked at yet.
    present: BTreeSet<String>,
    /// The tree that the leaves make, and the one that the hashes at level 0 make.
    entries: Tiles,
    tiles: Tiles,
    /// Whether each was another one at the size of the pinned checkpoint.
    departed: [bool; 2],
}

impl Reading<'_> {
    fn leaves(&mut self, checkpoint: &Checkpoint, told: &mut dyn FnMut(u64, &[u8])) {
        let mut apart = Vec::new();
        for tile in tiles_of(0, checkpoint.size) {
            let first = tile.number * TILE_WIDTH;
            let hashed = self.hashes(tile);
            let leaves = self.bundle(Tile { level: None, ..tile });
            for at in 0..tile.width {
                let place = usize::try_from(at).unwrap_or(usize::MAX);
                let leaf = leaves.get(place);
                let of_leaf = leaf.map_or(ABSENT, |leaf| leaf_hash(leaf));
                let hash = hashed.get(place).copied();
                let of_tile = hash.unwrap_or(ABSENT);
                if let Some(leaf) = leaf {
                    self.leaf(first + at, leaf, told);
                }
                // What is not there was named with its file.
                if leaf.is_some() && hash.is_some() && of_leaf != of_tile {
                    apart.push((first + at, tile));
                }
                self.entries.append(of_leaf);
                self.tiles.append(of_tile);
                self.look_back();
            }
        }
        self.blame(&apart, checkpoint.root);
        self.forked(checkpoint.root);
    }

    /// At the size of the pinned checkpoint the tree must have been its own.
    fn look_back(&mut self) {
        if let Some(pinned) = self.pinned.filter(|pinned| pinned.size == self.entries.size()) {
            self.departed = [&self.entries, &self.tiles].map(|tree| tree.root() != pinned.root);
        }
    }

    /// A tree that was signed, and was another one when the pinned checkpoint
    /// was: only what leads to the signed root tells of a fork, and not what is
    /// missing or was changed here.
    fn forked(&mut self, root: Digest) {
        let trees = [&self.entries, &self.tiles].into_iter().zip(self.departed);
        let signed = trees.into_iter().find(|(tree, _)| tree.root() == root);
        if let (Some((_, true)), Some(pinned)) = (signed, self.pinned) {
            let known = pinned.size;
            self.report.find(
                CHECKPOINT,
                format_args!(
                    "its first {known} leaves are not those that are known to be signed: the log was forked"
                ),
            );
        }
    }

    fn leaf(&mut self, index: u64, leaf: &[u8], told: &mut dyn FnMut(u64, &[u8])) {
        self.report.leaves += 1;
        told(index, leaf);
        if let Err(error) = parse_canonical(leaf) {
            self.report.find(format_args!("leaf {index}"), error);
        }
    }

    /// Where leaves and hashes differ, the checkpoint says which are right.
    fn blame(&mut self, apart: &[(u64, Tile)], root: Digest) {
        let entries_are_right = self.entries.root() == root;
        for (index, tile) in apart {
            if entries_are_right {
                self.report.find(tile.path(), format_args!("has another hash than leaf {index}"));
            } else {
                let bundle = Tile { level: None, ..*tile }.path();
                self.report.find(
                    format_args!("leaf {index}"),
                    format_args!("in {bundle} is not the one that was logged"),
                );
            }
        }
    }

    /// Whether it all adds up; the levels above the leaves.
    fn settle(&mut self, checkpoint: &Checkpoint) {
        let good = [&self.entries, &self.tiles].into_iter().find(|tree| tree.root() == checkpoint.root);
        if good.is_none() {
            let what = format!(
                "neither the leaves nor the tiles lead to the root of its {} leaves",
                checkpoint.size
            );
            self.report.find(CHECKPOINT, what);
        }
        let good = good.unwrap_or(&self.tiles).clone();
        for level in 1..8 {
            for tile in tiles_of(level, checkpoint.size) {
                let first = tile.number * TILE_WIDTH;
                let hashes = (first..first + tile.width).map_while(|at| good.tile_hash(level - 1, at));
                let expected = joined(hashes);
                let Some(bytes) = self.file(&tile.path()) else { continue };
                if bytes != expected {
                    self.report.find(tile.path(), "is not what the tiles below it add up to");
                }
            }
        }
    }

    fn file(&mut self, name: &str) -> Option<Vec<u8>> {
        if !self.present.remove(name) {
            self.report.find(name, "is missing");
            return None;
        }
        match disk::read(self.dir, name) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.report.find(name, format_args!("cannot be read: {error}"));
                None
            }
        }
    }

    /// The hashes of a tile of level 0.
    fn hashes(&mut self, tile: Tile) -> Vec<Digest> {
        let Some(bytes) = self.file(&tile.path()) else { return Vec::new() };
        let (hashes, rest) = bytes.as_chunks::<32>();
        if hashes.len() as u64 != tile.width || !rest.is_empty() {
            let what = format!("has {} bytes, not those of {} hashes", bytes.len(), tile.width);
            self.report.find(tile.path(), what);
        }
        hashes.iter().map(|hash| Digest(*hash)).collect()
    }

    fn bundle(&mut self, tile: Tile) -> Vec<Vec<u8>> {
        let Some(bytes) = self.file(&tile.path()) else { return Vec::new() };
        let (leaves, whole) = entries(&bytes);
        if leaves.len() as u64 != tile.width || !whole {
            let rest = if whole { "" } else { " and a rest" };
            let what = format!("has {} entries{rest}, not {}", leaves.len(), tile.width);
            self.report.find(tile.path(), what);
        }
        leaves.into_iter().map(<[u8]>::to_vec).collect()
    }
}

/// In place of a hash that is not there; no leaf has it.
const ABSENT: Digest = Digest([0; 32]);
