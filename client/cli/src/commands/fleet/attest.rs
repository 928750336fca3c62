//! `coffer fleet attest`: where a node stands, signed by the fleet's operator.

use std::path::{Path, PathBuf};

use coffer_client::profile::write_atomically;
use coffer_client::{from_hex, hex};
use coffer_control::attestation::{Attester, Statement};
use coffer_model::{Country, FailureDomain, Tier};
use serde_json::json;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::files;

/// What is to be signed.
pub(super) struct Wish {
    pub(super) node: String,
    pub(super) country: Country,
    pub(super) domain: String,
    pub(super) tier: Tier,
    pub(super) days: u32,
}

pub(super) fn attest(context: &Context<'_>, wish: &Wish, key: Option<PathBuf>) -> Result<Exit, Failure> {
    let path = key.unwrap_or_else(|| context.profile.dir().join("fleet").join("attestation.key"));
    let attester = attester(context, &path)?;
    let now = context.clock.now().0 / 1_000_000_000;
    let statement = Statement {
        node: wish.node.parse().map_err(Failure::usage)?,
        country: wish.country,
        domain: FailureDomain(wish.domain.clone()),
        tier: wish.tier,
        not_before: now,
        not_after: now.saturating_add(u64::from(wish.days) * 86_400),
    };
    let text = attester.sign(&statement);
    let trust = hex(&attester.verifying_key());
    context.output.object(&json!({ "attestation": text, "trust": trust, "not_after": statement.not_after }));
    context.output.text(&text);
    context.output.remark(format_args!("believed by fleets that trust the key {trust}"));
    Ok(Exit::Success)
}

/// The operator's key; a new one where there is none yet.
pub(in crate::commands) fn attester(context: &Context<'_>, path: &Path) -> Result<Attester, Failure> {
    let wrong = || {
        Failure::new(format!("{}: this is no key: 64 hexadecimal digits", path.display()))
            .safe("nothing was signed")
            .next("name the operator's key with --key")
    };
    let seed = if path.exists() {
        let text = String::from_utf8(files::read_small(path, 256)?).map_err(|_| wrong())?;
        from_hex(&text.trim().to_ascii_lowercase()).ok_or_else(wrong)?
    } else {
        let mut seed = [0; 32];
        context.entropy.fill(&mut seed);
        files::make_directory(path.parent().unwrap_or_else(|| Path::new(".")))?;
        write_atomically(path, hex(&seed).as_bytes())?;
        seed
    };
    Ok(Attester::danger_from_seed(&seed))
}
