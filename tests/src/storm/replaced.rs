//! A machine that burned down gets a new disk some day: its site is who it was, and has nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::chance::Chance;
use super::keeper::done;
use super::machine::Machine;
use super::stage::Stage;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Lets most of them have one, some time later.
pub(super) fn replace_some_day(stage: &Arc<Stage>, machine: &Arc<Machine>) {
    let chance = Chance::new(stage.seed, &format!("replace {} {}", machine.name(), stage.clock.elapsed_ms()));
    if chance.permille(700) {
        let (stage, machine) = (Arc::clone(stage), Arc::clone(machine));
        tokio::spawn(async move {
            sleep(chance.between(Duration::from_millis(100), Duration::from_secs(20))).await;
            replace(&stage, &machine).await;
        });
    }
}

async fn replace(stage: &Stage, machine: &Machine) {
    let Some(service) = stage.service() else { return };
    if stage.weather.is_calm() || machine.is_retired() {
        return;
    }
    // What is left of the old one is thrown away with it.
    let _ = std::fs::remove_dir_all(stage.data().join("sites").join(machine.name()));
    let replaced = timeout(PATIENCE, service.replace_site(machine.name())).await;
    let replaced = matches!(replaced, Ok(Ok(_)));
    if replaced {
        stage.trace.fault("disk replaced", machine.name());
        stage.ledger.forget(machine.description.id);
    }
    done(stage, "replacement", replaced);
}
