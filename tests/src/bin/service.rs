//! A service in a process of its own, for stories that kill it: opens the
//! deployment in DIR with the root key in FILE and prints where it listens.
//! With HELD and NOTES something is held back at its sites.
#![expect(clippy::print_stdout, reason = "the parent reads the endpoint from standard output")]
#![expect(clippy::disallowed_methods, reason = "the root key comes from a file of the test")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use coffer_custody::{OsEntropy, SystemClock};
use coffer_keys::RootKey;
use coffer_server::{Host, Service, serve};
use coffer_tests::Held;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (data, key) = arguments.next().zip(arguments.next()).ok_or("usage: DIR FILE [HELD NOTES]")?;
    let held = arguments.next().zip(arguments.next());
    let key: [u8; 32] = std::fs::read(key)?.try_into().map_err(|_| "the root key has 32 bytes")?;
    let root = RootKey::danger_from_bytes(Zeroizing::new(key));
    let mut host = Host::of_this_machine(Arc::new(SystemClock), Arc::new(OsEntropy));
    if let Some((what, notes)) = held {
        host.sites = Held::parse(what.to_str().ok_or("HELD is text")?, &notes).before(host.sites);
    }
    let service = Service::open(host, &data, &root).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{{\"endpoint\":\"https://{}\"}}", listener.local_addr()?);
    // Only a signal ends it: that is what it is for.
    serve(service, listener, std::future::pending()).await?;
    Ok(())
}
