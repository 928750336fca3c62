//! What an outsider can verify: signatures, log proofs, checkpoints and
//! signed records, each in somebody else's published format.

mod canonical;
mod dsse;
mod merkle;
mod note;
mod sign;
mod tiles;

pub use canonical::{CanonicalError, parse_canonical, to_canonical};
pub use dsse::{EnvelopeError, sign_statement, verify_envelope};
pub use merkle::{
    ProofError, Tree, consistency_proof, inclusion_proof, leaf_hash, root_of, verify_consistency,
    verify_inclusion,
};
pub use note::{Checkpoint, NoteError, VerifierName, VerifierNameError, open_checkpoint, sign_checkpoint};
pub use sign::{BadSignature, SigningKey, VerifyingKey};
pub use tiles::{LeafTiles, TILE_WIDTH, TileError, Tiles};
