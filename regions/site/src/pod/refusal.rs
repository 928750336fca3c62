//! What a pod did that no pod may do: each kind has a name, and somebody who
//! is told.

use coffer_model::{Country, RecordId, SiteId};
use coffer_proto::InvalidMessage;
use tokio_rustls::rustls;

use crate::identity::IdentityError;
use crate::parts::PartsError;

/// Why a pod, or what it said, was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PodRefusal {
    /// Its certificate is not to be believed: unknown authority, expired,
    /// another server name.
    #[error("its certificate is refused: {0}")]
    Certificate(rustls::CertificateError),
    /// Its certificate names no site.
    #[error("its certificate cannot be a site's: {0}")]
    Identity(#[from] IdentityError),
    /// It is another site.
    #[error("its certificate is that of {0}")]
    OtherSite(SiteId),
    /// It does not stand where the topology says.
    #[error("its certificate says that it stands in {found}, the topology says {promised}")]
    OtherCountry {
        /// What the certificate names.
        found: Country,
        /// What the topology promises.
        promised: Country,
    },
    /// It was replaced by a later incarnation, or counts none where others do.
    #[error("it is incarnation {found} of the site, and {known} is known")]
    EarlierIncarnation {
        /// What it says it is; 0: nothing.
        found: u64,
        /// The highest that is known.
        known: u64,
    },
    /// It does not let this caller in.
    #[error("it refuses this caller; its list of callers must name the certificate")]
    Caller,
    /// A receipt made for an earlier request.
    #[error("it answered with a receipt of another request")]
    ReplayedReceipt,
    /// A receipt of another site.
    #[error("it answered with a receipt of {0}")]
    ReceiptOfOtherSite(SiteId),
    /// Receipts for other records, or other bytes, than were sent.
    #[error("its receipts are not for the records that were sent")]
    WrongReceipt,
    /// A receipt that its key did not sign.
    #[error("the signature under its receipts does not verify")]
    ForgedReceipt,
    /// Another record, or other bytes, than its digest says.
    #[error("it answered with other bytes than those of {0}")]
    WrongRecord(RecordId),
    /// Bytes that are no answer to what was asked.
    #[error("it answered with a message that is none: {0}")]
    Message(#[from] InvalidMessage),
}

impl PodRefusal {
    /// A short name, for logs that programs read.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "wrong-certificate",
            Self::Identity(_) => "no-site-certificate",
            Self::OtherSite(_) => "other-site",
            Self::OtherCountry { .. } => "other-country",
            Self::EarlierIncarnation { .. } => "earlier-incarnation",
            Self::Caller => "caller-refused",
            Self::ReplayedReceipt => "replayed-receipt",
            Self::ReceiptOfOtherSite(_) => "receipt-of-other-site",
            Self::WrongReceipt => "wrong-receipt",
            Self::ForgedReceipt => "forged-receipt",
            Self::WrongRecord(_) => "wrong-record",
            Self::Message(_) => "malformed-answer",
        }
    }

    /// What is wrong with parts that should have been the record `id`.
    pub(super) fn of_parts(error: PartsError, id: RecordId) -> Self {
        match error {
            PartsError::Message(error) => Self::Message(error),
            _ => Self::WrongRecord(id),
        }
    }
}

/// Who is told of refusals.
pub trait Witness: Send + Sync {
    /// `site` was refused.
    fn refused(&self, site: SiteId, refusal: &PodRefusal);

    /// The pod of `site` says that it refused so many callers, requests or
    /// connections more, by the name of their kind.
    fn refused_there(&self, _site: SiteId, _kind: &'static str, _count: u64) {}
}
