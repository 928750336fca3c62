//! The port to the store: named, immutable, opaque bodies.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

/// Why the store did not do what was asked; split by whose move is next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobStoreError {
    /// There is no blob with this name.
    #[error("the store holds no blob \"{name}\"")]
    Missing {
        /// The name that was asked for.
        name: String,
    },
    /// The blob is there, but the store knows that its bytes are damaged.
    #[error("the blob \"{name}\" is damaged in the store; scrub and repair it there, then try again")]
    Damaged {
        /// The name that was asked for.
        name: String,
    },
    /// The range that was asked for ends past the end of the blob.
    #[error("the blob \"{name}\" is shorter than its index says; it was truncated in the store")]
    Truncated {
        /// The name that was asked for.
        name: String,
    },
    /// The store does not answer, or not in time. Trying again may help.
    #[error("the store did not answer for \"{name}\" ({reason}); try again when it is reachable")]
    Unavailable {
        /// The name that was asked for.
        name: String,
        /// What the transport said.
        reason: String,
    },
    /// The store answered and refuses: permission, quota, policy.
    #[error("the store refuses \"{name}\": {reason}")]
    Refused {
        /// The name that was asked for.
        name: String,
        /// What the store said.
        reason: String,
    },
}

/// Where the repository lives. `put` returns once the blob is durable: the
/// order packs, index, snapshot is the engine's whole crash safety.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Stores a blob; returns when it is durable. Putting the same body under
    /// the same name again succeeds.
    async fn put(&self, name: &str, body: Bytes) -> Result<(), BlobStoreError>;
    /// Reads a blob whole.
    async fn get(&self, name: &str) -> Result<Bytes, BlobStoreError>;
    /// Reads the bytes of `range`, all of them or an error.
    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, BlobStoreError>;
    /// All names that start with `prefix`, in any order.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobStoreError>;
    /// Removes a blob; removing one that is not there succeeds.
    async fn delete(&self, name: &str) -> Result<(), BlobStoreError>;
}
