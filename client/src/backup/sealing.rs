//! Records of a repository (everything but packs): a version byte, then the
//! sealed bytes, bound to what they are and to the name they stand under.

use coffer_keys::{Context, Dek, OpenError, open_bytes, seal_bytes};
use coffer_model::Entropy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// The version of every record of this format.
const RECORD_VERSION: u8 = 1;

/// Why something could not be sealed; the fault is on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealingError {
    /// The compressor failed, which it does only for want of memory.
    #[error("the compressor failed; is this machine out of memory?")]
    Compressor,
    /// The cipher refused the input.
    #[error("the cipher refused to seal; the input is over its limits")]
    Seal,
    /// A record could not be encoded.
    #[error("a record could not be encoded; this is a defect")]
    Encode,
}

/// Why a sealed record did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordOpenError {
    /// Written by a newer program.
    #[error("it has format version {0}, and this program reads version 1; use a newer one")]
    Version(u8),
    /// The key is not the one that sealed it, or it stood under another name.
    #[error("it is not sealed under this key and name")]
    WrongKey,
    /// The seal is broken.
    #[error("its seal is broken; it is damaged")]
    Damaged,
    /// The seal is whole, and what is inside is not what belongs there.
    #[error("what is inside is not a record of this format")]
    Format,
}

/// What a record is, and which one.
pub(crate) struct RecordName<'a> {
    /// Versioned label, such as `backup index v1`.
    pub(crate) label: &'static str,
    /// The name it is stored under.
    pub(crate) name: &'a str,
}

/// Seals a record.
pub(crate) fn seal_record<T: Serialize>(
    key: &Dek,
    entropy: &dyn Entropy,
    name: &RecordName<'_>,
    record: &T,
) -> Result<Vec<u8>, SealingError> {
    let plain = Zeroizing::new(postcard::to_allocvec(record).map_err(|_| SealingError::Encode)?);
    let context = Context::named(name.label, &[name.name.as_bytes()]);
    let sealed = seal_bytes(key, &context, entropy, &plain).map_err(|_| SealingError::Seal)?;
    let mut out = Vec::with_capacity(sealed.len() + 1);
    out.push(RECORD_VERSION);
    out.extend_from_slice(&sealed);
    Ok(out)
}

/// Opens a record; every byte must belong to it.
pub(crate) fn open_record<T: DeserializeOwned>(
    key: &Dek,
    name: &RecordName<'_>,
    bytes: &[u8],
) -> Result<T, RecordOpenError> {
    let (version, sealed) = bytes.split_first().ok_or(RecordOpenError::Damaged)?;
    if *version != RECORD_VERSION {
        return Err(RecordOpenError::Version(*version));
    }
    let context = Context::named(name.label, &[name.name.as_bytes()]);
    let plain = open_bytes(key, &context, sealed).map_err(|error| match error {
        OpenError::WrongKeyOrContext => RecordOpenError::WrongKey,
        _ => RecordOpenError::Damaged,
    })?;
    match postcard::take_from_bytes(&plain) {
        Ok((record, [])) => Ok(record),
        _ => Err(RecordOpenError::Format),
    }
}
