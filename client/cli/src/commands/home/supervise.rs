//! Tasks that a fleet at home does not go on without. One that ends or panics is
//! begun anew, and said; the pause grows while it goes on like that.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use coffer_model::Clock;
use futures::FutureExt as _;

/// Before the first new beginning.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause. Whoever ran for as long begins with the shortest again.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Runs what `begin` begins, and begins it anew whenever it is over, until this is dropped.
pub(super) async fn for_ever<F: Future<Output = Option<String>>>(
    what: &'static str,
    clock: &dyn Clock,
    tell: impl Fn(&str),
    mut begin: impl FnMut() -> F,
) {
    let mut pause = PAUSE;
    loop {
        let since = clock.monotonic();
        // What it left half done is dropped with it: the next one begins from what is stored.
        let why = match AssertUnwindSafe(async { begin().await }).catch_unwind().await {
            Ok(why) => why.unwrap_or_else(|| "it ended".to_owned()),
            Err(panic) => format!("a fault of the program: {}", text_of(panic.as_ref())),
        };
        if clock.monotonic().saturating_sub(since) >= PAUSE_MAX {
            pause = PAUSE;
        }
        tell(&format!("{what}: {why}; begins anew in {} s", pause.as_secs()));
        tokio::time::sleep(pause).await;
        pause = PAUSE_MAX.min(pause * 2);
    }
}

/// What a panic says.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it says nothing")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use coffer_custody::SystemClock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_or_ends_is_said_and_begun_anew() {
        let (told, begun) = (Mutex::new(Vec::new()), AtomicU32::new(0));
        let tell = |text: &str| told.lock().unwrap().push(text.to_owned());
        let running = for_ever("the task", &SystemClock, tell, || async {
            match begun.fetch_add(1, Ordering::Relaxed) {
                0 => std::panic::panic_any("the first"),
                1 => Some("the second".to_owned()),
                2 => None,
                _ => std::future::pending().await,
            }
        });
        let third = async {
            while begun.load(Ordering::Relaxed) < 4 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! { () = running => {}, () = third => {} }
        let expected = [
            "the task: a fault of the program: the first; begins anew in 1 s",
            "the task: the second; begins anew in 2 s",
            "the task: it ended; begins anew in 4 s",
        ];
        assert_eq!(*told.lock().unwrap(), expected);
    }
}
