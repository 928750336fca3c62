//! Parts of shards: the few sealed bytes that a range of plaintext needs, from
//! the one site that holds them, or computed from the same bytes of k others.
//! No digest covers a part; whoever uses it opens it under the seal, and goes
//! back to whole stripes where it does not open.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use coffer_regions::SiteError;
use futures::FutureExt as _;
use futures::future::{join_all, select_ok};
use tokio::time::timeout;

use crate::fetch::Stripes;
use crate::hedge::{Candidate, Preference, Size, Standing};
use crate::race::{Finish, Race, rescue_after};
use crate::service::Service;

/// A part of a stripe, verified by nobody.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Its bytes, in order.
    pub(crate) pieces: Vec<Bytes>,
    /// The shards whose bytes went into it.
    pub(crate) from: Vec<usize>,
}

/// The bytes that are wanted of one shard.
struct Part<'a> {
    stripes: &'a Stripes,
    stripe: u32,
    index: usize,
    range: Range<u32>,
    size: Size,
    /// All sites of the stripe.
    candidates: Vec<Candidate>,
}

/// Bytes of a shard, and the shards that they came from.
type Found = (Bytes, Vec<usize>);

/// Why they cannot be had in this way.
enum NotFound {
    /// Nobody who answers can give them.
    Away,
    /// The holder does not have what it acknowledged.
    Wrong,
}

impl Service {
    /// The part `range` of the sealed bytes of one stripe, counted from its
    /// first.
    ///
    /// # Errors
    /// It cannot be had in parts; the whole stripe may still be readable. Then
    /// the shards that turned out to be wrong.
    pub(crate) async fn fetch_window(
        &self,
        stripes: &Stripes,
        stripe: u32,
        range: Range<usize>,
    ) -> Result<Window, Vec<usize>> {
        let shard = stripes.shard_bytes(stripe);
        let mut parts = Vec::new();
        for index in range.start / shard..range.end.div_ceil(shard) {
            let here = |at: usize| u32::try_from(at.saturating_sub(index * shard).min(shard));
            let range =
                here(range.start).map_err(|_| Vec::new())?..here(range.end).map_err(|_| Vec::new())?;
            let candidates = self.candidates(stripes.sites(), &stripes.terms);
            parts.push(Part { stripes, stripe, index, size: Size::of(range.len()), range, candidates });
        }
        let (mut window, mut wrong, mut away) = (Window::default(), Vec::new(), false);
        for (part, found) in parts.iter().zip(join_all(parts.iter().map(|part| self.fetch_part(part))).await)
        {
            match found {
                Ok((piece, from)) => {
                    window.pieces.push(piece);
                    window.from.extend(from);
                }
                Err(NotFound::Wrong) => wrong.push(part.index),
                Err(NotFound::Away) => away = true,
            }
        }
        if away || !wrong.is_empty() {
            return Err(wrong);
        }
        window.from.iter().filter_map(|index| stripes.site(*index)).for_each(|site| {
            stripes.terms.answered(site);
        });
        Ok(window)
    }

    /// Asks the holder, and k others as well when it is late or fails, or at
    /// once when they are known to be quicker.
    async fn fetch_part(&self, part: &Part<'_>) -> Result<Found, NotFound> {
        if part.candidates.get(part.index).is_some_and(|holder| holder.barred) {
            return self.read_others(part).await;
        }
        let turn = self.reads.turn(part.size, &part.candidates, part.index).ok_or(NotFound::Away)?;
        let mut holder = self.read_holder(part).boxed();
        if turn.standing != Standing::Good {
            return match self.read_others(part).await {
                Ok(found) => Ok(found),
                Err(_) => holder.await,
            };
        }
        let waited = self.wait_for(&mut holder, turn.patience, part).await;
        match waited {
            Some(Err(NotFound::Away)) => self.read_others(part).await,
            Some(found) => found,
            None => Ok(select_ok([holder, self.read_others(part).boxed()]).await?.0),
        }
    }

    /// Waits as long as patience and budget say; nothing: it is late.
    async fn wait_for(
        &self,
        holder: &mut (impl Future<Output = Result<Found, NotFound>> + Unpin),
        patience: Duration,
        part: &Part<'_>,
    ) -> Option<Result<Found, NotFound>> {
        if let Ok(answer) = timeout(patience, &mut *holder).await {
            return Some(answer);
        }
        let requests = part.stripes.codec.geometry().k();
        if !self.reads.may_hedge(requests) {
            if let Ok(answer) = timeout(rescue_after(patience), holder).await {
                return Some(answer);
            }
            self.reads.rescued(requests);
        }
        None
    }

    async fn read_holder(&self, part: &Part<'_>) -> Result<Found, NotFound> {
        let holder = part.candidates.get(part.index).ok_or(NotFound::Away)?;
        let candidates = std::slice::from_ref(holder);
        let race = Race { habits: &self.reads, size: part.size, candidates, prefer: Preference::InOrder };
        let finish = race.run(1, |_| self.read_part(part, part.index)).await;
        match (finish.have.into_iter().flatten().next(), finish.failed.first()) {
            (Some(piece), _) => Ok((piece, vec![part.index])),
            (None, None | Some((_, SiteError::Unreachable))) => Err(NotFound::Away),
            (None, Some(_)) => Err(NotFound::Wrong),
        }
    }

    /// The same bytes of k other shards give those of this one: the code works
    /// on each byte for itself.
    async fn read_others(&self, part: &Part<'_>) -> Result<Found, NotFound> {
        let index = u8::try_from(part.index).map_err(|_| NotFound::Away)?;
        let mut candidates = part.candidates.clone();
        if part.index >= candidates.len() {
            return Err(NotFound::Away);
        }
        candidates.remove(part.index);
        let place = |candidate: usize| candidate + usize::from(candidate >= part.index);
        let need = part.stripes.codec.geometry().k();
        let prefer = Preference::InOrder;
        let race = Race { habits: &self.reads, size: part.size, candidates: &candidates, prefer };
        let Finish { mut have, failed } =
            race.run(need, |candidate| self.read_part(part, place(candidate))).await;
        for (candidate, error) in &failed {
            self.note_part(part, place(*candidate), error).await;
        }
        have.insert(part.index, None);
        let from = have.iter().enumerate().filter(|(_, piece)| piece.is_some()).map(|(at, _)| at).collect();
        let rebuilt = part.stripes.codec.rebuild(have, &[index]).map_err(|_| NotFound::Away)?;
        Ok((rebuilt.into_iter().next().ok_or(NotFound::Away)?, from))
    }

    /// A shard beside the wanted one is not as it should be: repair's to mend.
    async fn note_part(&self, part: &Part<'_>, place: usize, error: &SiteError) {
        if let (Some(site), Ok(index)) = (part.stripes.site(place), u8::try_from(place)) {
            let id = part.stripes.record(part.stripe, index);
            self.charge(&part.stripes.version, (place, site), id, error).await;
        }
    }

    /// The wanted bytes of shard `index`; fewer or more are damage.
    fn read_part(
        &self,
        part: &Part<'_>,
        index: usize,
    ) -> impl Future<Output = Result<Bytes, SiteError>> + Send + use<> {
        let site = part.stripes.site(index).and_then(|site| self.sites.get(site));
        let id = u8::try_from(index).map(|index| part.stripes.record(part.stripe, index));
        let range = part.range.clone();
        async move {
            let (Some(site), Ok(id)) = (site, id) else { return Err(SiteError::Unreachable) };
            let bytes = site.get_range(id, range.clone()).await?.0;
            if bytes.len() == range.len() { Ok(bytes) } else { Err(SiteError::Damaged) }
        }
    }
}
