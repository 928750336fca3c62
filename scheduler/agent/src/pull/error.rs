//! Why a pull failed, split by whose move is next: the one who named the image,
//! the registry, the operator of the node, or the disk.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::image::{ImageDigest, ImageError};

/// What the process that talks to the registry says of a failure. It is not
/// believed more than the registry: its words go into an event and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum FetchError {
    /// No answer.
    #[error("{host} cannot be reached or broke off: {cause}")]
    Unreachable {
        /// Who was asked.
        host: String,
        /// What went wrong.
        cause: String,
    },
    /// It wants a login, another one, or lets nobody have it.
    #[error(
        "{host} refuses access ({status}): give the pod an imagePullSecret, or the node credentials for this registry"
    )]
    Denied {
        /// Who was asked.
        host: String,
        /// The status of the answer.
        status: u16,
    },
    /// It has no such thing.
    #[error("{host} has no {digest}")]
    Absent {
        /// Who was asked.
        host: String,
        /// For what.
        digest: ImageDigest,
    },
    /// It has no time now.
    #[error("{host} has no time now ({status}); it is asked again later")]
    Busy {
        /// Who was asked.
        host: String,
        /// The status of the answer.
        status: u16,
    },
    /// An answer that means nothing here.
    #[error("{host} answered {status}, which a registry does not")]
    Status {
        /// Who was asked.
        host: String,
        /// The status of the answer.
        status: u16,
    },
    /// Not a manifest or index.
    #[error("the registry sent the type {0:?} in place of a manifest or index")]
    MediaType(String),
    /// More bytes than asked for, or announced ones.
    #[error("the registry sends more than the {0} bytes of it")]
    TooLong(u64),
    /// Fewer bytes than it should have.
    #[error("the registry sent {sent} bytes of {of}")]
    Short {
        /// What came.
        sent: u64,
        /// What it should have.
        of: u64,
    },
    /// Another part than was asked for.
    #[error("the registry sent another part of the blob than was asked for")]
    Range,
    /// Too slow, or silent.
    #[error("the registry was silent or too slow for {0} s")]
    Stalled(u64),
    /// Sent from place to place.
    #[error("the registry redirects more than {0} times")]
    Redirects(usize),
    /// Sent to a place that is none.
    #[error("the registry redirects to what is no address of HTTP")]
    Location,
    /// Sent to where there is no TLS.
    #[error("the registry leads to {0} without TLS; name it as --registry http://{0} if that is meant")]
    Plain(String),
    /// It wants a login in a way that is not known.
    #[error("{0} wants a login in a way that is not known; Basic and Bearer are")]
    Challenge(String),
    /// The service of tokens gave none.
    #[error("{0} gave no token that can be used")]
    Token(String),
    /// This machine trusts nobody.
    #[error("the certificate authorities cannot be read: {0}; name a file of them with --registry-ca")]
    Roots(String),
    /// The process could not give up what it must.
    #[error("the process that pulls could not be confined: {0}")]
    Unconfined(String),
    /// The agent asked for nothing that can be fetched.
    #[error("the process that pulls did not understand the agent")]
    Order,
}

/// Why an image was not pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Its name names no registry.
    #[error("{0:?} names no registry: write HOST/NAME@sha256:…")]
    Name(String),
    /// The operator did not name its registry.
    #[error("this node does not ask {0}; its operator names registries with --registry")]
    NotNamed(String),
    /// The registry, or the way there.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What came is not what was asked for.
    #[error("the registry sent {found} in place of {wanted}")]
    Forged {
        /// What was asked for.
        wanted: ImageDigest,
        /// What came.
        found: ImageDigest,
    },
    /// Its documents are not as they should be, or for other machines.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A document declares no size, or none that can be.
    #[error("{0} declares a blob without a size, or a document that is too large")]
    Size(ImageDigest),
    /// More than this node takes.
    #[error("the image has {declared} bytes; this node takes {most} (--registry-bytes-max)")]
    TooLarge {
        /// What it declares.
        declared: u64,
        /// What may be.
        most: u64,
    },
    /// More layers than an image has.
    #[error("the image has {declared} layers; {most} are taken")]
    Layers {
        /// What it declares.
        declared: usize,
        /// What may be.
        most: usize,
    },
    /// The process that talks to the registry cannot be started.
    #[error("the process that pulls cannot be run: {0}")]
    Process(io::Error),
    /// It ended, or fell silent, in the middle.
    #[error("the process that pulls broke off: {0}")]
    BrokeOff(io::Error),
    /// It took longer than so many bytes may.
    #[error("the registry is too slow: not everything came within {0} s; what came is gone on with")]
    Late(u64),
    /// It does not keep to what was agreed with it: something else runs in its place.
    #[error("the process that pulls sent what was not asked of it")]
    Astray,
    /// The node's credentials cannot be read.
    #[error("credentials {0}: {1}")]
    Credentials(String, super::login::LoginError),
    /// The disk failed.
    #[error("the disk failed at {0}: {1}")]
    Disk(PathBuf, io::Error),
}
