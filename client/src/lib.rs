//! The SDK, the backup engine and the offline verifier.
//!
//! [`Client`] finds its deployment's service wherever it is; its methods are the calls of
//! the wire, with typed errors, retries where repeating is safe, and streams
//! whose memory does not depend on the size of the object. [`backup`] seals
//! trees before they leave; [`audit`] exports and verifies logs; [`drill`] holds the record of a timed restoration
//! and verifies it without a server.

pub mod audit;
pub mod backup;
mod buckets;
mod call;
pub mod case;
mod certificate;
mod connect;
mod digits;
pub mod drill;
mod drills;
pub mod evidence;
mod evidence_calls;
mod foreign;
mod holders;
mod holds;
mod kit;
mod leaf;
mod log;
mod objects;
pub mod profile;
mod rebalance;
mod repair;
pub mod report;
mod scrub;
mod sites;
mod store;
mod tenants;
mod terms;
mod tlog_proof;
mod ways;
pub mod witness;

pub use buckets::BucketInfo;
pub use call::{CallError, Patience};
pub use certificate::{CertificateRequest, CertificateRequestError, new_certificate_request};
pub use connect::{Client, ConnectError, ConnectOptions, Credentials, check_endpoint};
pub use digits::{from_hex, hex};
pub use drills::{SignDrillError, SignedDrill};
pub use evidence_calls::{SignedFacts, SignedStatement};
pub use foreign::{open_regular, read_regular};
pub use holders::{HolderGroup, HolderSite, Holders};
pub use holds::HoldInfo;
pub use kit::{PublicKit, PublicKitError, pin_checkpoint};
pub use log::{LeafProof, LogError, LogWatch, note_subject_names};
pub use objects::{
    GetError, ObjectBody, ObjectInfo, ObjectPlacement, PIECE_BYTES, PutError, PutOutcome, Removed,
};
pub use rebalance::{Rebalance, RebalanceOptions, SiteShare};
pub use repair::{
    DeclaredCertificate, RepairOptions, RepairPlan, RepairRound, RepairStatus, RepairStep, RepairSums,
    RepairTrouble, ShardLedger, ShardState, ShortVersion, SiteChange,
};
pub use scrub::{
    ChallengeRequest, ScrubPassInfo, ScrubStatusInfo, ScrubStepInfo, SiteChallengeInfo, SiteDelayInfo,
    SiteScrubInfo,
};
pub use sites::{Measured, SiteInfo, Timed};
pub use store::BucketStore;
pub use tenants::{CreateTenantError, NewTenant, TenantGrant};
pub use terms::{ReadTerms, SitesSeen};
pub use ways::{Names, OnStranger, SystemNames};

/// The secrets and shares that a user of this crate handles, from the room
/// that owns them.
pub mod keys {
    pub use coffer_keys::{
        Checkpoint, DEFAULT_COUNT, DEFAULT_THRESHOLD, NoteError, POLICY_BYTES_MAX, PolicyError,
        RecoveryPublicKey, RecoverySecret, RepositoryKey, RootKey, SUBMISSION_BYTES_MAX, Share, ShareError,
        SigningKey, TileError, Unwitnessed, VerifierName, VerifierNameError, VerifyingKey, WitnessName,
        WitnessPolicy, cosign, open_checkpoint, split_for, verify_cosignature,
    };
}
