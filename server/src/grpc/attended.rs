//! An upload that somebody waits for. What a caller sent whole before he went
//! away is there all the same, perhaps long after, and he may have written
//! something newer by then: what has not been begun for him is not begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::put::{Source, SourceError};

/// The caller, who is gone once this is dropped.
pub(super) struct Caller(Arc<AtomicBool>);

/// What he uploads.
pub(super) struct Attended<S> {
    source: S,
    gone: Arc<AtomicBool>,
}

/// A caller and his upload.
pub(super) fn attended<S: Source>(source: S) -> (Caller, Attended<S>) {
    let gone = Arc::new(AtomicBool::new(false));
    (Caller(Arc::clone(&gone)), Attended { source, gone })
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl<S: Source> Source for Attended<S> {
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        if self.gone.load(Ordering::Acquire) {
            return Err(SourceError);
        }
        self.source.next().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sent(Vec<&'static [u8]>);

    impl Source for Sent {
        async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
            Ok(self.0.pop().map(Bytes::from_static))
        }
    }

    #[tokio::test]
    async fn what_was_sent_whole_is_not_taken_any_more_once_its_caller_is_gone() {
        let (caller, mut upload) = attended(Sent(vec![b"second", b"first"]));
        assert_eq!(upload.next().await.unwrap().unwrap(), "first");
        drop(caller);
        assert!(upload.next().await.is_err());
    }
}
