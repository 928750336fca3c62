//! The body of a request that can be sent again while little of it has gone:
//! who is not the owner refuses before anything is done, and then the same
//! request goes to the owner.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// The most that is remembered of a body, in bytes.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// Where a body is, and what has gone of it.
struct Shared {
    /// `None` once it was taken for another attempt.
    rest: Option<Body>,
    /// `None` if it was too much, or not data alone.
    sent: Option<Vec<Bytes>>,
    bytes: usize,
}

/// A body as one attempt sends it.
pub(super) struct Kept {
    shared: Arc<Mutex<Shared>>,
    /// What an attempt before has sent, still to be sent by this one.
    again: std::vec::IntoIter<Bytes>,
}

/// What is needed to send a body again.
pub(super) struct Memory(Arc<Mutex<Shared>>);

impl Kept {
    pub(super) fn new(body: Body) -> (Self, Memory) {
        let shared = Shared { rest: Some(body), sent: Some(Vec::new()), bytes: 0 };
        let shared = Arc::new(Mutex::new(shared));
        (Self { shared: Arc::clone(&shared), again: Vec::new().into_iter() }, Memory(shared))
    }
}

impl Memory {
    /// The same body from its beginning, if all that has gone of it is
    /// remembered. The attempt before cannot send any more of it.
    pub(super) fn again(self) -> Option<(Kept, Self)> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = shared.sent.take()?;
        let (rest, bytes) = (shared.rest.take()?, shared.bytes);
        drop(shared);
        let again = sent.clone().into_iter();
        let shared = Arc::new(Mutex::new(Shared { rest: Some(rest), sent: Some(sent), bytes }));
        Some((Kept { shared: Arc::clone(&shared), again }, Self(shared)))
    }
}

impl HttpBody for Kept {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(piece) = self.again.next() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rest) = &mut shared.rest else {
            return Poll::Ready(Some(Err(Status::cancelled("the request goes another way"))));
        };
        let polled = std::task::ready!(Pin::new(rest).poll_frame(context));
        if let Some(Ok(frame)) = &polled {
            let data = frame.data_ref().cloned();
            shared.bytes = shared.bytes.saturating_add(data.as_ref().map_or(0, Bytes::len));
            let fits = shared.bytes <= KEPT_BYTES_MAX;
            match (data, &mut shared.sent) {
                (Some(data), Some(sent)) if fits => sent.push(data),
                _ => shared.sent = None,
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        self.again.len() == 0 && shared.rest.as_ref().is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::StreamExt as _;

    use super::*;

    /// Bytes of each piece that an attempt sends until it ends.
    async fn next(kept: &mut Kept) -> Option<Result<Bytes, Status>> {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *kept).poll_frame(context)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap()))
    }

    struct Pieces(std::vec::IntoIter<Bytes>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn body(sizes: &[usize]) -> Body {
        let pieces: Vec<Bytes> =
            sizes.iter().zip(0_u8..).map(|(size, n)| Bytes::from(vec![n; *size])).collect();
        Body::new(Pieces(pieces.into_iter()))
    }

    async fn sizes(mut kept: Kept) -> Vec<usize> {
        let all = futures::stream::poll_fn(move |context| Pin::new(&mut kept).poll_frame(context));
        all.map(|frame| frame.unwrap().into_data().unwrap().len()).collect().await
    }

    #[tokio::test]
    async fn another_attempt_sends_all_of_it_in_order_wherever_the_first_one_was() {
        for gone in 0..=3 {
            let (mut first, memory) = Kept::new(body(&[5, 7, 9]));
            for _ in 0..gone {
                next(&mut first).await.unwrap().unwrap();
            }
            let (second, memory) = memory.again().unwrap();
            assert!(next(&mut first).await.unwrap().is_err(), "the first one sends nothing any more");
            assert!(!first.is_end_stream(), "it was not whole");
            if gone == 2 {
                let (third, _) = memory.again().unwrap();
                assert_eq!(sizes(third).await, [5, 7, 9]);
            } else {
                assert_eq!(sizes(second).await, [5, 7, 9]);
            }
        }
    }

    #[tokio::test]
    async fn a_body_of_which_too_much_has_gone_is_not_sent_again() {
        let (mut first, memory) = Kept::new(body(&[KEPT_BYTES_MAX, 1]));
        next(&mut first).await.unwrap().unwrap();
        next(&mut first).await.unwrap().unwrap();
        assert!(memory.again().is_none());
        assert!(next(&mut first).await.is_none(), "and goes on where it was");
    }
}
