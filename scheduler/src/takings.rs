//! What is taken of a node, as sums: what would be free without some is a subtraction, and no second look at
//! everybody who is there.

use crate::{Resource, Resources};

/// An amount of each resource, in the order of [`Resource::ALL`]; wide enough for the sum of all pods that there are.
pub(crate) type Amounts = [u128; 4];

/// The same amounts.
pub(crate) fn amounts(of: &Resources) -> Amounts {
    Resource::ALL.map(|resource| u128::from(of.of(resource)))
}

fn plus(sum: &mut Amounts, more: &Amounts) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
}

/// Of one node: what it has, and what is taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Takings {
    total: Amounts,
    /// By pods of others: as if it were not there.
    others: Amounts,
    /// By pods of sets: where these do not fit any more nothing is free.
    pods: Amounts,
    /// What is kept for others.
    kept: Amounts,
}

impl Takings {
    /// Of a node with so much, of which nothing is taken.
    pub(crate) fn of(total: &Resources) -> Self {
        Self { total: amounts(total), ..Self::default() }
    }

    /// Somebody takes so much: a pod of others, or of a set.
    pub(crate) fn take(&mut self, others: bool, takes: &Amounts) {
        plus(if others { &mut self.others } else { &mut self.pods }, takes);
    }

    /// So much is kept for somebody.
    pub(crate) fn keep(&mut self, needs: &Resources) {
        plus(&mut self.kept, &amounts(needs));
    }

    /// So many who take so much each are gone.
    pub(crate) fn give_back(&mut self, others: bool, takes: &Amounts, count: usize) {
        let count = u128::try_from(count).unwrap_or(u128::MAX);
        let from = if others { &mut self.others } else { &mut self.pods };
        from.iter_mut()
            .zip(takes)
            .for_each(|(sum, one)| *sum = sum.saturating_sub(one.saturating_mul(count)));
    }

    /// How much of each resource has to be given back at least for a pod with such needs, or for the pods of sets that
    /// are there already.
    pub(crate) fn lacking_for(&self, needs: &Resources) -> Amounts {
        let needs = amounts(needs);
        let mut lacking = Amounts::default();
        let sums = self.total.iter().zip(&self.others).zip(&self.pods).zip(&self.kept).zip(&needs);
        for (lacking, ((((total, others), pods), kept), needs)) in lacking.iter_mut().zip(sums) {
            let taken = others.saturating_add(*pods);
            *lacking = if *needs > 0 {
                taken.saturating_add(*kept).saturating_add(*needs).saturating_sub(*total)
            } else {
                // It is enough if these pods are gone, whatever the others take.
                taken.saturating_sub(*total).min(*pods)
            };
        }
        lacking
    }

    /// Whether there is room for a pod with such needs.
    pub(crate) fn has_room_for(&self, needs: &Resources) -> bool {
        *needs == Resources::default() || self.lacking_for(needs) == Amounts::default()
    }
}
