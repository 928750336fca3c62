//! What the store has written since it was opened, for whoever measures.

/// Counts of what was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Groups of transactions: each is one commit with one fsync.
    pub groups: u64,
    /// Rows, one for each change of an object.
    pub rows: u64,
    /// Bytes of the objects in them.
    pub bytes: u64,
}

impl Figures {
    /// What came since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            groups: self.groups.saturating_sub(earlier.groups),
            rows: self.rows.saturating_sub(earlier.rows),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }

    /// Takes a group of rows of so many bytes into account.
    pub(super) fn add(&mut self, sizes: impl Iterator<Item = usize>) {
        self.groups += 1;
        for size in sizes {
            self.rows += 1;
            self.bytes += u64::try_from(size).unwrap_or(u64::MAX);
        }
    }
}
