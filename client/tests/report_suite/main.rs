//! Reports and evidence packs: every check fails on bad evidence, and no
//! changed byte of a pack goes unnamed.

mod checks;
mod fixture;
mod formats;
mod mutation;
