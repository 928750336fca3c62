//! A root key in the hands of several people, each with one share file.

use std::path::{Path, PathBuf};

use coffer_keys::{RootKey, Share, ShareError, combine};
use zeroize::Zeroizing;

use crate::custodian::{Custodian, CustodyError};
use crate::files;

/// The custodian whose holders brought these share files.
#[derive(Clone, Debug)]
pub struct Quorum {
    /// The files, in any order; as many as are needed, or more.
    pub share_paths: Vec<PathBuf>,
}

impl Custodian for Quorum {
    fn unlock(&self) -> Result<RootKey, CustodyError> {
        combine_share_files(&self.share_paths).map(RootKey::danger_from_bytes)
    }
}

/// Writes each share to `dir/prefix-N.json`, N being its index, with mode
/// 0600, fsynced. Nothing is overwritten: where one of the names is taken,
/// no file is written at all.
///
/// # Errors
/// [`CustodyError::Exists`], [`CustodyError::Disk`].
pub fn write_shares(dir: &Path, prefix: &str, shares: &[Share]) -> Result<Vec<PathBuf>, CustodyError> {
    let path_of = |share: &Share| dir.join(format!("{prefix}-{}.json", share.index()));
    let paths: Vec<PathBuf> = shares.iter().map(path_of).collect();
    for path in &paths {
        if files::exists(path)? {
            return Err(CustodyError::Exists { path: path.clone() });
        }
    }
    for (path, share) in paths.iter().zip(shares) {
        files::create(path, share.to_text().as_bytes())?;
    }
    Ok(paths)
}

/// Reads share files and combines them to the key that was split.
///
/// # Errors
/// [`CustodyError`], which names the file at fault, or says how many more
/// shares would suffice.
pub fn combine_share_files(paths: &[PathBuf]) -> Result<Zeroizing<[u8; 32]>, CustodyError> {
    let shares: Vec<Share> = paths.iter().map(|path| read_share(path)).collect::<Result<_, _>>()?;
    combine(&shares).map_err(|source| blame(paths, &shares, source))
}

fn read_share(path: &Path) -> Result<Share, CustodyError> {
    let bytes = files::read_private(path)?;
    let text =
        core::str::from_utf8(&bytes).map_err(|_| CustodyError::NotThisKind { path: path.to_owned() })?;
    Share::from_text(text).map_err(|source| CustodyError::Share { path: path.to_owned(), source })
}

/// Names the one file at fault where there is one.
fn blame(paths: &[PathBuf], shares: &[Share], source: ShareError) -> CustodyError {
    let culprit = match &source {
        ShareError::MixedSets { index, found, .. } => {
            shares.iter().position(|share| share.index() == *index && share.set() == *found)
        }
        ShareError::Duplicate { index, .. } => shares.iter().rposition(|share| share.index() == *index),
        _ => None,
    };
    match culprit.and_then(|at| paths.get(at)) {
        Some(path) => CustodyError::Share { path: path.clone(), source },
        None => CustodyError::Quorum { paths: paths.to_vec(), source },
    }
}
