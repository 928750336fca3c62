//! `coffer evidence verify`: every item of a pack, without a server.

use std::path::Path;

use coffer_client::evidence::verify_pack;
use serde_json::{Value, json};

use crate::commands::drill::pinned_key;
use crate::commands::witness::{cosigned_text, policy};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::flags::{PinnedKey, WitnessFlags};

/// The longest file of a pack that is read, in bytes.
const FILE_LIMIT: u64 = 4 << 30;

pub(super) fn run(
    context: &Context<'_>,
    pack: &Path,
    pinned: &PinnedKey,
    witnesses: &WitnessFlags,
) -> Result<Exit, Failure> {
    let signer = pinned_key(pinned)?;
    let witnesses = policy(witnesses)?;
    let files = files::read_tree(pack, FILE_LIMIT)?;
    let verified = verify_pack(&files, &signer, witnesses.as_ref());
    let wrong: Vec<Value> =
        verified.wrong.iter().map(|wrong| json!({ "item": wrong.item, "what": wrong.what })).collect();
    context.output.object(&json!({
        "verified": wrong.is_empty(),
        "signer": signer.name,
        "files": verified.files,
        "leaves": verified.leaves,
        "drills": verified.drills,
        "witnesses": verified.witnesses,
        "reports_remade": verified.remade,
        "wrong": wrong,
    }));
    for wrong in &verified.wrong {
        context.output.text(format_args!("WRONG  {}: {}", wrong.item, wrong.what));
    }
    if !verified.wrong.is_empty() {
        let items = verified.wrong.len();
        return Err(Failure::new(format!("the pack does not verify: {items} things are wrong"))
            .safe("nothing was changed")
            .next("do not rely on this pack; ask its maker for the one that was signed")
            .exit(Exit::Differences));
    }
    let remade = if verified.remade {
        "the reports follow from the evidence"
    } else {
        "the reports were made by another version and were not made again"
    };
    context.output.text(format_args!(
        "the pack verifies: signed by {}, {} files, {} leaves, {} drill records; {remade}{}",
        signer.name,
        verified.files,
        verified.leaves,
        verified.drills,
        cosigned_text(&verified.witnesses)
    ));
    Ok(Exit::Success)
}
