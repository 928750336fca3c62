//! What `evidence` is told.

use std::path::PathBuf;

use clap::Subcommand;

use super::values::object;
use super::{MaterialFlags, ObjectAddress, PinnedKey, WitnessFlags};

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
    /// Say in which countries each object lies and no other, and since when.
    ///
    /// From the list of all versions, the signed facts and the moves in the log, each verified first. Exit
    /// code 4 if something lies outside its policy, or the log does not tell of a move.
    #[command(after_help = "Example: coffer evidence residency --object documents/2026/report.pdf")]
    Residency {
        /// BUCKET/KEY of one object [default: every object].
        #[arg(long, value_parser = object)]
        object: Option<ObjectAddress>,
        #[command(flatten)]
        material: MaterialFlags,
    },
    /// Check every item of a pack, without a server, and name each one that is wrong.
    ///
    /// The reports are made again from the evidence and compared. Exit code 4 if anything is wrong; 5 if nothing is
    /// and the reports could not be made again, because another version of this program made them.
    #[command(after_help = "Example: coffer evidence verify ./evidence --kit recovery-kit.json")]
    Verify {
        /// The directory of the pack.
        pack: PathBuf,
        #[command(flatten)]
        pinned: PinnedKey,
        #[command(flatten)]
        witnesses: WitnessFlags,
        /// Accept reports that were not made again: what they say is then only what the signer says.
        #[arg(long)]
        accept_not_remade: bool,
    },
}
