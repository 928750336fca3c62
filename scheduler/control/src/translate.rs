//! The boundary: objects of the API become the types of `coffer_scheduler`, or
//! are refused by name. Nothing behind it sees a Kubernetes type.

mod affinity;
mod node;
mod pod;
mod quantity;
mod set;

pub use affinity::AffinityError;
pub use node::{NodeRefusal, node};
pub use pod::{Phase, PodRefusal, SeenPod, Whose, pod, pod_in};
pub use quantity::{QuantityError, millis, whole};
pub use set::{SeenSet, SetRefusal, site_set, version};
