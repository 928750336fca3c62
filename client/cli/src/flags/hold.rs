//! What `hold` and `case` are told.

use std::path::PathBuf;

use clap::Subcommand;
use coffer_model::{BucketName, HoldId};

use super::audit::KeyFlags;
use super::values::object_prefix;

#[derive(Subcommand)]
pub(crate) enum HoldCommand {
    /// Put a bucket, a prefix or one object under a legal hold: nothing of it is deleted.
    ///
    /// Also what is written there later. The bucket itself is not removed either.
    #[command(after_help = "Example: coffer hold add documents/2026/ --reason \"case 7 of 2026\"")]
    Add {
        /// BUCKET, or BUCKET/PREFIX.
        #[arg(value_parser = object_prefix)]
        prefix: (BucketName, Vec<u8>),
        /// Only the object of this name, not others that begin so.
        #[arg(long)]
        exact: bool,
        /// What it is for; it is shown to whoever is refused.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// List the holds that stand.
    #[command(after_help = "Example: coffer hold ls --all")]
    Ls {
        /// Also those that were released.
        #[arg(long)]
        all: bool,
    },
    /// Lift a hold.
    #[command(after_help = "Example: coffer hold release hold-0123456789abcdef0123456789abcdef")]
    Release {
        /// Its id.
        hold: HoldId,
    },
}

#[derive(Subcommand)]
pub(crate) enum CaseCommand {
    /// Export the objects under a hold, with what the log says about each, signed and noted in the log.
    #[command(
        after_help = "Example: coffer case export ./case-7 --hold hold-0123456789abcdef0123456789abcdef"
    )]
    Export {
        /// New or empty directory.
        directory: PathBuf,
        /// Id of the hold.
        #[arg(long, value_name = "ID")]
        hold: HoldId,
        /// Who exports it, in your words [default: your principal and this machine].
        #[arg(long, value_name = "TEXT")]
        by: Option<String>,
    },
    /// Verify an exported case, without a service.
    ///
    /// The key is taken from the profile, or from --kit or --key. Exit code 4 if anything is wrong.
    #[command(after_help = "Example: coffer case verify ./case-7 --kit recovery-kit.json")]
    Verify {
        /// Directory of the case.
        directory: PathBuf,
        #[command(flatten)]
        key: KeyFlags,
    },
}
