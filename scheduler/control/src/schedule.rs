//! The scheduler's loop: what happened enters the book, sets that lack pods are
//! decided over, and what was decided is bound together with its lines of the
//! ledger. One batch after the other, so that the ledger has one order.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coffer_model::Clock;
use coffer_scheduler::SetName;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::EventType;
use tokio::sync::{mpsc, watch};

use crate::bind::{Batch, Bind, Bound, Record};
use crate::book::{Binding, Book, Verdict};
use crate::events::{Teller, explanation};
use crate::run::ControlError;
use crate::watching::Change;

/// Changes that are taken in before something is decided.
const CHANGES_MAX: usize = 4096;
/// Sets that are decided over in one batch.
const SETS_MAX: usize = 64;
/// Lines of the ledger in one record, and bytes of these: far below what an API lets an object have, which is 1.5 MB,
/// although JSON in JSON is longer than it is.
const LINES_MAX: usize = 100;
const BYTES_MAX: usize = 256 << 10;
/// Records of one segment. Then another begins with what there is at that moment, so that older ones can go.
const RECORDS_MAX: usize = 1000;
/// A segment is not over before it has so many times the records of its beginning.
const TIMES_MIN: usize = 4;
/// How often attestations and graces are looked at when nothing else happens.
const BEAT: Duration = Duration::from_millis(500);

/// How long each decision took, where somebody wants to know.
#[derive(Debug, Default)]
pub struct Measured(Mutex<Vec<Duration>>);

impl Measured {
    fn took(&self, time: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(time);
    }

    /// The times so far, in the order of the decisions.
    pub fn times(&self) -> Vec<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What has been listed whole.
#[derive(Default)]
struct Listed {
    nodes: bool,
    pods: bool,
    sets: bool,
    revocations: bool,
}

pub(crate) struct Scheduler {
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) bind: Arc<dyn Bind>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) teller: Teller,
    pub(crate) namespace: String,
    pub(crate) segment: String,
    pub(crate) follows: Option<String>,
    pub(crate) measured: Option<Arc<Measured>>,
    /// Says when everything was seen once.
    pub(crate) seen: watch::Sender<bool>,
    /// Records that were written.
    pub(crate) written: usize,
}

impl Scheduler {
    /// Until the segment of the ledger is long enough, or something does not fit.
    pub(crate) async fn run(mut self, mut changes: mpsc::Receiver<Change>) -> Result<(), ControlError> {
        let mut listed = Listed::default();
        let (mut early, mut begun) = (Vec::new(), None);
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut news = Vec::with_capacity(CHANGES_MAX);
        loop {
            tokio::select! {
                count = changes.recv_many(&mut news, CHANGES_MAX) => if count == 0 { return Ok(()) },
                _ = beat.tick() => self.locked(Book::time_passes)?,
            }
            for change in news.drain(..) {
                listed.note(&change);
                // Pods name nodes: nodes come first.
                if listed.whole() { self.take(change).await? } else { early.push(change) }
            }
            if !listed.whole() {
                continue;
            }
            if !early.is_empty() {
                early.sort_by_key(order);
                for change in std::mem::take(&mut early) {
                    self.take(change).await?;
                }
            }
            while self.round().await? {}
            self.seen.send_replace(true);
            let begun = *begun.get_or_insert(self.written);
            if self.written >= RECORDS_MAX.max(begun.saturating_mul(TIMES_MIN)) {
                return Ok(());
            }
        }
    }

    pub(crate) fn locked<T>(&self, with: impl FnOnce(&mut Book) -> T) -> T {
        with(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) async fn take(&self, change: Change) -> Result<(), ControlError> {
        if let Change::Refused(object, why) = change {
            self.tell(&object, ("Place", "Refused"), &why).await;
            return Ok(());
        }
        self.locked(|book| match change {
            Change::Node(node) => book.see_node(*node),
            Change::NodeGone(name) => book.lose_node(&name),
            Change::Nodes(names) => book.keep_nodes(&names),
            Change::Pod(pod) => book.see_pod(*pod),
            Change::PodGone(pod) => book.lose_pod(&pod),
            Change::Pods(uids) => book.keep_pods(&uids),
            Change::Set(set, homes) => book.see_set(*set, &homes),
            Change::SetGone(name) => book.lose_set(&name),
            Change::Sets(names) => book.keep_sets(&names),
            Change::Revocations(revoked) => book.see_revocations(revoked),
            Change::Refused(..) => Ok(()),
        })?;
        Ok(())
    }

    async fn tell(&self, object: &ObjectReference, what: (&str, &str), note: &str) {
        self.teller.tell_of(object, EventType::Warning, what, note).await;
    }

    /// Decides over some sets and binds; whether there is more to do.
    pub(crate) async fn round(&mut self) -> Result<bool, ControlError> {
        let mut bindings = Vec::new();
        let mut unplaceable = Vec::new();
        let names = self.locked(|book| book.take_waiting(SETS_MAX));
        for name in &names {
            let start = self.clock.monotonic();
            match self.locked(|book| book.decide(name))? {
                Verdict::Nothing => continue,
                Verdict::Bind(new) => bindings.extend(new),
                Verdict::Unplaceable(why) => unplaceable.push((name.clone(), why)),
            }
            if let Some(measured) = &self.measured {
                measured.took(self.clock.monotonic().saturating_sub(start));
            }
        }
        self.bind(bindings).await?;
        self.locked(Book::lines_are_written);
        for (name, why) in unplaceable {
            self.cannot_place(&name, &explanation(&why)).await;
        }
        Ok(!names.is_empty())
    }

    /// Binds, and takes back what was refused, until the rest is done.
    async fn bind(&mut self, mut bindings: Vec<Binding>) -> Result<(), ControlError> {
        let mut records = Vec::new();
        loop {
            records.extend(self.records());
            if bindings.is_empty() && records.is_empty() {
                return Ok(());
            }
            let batch = Batch { namespace: self.namespace.clone(), bindings, records };
            match self.bind.bind(&batch).await? {
                Bound::All => return Ok(()),
                Bound::Some(refused) => {
                    for (name, why) in refused {
                        let gone = batch.bindings.iter().filter(|one| one.name == name);
                        for one in gone {
                            self.refused(one, &why).await?;
                        }
                    }
                    (bindings, records) = (Vec::new(), Vec::new());
                }
                Bound::None(name, why) => {
                    let set = batch.bindings.iter().find(|one| one.name == name);
                    let set = set.map(|one| one.pod.set.clone());
                    let (back, rest): (Vec<_>, Vec<_>) =
                        batch.bindings.into_iter().partition(|one| Some(&one.pod.set) == set.as_ref());
                    // A set is placed whole, or not at all.
                    for one in &back {
                        self.refused(one, &why).await?;
                    }
                    (bindings, records) = (rest, batch.records);
                }
            }
        }
    }

    async fn refused(&self, binding: &Binding, why: &str) -> Result<(), ControlError> {
        self.locked(|book| book.was_refused(binding))?;
        let pod = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(binding.name.clone()),
            namespace: Some(binding.namespace.clone()),
            uid: Some(binding.uid.clone()),
            ..ObjectReference::default()
        };
        self.tell(&pod, ("Bind", "BindingRefused"), why).await;
        Ok(())
    }

    /// The lines that are not written down yet.
    fn records(&mut self) -> Vec<Record> {
        let Some((mut first, lines)) = self.locked(Book::take_lines) else { return Vec::new() };
        let mut records = Vec::new();
        for lines in portions(lines) {
            let last = lines.last().map(String::as_bytes).unwrap_or_default();
            let count = u64::try_from(lines.len()).unwrap_or(u64::MAX);
            records.push(Record {
                segment: self.segment.clone(),
                first,
                end: blake3::hash(last).to_hex().to_string(),
                lines,
                follows: self.follows.take(),
            });
            first = first.saturating_add(count);
        }
        self.written = self.written.saturating_add(records.len());
        records
    }

    async fn cannot_place(&self, name: &SetName, why: &str) {
        let namespace = self.locked(|book| book.set(name).map(|set| set.namespace.clone()));
        let set = ObjectReference {
            api_version: Some("fleet.coffer/v1".to_owned()),
            kind: Some("SiteSet".to_owned()),
            name: Some(name.to_string()),
            namespace,
            ..ObjectReference::default()
        };
        self.tell(&set, ("Place", "Unplaceable"), why).await;
    }
}

/// As many lines together as one record may have; one that is too long is alone.
fn portions(lines: Vec<String>) -> Vec<Vec<String>> {
    let mut portions: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0_usize;
    for line in lines {
        match portions.last_mut() {
            Some(last) if last.len() < LINES_MAX && bytes.saturating_add(line.len()) <= BYTES_MAX => {
                bytes = bytes.saturating_add(line.len());
                last.push(line);
            }
            _ => {
                bytes = line.len();
                portions.push(vec![line]);
            }
        }
    }
    portions
}

impl Listed {
    fn note(&mut self, change: &Change) {
        match change {
            Change::Nodes(_) => self.nodes = true,
            Change::Pods(_) => self.pods = true,
            Change::Sets(_) => self.sets = true,
            Change::Revocations(_) => self.revocations = true,
            _ => {}
        }
    }

    fn whole(&self) -> bool {
        self.nodes && self.pods && self.sets && self.revocations
    }
}

/// What comes first where everything is new.
pub(crate) fn order(change: &Change) -> u8 {
    match change {
        Change::Revocations(_) => 0,
        Change::Node(_) | Change::NodeGone(_) => 1,
        Change::Nodes(_) => 2,
        Change::Pod(_) | Change::PodGone(_) => 3,
        Change::Pods(_) => 4,
        Change::Set(..) | Change::SetGone(_) => 5,
        Change::Sets(_) => 6,
        Change::Refused(..) => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_so_many_lines_and_so_many_bytes_at_most_and_no_line_is_lost() {
        let lines = |lengths: &[usize]| lengths.iter().map(|len| "x".repeat(*len)).collect::<Vec<_>>();
        let short = lines(&[1; 250]);
        assert_eq!(portions(short).iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
        let long = lines(&[BYTES_MAX / 2, BYTES_MAX / 2, 1, BYTES_MAX * 2, 1, 2]);
        let portions = portions(long.clone());
        assert_eq!(portions.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 2]);
        assert_eq!(portions.concat(), long);
        assert!(super::portions(Vec::new()).is_empty());
    }
}
