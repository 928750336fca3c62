//! From what a caller has to the pieces that travel.

use std::future::Future;
use std::io;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::oneshot;

use super::PIECE_BYTES;

/// A body in memory as pieces; nothing is copied.
pub(super) fn cut(mut body: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let size = body.len().min(PIECE_BYTES);
        (size > 0).then(|| body.split_to(size))
    })
}

/// What a reader gives, in full pieces.
pub(super) fn pieces_of<R>(reader: R) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
where
    R: AsyncRead + Unpin + Send + 'static,
{
    futures::stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        while piece.len() < PIECE_BYTES {
            let room = PIECE_BYTES - piece.len();
            match (&mut reader).take(u64::try_from(room).unwrap_or(u64::MAX)).read_buf(&mut piece).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Some((Err(error), None)),
            }
        }
        (!piece.is_empty()).then(|| (Ok(piece.freeze()), Some(reader)))
    })
}

/// The pieces of `source` up to its first failure, and a future that tells
/// the failure. After a failure the pieces neither end nor go on: an end
/// would tell the service that the object is whole. Without one the future
/// never resolves.
pub(super) fn until_failure<S>(
    source: S,
) -> (impl Stream<Item = Bytes> + Send + 'static, impl Future<Output = io::Error>)
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    let state = (Box::pin(source), Some(tell));
    let pieces = futures::stream::unfold(state, |(mut source, mut tell)| async {
        match source.next().await? {
            Ok(piece) => Some((piece, (source, tell))),
            Err(error) => {
                if let Some(tell) = tell.take() {
                    drop(tell.send(error));
                }
                std::future::pending().await
            }
        }
    });
    let pieces = pieces.flat_map(|piece| futures::stream::iter(cut(piece)));
    let failed = async {
        match told.await {
            Ok(error) => error,
            Err(_) => std::future::pending().await,
        }
    };
    (pieces, failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_into_full_pieces_and_a_rest() {
        let sizes: Vec<usize> = cut(vec![7; 2 * PIECE_BYTES + 1].into()).map(|piece| piece.len()).collect();
        assert_eq!(sizes, [PIECE_BYTES, PIECE_BYTES, 1]);
        assert_eq!(cut(Bytes::new()).count(), 0);
    }

    #[tokio::test]
    async fn a_reader_that_gives_little_at_a_time_still_fills_its_pieces() {
        let body: Vec<u8> = (0..=255).cycle().take(PIECE_BYTES + 300_000).collect();
        let (mut tx, rx) = tokio::io::duplex(777);
        let sent = body.clone();
        let writer = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut tx, &sent).await.unwrap();
        });
        let pieces: Vec<Bytes> = pieces_of(rx).map(Result::unwrap).collect().await;
        writer.await.unwrap();
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [PIECE_BYTES, 300_000]);
        assert_eq!(pieces.concat(), body);
    }

    #[tokio::test]
    async fn after_a_failure_the_pieces_do_not_end() {
        let source = futures::stream::iter([Ok(Bytes::from_static(b"half")), Err(io::Error::other("disk"))]);
        let (pieces, failed) = until_failure(source);
        let mut pieces = Box::pin(pieces);
        assert_eq!(pieces.next().await, Some(Bytes::from_static(b"half")));
        tokio::select! {
            biased;
            _ = pieces.next() => panic!("the stream ended or went on after a failure"),
            error = failed => assert_eq!(error.to_string(), "disk"),
        }
    }
}
