//! The control plane on the embedded API: the same scheduler and controllers as
//! on a cluster, with a kubelet of the test's own that only marks pods.

mod storm;
mod story;
mod world;
