//! Reed-Solomon over GF(2^8): one stripe of sealed bytes into n shards of
//! equal length, of which any k give the stripe back.
//!
//! The code is systematic: shards 0 to k - 1 are the stripe itself, cut into
//! k pieces, and the tail of the last pieces is zeros. The padding is not
//! recorded in the shards; `sealed_bytes`, which the signed manifest states,
//! cuts it off again. A stripe of no bytes has shards of one zero byte each,
//! so that no shard is ever empty.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use coffer_model::Geometry;
use reed_solomon_erasure::galois_8::ReedSolomon;

use crate::Record;

/// Why a stripe was not coded or not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The stripe does not fit into shards of [`Record::BODY_BYTES_MAX`] bytes.
    #[error("the stripe is too long: a shard would have more than {} bytes", Record::BODY_BYTES_MAX)]
    TooLong,
    /// Fewer shards than the geometry needs; fetch more, or wait for a site to return.
    #[error("{have} shards are at hand and {need} are needed; reach more sites and try again")]
    TooFew {
        /// Shards that were given.
        have: usize,
        /// Shards that are needed, k.
        need: usize,
    },
    /// The list of shards has not one place for each of the n shards.
    #[error("the list has {have} places for shards, but the geometry has {need}")]
    Places {
        /// Places in the list.
        have: usize,
        /// Places that the geometry has, n.
        need: usize,
    },
    /// A shard has another length than the stripe's length demands.
    #[error("shard {index} has {have} bytes instead of {need}; it does not belong to this stripe")]
    ShardLength {
        /// Which shard.
        index: usize,
        /// Its length in bytes.
        have: usize,
        /// The length that it must have, in bytes.
        need: usize,
    },
    /// A shard was asked for that the geometry does not have.
    #[error("there is no shard {index} in this geometry")]
    NoSuchShard {
        /// The index that was asked for.
        index: u8,
    },
    /// The coding library refused what was checked before: a defect of ours.
    #[error("the erasure code refused a stripe that was checked before; please report this")]
    Internal,
}

/// The length in bytes of every shard of a stripe with `stripe_bytes` sealed
/// bytes: the k-th part, rounded up, and at least one.
pub fn shard_bytes(stripe_bytes: usize, geometry: Geometry) -> usize {
    stripe_bytes.div_ceil(geometry.k()).max(1)
}

/// The sealed bytes of a stripe as the slices in which `data` holds them:
/// the data shards in order, without the padding. Nothing is copied.
pub fn join(data: &[Bytes], sealed_bytes: usize) -> impl Iterator<Item = &[u8]> {
    let mut left = sealed_bytes;
    data.iter().map_while(move |shard| {
        let taken = shard.len().min(left);
        left -= taken;
        if taken == 0 { None } else { shard.get(..taken) }
    })
}

/// One coded stripe. Its shards are slices of one allocation, which lives as
/// long as any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stripe {
    /// All n shards in order, k of data and then m of parity, of equal length.
    pub shards: Vec<Bytes>,
    /// Sealed bytes in the stripe, without the padding.
    pub sealed_bytes: usize,
}

/// The code of one geometry. Making one inverts a matrix, so keep it; a clone
/// shares the tables, and any number of threads may use one at once.
#[derive(Clone, Debug)]
pub struct Codec {
    geometry: Geometry,
    code: Arc<ReedSolomon>,
}

impl Codec {
    /// Prepares the code of `geometry`.
    ///
    /// # Errors
    /// [`CodecError::Internal`], which no valid geometry causes.
    pub fn new(geometry: Geometry) -> Result<Self, CodecError> {
        let code = ReedSolomon::new(geometry.k(), geometry.m()).map_err(|_| CodecError::Internal)?;
        Ok(Self { geometry, code: Arc::new(code) })
    }

    /// The geometry that it codes.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The capacity in bytes of a buffer that [`Codec::encode_owned`] need not
    /// grow: all n shards of a stripe with `sealed_bytes`.
    pub fn buffer_bytes(&self, sealed_bytes: usize) -> usize {
        shard_bytes(sealed_bytes, self.geometry).saturating_mul(self.geometry.n())
    }

    /// Codes a stripe; the sealed bytes are copied once.
    ///
    /// # Errors
    /// [`CodecError::TooLong`].
    pub fn encode(&self, sealed: &[u8]) -> Result<Stripe, CodecError> {
        self.bounded_shard(sealed.len())?;
        let mut buffer = Vec::with_capacity(self.buffer_bytes(sealed.len()));
        buffer.extend_from_slice(sealed);
        self.encode_owned(buffer)
    }

    /// Codes the stripe that `sealed` is. Nothing is copied if its capacity is
    /// [`Codec::buffer_bytes`] or more.
    ///
    /// # Errors
    /// [`CodecError::TooLong`].
    pub fn encode_owned(&self, mut sealed: Vec<u8>) -> Result<Stripe, CodecError> {
        let sealed_bytes = sealed.len();
        let shard = self.bounded_shard(sealed_bytes)?;
        sealed.resize(self.buffer_bytes(sealed_bytes), 0);
        let (data, parity) =
            sealed.split_at_mut_checked(shard * self.geometry.k()).ok_or(CodecError::Internal)?;
        let data: Vec<&[u8]> = data.chunks_exact(shard).collect();
        let mut parity: Vec<&mut [u8]> = parity.chunks_exact_mut(shard).collect();
        self.code.encode_sep(&data, &mut parity).map_err(|_| CodecError::Internal)?;
        let whole = Bytes::from(sealed);
        let shards = (0..self.geometry.n()).map(|i| whole.slice(i * shard..(i + 1) * shard)).collect();
        Ok(Stripe { shards, sealed_bytes })
    }

    /// The k data shards in order, from any k shards; `shards` has a place for
    /// each of the n. With all data shards there, they are handed through as
    /// they are. [`join`] cuts off the padding.
    ///
    /// Whether each shard is the right one is the caller's to check, by the
    /// digest in the manifest: a wrong shard of the right length decodes to
    /// wrong bytes.
    ///
    /// # Errors
    /// [`CodecError`]; shards of a wrong length are refused, never cut.
    pub fn decode(&self, shards: Vec<Option<Bytes>>, sealed_bytes: usize) -> Result<Vec<Bytes>, CodecError> {
        let need = self.bounded_shard(sealed_bytes)?;
        self.check(&shards, need)?;
        let k = self.geometry.k();
        if shards.iter().take(k).all(Option::is_some) {
            return Ok(shards.into_iter().take(k).flatten().collect());
        }
        let mut slots = mutable(shards);
        self.code.reconstruct_data(&mut slots).map_err(|_| CodecError::Internal)?;
        slots.into_iter().take(k).map(frozen).collect()
    }

    /// The shards with the indices `wanted`, in that order, from any k shards.
    /// One that is present is handed through.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn rebuild(&self, shards: Vec<Option<Bytes>>, wanted: &[u8]) -> Result<Vec<Bytes>, CodecError> {
        let k = self.geometry.k();
        if let Some(index) = wanted.iter().copied().find(|i| usize::from(*i) >= self.geometry.n()) {
            return Err(CodecError::NoSuchShard { index });
        }
        let first = shards.iter().flatten().next();
        self.check(&shards, first.map_or(1, Bytes::len))?;
        let missing = |i: &u8| shards.get(usize::from(*i)).is_none_or(Option::is_none);
        if !wanted.iter().any(missing) {
            return pick(&shards, wanted);
        }
        let parity_too = wanted.iter().any(|i| usize::from(*i) >= k && missing(i));
        let mut slots = mutable(shards);
        let done = if parity_too {
            self.code.reconstruct(&mut slots)
        } else {
            self.code.reconstruct_data(&mut slots)
        };
        done.map_err(|_| CodecError::Internal)?;
        let shards: Vec<Option<Bytes>> = slots.into_iter().map(|slot| slot.map(BytesMut::freeze)).collect();
        pick(&shards, wanted)
    }

    /// The shard length of a stripe, refused above what a record can carry;
    /// the bound also keeps every product with n inside `usize`.
    fn bounded_shard(&self, sealed_bytes: usize) -> Result<usize, CodecError> {
        let shard = shard_bytes(sealed_bytes, self.geometry);
        if shard > Record::BODY_BYTES_MAX { Err(CodecError::TooLong) } else { Ok(shard) }
    }

    fn check(&self, shards: &[Option<Bytes>], need: usize) -> Result<(), CodecError> {
        if shards.len() != self.geometry.n() {
            return Err(CodecError::Places { have: shards.len(), need: self.geometry.n() });
        }
        let have = shards.iter().flatten().count();
        if have < self.geometry.k() {
            return Err(CodecError::TooFew { have, need: self.geometry.k() });
        }
        for (index, shard) in shards.iter().enumerate() {
            if let Some(have) = shard.as_ref().map(Bytes::len).filter(|have| *have != need || *have == 0) {
                return Err(CodecError::ShardLength { index, have, need: need.max(1) });
            }
        }
        Ok(())
    }
}

/// The coding library wants mutable buffers; a shard that nobody else holds
/// becomes one without a copy.
fn mutable(shards: Vec<Option<Bytes>>) -> Vec<Option<BytesMut>> {
    let own = |shard: Bytes| shard.try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
    shards.into_iter().map(|shard| shard.map(own)).collect()
}

fn frozen(slot: Option<BytesMut>) -> Result<Bytes, CodecError> {
    slot.map(BytesMut::freeze).ok_or(CodecError::Internal)
}

fn pick(shards: &[Option<Bytes>], wanted: &[u8]) -> Result<Vec<Bytes>, CodecError> {
    let one = |i: &u8| shards.get(usize::from(*i)).cloned().flatten().ok_or(CodecError::Internal);
    wanted.iter().map(one).collect()
}
