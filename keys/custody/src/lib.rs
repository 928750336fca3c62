//! Who keeps a root key: passphrase file and quorum custodians. Beside them,
//! the host's adapters of the ports through which time and chance come in.

mod custodian;
mod files;
mod host;
mod passphrase_file;
mod quorum;

pub use custodian::{Custodian, CustodyError};
pub use host::{OsEntropy, SystemClock};
pub use passphrase_file::PassphraseFile;
pub use quorum::{Quorum, combine_share_files, write_shares};
