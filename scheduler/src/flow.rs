//! Minimum-cost flow by successive shortest paths (Ahuja, Magnanti, Orlin,
//! "Network Flows", 1993, section 9.7), with Bellman-Ford for the paths, since
//! some arcs have negative costs. Exact, and quick on the small networks that
//! a set of pods makes.

/// A network under construction.
#[derive(Default)]
pub(crate) struct Network {
    /// Arcs in pairs: each one, and its reverse for what flows back.
    arcs: Vec<Arc>,
    /// Arcs that leave each vertex.
    leaving: Vec<Vec<usize>>,
}

struct Arc {
    to: usize,
    room: u32,
    cost: i128,
}

/// One arc of a network, to ask what flows through it.
#[derive(Clone, Copy)]
pub(crate) struct ArcId(usize);

impl Network {
    pub(crate) fn vertex(&mut self) -> usize {
        self.leaving.push(Vec::new());
        self.leaving.len() - 1
    }

    /// An arc; no cycle of arcs may have a negative cost.
    pub(crate) fn arc(&mut self, from: usize, to: usize, room: u32, cost: i128) -> ArcId {
        let id = self.arcs.len();
        self.arcs.push(Arc { to, room, cost });
        self.arcs.push(Arc { to: from, room: 0, cost: -cost });
        for (vertex, arc) in [(from, id), (to, id + 1)] {
            if let Some(leaving) = self.leaving.get_mut(vertex) {
                leaving.push(arc);
            }
        }
        ArcId(id)
    }

    /// Sends as much as `wanted` from `source` to `sink`, as cheaply as it can be done;
    /// how much was sent, and at what cost.
    pub(crate) fn send(&mut self, source: usize, sink: usize, wanted: u32) -> (u32, i128) {
        let (mut sent, mut cost) = (0, 0);
        while sent < wanted {
            let Some(path) = self.shortest_path(source, sink) else { break };
            let narrowest = path.iter().filter_map(|arc| self.arcs.get(*arc)).map(|arc| arc.room).min();
            let room = narrowest.unwrap_or(0).min(wanted - sent);
            if room == 0 {
                break;
            }
            for id in path {
                if let Some(arc) = self.arcs.get_mut(id) {
                    arc.room -= room;
                    cost += arc.cost * i128::from(room);
                }
                if let Some(back) = self.arcs.get_mut(id ^ 1) {
                    back.room += room;
                }
            }
            sent += room;
        }
        (sent, cost)
    }

    /// What flows through an arc.
    pub(crate) fn flow(&self, ArcId(id): ArcId) -> u32 {
        self.arcs.get(id ^ 1).map_or(0, |back| back.room)
    }

    /// Arcs of the cheapest path with room.
    fn shortest_path(&self, source: usize, sink: usize) -> Option<Vec<usize>> {
        let mut cost: Vec<Option<i128>> = vec![None; self.leaving.len()];
        let mut by: Vec<Option<usize>> = vec![None; self.leaving.len()];
        *cost.get_mut(source)? = Some(0);
        let mut waiting = std::collections::VecDeque::from([source]);
        let mut waits = vec![false; self.leaving.len()];
        while let Some(vertex) = waiting.pop_front() {
            *waits.get_mut(vertex)? = false;
            let so_far = (*cost.get(vertex)?)?;
            for id in self.leaving.get(vertex)? {
                let arc = self.arcs.get(*id)?;
                let there = so_far + arc.cost;
                if arc.room > 0 && cost.get(arc.to)?.is_none_or(|known| there < known) {
                    *cost.get_mut(arc.to)? = Some(there);
                    *by.get_mut(arc.to)? = Some(*id);
                    if !std::mem::replace(waits.get_mut(arc.to)?, true) {
                        waiting.push_back(arc.to);
                    }
                }
            }
        }
        (*cost.get(sink)?)?;
        let (mut path, mut at) = (Vec::new(), sink);
        while at != source {
            let id = (*by.get(at)?)?;
            path.push(id);
            at = self.arcs.get(id ^ 1)?.to;
        }
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cheap_first_choice_is_taken_back_where_the_whole_gets_cheaper() {
        // Two senders, two receivers; the first sender's favourite is all that the second can have.
        let mut network = Network::default();
        let [source, a, b, x, y, sink] = std::array::from_fn(|_| network.vertex());
        network.arc(source, a, 1, 0);
        network.arc(source, b, 1, 0);
        let (ax, ay) = (network.arc(a, x, 1, 1), network.arc(a, y, 1, 5));
        let bx = network.arc(b, x, 1, 2);
        network.arc(x, sink, 1, 0);
        network.arc(y, sink, 1, 0);
        assert_eq!(network.send(source, sink, 2), (2, 7));
        assert_eq!((network.flow(ax), network.flow(ay), network.flow(bx)), (0, 1, 1));
    }

    #[test]
    fn no_more_flows_than_there_is_room() {
        let mut network = Network::default();
        let [source, middle, sink] = std::array::from_fn(|_| network.vertex());
        network.arc(source, middle, 5, 1);
        network.arc(middle, sink, 3, -2);
        assert_eq!(network.send(source, sink, 9), (3, -3));
    }
}
