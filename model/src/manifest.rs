//! The description of one object version: sealed at rest, immutable.

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{BucketId, Digest, ObjectId, ObjectKey, SiteId, TenantId, Timestamp, VersionId};

/// Why k and m are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a geometry is K+M with 1 to 32 data and 1 to 16 parity shards, for example 4+2")]
pub struct GeometryError;

/// How a stripe is coded: k data and m parity shards, each at its own site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u8, u8)", into = "(u8, u8)")]
pub struct Geometry {
    k: u8,
    m: u8,
}

impl Geometry {
    /// Four data and two parity shards over six sites.
    pub const DEFAULT: Self = Self { k: 4, m: 2 };

    /// Checks the bounds.
    pub const fn new(k: u8, m: u8) -> Result<Self, GeometryError> {
        if k >= 1 && k <= 32 && m >= 1 && m <= 16 { Ok(Self { k, m }) } else { Err(GeometryError) }
    }

    /// Data shards: any k of n restore.
    pub const fn k(self) -> usize {
        self.k as usize
    }

    /// Parity shards: the number of sites that may be lost.
    pub const fn m(self) -> usize {
        self.m as usize
    }

    /// All shards, k + m.
    pub const fn n(self) -> usize {
        self.k as usize + self.m as usize
    }
}

impl TryFrom<(u8, u8)> for Geometry {
    type Error = GeometryError;
    fn try_from((k, m): (u8, u8)) -> Result<Self, GeometryError> {
        Self::new(k, m)
    }
}

impl From<Geometry> for (u8, u8) {
    fn from(geometry: Geometry) -> Self {
        (geometry.k, geometry.m)
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.k, self.m)
    }
}

impl FromStr for Geometry {
    type Err = GeometryError;
    fn from_str(text: &str) -> Result<Self, GeometryError> {
        let (k, m) = text.split_once('+').ok_or(GeometryError)?;
        Self::new(k.parse().map_err(|_| GeometryError)?, m.parse().map_err(|_| GeometryError)?)
    }
}

/// The digests of the n shard records of one stripe, in shard order.
pub type ShardDigests = Vec<Digest>;

/// Where the sealed bytes of a version lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// Whole, inside the manifest record itself, at each of these sites.
    Inline {
        /// The m + 1 holders.
        sites: Vec<SiteId>,
    },
    /// Striped: shard i of every stripe lies at `sites[i]`.
    Striped {
        /// The coding.
        geometry: Geometry,
        /// The n sites, in shard order.
        sites: Vec<SiteId>,
        /// Sealed bytes in every stripe but the last, a multiple of k.
        stripe_bytes: u32,
        /// Seed from which the record ids of the shards are derived, so that
        /// clear ids look random and the manifest stays small.
        locator: [u8; 32],
        /// Per stripe, the BLAKE3 record digests in shard order.
        digests: Vec<ShardDigests>,
    },
}

impl Layout {
    /// The sites that hold this version's manifest, in shard order.
    pub fn sites(&self) -> &[SiteId] {
        match self {
            Self::Inline { sites } | Self::Striped { sites, .. } => sites,
        }
    }
}

/// One version of one object. Sealed under the version's DEK and stored at
/// every site of its layout; the fact of which the catalogue is an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Owner.
    pub tenant: TenantId,
    /// Bucket.
    pub bucket: BucketId,
    /// Object; the same for all versions of one key.
    pub object: ObjectId,
    /// This version.
    pub version: VersionId,
    /// Name within the bucket.
    pub key: ObjectKey,
    /// Position in the tenant's order of reservations: of two versions of
    /// one object the higher is the newer, whatever the clock said.
    pub order: u64,
    /// When the version was reserved.
    pub created: Timestamp,
    /// Plaintext length in bytes.
    pub size: u64,
    /// Length in bytes of the content, sealed on its own.
    pub sealed_size: u64,
    /// BLAKE3 of the plaintext.
    pub content: Digest,
    /// The caller's own pairs.
    pub metadata: BTreeMap<String, String>,
    /// Where the sealed bytes lie.
    pub layout: Layout,
    /// Zero at birth. What moves a shard to another site writes a new record
    /// of the same version with the next higher number: of two manifests of
    /// one version the higher is true.
    pub revision: u32,
}

/// A manifest as it was stored before there were revisions, field for field:
/// what format 1 of bodies at sites and of rows in catalogues decodes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestV1 {
    tenant: TenantId,
    bucket: BucketId,
    object: ObjectId,
    version: VersionId,
    key: ObjectKey,
    order: u64,
    created: Timestamp,
    size: u64,
    sealed_size: u64,
    content: Digest,
    metadata: BTreeMap<String, String>,
    layout: Layout,
}

impl From<ManifestV1> for Manifest {
    fn from(old: ManifestV1) -> Self {
        let ManifestV1 { tenant, bucket, object, version, key, order, created, .. } = old;
        let ManifestV1 { size, sealed_size, content, metadata, layout, .. } = old;
        Self {
            tenant,
            bucket,
            object,
            version,
            key,
            order,
            created,
            size,
            sealed_size,
            content,
            metadata,
            layout,
            revision: 0,
        }
    }
}
