//! Ports of this machine for services that must be found where they were before.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// What holds the numbers that were given out, for as long as this process lives.
static HELD: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// The first port that the system gives to whoever asks for none in particular.
fn first_of_the_systems() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    range.split_whitespace().next().unwrap().parse().unwrap()
}

/// One that nobody has, and that nobody gets by chance while it is let go and taken again:
/// connections start from higher ones, and another test is refused the number.
pub(crate) fn free_port() -> u16 {
    let ports = 1024..first_of_the_systems();
    // Not all begin to look at the same place.
    let begin =
        ports.start + u16::try_from(std::process::id() % u32::try_from(ports.len()).unwrap()).unwrap();
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    for port in (begin..ports.end).chain(ports.start..begin) {
        // Of UDP, which no service here listens to, so that the number is held while the port is free.
        let Ok(number) = UdpSocket::bind(("127.0.0.1", port)) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            held.push(number);
            return port;
        }
    }
    unreachable!("every port below those of the system is taken")
}
