//! Where a drill stands: on the service that lives, on one that was made again
//! from what a loss leaves, or on a reader of somebody else's.

use coffer_client::drill::{Origin, Planned, Shares, Timeline};
use coffer_model::BucketName;

#[cfg(feature = "embedded")]
use super::cold::Cold;
use super::exercise::Desk;
use super::left::{Left, Scratch, recombined};
use super::other_reader::Reader;
use crate::context::Context;
use crate::exit::Failure;
use crate::flags::RunFlags;

/// A ground, and what it needs while the drill lasts.
pub(super) struct Ground {
    stands: Stands,
    timeline: Option<Timeline>,
    /// What keeps the target apart from the source, each a fact.
    pub(super) facts: Vec<String>,
    /// Removed last: what stands on it is dropped before.
    _scratch: Option<Scratch>,
}

enum Stands {
    Here,
    #[cfg(feature = "embedded")]
    Cold(Box<Cold>),
    Reader(Box<Reader>, Shares),
}

impl Ground {
    /// What a plan begins with; the loss is declared here.
    pub(super) async fn prepare(
        context: &Context<'_>,
        desk: &mut Desk,
        planned: &Planned,
        flags: &RunFlags,
    ) -> Result<Self, Failure> {
        let scenario = &planned.plan.scenario;
        let (cold, reader) = (scenario.kind.begins_cold(), scenario.kind.is_by_another_reader());
        let mut facts = vec!["the target was a directory that was new or empty".to_owned()];
        if !cold && !reader {
            facts.push(
                "sites and catalogue were reached through the public calls of the service only".to_owned(),
            );
            return Ok(Self { stands: Stands::Here, timeline: None, facts, _scratch: None });
        }
        if flags.resume {
            return Err(Failure::usage("a drill that begins with a loss is not resumed")
                .next("run a new plan in a new directory"));
        }
        let bucket = BucketName::new(&planned.plan.scope.bucket)?;
        let mut left = Left::gather(context, desk, &scenario.sites_lost, &flags.left, &flags.out).await?;
        let stands = if reader {
            let tenant = desk.party.tenant.clone();
            let reader = Reader::prepare(&mut left, &tenant, bucket.as_str(), &flags.left).await?;
            facts.extend(reader.facts(left.sites)?);
            // The reader has opened the keys with the one, and opens the
            // repository with the other or restores nothing.
            let shares = Shares {
                provider: recombined(&flags.left.provider_shares)?,
                tenant: recombined(&flags.left.tenant_shares)?,
            };
            Stands::Reader(Box::new(reader), shares)
        } else {
            cold_ground(context, desk, planned, &bucket, &mut left, flags, &mut facts).await?
        };
        let (scratch, timeline) = left.split();
        Ok(Self { stands, timeline: Some(timeline), facts, _scratch: Some(scratch) })
    }

    /// Where the drill reads from. The axis of time goes with it.
    pub(super) fn origin(&mut self) -> Origin<'_> {
        let timeline = self.timeline.take();
        match &self.stands {
            Stands::Here => Origin::default(),
            #[cfg(feature = "embedded")]
            Stands::Cold(cold) => Origin { timeline, ..cold.origin() },
            Stands::Reader(reader, shares) => Origin {
                reader: Some(reader.as_ref()),
                shares: shares.clone(),
                timeline,
                ..Origin::default()
            },
        }
    }
}

#[cfg(feature = "embedded")]
async fn cold_ground(
    context: &Context<'_>,
    desk: &Desk,
    planned: &Planned,
    bucket: &BucketName,
    left: &mut Left,
    flags: &RunFlags,
    facts: &mut Vec<String>,
) -> Result<Stands, Failure> {
    let kind = planned.plan.scenario.kind;
    let cold = Cold::begin(context, desk, kind, bucket, left, &flags.left).await?;
    facts.extend(cold.facts.iter().cloned());
    Ok(Stands::Cold(Box::new(cold)))
}

#[cfg(not(feature = "embedded"))]
async fn cold_ground(
    _context: &Context<'_>,
    _desk: &Desk,
    _planned: &Planned,
    _bucket: &BucketName,
    _left: &mut Left,
    _flags: &RunFlags,
    _facts: &mut Vec<String>,
) -> Result<Stands, Failure> {
    Err(Failure::usage("this program was built without the service that such a drill makes again"))
}
