//! The connections of a pod: a bounded number, each closed when it is over.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use coffer_proto::READ_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::Notice;

/// Connections at the same time: callers are few.
const CONNECTIONS_MAX: usize = 64;

/// A connection that holds its place among the bounded number. It is read in
/// long pieces: TLS asks for 4 KiB at a time, four times for each record.
pub(super) struct Counted {
    stream: BufReader<TcpStream>,
    _place: OwnedSemaphorePermit,
}

/// What is accepted; one too many is closed at once.
pub(super) fn bounded(
    listener: TcpListener,
    notices: Arc<dyn Fn(Notice) + Send + Sync>,
) -> impl Stream<Item = io::Result<Counted>> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    TcpListenerStream::new(listener).filter_map(move |accepted| {
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => return Some(Err(error)),
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            notices(Notice::Connections);
            return None;
        };
        // Small answers would wait for the caller's delayed ACK otherwise; a
        // connection that refuses the option still works.
        let _ = stream.set_nodelay(true);
        Some(Ok(Counted { stream: BufReader::with_capacity(READ_BYTES, stream), _place: place }))
    })
}

impl Connected for Counted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.get_ref().connect_info()
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
