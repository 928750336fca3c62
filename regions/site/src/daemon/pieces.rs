//! The answer to a read, piece by piece: a reader that takes none for too
//! long is left, its pieces are dropped, and what it was sent does not end as
//! a whole answer does.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::Stream;
use tonic::Status;

/// How long a reader may leave a piece of its answer untaken, and a put may
/// bring nothing.
pub(super) const STALL_MAX: Duration = Duration::from_secs(10);
/// Pieces that wait to be taken.
const QUEUED: usize = 2;

/// `None` once the reader was left.
type Queue<T> = Mutex<Option<mpsc::Receiver<T>>>;

/// What a reader takes.
pub(super) struct Pieces<T>(Arc<Queue<T>>);

impl<T: Send + 'static> Pieces<T> {
    /// Offers pieces one by one, and holds the place of the read until the
    /// last of them was taken or the reader was left.
    pub(super) fn offer(
        pieces: impl Iterator<Item = T> + Send + 'static,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUED);
        let queue = Arc::new(Mutex::new(Some(receiver)));
        let left = Arc::downgrade(&queue);
        tokio::spawn(async move {
            if !all_taken(pieces, &sender).await {
                leave(&left);
            }
            drop(place);
        });
        Self(queue)
    }
}

/// Whether every piece was taken in its time, or nobody wants them any more.
async fn all_taken<T>(pieces: impl Iterator<Item = T>, sender: &mpsc::Sender<T>) -> bool {
    for piece in pieces {
        match tokio::time::timeout(STALL_MAX, sender.send(piece)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return true,
            Err(_) => return false,
        }
    }
    // Nothing is queued any more, or nobody is there.
    tokio::time::timeout(STALL_MAX, sender.reserve_many(QUEUED)).await.is_ok()
}

/// Who is left does not wait for a piece: all places of the queue are taken.
fn leave<T>(queue: &Weak<Queue<T>>) {
    let Some(queue) = queue.upgrade() else { return };
    let pieces = queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    drop(pieces);
}

impl<T> Stream for Pieces<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pieces) = queue.as_mut() else {
            return Poll::Ready(Some(Err(Status::deadline_exceeded("no piece was taken for too long"))));
        };
        Poll::Ready(ready!(pieces.poll_recv(context)).map(Ok))
    }
}
