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
pub(crate) const RESCUE: Duration = Duration::from_millis(250);

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
        late.due = Some(now + (late.patience * 4).saturating_sub(late.patience) + RESCUE);
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
    token: Arc<()>,
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
        let (size, since, token) = (race.size, Instant::now(), Arc::new(()));
        let (habits, alive) = (Arc::clone(race.habits), Arc::clone(&token));
        let request = tokio::spawn(async move {
            let answer = timeout(DEADLINE, read).await.unwrap_or(Err(SiteError::Unreachable));
            match &answer {
                Err(SiteError::Unreachable) => habits.silent(site),
                _ => habits.answered(site, size, since.elapsed()),
            }
            drop(alive);
            answer
        });
        let habits = Arc::clone(race.habits);
        let (due, request) = (Some(since + patience), Some(request));
        Some(Self { candidate, site, size, habits, since, patience, due, refused: false, token, request })
    }
}

impl<T> Asked<T> {
    /// Lets it end in the background, where it tells the truth about its site
    /// and holds nobody up; cuts it off where another one of its site does
    /// that already. Whether it goes on.
    fn linger(&mut self) -> bool {
        let may = self.habits.may_linger(self.site, &self.token);
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
