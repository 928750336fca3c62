//! What drills have measured, from their signed records: those on the tenant's
//! shelf and those in files. A record teaches nothing before it is verified.

use std::path::Path;

use coffer_client::BucketInfo;
use coffer_client::Client;
use coffer_client::drill::{
    AnyRecord, EVIDENCE_BUCKET, History, Phase, RECORD_BYTES_MAX, Shelf, Verdict, verify_any_record,
};
use coffer_client::keys::VerifierName;
use coffer_model::Timestamp;

use super::inputs::Figure;
use super::{MIB, time, wide};
use crate::commands::audit::kit_key;
use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files;
use crate::flags::DurabilityFlags;

const RECORD_LIMIT: u64 = RECORD_BYTES_MAX as u64;

/// Phases in which bytes go to whoever restores.
const RESTORING: [&str; 2] = ["restore", "read"];
/// Phases at whose end the people's shares have opened the root key.
const OPENING: [&str; 2] = ["provider quorum", "root key"];

/// What the newest drill that measured it says.
#[derive(Default)]
pub(super) struct Recorded {
    /// Bytes a second to whoever restores.
    pub(super) client: Option<Figure>,
    /// Seconds from the declared loss until the root key was open.
    pub(super) custodians: Option<Figure>,
}

/// The records that are believed, newest first.
pub(super) struct Records(Vec<(Timestamp, AnyRecord)>);

impl Records {
    /// Those of the files; one that does not verify is refused.
    pub(super) fn of_files(flags: &DurabilityFlags, own: Option<VerifierName>) -> Result<Self, Failure> {
        let mut all = Self(Vec::new());
        if flags.records.is_empty() {
            return Ok(all);
        }
        let signer = match (&flags.kit, &flags.key) {
            (Some(kit), _) => kit_key(kit)?,
            (None, Some(key)) => key.parse::<VerifierName>().map_err(Failure::usage)?,
            (None, None) => own.ok_or_else(|| {
                Failure::usage("a record is believed only under a key that is known from elsewhere")
                    .next("name the recovery kit with --kit, or the key with --key")
            })?,
        };
        for path in &flags.records {
            all.add(verified(path, &signer)?);
        }
        Ok(all)
    }

    /// And those that lie on the tenant's shelf, if it has one. What cannot be
    /// read or verified there teaches nothing, and is remarked.
    pub(super) async fn and_of_shelf(
        mut self,
        context: &Context<'_>,
        client: &Client,
        buckets: &[BucketInfo],
        signer: &VerifierName,
    ) -> Self {
        if buckets.iter().all(|bucket| bucket.name.as_str() != EVIDENCE_BUCKET) {
            return self;
        }
        let found = match Shelf::open(client).await {
            Ok(shelf) => History::read(&shelf, signer).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(history) => {
                for shelved in history.drills {
                    match shelved.record {
                        Some(Ok(record)) => self.add(record),
                        Some(Err(error)) => context.output.remark(format_args!(
                            "remark: the record of the drill {} does not verify, and is left out: {error}",
                            shelved.drill
                        )),
                        None => {}
                    }
                }
            }
            Err(error) => {
                context.output.remark(format_args!("remark: the records of drills cannot be read: {error}"));
            }
        }
        self
    }

    fn add(&mut self, record: AnyRecord) {
        let declared = match &record {
            AnyRecord::V1(record) => record.declared.timestamp(),
            AnyRecord::V2(record) => record.timeline.declared.timestamp(),
        };
        self.0.push((declared.unwrap_or(Timestamp(0)), record));
        self.0.sort_by_key(|(declared, _)| std::cmp::Reverse(*declared));
    }

    /// What they measured.
    pub(super) fn recorded(&self) -> Recorded {
        let each = || self.0.iter().map(|(declared, record)| (*declared, Seen::of(record)));
        Recorded {
            client: each().find_map(|(declared, seen)| seen.client(declared)),
            custodians: each().find_map(|(declared, seen)| seen.custodians(declared)),
        }
    }
}

fn verified(path: &Path, signer: &VerifierName) -> Result<AnyRecord, Failure> {
    let bytes = files::read_small(path, RECORD_LIMIT)?;
    let record = verify_any_record(&bytes, signer)
        .advise("nothing was predicted", "leave it out, or ask its maker for the one that was signed");
    record.map_err(|failure| Failure {
        what: format!("{}: the record does not verify: {}", path.display(), failure.what),
        exit: Exit::Differences,
        ..failure
    })
}

/// What a record says of the two rates.
struct Seen<'a> {
    drill: &'a str,
    phases: &'a [Phase],
    /// Everything came back, as fast as it went.
    unhindered: bool,
    /// People's shares opened the root key.
    shares: bool,
}

impl<'a> Seen<'a> {
    fn of(record: &'a AnyRecord) -> Self {
        match record {
            AnyRecord::V1(record) => Self {
                drill: &record.drill,
                phases: &record.phases,
                unhindered: record.verdicts.integrity == Verdict::Satisfied,
                shares: !record.shares.provider.is_empty(),
            },
            AnyRecord::V2(record) => Self {
                drill: &record.drill,
                phases: &record.timeline.phases,
                unhindered: record.results.unreadable == 0 && record.environment.max_rate.is_none(),
                shares: !record.keys.shares.provider.is_empty(),
            },
        }
    }

    fn client(&self, declared: Timestamp) -> Option<Figure> {
        let phase = self
            .phases
            .iter()
            .filter(|_| self.unhindered)
            .find(|phase| phase.bytes > 0 && RESTORING.contains(&phase.name.as_str()))?;
        let (bytes, seconds) = (wide(phase.bytes), wide(phase.duration_ns) / 1e9);
        let of = format!("{:.1} MiB in {} by the drill {}", bytes / MIB, time(seconds), self.drill);
        Figure::rate(bytes, seconds, of, Some(declared))
    }

    fn custodians(&self, declared: Timestamp) -> Option<Figure> {
        let mut opening = self.phases.iter().filter(|_| self.shares);
        let phase = opening.find(|phase| OPENING.contains(&phase.name.as_str()))?;
        let seconds = wide(phase.start_ns.saturating_add(phase.duration_ns)) / 1e9;
        let of = format!("from the declared loss until shares had opened it, by the drill {}", self.drill);
        Some(Figure::counted(seconds, of, Some(declared)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(name: &str, start_s: u64, took_s: u64, bytes: u64) -> Phase {
        Phase {
            name: name.to_owned(),
            start_ns: start_s * 1_000_000_000,
            duration_ns: took_s * 1_000_000_000,
            bytes,
        }
    }

    fn seen<'a>(phases: &'a [Phase]) -> Seen<'a> {
        Seen { drill: "d", phases, unhindered: true, shares: true }
    }

    #[test]
    fn the_custodians_time_runs_from_the_declared_loss_and_the_bytes_are_those_of_the_restoration() {
        let phases =
            [phase("alarm", 0, 90, 0), phase("provider quorum", 90, 10, 0), phase("restore", 100, 4, 800)];
        assert!((seen(&phases).custodians(Timestamp(0)).unwrap().value - 100.0).abs() < 1e-9);
        assert!((seen(&phases).client(Timestamp(0)).unwrap().value - 200.0).abs() < 1e-9);
    }

    #[test]
    fn a_drill_that_was_held_back_or_not_whole_or_without_people_measures_neither() {
        let phases = [phase("root key", 0, 1, 0), phase("read", 1, 4, 800)];
        let hindered = Seen { unhindered: false, shares: false, ..seen(&phases) };
        assert_eq!((hindered.client(Timestamp(0)), hindered.custodians(Timestamp(0))), (None, None));
        let nothing = [phase("restore", 0, 4, 0), phase("compare", 4, 1, 800)];
        assert_eq!(seen(&nothing).client(Timestamp(0)), None);
    }
}
