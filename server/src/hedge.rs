//! What reading has learnt about the sites, and what follows from it: who is
//! asked first, how long each is waited for before another one is asked in
//! addition, and how much of that is allowed. Decides; asks nobody.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_model::SiteId;
use tokio::task::AbortHandle;

use crate::latency::Latency;
use crate::service::Service;

/// Short and long reads are estimated apart: a long one says little about
/// how long a short one takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Small,
    Large,
}

impl Size {
    /// Reads of up to this many bytes are small.
    const SMALL_BYTES_MAX: usize = 128 << 10;

    pub(crate) fn of(bytes: usize) -> Self {
        if bytes <= Self::SMALL_BYTES_MAX { Self::Small } else { Self::Large }
    }

    /// What is waited beyond a site's own p95: below it, what varies is this
    /// machine and its timers, and not the site.
    fn floor(self) -> Duration {
        match self {
            Self::Small => Duration::from_millis(5),
            Self::Large => Duration::from_millis(20),
        }
    }
}

/// How long an unknown site is waited for where no other one is known either.
const UNKNOWN: Duration = Duration::from_millis(50);

/// An answer that took more than this many times the p95 of the site in the
/// middle came late.
const LATE_FACTOR: u32 = 3;

/// So many late answers among the last sixteen make a site slow; one hiccup
/// of a busy machine does not.
const SLOW_AFTER: u32 = 6;

/// So many answers in a row that were not late end a bad reputation.
const FORGIVEN_AFTER: usize = 8;

/// A site that is not asked any more is tried again every so many reads.
const PROBE_EVERY: u64 = 32;

/// Hedges and probes are a tenth of the requests in the long run.
const CREDIT_OF_A_REQUEST: u64 = 10;
const PRICE: u64 = 100;

/// And so many at once, after a time without.
const BURST: u64 = 32;

/// How readily a site is asked: what is lower comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Nothing is held against it.
    Good,
    /// It answers, much later than the others.
    Slow,
    /// It did not answer when last asked.
    Silent,
}

/// Who is asked in this read, and when.
#[derive(Debug)]
pub(crate) struct Plan {
    /// All candidates that may be asked, best first.
    pub(crate) turns: Vec<Turn>,
    /// A candidate to try once more in the background, for its reputation.
    pub(crate) probe: Option<Turn>,
}

/// One candidate of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Its place in the list of candidates.
    pub(crate) candidate: usize,
    pub(crate) standing: Standing,
    /// How long it is waited for before another one is asked in addition.
    pub(crate) patience: Duration,
}

/// A site that could be read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) site: SiteId,
    /// What its adapter says without asking it.
    pub(crate) answers: bool,
    /// This read does without it: it is not asked, whatever its standing.
    pub(crate) barred: bool,
}

/// What one read wants of the order of its candidates.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Preference<'a> {
    /// Their own order; data shards come before parity.
    InOrder,
    /// These, whatever their standing: they are under suspicion.
    First(&'a [usize]),
    /// Near ones before those that take twice as long.
    Nearest,
}

/// What reading asked of the sites since the service started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadLoad {
    /// Requests that a read needs: k for a stripe, one for a small object, and
    /// one more for each that failed.
    pub requests: u64,
    /// Requests beside them, because a site was late.
    pub hedges: u64,
    /// Requests beside them, to see how a slow or silent site is doing.
    pub probes: u64,
    /// Hedges beyond the budget, because otherwise a read would have hung.
    pub rescues: u64,
    /// Parts of shards that did not authenticate, so that the whole stripe was
    /// read, verified and healed.
    pub distrusted: u64,
}

/// What reads have learnt about one site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteReading {
    /// What nineteen of twenty small reads did not exceed; nothing while too
    /// few are known.
    pub small_p95: Option<Duration>,
    /// The same of reads of more than 128 KiB.
    pub large_p95: Option<Duration>,
    /// It is asked after the others, because it is much slower.
    pub slow: bool,
    /// It is asked last, because it did not answer.
    pub silent: bool,
}

/// The reputation of every site, and the budget. One for each service.
#[derive(Default)]
pub(crate) struct ReadHabits {
    inner: Mutex<Inner>,
}

struct Inner {
    sites: BTreeMap<SiteId, Reputation>,
    reads: u64,
    credit: u64,
    load: ReadLoad,
}

impl Default for Inner {
    fn default() -> Self {
        Self { sites: BTreeMap::new(), reads: 0, credit: BURST * PRICE, load: ReadLoad::default() }
    }
}

#[derive(Default)]
struct Reputation {
    small: Times,
    large: Times,
    silent: bool,
    /// The one read of it that may run in the background.
    background: Option<AbortHandle>,
}

impl Reputation {
    fn times(&mut self, size: Size) -> &mut Times {
        match size {
            Size::Small => &mut self.small,
            Size::Large => &mut self.large,
        }
    }
}

/// Reads of one size.
#[derive(Default)]
struct Times {
    latency: Latency,
    slow: bool,
    /// From when on an answer is late, by the sites that it was last compared with.
    late_after: Option<Duration>,
    /// The last answers, the newest lowest: whether they came late.
    late: u16,
    /// The last answers, as long as none was late.
    quick: VecDeque<Duration>,
    /// The read in which the site was last probed.
    probed: u64,
}

impl Times {
    fn record(&mut self, took: Duration, late: bool) {
        self.latency.record(took);
        self.late = self.late << 1 | u16::from(late);
        if late {
            self.quick.clear();
            self.slow |= self.late.count_ones() >= SLOW_AFTER;
            return;
        }
        self.quick.push_back(took);
        if self.quick.len() > FORGIVEN_AFTER {
            self.quick.pop_front();
        }
        if self.slow && self.quick.len() == FORGIVEN_AFTER {
            (self.slow, self.late, self.latency) = (false, 0, Latency::default());
            self.quick.iter().for_each(|took| self.latency.record(*took));
        }
    }

    fn is_late(&self, took: Duration) -> bool {
        self.late_after.is_some_and(|late| took > late)
    }
}

impl ReadHabits {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked so far.
    pub(crate) fn load(&self) -> ReadLoad {
        self.inner().load
    }

    /// What is known about a site.
    pub(crate) fn of(&self, site: SiteId) -> SiteReading {
        let mut inner = self.inner();
        let Some(known) = inner.sites.get_mut(&site) else { return SiteReading::default() };
        SiteReading {
            small_p95: known.small.latency.p95(),
            large_p95: known.large.latency.p95(),
            slow: known.small.slow || known.large.slow,
            silent: known.silent,
        }
    }

    /// Who is asked in the next read, of which `need` must answer, and in which order.
    pub(crate) fn plan(
        &self,
        size: Size,
        candidates: &[Candidate],
        need: usize,
        prefer: Preference<'_>,
    ) -> Plan {
        let mut inner = self.inner();
        inner.reads += 1;
        let middle = inner.compare(size, candidates);
        let nearest = match prefer {
            Preference::Nearest => inner.nearest(size, candidates),
            Preference::InOrder | Preference::First(_) => None,
        };
        let mut turns: Vec<(bool, bool, Turn)> = Vec::with_capacity(candidates.len());
        for (place, candidate) in candidates.iter().enumerate().filter(|(_, candidate)| !candidate.barred) {
            let suspect = matches!(prefer, Preference::First(first) if first.contains(&place));
            let far = nearest.is_some_and(|nearest| inner.is_far(size, candidate.site, nearest));
            turns.push((!suspect, far, inner.turn(size, place, *candidate, middle)));
        }
        turns.sort_by_key(|(innocent, far, turn)| (*innocent, turn.standing, *far, turn.candidate));
        let turns: Vec<Turn> = turns.into_iter().map(|(_, _, turn)| turn).collect();
        let probe = inner.probe(size, candidates, turns.get(need..).unwrap_or_default());
        Plan { turns, probe }
    }

    /// How one candidate stands beside the others.
    pub(crate) fn turn(&self, size: Size, candidates: &[Candidate], place: usize) -> Option<Turn> {
        let mut inner = self.inner();
        let middle = inner.compare(size, candidates);
        Some(inner.turn(size, place, *candidates.get(place)?, middle))
    }

    /// Counts requests that a read needs, and earns what hedges cost.
    pub(crate) fn asked(&self, requests: usize) {
        let mut inner = self.inner();
        let requests = requests as u64;
        inner.load.requests += requests;
        inner.credit = (inner.credit + requests * CREDIT_OF_A_REQUEST).min(BURST * PRICE);
    }

    /// Whether so many requests may be made beside those that are needed;
    /// then they are counted.
    pub(crate) fn may_hedge(&self, requests: usize) -> bool {
        let mut inner = self.inner();
        let price = requests as u64 * PRICE;
        // The last one is for a probe, so that hedges never keep a site from
        // being tried again.
        let may = inner.credit >= price + PRICE;
        if may {
            inner.credit -= price;
            inner.load.hedges += requests as u64;
        }
        may
    }

    /// Counts requests that are made although nothing is left for them.
    pub(crate) fn rescued(&self, requests: usize) {
        self.inner().load.rescues += requests as u64;
    }

    /// Counts a part of a shard that did not authenticate.
    pub(crate) fn distrusted(&self) {
        self.inner().load.distrusted += 1;
    }

    /// A site answered, rightly or wrongly.
    pub(crate) fn answered(&self, site: SiteId, size: Size, took: Duration) {
        let mut inner = self.inner();
        let known = inner.sites.entry(site).or_default();
        known.silent = false;
        let times = known.times(size);
        times.record(took, times.is_late(took));
    }

    /// A site had not answered after `waited`, longer than it was to be waited
    /// for, and others were quicker.
    pub(crate) fn gave_up(&self, site: SiteId, size: Size, waited: Duration) {
        self.inner().sites.entry(site).or_default().times(size).record(waited, true);
    }

    /// A site did not answer at all.
    pub(crate) fn silent(&self, site: SiteId) {
        self.inner().sites.entry(site).or_default().silent = true;
    }

    /// Whether a read of `site` may go on in the background; one does at a time.
    pub(crate) fn may_linger(&self, site: SiteId, read: AbortHandle) -> bool {
        let mut inner = self.inner();
        let background = &mut inner.sites.entry(site).or_default().background;
        let may = background.as_ref().is_none_or(AbortHandle::is_finished);
        if may {
            *background = Some(read);
        }
        may
    }

    /// Cuts off what runs in the background: the sites are being closed.
    pub(crate) fn close(&self) {
        let mut inner = self.inner();
        let background = inner.sites.values_mut().filter_map(|known| known.background.take());
        background.for_each(|read| read.abort());
    }
}

impl Inner {
    /// The p95 of the site in the middle; every candidate is held against it.
    fn compare(&mut self, size: Size, candidates: &[Candidate]) -> Option<Duration> {
        let mut known: Vec<Duration> = candidates
            .iter()
            .filter_map(|candidate| self.sites.get_mut(&candidate.site)?.times(size).latency.p95())
            .collect();
        known.sort();
        let middle = *known.get(known.len().checked_sub(1)? / 2)?;
        for candidate in candidates {
            let times = self.sites.entry(candidate.site).or_default().times(size);
            times.late_after = Some(middle * LATE_FACTOR + size.floor());
        }
        Some(middle)
    }

    fn turn(&mut self, size: Size, place: usize, candidate: Candidate, middle: Option<Duration>) -> Turn {
        let known = self.sites.entry(candidate.site).or_default();
        let silent = known.silent || !candidate.answers;
        let times = known.times(size);
        let standing = match (silent, times.slow) {
            (true, _) => Standing::Silent,
            (false, true) => Standing::Slow,
            (false, false) => Standing::Good,
        };
        // What is far slower than the others is not waited for at its own pace.
        let most = middle.map_or(UNKNOWN, |middle| middle * LATE_FACTOR);
        let patience = times.latency.p95().unwrap_or(most).min(most) + size.floor();
        Turn { candidate: place, standing, patience }
    }

    /// The median of the nearest good candidate.
    fn nearest(&mut self, size: Size, candidates: &[Candidate]) -> Option<Duration> {
        let medians = candidates.iter().filter_map(|candidate| {
            let known = self.sites.get_mut(&candidate.site)?;
            let may = candidate.answers && !known.silent && !candidate.barred;
            known.times(size).latency.quantile(500).filter(|_| may)
        });
        medians.min()
    }

    /// Whether a site usually takes more than twice as long as the nearest one.
    fn is_far(&mut self, size: Size, site: SiteId, nearest: Duration) -> bool {
        let median = self.sites.get_mut(&site).and_then(|known| known.times(size).latency.quantile(500));
        median.is_some_and(|median| median > nearest * 2 + size.floor() / 2)
    }

    /// Of the candidates that are kept waiting for their bad standing, the one
    /// that was tried longest ago, if that is [`PROBE_EVERY`] reads ago.
    fn probe(&mut self, size: Size, candidates: &[Candidate], waiting: &[Turn]) -> Option<Turn> {
        if self.credit < PRICE {
            return None;
        }
        let mut longest: Option<(u64, Turn)> = None;
        for turn in waiting.iter().filter(|turn| turn.standing != Standing::Good) {
            let known = self.sites.get_mut(&candidates.get(turn.candidate)?.site)?;
            let probed = known.times(size).probed;
            if longest.is_none_or(|(before, _)| probed < before) {
                longest = Some((probed, *turn));
            }
        }
        let (_, turn) = longest.filter(|(probed, _)| self.reads - probed >= PROBE_EVERY)?;
        let known = self.sites.get_mut(&candidates.get(turn.candidate)?.site)?;
        known.times(size).probed = self.reads;
        self.credit -= PRICE;
        self.load.probes += 1;
        Some(turn)
    }
}

impl Service {
    /// What reading has asked of the sites since the service started, and how
    /// much of it was beside what the reads needed.
    pub fn read_load(&self) -> ReadLoad {
        self.reads.load()
    }

    /// What reads have learnt about the site of that name.
    pub fn site_reading(&self, name: &str) -> Option<SiteReading> {
        let site = self.sites.topology().sites.iter().find(|site| site.name == name)?;
        Some(self.reads.of(site.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(count: u8) -> Vec<Candidate> {
        (0..count)
            .map(|n| Candidate { site: SiteId::from_bytes([n; 16]), answers: true, barred: false })
            .collect()
    }

    fn order(plan: &Plan) -> Vec<usize> {
        plan.turns.iter().map(|turn| turn.candidate).collect()
    }

    #[test]
    fn whoever_wants_to_hedge_always_gets_a_tenth_and_a_burst() {
        let habits = ReadHabits::default();
        for _ in 0..1000 {
            habits.asked(4);
            while habits.may_hedge(1) {}
        }
        let load = habits.load();
        assert_eq!(load.requests, 4000);
        assert!((400..=432).contains(&load.hedges), "{load:?}");
    }

    #[test]
    fn one_hiccup_or_five_do_not_make_a_site_slow_and_six_do() {
        let (habits, all) = (ReadHabits::default(), candidates(3));
        let answers = |place: usize, millis| {
            habits.answered(all[place].site, Size::Small, Duration::from_millis(millis));
        };
        for _ in 0..20 {
            (0..3).for_each(|place| answers(place, 2));
            habits.plan(Size::Small, &all, 1, Preference::InOrder);
        }
        (0..5).for_each(|_| answers(0, 500));
        assert_eq!(order(&habits.plan(Size::Small, &all, 1, Preference::InOrder)), [0, 1, 2]);
        answers(0, 500);
        assert_eq!(order(&habits.plan(Size::Small, &all, 1, Preference::InOrder)), [1, 2, 0]);
        assert!(habits.of(all[0].site).slow);
        // Large reads of it are another matter.
        assert_eq!(order(&habits.plan(Size::Large, &all, 1, Preference::InOrder)), [0, 1, 2]);
    }

    #[test]
    fn when_all_are_slow_none_is_slower_than_the_others() {
        let (habits, all) = (ReadHabits::default(), candidates(6));
        for round in 0..100 {
            let millis = if round < 50 { 2 } else { 300 };
            for candidate in &all {
                habits.answered(candidate.site, Size::Small, Duration::from_millis(millis));
            }
            habits.plan(Size::Small, &all, 4, Preference::InOrder);
        }
        assert_eq!(order(&habits.plan(Size::Small, &all, 4, Preference::InOrder)), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn the_nearest_come_first_where_that_is_wanted_and_equals_keep_their_order() {
        let (habits, all) = (ReadHabits::default(), candidates(4));
        for _ in 0..20 {
            for (candidate, millis) in all.iter().zip([40, 10, 11, 200]) {
                habits.answered(candidate.site, Size::Small, Duration::from_millis(millis));
            }
        }
        assert_eq!(order(&habits.plan(Size::Small, &all, 1, Preference::Nearest)), [1, 2, 0, 3]);
        assert_eq!(order(&habits.plan(Size::Small, &all, 1, Preference::InOrder))[0], 0);
    }

    #[test]
    fn what_is_barred_is_in_no_plan_not_even_as_a_suspect_or_a_probe() {
        let (habits, mut all) = (ReadHabits::default(), candidates(6));
        all[1].barred = true;
        all[5].barred = true;
        habits.silent(all[5].site);
        for _ in 0..200 {
            let plan = habits.plan(Size::Large, &all, 4, Preference::First(&[1]));
            assert_eq!(order(&plan), [0, 2, 3, 4]);
            assert!(plan.probe.is_none());
        }
    }

    #[test]
    fn suspects_come_first_whatever_their_standing() {
        let (habits, mut all) = (ReadHabits::default(), candidates(6));
        habits.silent(all[4].site);
        all[5].answers = false;
        assert_eq!(order(&habits.plan(Size::Large, &all, 4, Preference::InOrder)), [0, 1, 2, 3, 4, 5]);
        assert_eq!(order(&habits.plan(Size::Large, &all, 4, Preference::First(&[4, 2])))[..2], [2, 4]);
        habits.silent(all[0].site);
        assert_eq!(order(&habits.plan(Size::Large, &all, 4, Preference::InOrder)), [1, 2, 3, 0, 4, 5]);
    }
}
