//! Ports of this machine.

use std::net::TcpListener;

/// One that nobody has at this moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
