//! Probes of a pod: whether it has started, lives, is ready.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::runtime::{ContainerId, Runtime};

/// How a probe is carried out, with Kubernetes' defaults for what it leaves out.
pub(crate) struct Timing {
    pub delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub failures: u32,
    pub successes: u32,
}

impl Timing {
    pub(crate) fn of(probe: &Probe) -> Self {
        let seconds = |value: Option<i32>, usual: u64| {
            Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(usual))
        };
        let count = |value: Option<i32>, usual: u32| {
            value.and_then(|value| u32::try_from(value).ok()).unwrap_or(usual)
        };
        Self {
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10).max(Duration::from_secs(1)),
            timeout: seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1)),
            failures: count(probe.failure_threshold, 3).max(1),
            successes: count(probe.success_threshold, 1).max(1),
        }
    }
}

/// Carries out a probe once; why it failed if it did.
pub(crate) async fn once(
    probe: &Probe,
    runtime: &dyn Runtime,
    id: &ContainerId,
    address: &str,
    port_named: impl Fn(&str) -> Option<u16>,
) -> Result<(), String> {
    let limit = Timing::of(probe).timeout;
    let number = |port: &IntOrString| match port {
        IntOrString::Int(port) => u16::try_from(*port).ok(),
        IntOrString::String(name) => name.parse().ok().or_else(|| port_named(name)),
    };
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        return match runtime.execute(id, &command, limit).await {
            Ok(0) => Ok(()),
            Ok(code) => Err(format!("the command ended with {code}")),
            Err(error) => Err(error.to_string()),
        };
    }
    if let Some(tcp) = &probe.tcp_socket {
        let port = number(&tcp.port).ok_or("the port is none")?;
        let host = tcp.host.as_deref().unwrap_or(address);
        return within(limit, TcpStream::connect((host, port))).await.map(drop);
    }
    if let Some(http) = &probe.http_get {
        let port = number(&http.port).ok_or("the port is none")?;
        let host = http.host.as_deref().unwrap_or(address);
        let path = http.path.as_deref().unwrap_or("/");
        return within(limit, get(host, port, path)).await.and_then(|code| match code {
            200..=399 => Ok(()),
            code => Err(format!("the answer was {code}")),
        });
    }
    Err("the probe says neither exec nor tcpSocket nor httpGet".to_owned())
}

async fn within<T>(limit: Duration, what: impl Future<Output = std::io::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(limit, what).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

/// The status of a plain GET; nothing of the body is read.
async fn get(host: &str, port: u16, path: &str) -> std::io::Result<u16> {
    let wrong = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    if path.bytes().any(|c| c.is_ascii_control() || c == b' ') {
        return Err(wrong("the path has blanks"));
    }
    let mut stream = TcpStream::connect((host, port)).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\nUser-Agent: coffer-node\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    stream.take(64).read_to_end(&mut head).await?;
    let line = String::from_utf8_lossy(&head);
    let code = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.filter(|_| line.starts_with("HTTP/1.")).ok_or_else(|| wrong("the answer is not HTTP"))
}

/// What a row of results comes to.
#[derive(Debug)]
pub(crate) struct Tally {
    row: u32,
    last: bool,
    pub good: bool,
}

impl Tally {
    /// A verdict before the first result.
    pub(crate) fn new(good: bool) -> Self {
        Self { row: 0, last: good, good }
    }

    /// Counts a result; whether the verdict has changed, or has been confirmed as bad for the first time.
    pub(crate) fn count(&mut self, good: bool, timing: &Timing) -> bool {
        self.row = if self.last == good { self.row.saturating_add(1) } else { 1 };
        self.last = good;
        let needed = if good { timing.successes } else { timing.failures };
        let decided = self.row == needed;
        if decided {
            self.good = good;
        }
        decided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_none_and_three_in_a_row_are() {
        let timing = Timing::of(&Probe::default());
        let mut tally = Tally::new(true);
        for result in [false, false, true, false, false] {
            tally.count(result, &timing);
            assert!(tally.good);
        }
        assert!(tally.count(false, &timing));
        assert!(!tally.good);
    }
}
