//! The shard store of one site, and the site daemon.
