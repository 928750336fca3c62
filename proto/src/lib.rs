//! The wire types, made from `proto/`, and their parsing into the nouns of
//! `coffer-model`. Generated types never travel further inward than the
//! adapters that speak gRPC.

mod parse;

pub use parse::{InvalidMessage, bucket_name, digest, id, object_key, own_or, policy, policy_message};

/// Package `coffer.v1`, as generated.
#[expect(
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::allow_attributes,
    reason = "generated; documented in the .proto file"
)]
pub mod v1 {
    tonic::include_proto!("coffer.v1");
}

/// Package `coffer.site.v1`, between the service and a storage pod, as generated.
pub mod site {
    #[expect(
        missing_docs,
        unused_qualifications,
        clippy::allow_attributes_without_reason,
        clippy::allow_attributes,
        reason = "generated; documented in the .proto file"
    )]
    pub mod v1 {
        tonic::include_proto!("coffer.site.v1");
    }
}

/// The compiled descriptors of every service, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/coffer.v1.descriptors"));

/// The largest piece of object data in one message, in bytes.
pub const DATA_BYTES_MAX: usize = 1 << 20;

/// The most object data that a put in one message carries, in bytes.
pub const SMALL_BYTES_MAX: usize = 64 << 10;

/// The largest message either side accepts, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// The largest message between the service and a pod, in bytes.
pub const SITE_MESSAGE_BYTES_MAX: usize = 2 << 20;

/// The longest frame that either side takes, in bytes: with its head of nine
/// it is as much as the TLS library seals at a time, so that no frame leaves a
/// record of a few bytes, and a call of the kernel, behind.
pub const FRAME_BYTES: u32 = (64 << 10) - 9;

/// Bytes that a connection is read in, whatever its TLS asks for at a time.
pub const READ_BYTES: usize = 64 << 10;

/// The server name in every pod's certificate, whatever its address; which
/// site it is stands beside it.
pub const SITE_SERVER_NAME: &str = "site.coffer.internal";

/// The server name in every deployment's certificate, whatever its address.
pub const SERVER_NAME: &str = "coffer.internal";

/// Metadata of the answer of a replica that refuses a call before anything of
/// it was done, because another one owns the deployment: where that one is,
/// `https://HOST:PORT`, or [`OWNER_UNKNOWN`]. In no other answer.
pub const OWNER_METADATA: &str = "coffer-owner";

/// Its value where the replica does not know.
pub const OWNER_UNKNOWN: &str = "unknown";
