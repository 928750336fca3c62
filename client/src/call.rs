//! What a call can be answered with, and the patience with which it is
//! repeated.

use std::future::Future;
use std::time::Duration;

use coffer_model::Entropy;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::connect::Client;
use crate::ways::never_left;

/// Why a call failed, split by whose move is next. The text is the service's
/// own, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// What was asked for does not exist. The caller's move.
    #[error("not found: {0}")]
    NotFound(String),
    /// What was to be created exists. The caller's move.
    #[error("exists already: {0}")]
    AlreadyExists(String),
    /// The caller may not do this; the refusal is in the audit log.
    #[error("not permitted: {0}")]
    PermissionDenied(String),
    /// The service does not know this certificate.
    #[error("the service does not accept this certificate: {0}")]
    Unauthenticated(String),
    /// The request breaks a rule of the wire. The caller's move.
    #[error("the request was refused as invalid: {0}")]
    Invalid(String),
    /// The state forbids it: a policy that the sites cannot satisfy, a bucket
    /// that is not empty. Nothing was done.
    #[error("refused: {0}")]
    Precondition(String),
    /// The service, or too many of its sites, cannot be reached now. Trying
    /// again later may help.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The call did not end within its time. It may or may not have happened.
    #[error("no answer within {0:?}; what was asked may still have happened")]
    TimedOut(Duration),
    /// The object is damaged beyond repair: more shards are lost than the
    /// geometry can lose.
    #[error("damaged beyond repair: {0}")]
    Damaged(String),
    /// The service failed; its operator should look.
    #[error("the service failed: {0}")]
    Internal(String),
    /// The answer breaks a rule of the wire: a service of another version, or
    /// a lying one.
    #[error("the service's answer is not valid: {0}")]
    Answer(String),
}

impl CallError {
    /// The error that a status means.
    pub(crate) fn from_status(status: &Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::NotFound => Self::NotFound(text),
            Code::AlreadyExists => Self::AlreadyExists(text),
            Code::PermissionDenied => Self::PermissionDenied(text),
            Code::Unauthenticated => Self::Unauthenticated(text),
            Code::InvalidArgument | Code::OutOfRange => Self::Invalid(text),
            Code::FailedPrecondition | Code::ResourceExhausted | Code::Aborted => Self::Precondition(text),
            Code::Unavailable | Code::Cancelled => Self::Unavailable(text),
            Code::DataLoss => Self::Damaged(text),
            // Transport errors have no code of their own: tonic reports a
            // broken connection as Unknown with its cause as the source.
            Code::Unknown if std::error::Error::source(status).is_some() => Self::Unavailable(text),
            _ => Self::Internal(text),
        }
    }

    /// Whether the same call may succeed without anybody's doing.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// An answer whose field breaks its rules.
pub(crate) fn bad_answer(error: impl std::fmt::Display) -> CallError {
    CallError::Answer(error.to_string())
}

/// How long a call may take and how it is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A call that is not repeated; and, from the first failure on, all
    /// repetitions of one that is: none begins later.
    pub deadline: Duration,
    /// One attempt of a call that is repeated. It may carry a whole pack over
    /// a slow line, and is longer than the deadline for that.
    pub longest_attempt: Duration,
    /// The pause before the first repetition; it doubles from then on.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Told, once for each call that waits, for how long it will be repeated.
    pub on_wait: Option<fn(Duration)>,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            longest_attempt: Duration::from_secs(120),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(5),
            on_wait: None,
        }
    }
}

impl Patience {
    /// The pause before repetition `attempt` (from 0): half of it fixed, half
    /// of it chance, so that many clients do not come back at one moment.
    pub(crate) fn pause(&self, attempt: u32, entropy: &dyn Entropy) -> Duration {
        let factor = 1_u32.checked_shl(attempt.min(20)).unwrap_or(u32::MAX);
        let full = self.first_pause.saturating_mul(factor).min(self.longest_pause);
        let mut byte = [0];
        entropy.fill(&mut byte);
        full / 2 + full / 2 * u32::from(byte[0]) / 255
    }
}

/// One call, for what must not happen twice. It begins when the service is
/// reached, and again where it certainly did not arrive: until then it cannot
/// have happened at all.
pub(crate) async fn once<T, F: Future<Output = Result<T, Status>>>(
    client: &Client,
    mut call: impl FnMut() -> F,
) -> Result<T, CallError> {
    let mut until = None;
    let mut attempt = 0;
    loop {
        client.reached().await?;
        let status = match tokio::time::timeout(client.patience.deadline, call()).await {
            Ok(Err(status)) if never_left(&status) => status,
            Ok(answer) => return answer.map_err(|status| CallError::from_status(&status)),
            Err(_) => return Err(CallError::TimedOut(client.patience.deadline)),
        };
        let again = Instant::now() + client.patience.pause(attempt, client.entropy.as_ref());
        if again > *until.get_or_insert(again + client.patience.deadline) {
            return Err(CallError::from_status(&status));
        }
        tokio::time::sleep_until(again).await;
        attempt += 1;
    }
}

/// One call within its deadline that begins now.
pub(crate) async fn at_once<T>(
    patience: &Patience,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(patience.deadline, call).await {
        Ok(answer) => answer.map_err(|status| CallError::from_status(&status)),
        Err(_) => Err(CallError::TimedOut(patience.deadline)),
    }
}

/// A call that is safe to repeat, repeated while its failure is transient and
/// the deadline is not over. The last failure is the one that is told.
pub(crate) async fn repeat<T, F: Future<Output = Result<T, CallError>>>(
    patience: &Patience,
    entropy: &dyn Entropy,
    mut call: impl FnMut() -> F,
) -> Result<T, CallError> {
    let mut last = None;
    let mut until = None;
    let mut attempt = 0;
    loop {
        let error = match tokio::time::timeout(patience.longest_attempt, call()).await {
            Ok(Err(error)) if error.is_transient() => error,
            Ok(answer) => return answer,
            Err(_) => return Err(last.unwrap_or(CallError::TimedOut(patience.longest_attempt))),
        };
        let failed = Instant::now();
        if until.is_none()
            && let Some(tell) = patience.on_wait
        {
            tell(patience.deadline);
        }
        let until = *until.get_or_insert(failed + patience.deadline);
        let again = failed + patience.pause(attempt, entropy);
        if again > until {
            return Err(error);
        }
        last = Some(error);
        tokio::time::sleep_until(again).await;
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);
    impl Entropy for Fixed {
        fn fill(&self, out: &mut [u8]) {
            out.fill(self.0);
        }
    }

    const HASTY: Patience = Patience {
        deadline: Duration::from_millis(200),
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(2),
        longest_attempt: Duration::from_millis(400),
        on_wait: None,
    };

    #[test]
    fn pauses_double_up_to_the_longest_and_chance_moves_them_by_half() {
        let patience = Patience::default();
        for (attempt, full) in [(0, 50), (1, 100), (2, 200), (10, 5000), (4_000, 5000)] {
            assert_eq!(patience.pause(attempt, &Fixed(0)), Duration::from_millis(full) / 2);
            assert_eq!(patience.pause(attempt, &Fixed(255)), Duration::from_millis(full));
        }
    }

    #[tokio::test]
    async fn a_refusal_is_not_repeated() {
        let mut calls = 0;
        let answer: Result<(), _> = repeat(&HASTY, &Fixed(0), || {
            calls += 1;
            std::future::ready(Err(CallError::PermissionDenied("no".into())))
        })
        .await;
        assert_eq!((calls, answer), (1, Err(CallError::PermissionDenied("no".into()))));
    }

    #[tokio::test]
    async fn an_outage_is_waited_out_and_a_long_one_is_told_as_what_it_was() {
        let mut calls = 0;
        let answer = repeat(&HASTY, &Fixed(0), || {
            calls += 1;
            let down = Err(CallError::Unavailable("restarting".into()));
            std::future::ready(if calls < 3 { down } else { Ok(calls) })
        })
        .await;
        assert_eq!(answer, Ok(3));
        let forever = || std::future::ready(Err::<(), _>(CallError::Unavailable("gone".into())));
        let answer = repeat(&HASTY, &Fixed(0), forever).await;
        assert_eq!(answer, Err(CallError::Unavailable("gone".into())));
    }

    #[tokio::test]
    async fn silence_ends_with_the_deadline() {
        let answer: Result<(), _> = at_once(&HASTY, std::future::pending()).await;
        assert_eq!(answer, Err(CallError::TimedOut(HASTY.deadline)));
        let answer: Result<(), _> = repeat(&HASTY, &Fixed(0), std::future::pending).await;
        assert_eq!(answer, Err(CallError::TimedOut(HASTY.longest_attempt)));
    }

    #[test]
    fn each_code_of_the_wire_has_its_error() {
        let of = |code| CallError::from_status(&Status::new(code, "x"));
        assert_eq!(of(Code::NotFound), CallError::NotFound("x".into()));
        assert_eq!(of(Code::FailedPrecondition), CallError::Precondition("x".into()));
        assert_eq!(of(Code::DataLoss), CallError::Damaged("x".into()));
        assert_eq!(of(Code::Unknown), CallError::Internal("x".into()));
        assert!(of(Code::Unavailable).is_transient());
    }
}
