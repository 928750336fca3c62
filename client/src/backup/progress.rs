//! The port through which long work says how far it is.

/// Told by the engine while it works; called from several threads, so an
/// implementation must be quick.
pub trait Progress: Send + Sync {
    /// A stage begins; the totals are given where they are known.
    fn stage(&self, name: &str, total_bytes: Option<u64>, total_items: Option<u64>);
    /// So many bytes and items more are done since the last call.
    fn advance(&self, bytes: u64, items: u64);
}

/// Says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Quiet;

impl Progress for Quiet {
    fn stage(&self, _name: &str, _total_bytes: Option<u64>, _total_items: Option<u64>) {}
    fn advance(&self, _bytes: u64, _items: u64) {}
}
