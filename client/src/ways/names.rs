//! What a name stands for now: a port, because the answer changes when the
//! service moves, and its adapter, which asks the system. This is a network
//! adapter.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;

/// Finds the addresses of a name. Asked before every connection, so that a
/// service that moved is found where it is now.
#[async_trait]
pub trait Names: Send + Sync {
    /// All addresses of `host`, with this port.
    ///
    /// # Errors
    /// What the system says where there are none.
    async fn find(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The names that this machine knows: DNS, and its own tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    async fn find(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}
