//! Decisions over random clusters, against slow and obvious ways to make them.
#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod affinity;
mod child;
mod explain;
mod instance;
mod large;
mod leaving;
mod others;
mod placement;
mod preemption;
mod ranking;
mod repairs;
mod replay;
mod storm;
mod wishes;
