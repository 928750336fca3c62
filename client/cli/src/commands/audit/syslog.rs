//! Events to a syslog, as RFC 5424 writes them: the OCSF event is the message,
//! the rest is what routers and filters look at.
#![expect(clippy::disallowed_methods, reason = "this module is the network adapter of events")]

use std::io::{self, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use coffer_client::audit::LogEvent;
use coffer_model::Timestamp;

use crate::files::host_name;
use crate::flags::SyslogTarget;

/// Facility "log audit" (13).
const FACILITY: u8 = 13;
const WARNING: u8 = 4;
const INFORMATIONAL: u8 = 6;
/// How long a collector may take to take an event.
const PATIENCE: Duration = Duration::from_secs(10);
/// Characters of a message's kind.
const KIND_MAX: usize = 32;

enum Line {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// A syslog that takes events.
pub(super) struct Syslog {
    line: Line,
    host: String,
}

impl Syslog {
    pub(super) fn connect(target: &SyslogTarget) -> io::Result<Self> {
        let line = match target {
            SyslogTarget::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Line::Unix(socket)
            }
            SyslogTarget::Udp(address) => {
                let socket = UdpSocket::bind("[::]:0").or_else(|_| UdpSocket::bind("0.0.0.0:0"))?;
                socket.connect(address.as_str())?;
                Line::Udp(socket)
            }
            SyslogTarget::Tcp(address) => {
                let stream = TcpStream::connect(address.as_str())?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Line::Tcp(stream)
            }
        };
        Ok(Self { line, host: printable(&host_name(), 255) })
    }

    pub(super) fn send(&mut self, event: &LogEvent, ocsf: &str) -> io::Result<()> {
        let message = message(&self.host, event, ocsf);
        match &mut self.line {
            Line::Unix(socket) => socket.send(message.as_bytes()).map(drop),
            Line::Udp(socket) => socket.send(message.as_bytes()).map(drop),
            // Octet counting: an event may hold any byte.
            Line::Tcp(stream) => stream.write_all(format!("{} {message}", message.len()).as_bytes()),
        }
    }
}

fn message(host: &str, event: &LogEvent, ocsf: &str) -> String {
    let severity = match event.outcome.as_str() {
        "denied" | "failed" | "interrupted" => WARNING,
        _ => INFORMATIONAL,
    };
    let priority = FACILITY * 8 + severity;
    let time = Timestamp(event.time_ms.saturating_mul(1_000_000));
    let kind = printable(&event.operation, KIND_MAX);
    format!("<{priority}>1 {time} {host} coffer {} {kind} - {ocsf}", std::process::id())
}

/// A field of the header: visible ASCII, and `-` where nothing is left.
fn printable(text: &str, most: usize) -> String {
    let plain: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if plain.is_empty() { "-".to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: &[u8] = br#"{"actor":{"user":{"uid":"pri-07"}},"api":{"operation":"object_delete"},"resources":[{"uid":"ver-01"}],"status_detail":"denied","time":1764000000123}"#;

    #[test]
    fn a_message_is_one_line_of_rfc_5424_whatever_the_event_holds() {
        let event = LogEvent::read(7, LEAF).unwrap();
        let text = message("host", &event, "{}");
        let (head, rest) = text.split_once(" coffer ").unwrap();
        assert_eq!(head, "<108>1 2025-11-24T16:00:00.123Z host");
        assert!(rest.ends_with(" object_delete - {}"), "{rest}");
        let leaf =
            String::from_utf8_lossy(LEAF).replace("denied", "done").replace("object_delete", "two words");
        let calm = LogEvent::read(7, leaf.as_bytes()).unwrap();
        let text = message("host", &calm, "{}");
        assert!(text.starts_with("<110>1 ") && text.contains(" twowords - "), "{text}");
        assert_eq!(printable("\n é", 9), "-");
        assert_eq!(printable(&"x".repeat(99), 32).len(), 32);
    }

    #[test]
    fn events_arrive_whole_over_each_way() {
        let event = LogEvent::read(7, LEAF).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let mut buffer = [0; 4096];
        Syslog::connect(&SyslogTarget::Unix(path)).unwrap().send(&event, "{\"a\":1}").unwrap();
        let read = receiver.recv(&mut buffer).unwrap();
        assert!(buffer[..read].ends_with(b" - {\"a\":1}"));
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap().to_string();
        Syslog::connect(&SyslogTarget::Udp(address)).unwrap().send(&event, "{}").unwrap();
        let read = receiver.recv(&mut buffer).unwrap();
        assert!(buffer[..read].ends_with(b" - {}"));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut sender = Syslog::connect(&SyslogTarget::Tcp(address)).unwrap();
        sender.send(&event, "{}").unwrap();
        sender.send(&event, "[]").unwrap();
        drop(sender);
        let mut all = String::new();
        io::Read::read_to_string(&mut listener.accept().unwrap().0, &mut all).unwrap();
        let (length, rest) = all.split_once(' ').unwrap();
        let (first, second) = rest.split_at(length.parse().unwrap());
        assert!(first.ends_with(" - {}") && second.starts_with(length) && second.ends_with(" - []"), "{all}");
    }
}
