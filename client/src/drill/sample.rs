//! Which objects a sampled drill restores: drawn by a rule that anybody can
//! follow, from a seed that did not exist when the plan was made. The rule and
//! its files are described in `SAMPLE.md`.

use std::fmt::Write as _;

use coffer_model::{Digest, VersionId};

use crate::digits::{from_hex, hex, sha256};

/// The name of the rule of this version.
pub const SAMPLE_RULE: &str = "coffer-sample-v1";

/// The rule that takes everything.
pub const RULE_ALL: &str = "all";

/// At most so many leaves may lie between a plan's and the checkpoint that
/// makes its seed: each of them is one more seed to choose from.
pub const SEED_LEAVES_MAX: u64 = 64;

/// One object of a population.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// The version.
    pub version: VersionId,
    /// Its size in bytes.
    pub size: u64,
    /// BLAKE3 of its content.
    pub content: Digest,
}

/// A population or a sample whose text breaks its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} of the list is not \"VERSION SIZE BLAKE3\", or not in its place")]
pub struct ListError(pub usize);

/// The 32 digits of a version's id.
fn digits(version: VersionId) -> String {
    hex(version.as_bytes())
}

fn text_of<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    lines.fold(String::new(), |mut text, line| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{} {} {}", digits(line.version), line.size, line.content);
        text
    })
}

/// The canonical text of a population: in the order of the ids, each once.
pub fn population_text(lines: &mut Vec<Line>) -> String {
    lines.sort();
    lines.dedup();
    text_of(lines.iter())
}

/// The text of a sample, in the order in which it was drawn.
pub fn sample_text(lines: &[Line]) -> String {
    text_of(lines.iter())
}

fn parse_line(text: &str) -> Option<Line> {
    let mut parts = text.split(' ');
    let (version, size, content) = (parts.next()?, parts.next()?, parts.next()?);
    let line = Line {
        version: VersionId::from_bytes(from_hex(version)?),
        size: size.parse().ok()?,
        content: Digest(from_hex(content)?),
    };
    (text_of(std::iter::once(&line)).trim_end() == text).then_some(line)
}

/// Reads a sample, or a population where `in_order`.
///
/// # Errors
/// [`ListError`] with the first wrong line.
pub fn parse_list(text: &str, in_order: bool) -> Result<Vec<Line>, ListError> {
    let mut lines: Vec<Line> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = parse_line(line).ok_or(ListError(number))?;
        if in_order && lines.last().is_some_and(|last| *last >= line) {
            return Err(ListError(number));
        }
        lines.push(line);
    }
    let whole = text.is_empty() || text.ends_with('\n');
    if whole { Ok(lines) } else { Err(ListError(lines.len())) }
}

/// The seed that a cosigned checkpoint gives a plan.
pub fn seed(cosigned: &str, plan_sha256: &[u8; 32]) -> [u8; 32] {
    sha256(&[SAMPLE_RULE.as_bytes(), b"\n", &sha256(cosigned.as_bytes()), plan_sha256].concat())
}

/// The `count` objects with the smallest SHA-256 over seed and version id, in
/// that order.
pub fn draw(population: &[Line], seed: &[u8; 32], count: u64) -> Vec<Line> {
    let score = |line: &Line| sha256(&[seed.as_slice(), line.version.as_bytes()].concat());
    let mut scored: Vec<([u8; 32], &Line)> = population.iter().map(|line| (score(line), line)).collect();
    scored.sort();
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    scored.into_iter().take(count).map(|(_, line)| line.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn population(count: u8) -> Vec<Line> {
        (0..count)
            .map(|n| Line {
                version: VersionId::from_bytes([n; 16]),
                size: u64::from(n) * 10,
                content: Digest([n; 32]),
            })
            .collect()
    }

    #[test]
    fn a_population_has_one_text_whatever_order_it_came_in() {
        let (mut one, mut other) = (population(20), population(20));
        other.reverse();
        other.push(other[3].clone());
        assert_eq!(population_text(&mut one), population_text(&mut other));
        let text = population_text(&mut one);
        assert_eq!(parse_list(&text, true).unwrap(), one);
        let swapped = text.lines().rev().fold(String::new(), |all, line| format!("{all}{line}\n"));
        assert_eq!(parse_list(&swapped, true), Err(ListError(2)));
        assert!(parse_list(&swapped, false).is_ok());
        for bad in
            [text.replacen(' ', "  ", 1), text.replacen("00", "0A", 1), text[..text.len() - 1].to_owned()]
        {
            assert!(parse_list(&bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_draw_depends_on_seed_and_population_and_on_nothing_else() {
        let all = population(100);
        let (one, other) = (seed("checkpoint", &[1; 32]), seed("checkpoint", &[2; 32]));
        assert_ne!(one, other);
        let mut shuffled = all.clone();
        shuffled.reverse();
        assert_eq!(draw(&all, &one, 10), draw(&shuffled, &one, 10));
        assert_ne!(draw(&all, &one, 10), draw(&all, &other, 10));
        assert_eq!(draw(&all, &one, 10), draw(&all, &one, 20)[..10]);
        assert_eq!(draw(&all, &one, 1000).len(), 100);
    }
}
