//! The control plane on the embedded API, or on a cluster (`home.rs`): the same scheduler and controllers as
//! on a cluster, with a kubelet of the test's own that only marks pods.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

mod certificates;
mod home;
mod leaders;
mod records;
mod reservations;
mod storm;
mod story;
mod taken;
mod troubles;
mod world;
