//! What an outsider can verify: signatures, log proofs, checkpoints and
//! signed records, each in somebody else's published format.

mod canonical;
mod cosign;
mod dsse;
mod merkle;
mod note;
mod policy;
mod sign;
mod statement;
mod submission;
mod tiles;

pub use canonical::{CanonicalError, parse_canonical, to_canonical};
pub use cosign::{CosignatureError, WitnessName, cosign, cosignature_among, verify_cosignature};
pub use dsse::{EnvelopeError, sign_statement, verify_envelope};
pub use merkle::{
    ProofError, Tree, consistency_proof, inclusion_proof, leaf_hash, root_of, verify_consistency,
    verify_inclusion,
};
pub use note::{Checkpoint, NoteError, VerifierName, VerifierNameError, open_checkpoint, sign_checkpoint};
pub use policy::{ListedWitness, POLICY_BYTES_MAX, PolicyError, Unwitnessed, WitnessPolicy};
pub use sign::{BadSignature, SigningKey, VerifyingKey};
pub use statement::{STATEMENT_PAYLOAD_TYPE, STATEMENT_TYPE, statement, statement_kind, statement_subject};
pub use submission::{PROOF_LINES_MAX, Refusal, SUBMISSION_BYTES_MAX, Submission, SubmissionError};
pub use tiles::{LeafTiles, TILE_WIDTH, TileError, Tiles};
