//! What this command measures itself: how fast this machine decodes, and, if it
//! was asked for, how fast stored objects come.

use bytes::Bytes;
use coffer_client::{BucketInfo, Client, ObjectInfo};
use coffer_model::Geometry;
use coffer_regions::Codec;

use super::inputs::Figure;
use super::{MIB, part, time, wide};
use crate::context::Context;
use crate::exit::Failure;
use crate::flags::DurabilityFlags;

/// Up to here an object is not striped, and one site gives all of it.
const WHOLE_MAX: u64 = 64 << 10;

/// What was measured now.
pub(super) struct Trial {
    /// Not, where the rate was given.
    pub(super) decode: Option<Figure>,
    /// What this client got.
    pub(super) client: Option<Figure>,
    /// What each site gave for that, at least.
    pub(super) site: Option<Figure>,
}

impl Trial {
    /// Decodes only.
    pub(super) fn decoding(context: &Context<'_>, flags: &DurabilityFlags) -> Result<Self, Failure> {
        let decode = if flags.decode_rate.is_none() { Some(decode(context)?) } else { None };
        Ok(Self { decode, client: None, site: None })
    }

    /// Reads about so many bytes, of every bucket the longest objects among the
    /// first that are listed, one after the other.
    pub(super) async fn and_reading(
        self,
        context: &Context<'_>,
        client: &Client,
        buckets: &[BucketInfo],
        bytes: u64,
    ) -> Result<Self, Failure> {
        let mut found: Vec<(&BucketInfo, ObjectInfo)> = Vec::new();
        for bucket in buckets {
            let (page, _) = client.list_page(&bucket.name, b"", b"").await?;
            found.extend(page.into_iter().map(|object| (bucket, object)));
        }
        found.sort_by_key(|(_, object)| std::cmp::Reverse(object.size));
        let (mut left, mut objects, mut of_site) = (bytes, 0_u64, 0.0);
        let start = context.clock.monotonic();
        for (bucket, object) in found {
            let length = object.size.min(left);
            if length == 0 {
                break;
            }
            let (_, mut body) = client.get(&bucket.name, &object.key, Some(0..length)).await?;
            while body.next().await?.is_some() {}
            left -= length;
            objects += 1;
            let readers = if object.size <= WHOLE_MAX { 1.0 } else { part(bucket.policy.geometry.k()) };
            of_site += wide(length) / readers;
        }
        let seconds = (context.clock.monotonic() - start).as_secs_f64();
        let read = wide(bytes - left);
        let of = format!("{:.1} MiB of {objects} objects read in {}", read / MIB, time(seconds));
        let now = Some(context.clock.now());
        let at_least = format!("{of}, of which a site gave {:.1} MiB: at least that", of_site / MIB);
        if objects == 0 {
            context.output.remark("remark: nothing is stored that --measure could read");
        }
        Ok(Self {
            client: Figure::rate(read, seconds, of, now),
            site: Figure::rate(of_site, seconds, at_least, now),
            ..self
        })
    }
}

/// Decodes 64 MiB in stripes of 4 MiB, the first m data shards missing, with
/// one core; the rate of the best of three rounds.
fn decode(context: &Context<'_>) -> Result<Figure, Failure> {
    let broken = |error: coffer_regions::CodecError| Failure::new(error.to_string());
    let codec = Codec::new(Geometry::DEFAULT).map_err(broken)?;
    let plain = vec![0xa5; 4 << 20];
    let stripe = codec.encode(&plain).map_err(broken)?;
    let lost = Geometry::DEFAULT.m();
    let shards: Vec<Option<Bytes>> =
        stripe.shards.into_iter().enumerate().map(|(at, shard)| (at >= lost).then_some(shard)).collect();
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = context.clock.monotonic();
        for _ in 0..16 {
            codec.decode(shards.clone(), plain.len()).map_err(broken)?;
        }
        best = best.min((context.clock.monotonic() - start).as_secs_f64());
    }
    let of = "64 MiB decoded on this machine with one core".to_owned();
    Ok(Figure::counted(64.0 * MIB / best.max(1e-9), of, Some(context.clock.now())))
}
