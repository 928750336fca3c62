//! What `evidence` is told.

use std::path::PathBuf;

use clap::Subcommand;

use super::{MaterialFlags, PinnedKey};

#[derive(Subcommand)]
pub(crate) enum EvidenceCommand {
    /// Write a report and everything that it rests on into a new directory.
    ///
    /// What lies there is checked by `coffer evidence verify`, and by programs of other people: its README says how.
    #[command(after_help = "Example: coffer evidence export --from 2026-01-01 --out ./evidence")]
    Export {
        /// A new or empty directory.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        material: MaterialFlags,
    },
    /// Check every item of a pack, without a server, and name each one that is wrong.
    #[command(after_help = "Example: coffer evidence verify ./evidence --kit recovery-kit.json")]
    Verify {
        /// The directory of the pack.
        pack: PathBuf,
        #[command(flatten)]
        pinned: PinnedKey,
    },
}
