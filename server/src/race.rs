//! The fastest of several sites: the best ones are asked, one more for each
//! that fails or is late, and whoever comes first counts.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use coffer_model::SiteId;
use coffer_regions::SiteError;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::hedge::{Candidate, Plan, Preference, ReadHabits, Size, Turn};

/// After this a site that still owes an answer counts as silent. Its adapter
/// gives up earlier; this keeps a reader from hanging on one that does not.
const DEADLINE: Duration = Duration::from_secs(60);

/// A hedge that the budget refused is made all the same after four times the
/// patience and this.
const RESCUE: Duration = Duration::from_millis(250);

/// How long a late read is waited for beyond its patience where the budget
/// refuses to ask another site, before one is asked all the same.
pub(crate) fn rescue_after(patience: Duration) -> Duration {
    patience * 3 + RESCUE
}

/// Who takes part, and what is known about them.
pub(crate) struct Race<'a> {
    pub(crate) habits: &'a Arc<ReadHabits>,
    pub(crate) size: Size,
    pub(crate) candidates: &'a [Candidate],
    pub(crate) prefer: Preference<'a>,
}

/// How a race ended.
pub(crate) struct Finish<T> {
    /// What came, each in the place of its candidate.
    pub(crate) have: Vec<Option<T>>,
    /// Who answered wrongly or not at all, in the order of the answers.
    pub(crate) failed: Vec<(usize, SiteError)>,
}

impl Race<'_> {
    /// Runs until `need` candidates have answered rightly or none is left.
    /// `read` makes the request to one candidate.
    pub(crate) async fn run<T, F>(&self, need: usize, read: impl Fn(usize) -> F) -> Finish<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, SiteError>> + Send + 'static,
    {
        let Plan { turns, probe } = self.habits.plan(self.size, self.candidates, need, self.prefer);
        let mut turns = turns.into_iter();
        let mut asked: FuturesUnordered<Asked<T>> = FuturesUnordered::new();
        let ask = |turn: Turn| Asked::ask(self, turn, read(turn.candidate));
        self.habits.asked(need.min(turns.len()));
        asked.extend(turns.by_ref().take(need).filter_map(ask));
        if let Some(mut probe) = probe.and_then(ask) {
            probe.linger();
        }
        let mut finish = Finish { have: self.candidates.iter().map(|_| None).collect(), failed: Vec::new() };
        let mut missing = need;
        while missing > 0 {
            let due = asked.iter().filter_map(|asked| asked.due).min().filter(|_| turns.len() > 0);
            tokio::select! {
                biased;
                answer = asked.next() => match answer {
                    None => break,
                    Some((candidate, Ok(value))) => {
                        missing -= 1;
                        if let Some(place) = finish.have.get_mut(candidate) {
                            *place = Some(value);
                        }
                    }
                    Some((candidate, Err(error))) => {
                        finish.failed.push((candidate, error));
                        if let Some(turn) = turns.next() {
                            self.habits.asked(1);
                            asked.extend(ask(turn));
                        }
                    }
                },
                () = wait_until(due) => {
                    if self.hedge(&mut asked) && let Some(turn) = turns.next() {
                        asked.extend(ask(turn));
                    }
                }
            }
        }
        finish
    }

    /// Somebody is late: whether one more is asked for it.
    fn hedge<T>(&self, asked: &mut FuturesUnordered<Asked<T>>) -> bool {
        let now = Instant::now();
        let Some(late) = asked.iter_mut().find(|asked| asked.due.is_some_and(|due| due <= now)) else {
            return false;
        };
        if self.habits.may_hedge(1) {
            late.due = None;
            return true;
        }
        if late.refused {
            late.due = None;
            self.habits.rescued(1);
            return true;
        }
        late.refused = true;
        late.due = Some(now + rescue_after(late.patience));
        false
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// One request under way. Dropped, it is cut off, unless it is late and may linger.
struct Asked<T> {
    candidate: usize,
    site: SiteId,
    size: Size,
    habits: Arc<ReadHabits>,
    since: Instant,
    patience: Duration,
    /// When one more is asked for it; none once that was done.
    due: Option<Instant>,
    /// The budget did not allow that.
    refused: bool,
    /// None once it runs in the background.
    request: Option<JoinHandle<Result<T, SiteError>>>,
}

impl<T: Send + 'static> Asked<T> {
    fn ask(
        race: &Race<'_>,
        turn: Turn,
        read: impl Future<Output = Result<T, SiteError>> + Send + 'static,
    ) -> Option<Self> {
        let Turn { candidate, patience, .. } = turn;
        let site = race.candidates.get(candidate)?.site;
        let (size, since, habits) = (race.size, Instant::now(), Arc::clone(race.habits));
        let request = tokio::spawn(async move {
            let answer = timeout(DEADLINE, read).await.unwrap_or(Err(SiteError::Unreachable));
            match &answer {
                Err(SiteError::Unreachable) => habits.silent(site),
                _ => habits.answered(site, size, since.elapsed()),
            }
            answer
        });
        let habits = Arc::clone(race.habits);
        let (due, request) = (Some(since + patience), Some(request));
        Some(Self { candidate, site, size, habits, since, patience, due, refused: false, request })
    }
}

impl<T> Asked<T> {
    /// Lets it end in the background, where it tells the truth about its site
    /// and holds nobody up; cuts it off where another one of its site does
    /// that already. Whether it goes on.
    fn linger(&mut self) -> bool {
        let handle = self.request.as_ref().map(JoinHandle::abort_handle);
        let may = handle.is_some_and(|handle| self.habits.may_linger(self.site, handle));
        if may {
            self.request = None;
        }
        may
    }
}

impl<T> Drop for Asked<T> {
    fn drop(&mut self) {
        let under_way = self.request.as_ref().is_some_and(|request| !request.is_finished());
        let waited = self.since.elapsed();
        let late = waited >= self.patience;
        if !under_way || (late && self.linger()) {
            return;
        }
        if let Some(request) = &self.request {
            request.abort();
        }
        if late {
            self.habits.gave_up(self.site, self.size, waited);
        }
    }
}

impl<T> Future for Asked<T> {
    type Output = (usize, Result<T, SiteError>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let candidate = self.candidate;
        let Some(request) = &mut self.request else { return Poll::Pending };
        // A read that broke off in itself says as little as one that got no answer.
        let answer = Pin::new(request).poll(context);
        answer.map(|answer| (candidate, answer.unwrap_or(Err(SiteError::Unreachable))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// After how long a site answers, and what.
    type Answer = (Duration, Result<(), SiteError>);

    /// Sites that answer after a time that a test sets.
    struct Sites {
        habits: Arc<ReadHabits>,
        candidates: Vec<Candidate>,
        answers: Arc<Mutex<Vec<Answer>>>,
        /// How often each was asked.
        asked: Arc<Mutex<Vec<usize>>>,
    }

    const QUICK: Duration = Duration::from_millis(2);
    const SLOW: Duration = Duration::from_millis(100);

    impl Sites {
        fn new(count: u8) -> Self {
            let site = |n| Candidate { site: SiteId::from_bytes([n; 16]), answers: true, barred: false };
            Self {
                habits: Arc::default(),
                candidates: (0..count).map(site).collect(),
                answers: Arc::new(Mutex::new(vec![(QUICK, Ok(())); count.into()])),
                asked: Arc::new(Mutex::new(vec![0; count.into()])),
            }
        }

        fn set(&self, place: usize, after: Duration, answer: Result<(), SiteError>) {
            self.answers.lock().unwrap()[place] = (after, answer);
        }

        fn asked(&self, place: usize) -> usize {
            self.asked.lock().unwrap()[place]
        }

        /// One read of `need`; who answered, and how long it took.
        async fn read(&self, need: usize) -> (Finish<usize>, Duration) {
            let race = Race {
                habits: &self.habits,
                size: Size::Small,
                candidates: &self.candidates,
                prefer: Preference::InOrder,
            };
            let since = Instant::now();
            let finish = race.run(need, |place| {
                self.asked.lock().unwrap()[place] += 1;
                let answers = Arc::clone(&self.answers);
                async move {
                    let (after, answer) = answers.lock().unwrap()[place].clone();
                    tokio::time::sleep(after).await;
                    answer.map(|()| place)
                }
            });
            (finish.await, since.elapsed())
        }

        /// Reads until the sites are known.
        async fn warm_up(&self, need: usize) {
            for _ in 0..64 {
                self.read(need).await;
            }
        }
    }

    fn winners(finish: &Finish<usize>) -> Vec<usize> {
        finish.have.iter().flatten().copied().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_k_are_asked_and_nobody_else_while_all_are_quick() {
        let sites = Sites::new(6);
        sites.warm_up(4).await;
        let (finish, took) = sites.read(4).await;
        assert_eq!((winners(&finish), took), (vec![0, 1, 2, 3], QUICK));
        assert_eq!((sites.asked(4), sites.asked(5)), (0, 0));
        assert_eq!(sites.habits.load().hedges, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn when_one_is_late_by_its_own_measure_another_is_asked_and_the_first_answer_counts() {
        let sites = Sites::new(6);
        sites.warm_up(4).await;
        sites.set(1, SLOW, Ok(()));
        let (finish, took) = sites.read(4).await;
        assert_eq!(winners(&finish), [0, 2, 3, 4]);
        // Its p95 rounded up, the floor, and the other's answer.
        assert!(took < Duration::from_millis(12), "{took:?}");
        assert_eq!(sites.habits.load().hedges, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_site_is_soon_asked_last_and_after_it_recovered_it_is_asked_as_before() {
        let sites = Sites::new(6);
        sites.warm_up(4).await;
        sites.set(1, SLOW, Ok(()));
        for _ in 0..12 {
            sites.read(4).await;
        }
        let before = sites.asked(1);
        for _ in 0..640 {
            let (finish, took) = sites.read(4).await;
            assert_eq!((winners(&finish), took), (vec![0, 2, 3, 4], QUICK));
        }
        let probes = sites.asked(1) - before;
        assert!((10..=20).contains(&probes), "{probes} probes in 640 reads");
        sites.set(1, QUICK, Ok(()));
        for _ in 0..400 {
            sites.read(4).await;
        }
        assert_eq!(winners(&sites.read(4).await.0), [0, 1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_is_replaced_at_once_and_one_that_is_silent_is_asked_last() {
        let sites = Sites::new(6);
        sites.warm_up(4).await;
        sites.set(0, Duration::ZERO, Err(SiteError::Damaged));
        sites.set(2, Duration::ZERO, Err(SiteError::Unreachable));
        let (finish, took) = sites.read(4).await;
        assert_eq!((winners(&finish), took), (vec![1, 3, 4, 5], QUICK));
        assert_eq!(finish.failed, [(0, SiteError::Damaged), (2, SiteError::Unreachable)]);
        let asked = sites.asked(2);
        sites.set(0, QUICK, Ok(()));
        assert_eq!(winners(&sites.read(4).await.0), [0, 1, 3, 4]);
        let load = sites.habits.load();
        assert_eq!((sites.asked(2) - asked, load.probes), (1, 1), "only to see how it is doing");
        assert_eq!(load.hedges, 0, "what failed costs no budget");
    }

    #[tokio::test(start_paused = true)]
    async fn where_too_few_answer_the_race_ends_and_says_who_failed() {
        let sites = Sites::new(6);
        for place in 0..3 {
            sites.set(place, QUICK, Err(SiteError::Missing));
        }
        let (finish, _) = sites.read(4).await;
        assert_eq!(winners(&finish), [3, 4, 5]);
        assert_eq!(finish.failed.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn hedges_and_probes_stay_within_a_tenth_whatever_the_sites_do() {
        let sites = Sites::new(6);
        sites.warm_up(4).await;
        for read in 0..3000_usize {
            // Everybody is late in turn, too rarely to be called slow.
            for place in 0..6 {
                sites.set(place, if (read + place * 5).is_multiple_of(29) { SLOW } else { QUICK }, Ok(()));
            }
            sites.read(4).await;
        }
        let load = sites.habits.load();
        assert!(load.hedges > 100, "{load:?}");
        assert!(load.hedges + load.probes <= load.requests / 10 + 32, "{load:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_does_not_hang_on_a_stalled_site_though_the_budget_is_spent() {
        let sites = Sites::new(6);
        sites.warm_up(4).await;
        while sites.habits.may_hedge(1) {}
        sites.set(3, Duration::from_secs(3600), Ok(()));
        let (finish, took) = sites.read(4).await;
        assert_eq!(winners(&finish), [0, 1, 2, 4]);
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!(sites.habits.load().rescues, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn readers_that_go_away_leave_one_request_at_a_stalled_site_and_it_ends_too() {
        let sites = Sites::new(2);
        sites.set(0, Duration::from_secs(3600), Ok(()));
        sites.set(1, Duration::from_secs(3600), Ok(()));
        for _ in 0..20 {
            drop(timeout(Duration::from_millis(200), sites.read(1)).await);
        }
        let under_way = || Arc::strong_count(&sites.answers) - 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(under_way() <= 2, "{} requests are under way", under_way());
        tokio::time::sleep(DEADLINE * 2).await;
        assert_eq!(under_way(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_service_closes_nothing_lingers_at_its_sites() {
        let sites = Sites::new(2);
        (0..2).for_each(|place| sites.set(place, Duration::from_secs(3600), Ok(())));
        drop(timeout(Duration::from_millis(500), sites.read(1)).await);
        assert!(Arc::strong_count(&sites.answers) > 1, "a late read lingers");
        sites.habits.close();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(Arc::strong_count(&sites.answers), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_reads_in_the_same_world_ask_the_same_sites() {
        let mut asked = Vec::new();
        for _ in 0..2 {
            let sites = Sites::new(6);
            for read in 0..500_usize {
                let late = |place: usize| (read * 7 + place * 3).is_multiple_of(11);
                (0..6).for_each(|place| sites.set(place, if late(place) { SLOW } else { QUICK }, Ok(())));
                sites.read(4).await;
            }
            asked.push((0..6).map(|place| sites.asked(place)).collect::<Vec<_>>());
        }
        assert_eq!(asked[0], asked[1]);
    }
}
