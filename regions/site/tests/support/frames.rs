//! A caller that has a certificate and writes the frames of HTTP/2 itself, so
//! that no library keeps it within what the pod allows. From RFC 9113 and
//! RFC 7541; its headers are never compressed.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::net::SocketAddr;
use std::sync::Arc;

use coffer_proto::SITE_SERVER_NAME;
use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::pods::Fleet;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;

/// `END_STREAM`, and `ACK` of settings and pings.
const END: u8 = 1;
const END_HEADERS: u8 = 4;

/// The code with which a stream is reset that is one too many.
pub(crate) const REFUSED_STREAM: u32 = 7;

/// What the pod says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Headers that end the call of this stream.
    End(u32),
    /// It resets a stream, with this code.
    Reset(u32, u32),
    /// It asks whether anybody is there.
    Ping([u8; 8]),
    /// It answers a ping.
    Pong,
    /// It closes the connection.
    GoAway,
    /// Anything else.
    Other,
}

/// One connection.
pub(crate) struct FrameCaller {
    stream: TlsStream<TcpStream>,
    last: Option<u32>,
    heard: Vec<Heard>,
}

fn field(block: &mut Vec<u8>, name: &str, value: &str) {
    // A literal that enters no table; every length is one byte.
    block.push(0);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap());
        block.extend_from_slice(text.as_bytes());
    }
}

fn headers_of(call: &str) -> Vec<u8> {
    let mut block = Vec::new();
    field(&mut block, ":method", "POST");
    field(&mut block, ":scheme", "https");
    field(&mut block, ":authority", SITE_SERVER_NAME);
    field(&mut block, ":path", &format!("/coffer.site.v1.Store/{call}"));
    field(&mut block, "content-type", "application/grpc");
    field(&mut block, "te", "trailers");
    block
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

impl FrameCaller {
    /// Connects as the listed caller.
    pub(crate) async fn connect(fleet: &Fleet, address: SocketAddr) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(fleet.authority.ca_pem.as_bytes()).unwrap()).unwrap();
        let chain = vec![fleet.caller.certificate.der().clone()];
        let key = PrivateKeyDer::from_pem_slice(fleet.caller.key_pem.as_bytes()).unwrap();
        let tls = ClientConfig::builder().with_root_certificates(roots);
        let mut tls = tls.with_client_auth_cert(chain, key).unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = SITE_SERVER_NAME.try_into().unwrap();
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.unwrap();
        let mut caller = Self { stream, last: None, heard: Vec::new() };
        caller.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        caller.frame(SETTINGS, 0, 0, &[]).await.unwrap();
        caller
    }

    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await?;
        self.stream.flush().await
    }

    fn next_stream(&mut self) -> u32 {
        let next = self.last.map_or(1, |last| last + 2);
        self.last = Some(next);
        next
    }

    /// Begins a call and says nothing more; its stream.
    pub(crate) async fn begin(&mut self, call: &str) -> u32 {
        let stream = self.next_stream();
        self.frame(HEADERS, END_HEADERS, stream, &headers_of(call)).await.unwrap();
        stream
    }

    /// Sends one message of a call, and that it was the last if it `ends`.
    pub(crate) async fn say(&mut self, stream: u32, message: &impl Message, ends: bool) {
        let body = message.encode_to_vec();
        let mut data = vec![0];
        data.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
        data.extend_from_slice(&body);
        self.frame(DATA, if ends { END } else { 0 }, stream, &data).await.unwrap();
    }

    /// Takes a call back.
    pub(crate) async fn reset(&mut self, stream: u32) {
        self.frame(RESET, 0, stream, &8_u32.to_be_bytes()).await.unwrap();
    }

    /// Begins headers, and goes on with them for so many frames of 8 KiB;
    /// whether they were all taken.
    pub(crate) async fn headers_without_end(&mut self, frames: usize) -> bool {
        let stream = self.next_stream();
        let mut block = headers_of("Get");
        if self.frame(HEADERS, 0, stream, &block).await.is_err() {
            return false;
        }
        block.clear();
        (0..64).for_each(|_| field(&mut block, "x-more", &"y".repeat(120)));
        for _ in 0..frames {
            if self.frame(CONTINUATION, 0, stream, &block).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The next thing that it says; `None` once the connection is closed.
    pub(crate) async fn hear(&mut self) -> Option<Heard> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = number(&[0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = number(&head[5..]);
        let heard = match (head[3], head[4] & END == END) {
            (HEADERS, true) => Heard::End(stream),
            (RESET, _) => Heard::Reset(stream, number(&payload)),
            (PING, false) => Heard::Ping(payload.try_into().unwrap()),
            (PING, true) => Heard::Pong,
            (GO_AWAY, _) => Heard::GoAway,
            (SETTINGS, false) => {
                self.frame(SETTINGS, END, 0, &[]).await.ok()?;
                Heard::Other
            }
            _ => Heard::Other,
        };
        self.heard.push(heard);
        Some(heard)
    }

    /// Waits for the pod to say what `wanted` wants, and answers its pings;
    /// false if it closes the connection before that.
    pub(crate) async fn hear_until(&mut self, wanted: impl Fn(Heard) -> bool) -> bool {
        while let Some(heard) = self.hear().await {
            if let Heard::Ping(payload) = heard
                && self.frame(PING, END, 0, &payload).await.is_err()
            {
                return false;
            }
            if wanted(heard) {
                return true;
            }
        }
        false
    }

    /// Asks whether the pod is there: then it has read what was sent before.
    pub(crate) async fn ping(&mut self) -> bool {
        self.frame(PING, 0, 0, &[7; 8]).await.is_ok() && self.hear_until(|heard| heard == Heard::Pong).await
    }

    /// Everything that it said until now, and was read.
    pub(crate) fn heard(&self) -> &[Heard] {
        &self.heard
    }
}
