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
    accept_not_remade: bool,
) -> Result<Exit, Failure> {
    let signer = pinned_key(pinned)?;
    let witnesses = policy(witnesses)?;
    let files = files::read_tree(pack, FILE_LIMIT)?;
    let verified = verify_pack(&files, &signer, witnesses.as_ref());
    let wrong: Vec<Value> =
        verified.wrong.iter().map(|wrong| json!({ "item": wrong.item, "what": wrong.what })).collect();
    context.output.object(&json!({
        "verified": verified.is_verified() || accept_not_remade && wrong.is_empty(),
        "not_remade": !verified.remade,
        "signer": signer.name,
        "files": verified.files,
        "leaves": verified.leaves,
        "drills": verified.drills,
        "planned_only": verified.planned_only,
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
    for index in &verified.planned_only {
        context.output.text(format_args!("leaf {index} notes the plan of a drill that has no record"));
    }
    if !verified.remade && !accept_not_remade {
        return Err(Failure::new(format!(
            "the reports were NOT made again: the pack was made by version {} of this program, and this is {}",
            verified.software,
            coffer_client::report::SOFTWARE_VERSION,
        ))
        .safe("nothing was changed; signatures, log and records are as they were signed")
        .next(
            "verify with the version that made the pack, or read the evidence itself and say --accept-not-remade",
        )
        .exit(Exit::Unchecked));
    }
    let remade = if verified.remade {
        "the reports follow from the evidence"
    } else {
        "the reports were NOT made again: what they say is only what the signer says"
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
