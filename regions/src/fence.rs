//! Who may change a site: the epoch of an owner. It rises with every change of
//! owner and travels with every change, so that a site refuses an owner that
//! woke up late.

use coffer_model::{RecordId, ScopeId, SlotId};

use crate::{Receipt, Record, SiteError, SlotContent};

/// Under which epoch a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Whose epoch: what is owned, not who owns it.
    pub scope: ScopeId,
    /// Higher than that of every owner before.
    pub epoch: u64,
}

/// Something that changes what a site holds.
#[derive(Clone, Debug)]
pub enum Change {
    /// As [`Site::put`](crate::Site::put).
    Put(Vec<Record>),
    /// As [`Site::delete`](crate::Site::delete).
    Delete(Vec<RecordId>),
    /// As [`Site::write_slot`](crate::Site::write_slot).
    WriteSlot(SlotId, SlotContent),
    /// As [`Site::wipe_superseded`](crate::Site::wipe_superseded).
    WipeSuperseded(SlotId),
}

/// What a change came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Records are fsynced.
    Stored(Vec<Receipt>),
    /// So many records were there, and are not any more.
    Removed(u64),
    /// A slot is as it should be.
    Slot,
}

impl Changed {
    /// The receipts of a put.
    ///
    /// # Errors
    /// [`SiteError::Untrusted`] if it is the answer to something else.
    pub fn receipts(self) -> Result<Vec<Receipt>, SiteError> {
        if let Self::Stored(receipts) = self { Ok(receipts) } else { Err(SiteError::Untrusted) }
    }

    /// The count of a deletion.
    ///
    /// # Errors
    /// As [`Changed::receipts`].
    pub fn removed(self) -> Result<u64, SiteError> {
        if let Self::Removed(count) = self { Ok(count) } else { Err(SiteError::Untrusted) }
    }
}
