//! Which gRPC status each error has. Codes are for programs (may it be tried
//! again? whose fault is it?), texts are for people.

use coffer_catalog::{BucketError, CatalogError, TombstoneError};
use coffer_proto::InvalidMessage;
use coffer_regions::PlacementError;
use tonic::{Code, Status};

use crate::audit::AuditError;
use crate::authorize::Denied;
use crate::bucket::BucketStoryError;
use crate::delete::DeleteError;
use crate::drill::SignError;
use crate::facts::FactsError;
use crate::fetch::FetchError;
use crate::get::GetError;
use crate::hold::HoldError;
use crate::jobs::JobError;
use crate::ledger::LedgerError;
use crate::list::ListError;
use crate::owner::NotOwner;
use crate::plain::PlainError;
use crate::put::PutError;
use crate::registry::RegistryError;
use crate::repair::RepairError;
use crate::sealed::SealedError;
use crate::standing::SiteChangeError;
use crate::tenant_create::CreateTenantError;
use crate::terms::UnknownSite;

/// An error that has a status code.
pub(super) trait Coded: std::fmt::Display {
    fn code(&self) -> Code;
}

/// The status of an error.
pub(super) fn status(error: impl Coded) -> Status {
    Status::new(error.code(), error.to_string())
}

impl Coded for InvalidMessage {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

impl Coded for Denied {
    fn code(&self) -> Code {
        match self {
            Self::Unknown => Code::Unauthenticated,
            Self::Forbidden => Code::PermissionDenied,
            Self::Unlogged(error) => error.code(),
        }
    }
}

impl Coded for NotOwner {
    fn code(&self) -> Code {
        Code::Unavailable
    }
}

impl Coded for AuditError {
    fn code(&self) -> Code {
        match self {
            Self::TooFewSites { .. } => Code::Unavailable,
            Self::Beyond { .. } => Code::OutOfRange,
            Self::Catalog(_) | Self::Canonical(_) | Self::Seal | Self::Proof(_) => Code::Internal,
        }
    }
}

impl Coded for CatalogError {
    fn code(&self) -> Code {
        Code::Internal
    }
}

impl Coded for BucketStoryError {
    fn code(&self) -> Code {
        match self {
            Self::Unsatisfiable(_) | Self::Wider(_) | Self::Held { .. } => Code::FailedPrecondition,
            Self::NoBucket(_) => Code::NotFound,
            Self::Bucket(BucketError::NameTaken) => Code::AlreadyExists,
            Self::Bucket(BucketError::NotEmpty) => Code::FailedPrecondition,
            Self::Bucket(BucketError::Missing) => Code::NotFound,
            Self::Bucket(_) | Self::Catalog(_) => Code::Internal,
            Self::Registry(error) => error.code(),
            Self::Audit(error) => error.code(),
        }
    }
}

impl Coded for RepairError {
    fn code(&self) -> Code {
        match self {
            Self::Stopped | Self::Unlisted => Code::Unavailable,
            Self::Audit(error) => error.code(),
            Self::Catalog(error) => error.code(),
        }
    }
}

impl Coded for LedgerError {
    fn code(&self) -> Code {
        match self {
            Self::Locate(error) => error.code(),
            Self::Audit(error) => error.code(),
            Self::Repair(error) => error.code(),
            Self::Codec(_) | Self::Catalog(_) => Code::Internal,
        }
    }
}

impl Coded for SiteChangeError {
    fn code(&self) -> Code {
        match self {
            Self::NoSite(_) => Code::NotFound,
            Self::NameTaken(_) => Code::AlreadyExists,
            Self::NoneNew | Self::NotInFile(_) | Self::Several(_) | Self::Form(_) | Self::Certificate => {
                Code::InvalidArgument
            }
            Self::Retired(_)
            | Self::Standing { .. }
            | Self::Needed { .. }
            | Self::NeededByTenant { .. }
            | Self::NeededByHidden { .. }
            | Self::Occupied { .. }
            | Self::Needing { .. }
            | Self::Unread { .. }
            | Self::Store(_) => Code::FailedPrecondition,
            Self::Unseen { source, .. } => source.code(),
            Self::Registry(error) => error.code(),
            Self::Audit(error) => error.code(),
            Self::Encode | Self::Disk(_) | Self::Catalog(_) => Code::Internal,
        }
    }
}

impl Coded for RegistryError {
    fn code(&self) -> Code {
        match self {
            Self::Seal => Code::Internal,
            Self::TooFewSites { .. }
            | Self::Undecided { .. }
            | Self::Silent { .. }
            | Self::Unfinished { .. } => Code::Unavailable,
            Self::Catalog(_) => Code::Internal,
        }
    }
}

impl Coded for PutError {
    fn code(&self) -> Code {
        match self {
            Self::NoBucket(_) => Code::NotFound,
            Self::Source(_) => Code::Cancelled,
            Self::TooLarge(_) => Code::InvalidArgument,
            Self::Placement(PlacementError::Unsatisfiable(_)) => Code::FailedPrecondition,
            Self::Placement(_) | Self::Write(_) | Self::Manifest { .. } => Code::Unavailable,
            // Whoever has all of it at hand puts it again.
            Self::PolicyChanged(_) => Code::Unavailable,
            Self::Undecided => Code::Unknown,
            Self::Audit(error) => error.code(),
            Self::Orders(error) => error.code(),
            // Removed meanwhile, or about to be.
            Self::Catalog(CatalogError::NoBucket | CatalogError::Leaving) => Code::NotFound,
            Self::Seal(_)
            | Self::Encode(_)
            | Self::Codec(_)
            | Self::Keys(_)
            | Self::Catalog(_)
            | Self::Commit(_) => Code::Internal,
        }
    }
}

impl Coded for GetError {
    fn code(&self) -> Code {
        match self {
            Self::NoBucket(_) | Self::NoObject => Code::NotFound,
            Self::Range { .. } => Code::OutOfRange,
            Self::Plain(PlainError::Sealed(SealedError::Fetch(FetchError::TooFewShards { .. })))
            | Self::NoHolder(_) => Code::Unavailable,
            Self::Stopped | Self::Plain(PlainError::Sealed(SealedError::Stopped)) => Code::Cancelled,
            Self::Plain(_) => Code::DataLoss,
            Self::Audit(error) => error.code(),
            Self::Keys(_) | Self::Catalog(_) | Self::Wrap => Code::Internal,
        }
    }
}

impl Coded for UnknownSite {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

impl Coded for ListError {
    fn code(&self) -> Code {
        match self {
            Self::NoBucket(_) => Code::NotFound,
            Self::Audit(error) => error.code(),
            Self::Catalog(_) => Code::Internal,
        }
    }
}

impl Coded for DeleteError {
    fn code(&self) -> Code {
        match self {
            Self::Locate(error) => error.code(),
            Self::TooFewHolders { .. } => Code::Unavailable,
            Self::Held { .. } => Code::FailedPrecondition,
            Self::Undecided(_) => Code::Unavailable,
            Self::Hide(TombstoneError::Missing) => Code::NotFound,
            Self::Catalog(_) | Self::Hide(_) | Self::Seal(_) => Code::Internal,
            Self::Audit(error) => error.code(),
        }
    }
}

impl Coded for HoldError {
    fn code(&self) -> Code {
        match self {
            Self::NoBucket(_) | Self::NoHold(_) => Code::NotFound,
            Self::Released(_) | Self::Deleting(_) | Self::Leaving(_) => Code::FailedPrecondition,
            Self::Reason => Code::InvalidArgument,
            Self::Sign(error) => error.code(),
            Self::Registry(error) => error.code(),
            Self::Audit(error) => error.code(),
            Self::Encode | Self::Catalog(_) => Code::Internal,
        }
    }
}

impl Coded for JobError {
    fn code(&self) -> Code {
        match self {
            Self::NoSite(_) => Code::NotFound,
            Self::Silent(_) => Code::Unavailable,
            Self::Audit(error) => error.code(),
            Self::Catalog(_) | Self::Serialise | Self::NoRealm => Code::Internal,
        }
    }
}

impl Coded for SignError {
    fn code(&self) -> Code {
        match self {
            Self::TooLong(_) | Self::Canonical(_) | Self::Form | Self::Tenant => Code::InvalidArgument,
            Self::Sign(_) => Code::Internal,
            Self::Audit(error) => error.code(),
        }
    }
}

impl Coded for FactsError {
    fn code(&self) -> Code {
        match self {
            Self::Audit(error) => error.code(),
            Self::Jobs(error) => error.code(),
            Self::Look(error) => error.code(),
            Self::Catalog(_) | Self::Note(_) | Self::Stored | Self::Form(_) | Self::Sign(_) => Code::Internal,
        }
    }
}

impl Coded for CreateTenantError {
    fn code(&self) -> Code {
        match self {
            Self::Name | Self::Authority(_) => Code::InvalidArgument,
            Self::NameTaken => Code::AlreadyExists,
            Self::Unsatisfiable(_) => Code::FailedPrecondition,
            Self::Make(_) | Self::Enrol(_) => Code::Unavailable,
            Self::Audit(error) => error.code(),
        }
    }
}
