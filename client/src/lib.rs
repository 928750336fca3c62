//! The SDK, the backup engine and the offline verifier.
