//! A connection inside one process, for a simulation that runs client and
//! service in one thread: the certificate that TLS would have verified comes
//! with the connection, from whoever made it, and never over it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tonic::transport::server::Connected;

use crate::authority::fingerprint;

/// The service's end of a connection whose other end is in this process.
pub struct InProcess {
    stream: DuplexStream,
    caller: InProcessCaller,
}

/// Who is at the other end of an [`InProcess`] connection.
#[derive(Clone, Copy)]
pub struct InProcessCaller {
    fingerprint: [u8; 32],
}

impl InProcess {
    /// A connection of the bearer of this certificate, DER.
    pub fn new(stream: DuplexStream, certificate_der: &[u8]) -> Self {
        Self { stream, caller: InProcessCaller { fingerprint: fingerprint(certificate_der) } }
    }
}

impl InProcessCaller {
    pub(crate) fn fingerprint(self) -> [u8; 32] {
        self.fingerprint
    }
}

impl Connected for InProcess {
    type ConnectInfo = InProcessCaller;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.caller
    }
}

impl AsyncRead for InProcess {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for InProcess {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
