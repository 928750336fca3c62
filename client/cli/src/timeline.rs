//! The time axis of a restoration, from the room that keeps its records.

pub(crate) use coffer_client::drill::Timeline;
