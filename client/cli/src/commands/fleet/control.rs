//! `coffer fleet control`: scheduler and controllers against a cluster.

use std::sync::Arc;
use std::time::Duration;

use coffer_client::{from_hex, hex};
use coffer_control::attestation::TrustedKeys;
use coffer_control::{Control, ControlError, NoCertificates, Pace, Presumed, ShardLedger, SiteCertificates};
use coffer_server::SiteAuthority;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::Fleet;
use super::certificates::Certificates;
use super::ledger::KeptLedger;
use super::operator::Operator;
use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::flags::ControlFlags;
use crate::output::trouble;

/// Between a failure and the next attempt.
const PAUSE: Duration = Duration::from_secs(2);

pub(super) async fn run(context: &Context<'_>, fleet: Fleet, flags: ControlFlags) -> Result<Exit, Failure> {
    let keys: Option<Vec<[u8; 32]>> =
        flags.trust.iter().map(|text| from_hex(&text.to_ascii_lowercase())).collect();
    let trusted = keys.as_deref().and_then(TrustedKeys::new).ok_or_else(|| {
        Failure::usage("--trust: a public key is 64 hexadecimal digits")
            .next("`coffer --json fleet attest` prints the one of its key")
    })?;
    let certificates = certificates(context, &flags)?;
    let holder = flags.holder.unwrap_or_else(|| {
        let mut name = [0; 8];
        context.entropy.fill(&mut name);
        hex(&name)
    });
    let shards: Arc<dyn ShardLedger> = if flags.ask_service {
        let operator = Operator::new(context.operator().await?, Arc::clone(&context.clock));
        let (client, clock) = (fleet.client.clone(), Arc::clone(&context.clock));
        Arc::new(KeptLedger::new(operator, client, &fleet.namespace, clock))
    } else {
        context.output.remark(
            "no service is asked where shards lie: no pod that serves will leave, and drains wait; --ask-service asks it",
        );
        Arc::new(Presumed { needed: flags.needed })
    };
    let control = Control {
        client: fleet.client,
        clock: Arc::clone(&context.clock),
        namespace: fleet.namespace,
        holder: holder.clone(),
        lease: Duration::from_secs(10),
        trusted,
        shards,
        certificates,
        bind: None,
        pace: Pace::default(),
        keeps_sets: true,
        preempts: !flags.no_preempt,
        trouble: Arc::new(|what| trouble(what)),
        measured: None,
    };
    context.output.object(&json!({ "holder": holder }));
    context.output.text(format_args!("control plane {holder}; stop with Ctrl-C"));
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
        () = for_ever(context, control) => {}
    }
    Ok(Exit::Success)
}

/// Who issues the pods' certificates.
fn certificates(context: &Context<'_>, flags: &ControlFlags) -> Result<Arc<dyn SiteCertificates>, Failure> {
    let Some(dir) = &flags.authority else {
        context.output.remark(
            "no certificates are issued: each pod waits for its own in the secret SET-NUMBER-certificate; --authority issues them",
        );
        return Ok(Arc::new(NoCertificates));
    };
    // Never a new one: the service would not know it, and each control plane would have its own.
    let authority = SiteAuthority::open(dir)
        .advise("nothing was started", "make one with `coffer site authority`, and hand its files over")?;
    let lasts = Duration::from_secs(u64::from(flags.certificate_days) * 86_400);
    let (clock, entropy) = (Arc::clone(&context.clock), Arc::clone(&context.entropy));
    Ok(Arc::new(Certificates::new(authority, lasts, clock, entropy)))
}

/// Begins anew after every error: nothing is remembered but what the API holds.
async fn for_ever(context: &Context<'_>, control: Control) {
    loop {
        match control.clone().run().await {
            Ok(()) => {}
            Err(ControlError::Replaced) => context.output.remark("another control plane leads now; waiting"),
            Err(error) => context.output.remark(format_args!("{error}; begins anew")),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
