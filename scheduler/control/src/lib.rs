//! The controllers of the fleet and its scheduler loop: they talk to an embedded
//! API or to a real Kubernetes, and do not know which.
