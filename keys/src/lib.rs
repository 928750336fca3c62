//! Coffer's cryptography: object format, key hierarchy, wraps, shares, evidence.
//!
//! Pure: no clock, no disk, no network; chance comes in as a
//! [`coffer_model::Entropy`]. The stored formats are drawn in `FORMAT.md`.

mod chance;
mod derive;
mod engine;
mod evidence;
mod fields;
mod passphrase;
mod recovery;
mod seal;
mod secret;
mod shares;
mod wrap;

pub use evidence::{
    BadSignature, CanonicalError, Checkpoint, CosignatureError, EnvelopeError, LeafTiles, ListedWitness,
    NoteError, POLICY_BYTES_MAX, PROOF_LINES_MAX, PolicyError, ProofError, Refusal, STATEMENT_PAYLOAD_TYPE,
    STATEMENT_TYPE, SUBMISSION_BYTES_MAX, SigningKey, Submission, SubmissionError, TILE_WIDTH, TileError,
    Tiles, Tree, Unwitnessed, VerifierName, VerifierNameError, VerifyingKey, WitnessName, WitnessPolicy,
    consistency_proof, cosign, cosignature_among, inclusion_proof, leaf_hash, open_checkpoint,
    parse_canonical, root_of, sign_checkpoint, sign_statement, statement, statement_kind, statement_subject,
    to_canonical, verify_consistency, verify_cosignature, verify_envelope, verify_inclusion,
};
pub use passphrase::{PassphraseError, PassphraseSlot, open_under_passphrase, seal_under_passphrase};
pub use recovery::{RecoveryError, RecoveryPublicKey, open_sealed, seal_to};
pub use seal::{
    CHUNK_BYTES, Context, HEADER_BYTES, OpenError, Opener, RangeOpener, SEALED_CHUNK_BYTES, SealError,
    Sealer, TAG_BYTES, open_bytes, plain_size, seal_bytes, sealed_range, sealed_size,
};
pub use secret::{Dek, Kek, RecoverySecret, RepositoryKey, RootKey, TenantRoot};
pub use shares::{DEFAULT_COUNT, DEFAULT_THRESHOLD, Share, ShareError, combine, split, split_for};
pub use wrap::{
    OpenSecretError, UnwrapError, Wrap, WrapContext, WrapFormatError, WrapPurpose, open_with_root,
    seal_with_root, unwrap_catalog_key, unwrap_dek, unwrap_kek, unwrap_signing_key, unwrap_tenant_root,
    wrap_catalog_key, wrap_dek, wrap_kek, wrap_signing_key, wrap_tenant_root,
};
