//! The ledger of placements: every change of the snapshot and every decision,
//! in order, each line bound to the one before by its digest. Another process
//! replays it and must come to the same bindings; one changed byte is found.
//!
//! A line is one JSON object: `seq` from zero, `previous` (BLAKE3 of the line
//! before, in hexadecimal digits; of nothing for the first) and `what`. A decision says its format; past ones stay readable.

use serde::{Deserialize, Serialize};

use crate::decide::Placed;
use crate::{
    Cluster, ClusterError, Costs, Decision, Neighbour, NeighbourName, Node, NodeName, PodId, Preemption,
    Resources, SetName, SiteSet, Traits, Way, Yielding, decide, preempt,
};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// A node came, or is not what it was.
    Node(Box<Node>),
    /// A node is gone.
    NodeGone(NodeName),
    /// A pod was found bound by nobody of this ledger: at its beginning, or by hand.
    Bound {
        /// The pod.
        pod: PodId,
        /// What it holds.
        needs: Resources,
        /// Its node.
        node: NodeName,
        /// What else is to be known of it.
        #[serde(default, skip_serializing_if = "Traits::is_plain")]
        traits: Traits,
    },
    /// A bound pod has other labels, wishes or another priority than before.
    Traits {
        /// The pod.
        pod: PodId,
        /// What is to be known of it now.
        traits: Traits,
    },
    /// A pod of somebody else came to a node, or is not what it was.
    Neighbour(Box<Neighbour>),
    /// A pod of somebody else is gone.
    NeighbourGone(NeighbourName),
    /// A pod ended, or was taken down.
    Released(PodId),
    /// Room is kept for a set that fits nowhere, and some give way to it. With everything that this was decided on.
    Preempted {
        /// The set as it was.
        set: Box<SiteSet>,
        /// The prices.
        costs: Costs,
        /// Who could give way.
        yielding: Box<Yielding>,
        /// Who does, and where room is kept.
        preemption: Preemption,
    },
    /// No room is kept for a set any more: who should have given way does not, or need not.
    Unclaimed(SetName),
    /// A set was decided over and its pods bound. The whole of what was decided
    /// on: the policy is in the set.
    Decided {
        /// The set as it was.
        set: Box<SiteSet>,
        /// The prices.
        costs: Costs,
        /// What came out; `None`: not all pods could be placed.
        decision: Option<Decision>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    seq: u64,
    previous: String,
    what: Line,
}

/// Why a ledger is not believed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A line that is none of this ledger.
    #[error("line {line} is not a line of a ledger: {why}")]
    Form {
        /// Its number, from zero.
        line: u64,
        /// What the parser says.
        why: serde_json::Error,
    },
    /// A line that does not follow the one before it.
    #[error(
        "line {line} does not follow the line before it: one of the two was changed, or lines are missing"
    )]
    Chain {
        /// Its number, from zero.
        line: u64,
    },
    /// The last line is not the one that was pinned.
    #[error("the ledger does not end as it did when its end was noted")]
    End,
    /// A change that does not fit.
    #[error("line {line} does not fit what was before it: {why}")]
    Misfit {
        /// Its number, from zero.
        line: u64,
        /// Why not.
        why: ClusterError,
    },
    /// A decision in a format of a newer program.
    #[error("line {line} has a decision in format {format}; replay it with the program that wrote it")]
    Format {
        /// Its number, from zero.
        line: u64,
        /// Its format.
        format: u32,
    },
    /// Another decision than the one that was recorded.
    #[error("line {line} records another decision than these inputs lead to")]
    Decision {
        /// Its number, from zero.
        line: u64,
    },
}

/// A ledger under way: the snapshot, and what to write down next.
pub struct Ledger {
    cluster: Cluster,
    next: u64,
    previous: blake3::Hash,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { cluster: Cluster::new(), next: 0, previous: blake3::hash(b"") }
    }
}

impl Ledger {
    /// Of an empty cluster.
    pub fn new() -> Self {
        Self::default()
    }

    /// The snapshot after everything so far.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// How many lines there are.
    pub fn lines(&self) -> u64 {
        self.next
    }

    /// The digest of the last line: whoever pins it notices a changed or cut ledger.
    pub fn end(&self) -> String {
        self.previous.to_hex().to_string()
    }

    /// Takes a change of the snapshot in; the line to write down.
    ///
    /// # Errors
    /// [`ClusterError`]; nothing was taken in.
    pub fn change(&mut self, what: Line) -> Result<String, ClusterError> {
        self.take(&what)?;
        Ok(self.write(what))
    }

    /// Decides over a set and binds its pods; what was decided, and the line to write down.
    ///
    /// # Errors
    /// [`ClusterError`], where a binding does not fit: a fault of the decision, which is then not taken in.
    pub fn decide(&mut self, set: SiteSet, costs: Costs) -> Result<(Option<Decision>, String), ClusterError> {
        let decision = self.propose(&set, &costs);
        let line = self.record(set, costs, decision.clone())?;
        Ok((decision, line))
    }

    /// What would be decided over a set now. Nothing is bound; whoever does what it says records it next.
    pub fn propose(&mut self, set: &SiteSet, costs: &Costs) -> Option<Decision> {
        self.cluster.set_revision(self.next);
        self.cluster.rank_for(set, costs);
        decide(&self.cluster, set, costs).ok()
    }

    /// Binds what was proposed over this set a moment ago; the line to write down.
    ///
    /// # Errors
    /// [`ClusterError`], where a binding does not fit; then nothing is taken in.
    pub fn record(
        &mut self,
        set: SiteSet,
        costs: Costs,
        decision: Option<Decision>,
    ) -> Result<String, ClusterError> {
        let what = Line::Decided { set: Box::new(set), costs, decision };
        self.take(&what)?;
        Ok(self.write(what))
    }

    /// Plans who gives way to a set that fits nowhere, and keeps the room; who does, and the line to write down.
    ///
    /// # Errors
    /// [`ClusterError`]; nothing is kept then.
    pub fn preempt(
        &mut self,
        set: &SiteSet,
        costs: &Costs,
        yielding: Yielding,
    ) -> Result<Option<(Preemption, String)>, ClusterError> {
        let Some(way) = self.find_way(set, costs, yielding) else { return Ok(None) };
        let preemption = way.preemption.clone();
        Ok(Some((preemption, self.make_way(set, costs, way)?)))
    }

    /// Who would give way to a set that fits nowhere. Nobody is told; whoever carries it out records it next.
    pub fn find_way(&self, set: &SiteSet, costs: &Costs, yielding: Yielding) -> Option<Way> {
        Way::find(&self.cluster, set, costs, yielding)
    }

    /// Keeps the room of what was found a moment ago; the line to write down.
    ///
    /// # Errors
    /// [`ClusterError`]; nothing is kept then.
    pub fn make_way(&mut self, set: &SiteSet, costs: &Costs, way: Way) -> Result<String, ClusterError> {
        let (set, yielding) = (Box::new(set.clone()), Box::new(way.yielding));
        let what = Line::Preempted { set, costs: *costs, yielding, preemption: way.preemption };
        self.take(&what)?;
        Ok(self.write(what))
    }

    fn take(&mut self, what: &Line) -> Result<(), ClusterError> {
        match what {
            Line::Node(node) => self.cluster.put_node(Node::clone(node)),
            Line::NodeGone(name) => drop(self.cluster.remove_node(name)),
            Line::Bound { pod, needs, node, traits } => {
                self.cluster.bind_as(pod.clone(), *needs, traits.clone(), node)?;
            }
            Line::Traits { pod, traits } => self.cluster.set_traits(pod, traits.clone())?,
            Line::Neighbour(neighbour) => self.cluster.put_neighbour(Neighbour::clone(neighbour))?,
            Line::NeighbourGone(name) => _ = self.cluster.remove_neighbour(name),
            Line::Released(pod) => drop(self.cluster.unbind(pod)?),
            Line::Preempted { set, preemption, .. } => {
                self.cluster.claim(&set.name, preemption.claims.clone())
            }
            Line::Unclaimed(set) => _ = self.cluster.release_claims(set),
            Line::Decided { set, decision, .. } => {
                if decision.is_some() {
                    self.cluster.release_claims(&set.name);
                }
                let placed = decision.as_ref().map_or(&[][..], |decision| &decision.placed);
                self.bind(set, placed)?;
            }
        }
        Ok(())
    }

    /// Binds all of them, or none.
    fn bind(&mut self, set: &SiteSet, placed: &[Placed]) -> Result<(), ClusterError> {
        for (done, Placed { ordinal, node, .. }) in placed.iter().enumerate() {
            let id = PodId { set: set.name.clone(), ordinal: *ordinal };
            let pod = set.pods.iter().find(|pod| pod.ordinal == *ordinal);
            let bound = match pod {
                Some(pod) => self.cluster.bind_as(id, pod.needs, Traits::of(pod), node),
                None => Err(ClusterError::Unbound(id)),
            };
            if let Err(why) = bound {
                for Placed { ordinal, .. } in placed.iter().take(done) {
                    self.cluster.unbind(&PodId { set: set.name.clone(), ordinal: *ordinal })?;
                }
                return Err(why);
            }
        }
        Ok(())
    }

    fn write(&mut self, what: Line) -> String {
        let entry = Entry { seq: self.next, previous: self.end(), what };
        // Maps with text keys, lists, numbers and texts always have a JSON form.
        let text = serde_json::to_string(&entry).unwrap_or_default();
        self.advance(&text);
        text
    }

    fn advance(&mut self, text: &str) {
        self.next += 1;
        self.previous = blake3::hash(text.as_bytes());
    }

    /// Goes through a ledger, makes every decision again, and compares; the
    /// state at its end. `end`, if pinned, is what [`Ledger::end`] said.
    ///
    /// # Errors
    /// [`LedgerError`], with the first line that is wrong.
    pub fn replay<'a>(
        lines: impl IntoIterator<Item = &'a str>,
        end: Option<&str>,
    ) -> Result<Self, LedgerError> {
        let mut ledger = Self::new();
        for text in lines {
            ledger.follow(text)?;
        }
        match end {
            Some(end) if end != ledger.end() => Err(LedgerError::End),
            _ => Ok(ledger),
        }
    }

    fn follow(&mut self, text: &str) -> Result<(), LedgerError> {
        let line = self.next;
        let entry: Entry = serde_json::from_str(text).map_err(|why| LedgerError::Form { line, why })?;
        if entry.seq != line || entry.previous != self.end() {
            return Err(LedgerError::Chain { line });
        }
        if let Line::Decided { set, costs, decision } = &entry.what {
            self.cluster.set_revision(line);
            let mut again = decide(&self.cluster, set, costs).ok();
            if let Some(format) = decision.as_ref().map(|recorded| recorded.format) {
                let made =
                    again.map(|made| made.in_format(format).ok_or(LedgerError::Format { line, format }));
                again = made.transpose()?;
            }
            if again != *decision {
                return Err(LedgerError::Decision { line });
            }
        }
        if let Line::Preempted { set, costs, yielding, preemption } = &entry.what {
            let format = preemption.format;
            if format != Preemption::FORMAT {
                return Err(LedgerError::Format { line, format });
            }
            if preempt(&self.cluster, set, costs, yielding).as_ref() != Some(preemption) {
                return Err(LedgerError::Decision { line });
            }
        }
        self.take(&entry.what).map_err(|why| LedgerError::Misfit { line, why })?;
        // The digest is that of the bytes as they are, whatever they parse to.
        self.advance(text);
        Ok(())
    }
}
