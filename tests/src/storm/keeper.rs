//! Who keeps the deployment: repairs, scrubs, asks sites for what they hold,
//! drains one and takes it back, while tenants work and faults strike. What a
//! repair says that it wrote is held against what machines took.

use std::sync::Arc;
use std::time::Duration;

use coffer_server::{RepairBudget, RepairReport, Service};
use tokio::time::{sleep, timeout};

use super::chance::Chance;
use super::stage::Stage;

/// How long one round may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Does so many rounds as the plan has.
pub(crate) async fn keep(stage: Arc<Stage>) {
    let chance = Chance::new(stage.seed, "keeper");
    for _ in 0..stage.plan.rounds {
        sleep(chance.between(Duration::from_millis(300), Duration::from_secs(6))).await;
        if stage.trace.is_violated() {
            return;
        }
        let Some(service) = stage.service() else { continue };
        match chance.below(100) {
            0..=49 => drop(repair(&stage, &service).await),
            50..=56 => {
                let planned = timeout(PATIENCE, service.plan_repair(RepairBudget::default())).await;
                done(&stage, "repair plan", matches!(planned, Ok(Ok(_))));
            }
            57..=69 => {
                let scrubbed = timeout(PATIENCE, service.scrub_once(1 << 20)).await;
                done(&stage, "scrub", matches!(scrubbed, Ok(Ok(_))));
            }
            70..=84 => {
                let asked = timeout(PATIENCE, service.challenge_round(4)).await;
                done(&stage, "challenges", matches!(asked, Ok(Ok(_))));
            }
            _ => drain(&stage, &service, &chance).await,
        }
    }
}

pub(super) fn done(stage: &Stage, what: &str, well: bool) {
    let ended = if well { "ok" } else { "failed" };
    stage.trace.operation(what, ended);
    stage.trace.note(&format!("keeper {what} {ended}"), "");
}

/// One round of repair; what it said, if it came to its end.
pub(crate) async fn repair(stage: &Stage, service: &Service) -> Option<RepairReport> {
    let before = stage.ledger.stored();
    let ended = timeout(PATIENCE, service.repair_once(RepairBudget::default())).await;
    let after = stage.ledger.stored();
    let Ok(Ok(report)) = ended else {
        done(stage, "repair", false);
        return None;
    };
    stage.trace.operation("repair", if report.failed > 0 { "ok, some steps failed" } else { "ok" });
    let said = format!(
        "keeper repair: {} done, {} failed, {} shards, {} copies, {} moved, {} removed, {} small",
        report.done, report.failed, report.shards, report.copies, report.moved, report.removed, report.small
    );
    let troubles: Vec<String> =
        report.plan.troubled.iter().map(|line| format!("{} {:?}", line.version, line.trouble)).collect();
    stage.trace.note(&said, &format!("{}; {}", report.reasons.join("; "), troubles.join("; ")));
    for (what, said, took) in [
        ("shards", report.shards, after.shards - before.shards),
        ("copies of manifests", report.copies, after.manifests - before.manifests),
        ("small records", report.small, after.small - before.small),
    ] {
        if said > took {
            let finding = format!("a round counts {said} {what} as written and machines took {took}");
            stage.trace.violated("repair", finding);
        }
    }
    Some(report)
}

/// Lets a site be emptied, or one that was take data again.
async fn drain(stage: &Stage, service: &Service, chance: &Chance) {
    let machines = stage.machines();
    let Some(machine) = chance.pick(&machines) else { return };
    let back = chance.permille(500);
    let changed = timeout(PATIENCE, service.drain_site(machine.name(), back)).await;
    done(stage, if back { "undrain" } else { "drain" }, matches!(changed, Ok(Ok(_))));
}
