//! The parts of a pod that are verbs: binding, eviction, log.

mod bind;
mod evict;
mod log;
