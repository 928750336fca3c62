//! The parts of a path, with their escapes undone.

use crate::refusal::Malformed;

/// Parts of a path, at most: the deepest that means anything has eight.
const PARTS_MAX: usize = 16;

/// Splits at slashes first, then undoes escapes: an escaped slash stays in its part, and names none.
pub(super) fn segments(path: &str) -> Result<Vec<String>, Malformed> {
    let inside = path.strip_prefix('/').ok_or(Malformed::Path)?;
    let inside = inside.strip_suffix('/').unwrap_or(inside);
    if inside.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<&str> = inside.split('/').take(PARTS_MAX + 1).collect();
    if parts.len() > PARTS_MAX {
        return Err(Malformed::Path);
    }
    parts.into_iter().map(segment).collect()
}

fn segment(part: &str) -> Result<String, Malformed> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = rest.next().and_then(hex).ok_or(Malformed::Path)?;
                let low = rest.next().and_then(hex).ok_or(Malformed::Path)?;
                high << 4 | low
            }
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| Malformed::Path)?;
    let is_odd = text.is_empty() || text == "." || text == ".." || text.contains(['/', '\\', '%', '\0']);
    if is_odd { Err(Malformed::Path) } else { Ok(text) }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
