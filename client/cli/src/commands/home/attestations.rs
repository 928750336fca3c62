//! Where the nodes of a fleet at home stand: signed once, again before the end, and
//! not with every start. A start that signed anew would take back what the operator
//! has revoked or has signed since.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coffer_client::profile::write_atomically;
use coffer_control::attestation::{Attester, Said, Statement, said_by};
use coffer_control::{NAMESPACE, revocations};
use coffer_model::Clock;

use super::Place;
use crate::exit::Failure;
use crate::files;
use crate::output::trouble;

/// For how long a statement holds, and how long before its end another one is signed; seconds. Agents warn when a fifth
/// of the time is left: nobody is to be warned of what is about to be signed by itself.
const HOLDS: u64 = 366 * 86_400;
const RENEWED_BEFORE: u64 = 90 * 86_400;
/// Between two looks at all of them.
const LOOK: Duration = Duration::from_secs(6 * 3600);
/// No statement is longer.
const TEXT_MAX: u64 = 4096;

/// What became of a place's statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It holds for long still.
    Holds,
    /// There is another one.
    Signed,
    /// The operator took the one of this id back, and nothing was signed.
    Revoked(String),
}

/// The statements that the operator has revoked.
pub(super) async fn revoked(client: &kube::Client) -> Result<BTreeSet<String>, Failure> {
    let revoked = revocations(client, NAMESPACE).await;
    Ok(revoked.map_err(|error| Failure::new(format!("the fleet: {error}")))?.into_keys().collect())
}

/// Leaves in the file what holds still of this place, and signs anew what does not. Of a place whose
/// statement was revoked nothing is signed until it is another place.
pub(super) fn keep(
    clock: &dyn Clock,
    file: &Path,
    place: &Place,
    attester: &Attester,
    revoked: &BTreeSet<String>,
) -> Result<Kept, Failure> {
    let now = clock.now().0 / 1_000_000_000;
    let wanted = Statement {
        node: place.name.parse().map_err(Failure::usage)?,
        country: place.country,
        domain: place.domain.clone(),
        tier: place.tier,
        not_before: now.saturating_sub(60),
        not_after: now.saturating_add(HOLDS),
    };
    let kept = match file.exists() {
        true => said_by(String::from_utf8_lossy(&files::read_small(file, TEXT_MAX)?).trim()),
        false => None,
    };
    if let Some(Said { id, statement }) = kept.filter(|kept| same_place(&kept.statement, &wanted)) {
        if revoked.contains(&id) {
            return Ok(Kept::Revoked(id));
        }
        if statement.not_after > now.saturating_add(RENEWED_BEFORE) {
            return Ok(Kept::Holds);
        }
    }
    write_atomically(file, attester.sign(&wanted).as_bytes())?;
    Ok(Kept::Signed)
}

/// Looks after the statements of these places for ever: a fleet may run for longer than they hold. Their agents
/// read what is written.
pub(super) async fn keep_signed(
    client: kube::Client,
    clock: Arc<dyn Clock>,
    attester: Attester,
    places: Vec<(PathBuf, Place)>,
) {
    loop {
        tokio::time::sleep(LOOK).await;
        // Tried again with the next look, which is long before the end.
        let revoked = match revoked(&client).await {
            Ok(revoked) => revoked,
            Err(failure) => {
                trouble(format_args!("the nodes' attestations are not looked after: {}", failure.what));
                continue;
            }
        };
        for (file, place) in &places {
            if let Err(failure) = keep(clock.as_ref(), file, place, &attester, &revoked) {
                trouble(format_args!("{}: its attestation is not renewed: {}", place.name, failure.what));
            }
        }
    }
}

fn same_place(one: &Statement, other: &Statement) -> bool {
    let place = |of: &Statement| (of.node.clone(), of.country, of.domain.clone(), of.tier);
    place(one) == place(other)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use coffer_model::{FailureDomain, Tier, Timestamp};

    use super::*;

    /// A clock that the test moves; in seconds.
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed) * 1_000_000_000)
        }
        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_statement_is_signed_anew_before_its_agent_warns_of_its_end() {
        // What an agent is not told otherwise: 20 percent.
        let warned = HOLDS * 20 / 100;
        assert!(RENEWED_BEFORE > warned + 86_400, "warned {warned} s before the end");
    }

    #[test]
    fn a_statement_is_signed_anew_before_its_end_and_not_after_its_revocation() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("attestation");
        let clock = Hand(AtomicU64::new(1_800_000_000));
        let attester = Attester::danger_from_seed(&[3; 32]);
        let place = Place {
            name: "fra1".to_owned(),
            country: "DE".parse().unwrap(),
            domain: FailureDomain("fra".to_owned()),
            tier: Tier::III,
        };
        let keep = |revoked: &[&str]| {
            let revoked = revoked.iter().map(|id| (*id).to_owned()).collect();
            keep(&clock, &file, &place, &attester, &revoked).unwrap()
        };
        let said =
            || said_by(&String::from_utf8(files::read_small(&file, TEXT_MAX).unwrap()).unwrap()).unwrap();
        assert_eq!((keep(&[]), keep(&[])), (Kept::Signed, Kept::Holds));
        let first = said();
        clock.0.fetch_add(HOLDS - RENEWED_BEFORE, Ordering::Relaxed);
        assert_eq!(keep(&[&first.id]), Kept::Revoked(first.id.clone()));
        assert_eq!(said(), first);
        assert_eq!((keep(&[]), keep(&[])), (Kept::Signed, Kept::Holds));
        assert!(said().statement.not_after > first.statement.not_after);
    }
}
