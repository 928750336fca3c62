//! Decisions over random clusters, against slow and obvious ways to make them.
#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod affinity;
mod crowded;
mod explain;
mod instance;
mod leaving;
mod placement;
mod preemption;
mod ranking;
mod replay;
mod storm;
mod wishes;
