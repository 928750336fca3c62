//! How many pods there are of each priority: whether anybody could give way is one question, however many there are.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Priorities(BTreeMap<i32, usize>);

impl Priorities {
    /// A pod of this priority is there.
    pub(super) fn comes(&mut self, priority: i32) {
        let count = self.0.entry(priority).or_default();
        *count = count.saturating_add(1);
    }

    /// It is no more.
    pub(super) fn goes(&mut self, priority: i32) {
        if let Some(count) = self.0.get_mut(&priority) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(&priority);
            }
        }
    }

    /// Whether there is one below this priority.
    pub(super) fn has_below(&self, priority: i32) -> bool {
        self.0.first_key_value().is_some_and(|(lowest, _)| *lowest < priority)
    }
}
