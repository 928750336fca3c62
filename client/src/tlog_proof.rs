//! The text of a C2SP tlog-proof, version 1: written and read here and nowhere
//! else. Only the spelling that is written is read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_model::Digest;

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// No proof comes near: a leaf of 64 KiB, 64 hashes and a note. In bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 256 << 10;

/// No log has a deeper tree.
const HASHES_MAX: usize = 64;

/// What a proof consists of; nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProofText<'a> {
    /// What rides along; here always the leaf, if anything.
    pub(crate) extra: Option<Vec<u8>>,
    /// Which leaf.
    pub(crate) index: u64,
    /// The hashes, from the leaf up.
    pub(crate) hashes: Vec<Digest>,
    /// The signed note.
    pub(crate) note: &'a str,
}

/// Why a text is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misread {
    /// A line, from 1, is not what it has to be.
    Line(usize),
    /// Every line is, but they are spelled otherwise than their maker would.
    Spelling,
}

/// Writes a proof.
pub(crate) fn write(extra: Option<&[u8]>, index: u64, hashes: &[Digest], note: &str) -> String {
    let extra = extra.map(|extra| format!("extra {}\n", STANDARD.encode(extra))).unwrap_or_default();
    let head = format!("{HEADER}\n{extra}index {index}\n");
    let with_hashes = hashes.iter().fold(head, |text, hash| text + &STANDARD.encode(hash.0) + "\n");
    with_hashes + "\n" + note
}

/// Reads a proof.
pub(crate) fn read(text: &str) -> Result<ProofText<'_>, Misread> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Misread::Line(1));
    }
    let (head, note) = text.split_once("\n\n").ok_or(Misread::Line(1))?;
    let mut lines = (1..).zip(head.split('\n')).peekable();
    if lines.next().is_none_or(|(_, line)| line != HEADER) {
        return Err(Misread::Line(1));
    }
    let mut extra = None;
    if let Some((at, line)) = lines.next_if(|(_, line)| line.starts_with("extra ")) {
        let encoded = line.strip_prefix("extra ").unwrap_or_default();
        extra = Some(STANDARD.decode(encoded).map_err(|_| Misread::Line(at))?);
    }
    let at = if extra.is_some() { 3 } else { 2 };
    let index = lines.next().and_then(|(_, line)| line.strip_prefix("index ")?.parse().ok());
    let index = index.ok_or(Misread::Line(at))?;
    let mut hashes = Vec::new();
    for (at, line) in lines {
        let hash = STANDARD.decode(line).ok().and_then(|hash| hash.try_into().ok());
        let hash = hash.filter(|_| hashes.len() < HASHES_MAX);
        hashes.push(Digest(hash.ok_or(Misread::Line(at))?));
    }
    let same = write(extra.as_deref(), index, &hashes, note) == text;
    if same { Ok(ProofText { extra, index, hashes, note }) } else { Err(Misread::Spelling) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: &str = "origin\n7\nAAAA\n\n\u{2014} origin c2ln\n";

    #[test]
    fn a_proof_with_and_without_its_leaf_reads_back() {
        for extra in [None, Some(b"a leaf".as_slice()), Some(b"".as_slice())] {
            for hashes in [vec![], vec![Digest([3; 32]); HASHES_MAX]] {
                let text = write(extra, 5, &hashes, NOTE);
                let expected = ProofText { extra: extra.map(<[u8]>::to_vec), index: 5, hashes, note: NOTE };
                assert_eq!(read(&text), Ok(expected));
            }
        }
    }

    #[test]
    fn another_form_another_spelling_and_more_hashes_than_a_tree_has_are_refused() {
        let text = write(Some(b"a leaf"), 5, &[Digest([3; 32])], NOTE);
        for (other, expected) in [
            (text.replacen("@v1", "@v2", 1), Misread::Line(1)),
            (text.replacen("extra YS", "extra Y-", 1), Misread::Line(2)),
            (text.replacen("extra ", "more ", 1), Misread::Line(2)),
            (text.replacen("index 5", "index five", 1), Misread::Line(3)),
            (text.replacen("AwMD", "Aw", 1), Misread::Line(4)),
            (text.replacen("index 5", "index 05", 1), Misread::Spelling),
            (write(None, 5, &[Digest([3; 32]); HASHES_MAX + 1], NOTE), Misread::Line(67)),
            (write(None, 5, &[], &"x".repeat(TEXT_BYTES_MAX)), Misread::Line(1)),
        ] {
            assert_eq!(read(&other), Err(expected), "{other:.80}");
        }
    }
}
