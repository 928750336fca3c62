//! The end of a pod's container: asked, then killed, and waited for until it is
//! known to be over. A pod that could not be stopped is not gone.

use std::time::Duration;

use tokio::sync::watch;

use super::backoff::Retry;
use super::worker::Wish;
use crate::runtime::{ContainerId, Exit, Runtime, RuntimeError, State};

/// How it ended; `None`: there was none. Ends it within `grace`, at once when
/// the wishes say so, and tries again for as long as the machine fails: whoever
/// calls gives the pod's data to another one afterwards. `told` hears, once each, why it goes on.
pub(super) async fn until_ended(
    runtime: &dyn Runtime,
    id: &ContainerId,
    grace: Duration,
    wishes: &mut watch::Receiver<Wish>,
    told: impl Fn(&str),
) -> Option<Exit> {
    let (mut grace, mut retry, mut before) = (grace, Retry::default(), String::new());
    loop {
        match end(runtime, id, &mut grace, wishes).await {
            Ok(exit) => return exit,
            Err(error) => {
                let why = format!("the container could not be stopped, and this is tried again: {error}");
                if why != before {
                    told(&why);
                    before = why;
                }
                tokio::time::sleep(retry.pause()).await;
            }
        }
    }
}

async fn end(
    runtime: &dyn Runtime,
    id: &ContainerId,
    grace: &mut Duration,
    wishes: &mut watch::Receiver<Wish>,
) -> Result<Option<Exit>, RuntimeError> {
    match runtime.state(id).await? {
        State::Running { .. } => {}
        State::Exited(exit) => return Ok(Some(exit)),
        State::Absent => return Ok(None),
    }
    // It was asked politely once.
    let stop = runtime.stop(id, std::mem::take(grace));
    tokio::pin!(stop);
    loop {
        tokio::select! {
            exit = &mut stop => return exit.map(Some),
            changed = wishes.changed() => {
                let forced = match &*wishes.borrow_and_update() {
                    Wish::Gone => true,
                    Wish::Stop(_, grace) => grace.is_zero(),
                    Wish::Run(_) => false,
                };
                if forced || changed.is_err() {
                    return runtime.kill(id).await.map(Some);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::runtime::{Container, StartError, Usage};

    /// A container that the machine does not end, nor even tell of, so many times.
    struct Stubborn {
        mute: Mutex<u32>,
        refuses: Mutex<u32>,
        over: Mutex<bool>,
    }

    impl Stubborn {
        fn new(mute: u32, refuses: u32) -> Self {
            Self { mute: Mutex::new(mute), refuses: Mutex::new(refuses), over: Mutex::new(false) }
        }

        fn fails(left: &Mutex<u32>) -> Result<(), RuntimeError> {
            let mut left = left.lock().unwrap();
            let Some(fewer) = left.checked_sub(1) else { return Ok(()) };
            *left = fewer;
            Err(std::io::Error::other("the disk does not answer").into())
        }
    }

    fn exit() -> Exit {
        Exit {
            code: 137,
            signal: Some(9),
            out_of_memory: false,
            not_started: None,
            started_unix_ms: 1,
            finished_unix_ms: 2,
        }
    }

    #[async_trait]
    impl Runtime for Stubborn {
        fn name(&self) -> &'static str {
            "stubborn"
        }
        async fn start(&self, _: &Container) -> Result<(), StartError> {
            Ok(())
        }
        fn not_held(&self, _: &Container) -> Option<String> {
            None
        }
        async fn state(&self, _: &ContainerId) -> Result<State, RuntimeError> {
            Self::fails(&self.mute)?;
            let over = *self.over.lock().unwrap();
            Ok(if over { State::Exited(exit()) } else { State::Running { started_unix_ms: 1 } })
        }
        async fn wait(&self, _: &ContainerId) -> Result<Exit, RuntimeError> {
            std::future::pending().await
        }
        async fn stop(&self, _: &ContainerId, _: Duration) -> Result<Exit, RuntimeError> {
            Self::fails(&self.refuses)?;
            *self.over.lock().unwrap() = true;
            Ok(exit())
        }
        async fn usage(&self, _: &ContainerId) -> Result<Usage, RuntimeError> {
            Ok(Usage::default())
        }
        async fn execute(&self, _: &ContainerId, _: &[String], _: Duration) -> Result<i32, RuntimeError> {
            Ok(0)
        }
        async fn list(&self) -> Result<Vec<ContainerId>, RuntimeError> {
            Ok(Vec::new())
        }
        async fn remove(&self, _: &ContainerId) -> Result<(), RuntimeError> {
            Ok(())
        }
        fn log(&self, _: &ContainerId) -> PathBuf {
            PathBuf::new()
        }
    }

    async fn ends(stubborn: &Stubborn, wish: Wish) -> (Option<Exit>, usize) {
        let id = ContainerId::try_from("pod.0".to_owned()).unwrap();
        let (_wishes, mut wishes) = watch::channel(wish);
        let told = Mutex::new(0);
        let end =
            until_ended(stubborn, &id, Duration::from_secs(1), &mut wishes, |_| *told.lock().unwrap() += 1);
        let end = end.await;
        (end, told.into_inner().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_could_not_be_stopped_is_not_gone() {
        let stop = || Wish::Stop(Box::<Pod>::default(), Duration::from_secs(1));
        for (mute, refuses) in [(0, 3), (3, 0), (2, 2)] {
            for wish in [stop(), Wish::Gone] {
                let stubborn = Stubborn::new(mute, refuses);
                let (end, told) = ends(&stubborn, wish).await;
                assert!(*stubborn.over.lock().unwrap(), "it runs, and was told as gone");
                assert_eq!(end, Some(exit()));
                assert_eq!(told, 1, "the same trouble is told once");
            }
        }
    }
}
