//! The decisions of placing storage pods, and nothing else: which node a pod
//! may run on, which it should, how the pods of a site set are placed together,
//! why they cannot be and what would help, what may be taken down without
//! breaking a loss budget, and the record of every decision, which another
//! process can replay.
//!
//! Pure: no runtime, no clock, no disk, no network, no chance. It sees nodes,
//! pods and counts of shards, never data and never a key.

mod affinity;
mod around;
mod assign;
mod budget;
mod cluster;
mod decide;
mod explain;
mod feasible;
mod filter;
mod flow;
mod ledger;
mod names;
mod node;
mod plan;
mod pod;
mod preempt;
mod ranking;
mod resources;
mod running;
mod score;
mod set;
mod statement;
mod topology;
mod whereabouts;

pub use affinity::{
    Affinity, LABEL_ORDINAL, LABEL_SET, LABEL_SITE, NodeTerm, Operator, PodTerm, Preferred, Requirement,
    Space,
};
pub use budget::{Budget, BudgetError, ShardGroup};
pub use cluster::{Cluster, ClusterError};
pub use decide::{Decision, Placed, Unplaceable, decide};
pub use explain::{Constraint, Explanation, Repair, explain};
pub use feasible::{Feasible, Price, Scored};
pub use filter::{Obstacle, may_run};
pub use ledger::{Ledger, LedgerError, Line};
pub use names::{NameError, NodeName, SetName};
pub use node::{Attestation, Effect, Node, Taint};
pub use plan::{Fleet, Managed, Step, Why, plan, staying};
pub use pod::{Home, Pod, PodId, Toleration};
pub use preempt::{Claim, Preemption, Victim, Yielding, preempt};
pub use resources::{Resource, Resources};
pub use running::{Neighbour, NeighbourName, Runner, Traits};
pub use score::Costs;
pub use set::{Residency, SiteSet, Spread};
pub use statement::{ATTESTATION_MAX, Said, Statement, said_by, statement_id};
pub use topology::Topology;
