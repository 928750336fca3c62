//! Canonical JSON (RFC 8785) for the values that our records use: objects,
//! arrays, strings, booleans, null, and integers that every JSON reader holds
//! exactly. Fractions are refused, so that no float printer has to be trusted.

use serde_json::Value;

/// Integers beyond 2^53 - 1 are not exact in every reader (RFC 7493).
const INTEGER_MAX: u64 = (1 << 53) - 1;
/// As deep as the parser reads.
const DEPTH_MAX: usize = 127;

/// Why a value has no canonical form here, or bytes are not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// A number with a fraction or an exponent, or beyond 2^53 - 1.
    #[error("the number {0} is not an integer within 2^53; write it as a string")]
    Number(String),
    /// Nested deeper than 127.
    #[error("nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// Not JSON at all.
    #[error("not JSON: error at line {line}, column {column}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// JSON, but another spelling than the canonical one.
    #[error("not canonical JSON: byte {offset} is the first that differs")]
    NotCanonical {
        /// From 0.
        offset: usize,
    },
}

/// The canonical bytes of a value.
///
/// # Errors
/// [`CanonicalError::Number`], [`CanonicalError::TooDeep`].
pub fn to_canonical(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::new();
    write_value(value, &mut out, DEPTH_MAX)?;
    Ok(out)
}

/// Reads a value from its canonical bytes and from no others: duplicate keys,
/// white space, another order or another escape are all refused.
///
/// # Errors
/// [`CanonicalError`].
pub fn parse_canonical(bytes: &[u8]) -> Result<Value, CanonicalError> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| CanonicalError::Syntax { line: error.line(), column: error.column() })?;
    let canonical = to_canonical(&value)?;
    if canonical == bytes {
        return Ok(value);
    }
    let same = canonical.iter().zip(bytes).take_while(|(left, right)| left == right).count();
    Err(CanonicalError::NotCanonical { offset: same })
}

fn write_value(value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if magnitude.is_none_or(|magnitude| magnitude > INTEGER_MAX) {
                return Err(CanonicalError::Number(number.to_string()));
            }
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            let depth = depth.checked_sub(1).ok_or(CanonicalError::TooDeep)?;
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_value(item, out, depth)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let depth = depth.checked_sub(1).ok_or(CanonicalError::TooDeep)?;
            let mut members: Vec<_> = members.iter().collect();
            // By UTF-16 code units, as JavaScript sorts; not by bytes.
            members.sort_by(|(left, _), (right, _)| left.encode_utf16().cmp(right.encode_utf16()));
            out.push(b'{');
            for (i, (name, member)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write_value(member, out, depth)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0x00..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
