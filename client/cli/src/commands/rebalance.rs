//! `coffer site rebalance`: what would move so that sites hold their fair share,
//! what it costs, and moving it.

use coffer_client::{Rebalance, RebalanceOptions};
use serde_json::json;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::bytes_text;

/// Plans, or levels where it is said how.
pub(super) async fn run(context: &Context<'_>, how: Option<RebalanceOptions>) -> Result<Exit, Failure> {
    let client = context.operator().await?;
    let all = match how {
        None => client.plan_rebalance().await?,
        Some(options) => {
            let mut told = 0;
            client
                .rebalance(options, |so_far| {
                    // A line for every tenth, not for every shard.
                    let tenth = so_far.done.saturating_mul(10) / so_far.moves.max(1);
                    if tenth > told {
                        told = tenth;
                        let written = bytes_text(so_far.bytes_written);
                        context.output.remark(format_args!(
                            "{} of {} shards moved, {written} written",
                            so_far.done, so_far.moves
                        ));
                    }
                })
                .await?
        }
    };
    show(context, &all, how.is_some());
    Ok(if all.failed > 0 { Exit::Partial } else { Exit::Success })
}

fn show(context: &Context<'_>, all: &Rebalance, ran: bool) {
    let sites = all.sites.iter().map(|site| {
        json!({
            "site": site.name,
            "held": site.held,
            "share": site.share,
            "receives": site.receives,
            "gives": site.gives,
        })
    });
    context.output.object(&json!({
        "sites": sites.collect::<Vec<_>>(),
        "missing": all.missing,
        "dear": all.dear,
        "moves": all.moves,
        "bytes": all.bytes,
        "records": all.records,
        "done": all.done,
        "failed": all.failed,
        "reasons": all.reasons,
        "bytes_written": all.bytes_written,
        "ran": ran,
    }));
    for site in &all.sites {
        context.output.text(format_args!(
            "{:<12} holds {:>10}  share {:>10}  receives {:>10}  gives {:>10}",
            site.name,
            bytes_text(site.held),
            bytes_text(site.share),
            bytes_text(site.receives),
            bytes_text(site.gives),
        ));
    }
    let (bytes, records, missing) = (bytes_text(all.bytes), bytes_text(all.records), bytes_text(all.missing));
    let verb = if ran { "were to move" } else { "would move" };
    context.output.text(format_args!(
        "{} shards {verb}: {bytes}, and {records} of records beside them; {missing} are missing somewhere",
        all.moves
    ));
    if all.dear > 0 {
        let dear = bytes_text(all.dear);
        context.output.remark(format_args!("{dear} lie in objects too small to be worth a move; they stay"));
    }
    if ran {
        let written = bytes_text(all.bytes_written);
        context.output.text(format_args!("{} moved, {} could not; {written} written", all.done, all.failed));
        all.reasons.iter().for_each(|why| context.output.remark(why));
    } else if all.moves > 0 {
        context.output.text("nothing has moved; `coffer site rebalance --run` does it");
    }
}
