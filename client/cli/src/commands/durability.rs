//! `coffer durability`: the model of `coffer_regions::durability` over the
//! policies and sites that there are, with every input and formula beside the
//! figures.

use std::collections::BTreeSet;

use bytes::Bytes;
use coffer_client::SiteInfo;
use coffer_model::{Degraded, FailureDomain, Geometry, ResidencyPolicy, SiteDescription, Tier};
use coffer_regions::Codec;
use coffer_regions::durability::{
    Chain, Crews, NOT_COVERED, Rates, Restoration, Scenario, Stored, at_least_up, restoration,
    tier_availability,
};
use serde_json::{Value, json};

use super::policy;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::DurabilityFlags;

const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1_073_741_824.0;
const DAY: f64 = 86_400.0;
const YEAR: f64 = 365.0 * DAY;

/// One policy and the sites that it admits.
struct Subject {
    name: String,
    policy: ResidencyPolicy,
    tiers: Vec<Tier>,
}

/// What the model says about one subject.
struct Figures {
    /// Of one striped object, of one small object, of any object at all.
    striped: Loss,
    small: Loss,
    any: Loss,
    readable: f64,
    writable: f64,
}

struct Loss {
    in_a_year: f64,
    mean_years: f64,
    approximate_years: f64,
}

impl Loss {
    fn of(chain: Chain) -> Self {
        Self {
            in_a_year: chain.loss_within(1.0),
            mean_years: chain.mean_years_to_loss(),
            approximate_years: chain.approximate_years_to_loss(),
        }
    }

    fn object(&self) -> Value {
        json!({
            "loss_in_a_year": self.in_a_year,
            "mean_years_to_loss": self.mean_years,
            "approximate_years_to_loss": self.approximate_years,
        })
    }
}

pub(super) async fn run(context: &Context<'_>, flags: DurabilityFlags) -> Result<Exit, Failure> {
    let (subjects, stored) = subjects(context, &flags).await?;
    let rates = rates(context, &flags)?;
    tell_inputs(context, &flags, stored, rates);
    for subject in &subjects {
        let figures = figures(subject, &flags)?;
        let restorations = restorations(subject, &flags, stored, rates)?;
        tell(context, subject, &figures, &restorations);
    }
    context.output.text("\nnot covered by this model:");
    NOT_COVERED.iter().for_each(|line| context.output.text(format_args!("  {line}")));
    context.output.object(&json!({ "not_covered": NOT_COVERED }));
    Ok(Exit::Success)
}

/// The policies to speak about, and the bytes that lie under them.
async fn subjects(context: &Context<'_>, flags: &DurabilityFlags) -> Result<(Vec<Subject>, f64), Failure> {
    let stated = flags.gib.map(|gib| gib * GIB);
    if !flags.tiers.is_empty() {
        let policy = ResidencyPolicy {
            allow: Vec::new(),
            deny: Vec::new(),
            tier_min: Tier::I,
            geometry: flags.geometry,
            degraded: Degraded::Refuse,
        };
        let subject = Subject { name: "supposed sites".to_owned(), policy, tiers: flags.tiers.clone() };
        return Ok((vec![subject], stated.unwrap_or(100.0 * GIB)));
    }
    let (client, _) = context.tenant_unchecked().await?;
    let sites = client.list_sites().await?;
    let mut subjects = Vec::new();
    for bucket in client.list_buckets().await? {
        let tiers = admitted(&bucket.policy, &sites);
        subjects.push(Subject { name: bucket.name.to_string(), policy: bucket.policy, tiers });
    }
    if subjects.is_empty() {
        return Err(Failure::new("this tenant has no bucket, and so no policy to speak about")
            .next("create one with `coffer bucket create`, or suppose sites with --tier"));
    }
    // What the volumes hold is coded, and of all tenants; the default geometry
    // says how much of it is data.
    let volumes: f64 = sites.iter().map(|site| wide(site.volume_bytes)).sum();
    let default = Geometry::DEFAULT;
    let share = part(default.k()) / part(default.n());
    Ok((subjects, stated.unwrap_or(volumes * share)))
}

/// The tiers of the sites that a policy admits, one of each failure domain.
fn admitted(policy: &ResidencyPolicy, sites: &[SiteInfo]) -> Vec<Tier> {
    let mut domains = BTreeSet::new();
    let describe = |site: &SiteInfo| SiteDescription {
        id: site.id,
        name: site.name.clone(),
        country: site.country,
        domain: FailureDomain(site.domain.clone()),
        tier: site.tier,
    };
    // What is drained or retired takes part in nothing that is to come.
    let stays = |site: &&SiteInfo| matches!(site.standing.as_str(), "active" | "quarantined");
    let admitted = sites.iter().filter(stays).filter(|site| policy.admits(&describe(site)));
    admitted.filter(|site| domains.insert(site.domain.clone())).map(|site| site.tier).collect()
}

fn figures(subject: &Subject, flags: &DurabilityFlags) -> Result<Figures, Failure> {
    let geometry = subject.policy.geometry;
    let (k, m) = geometry.into();
    let sites = count(subject)?;
    let crews = if flags.parallel_repairs { Crews::Each } else { Crews::One };
    let repairs = YEAR / wide(flags.repair.0).max(1.0);
    let chain = |sites: u8| {
        let chain = Chain::new(sites, m, flags.losses_per_year, repairs, crews);
        chain.map(Loss::of).map_err(|error| Failure::usage(error.to_string()))
    };
    let mut up: Vec<f64> = subject.tiers.iter().map(|tier| tier_availability(*tier)).collect();
    up.sort_by(f64::total_cmp);
    // At worst an object lies at the sites that are down most.
    let worst = up.get(..geometry.n()).unwrap_or(&up);
    let needed = match subject.policy.degraded {
        Degraded::Refuse => geometry.n(),
        Degraded::Accept => geometry.k() + 1,
    };
    Ok(Figures {
        striped: chain(k + m)?,
        small: chain(m + 1)?,
        any: chain(sites)?,
        readable: at_least_up(geometry.k(), worst),
        writable: at_least_up(needed, &up),
    })
}

/// How many sites a policy admits, at least as many as it needs.
fn count(subject: &Subject) -> Result<u8, Failure> {
    let geometry = subject.policy.geometry;
    let sites = u8::try_from(subject.tiers.len()).unwrap_or(u8::MAX);
    if usize::from(sites) >= geometry.n() {
        return Ok(sites);
    }
    Err(Failure::usage(format!(
        "{}: {geometry} needs {} sites in failure domains of their own, and there are {sites}",
        subject.name,
        geometry.n(),
    )))
}

/// The scenarios, each with its restoration or with none where nothing comes back.
type Restorations = Vec<(String, Option<Restoration>)>;

fn restorations(
    subject: &Subject,
    flags: &DurabilityFlags,
    stored: f64,
    rates: Rates,
) -> Result<Restorations, Failure> {
    let sites = count(subject)?;
    let stored = Stored { objects: flags.objects, bytes: stored };
    let lost = flags.lost;
    let scenarios = [
        ("the catalogue is lost".to_owned(), Scenario::Catalogue),
        (format!("{lost} sites are lost"), Scenario::Sites(lost)),
        (format!("{lost} sites, catalogue and service are lost"), Scenario::Cold(lost)),
    ];
    let of = |(name, scenario)| (name, restoration(scenario, subject.policy.geometry, sites, stored, rates));
    Ok(scenarios.into_iter().map(of).collect())
}

fn rates(context: &Context<'_>, flags: &DurabilityFlags) -> Result<Rates, Failure> {
    let decode = match flags.decode_rate {
        Some(stated) => stated * MIB,
        None => measured_decode(context)?,
    };
    Ok(Rates {
        site: flags.site_rate * MIB,
        decode,
        client: flags.client_rate * MIB,
        rebuild: flags.rebuild_rate,
        custodians: wide(flags.custodians.0),
    })
}

/// Decodes 64 MiB in stripes of 4 MiB, the first m data shards missing, with
/// one core; the rate of the best of three rounds, bytes a second.
fn measured_decode(context: &Context<'_>) -> Result<f64, Failure> {
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
    Ok(64.0 * MIB / best.max(1e-9))
}

fn tell_inputs(context: &Context<'_>, flags: &DurabilityFlags, stored: f64, rates: Rates) {
    let crews =
        if flags.parallel_repairs { "each lost site by itself" } else { "one lost site after the other" };
    let decoded = if flags.decode_rate.is_some() { "stated" } else { "measured now, one core" };
    let out = context.output;
    out.text("inputs:");
    out.text(format_args!(
        "  {} losses of a site in a year, repaired in {}, {crews}",
        flags.losses_per_year,
        time(wide(flags.repair.0))
    ));
    out.text(format_args!("  {:.0} objects of {:.2} GiB together", flags.objects, stored / GIB));
    out.text(format_args!(
        "  {:.0} MiB/s to a site, {:.0} MiB/s decoded ({decoded}), {:.0} MiB/s to the client",
        rates.site / MIB,
        rates.decode / MIB,
        rates.client / MIB
    ));
    out.text(format_args!(
        "  {:.0} objects/s into a catalogue, {} for the custodians",
        rates.rebuild,
        time(rates.custodians)
    ));
    out.text("formulae: loss, birth-death chain solved by uniformisation; mean, its first passage (Trivedi); ~, leading term (Patterson et al., Angus); availability, Poisson binomial over the tiers");
    out.object(&json!({
        "inputs": {
            "losses_per_year": flags.losses_per_year,
            "repair_seconds": flags.repair.0,
            "parallel_repairs": flags.parallel_repairs,
            "objects": flags.objects,
            "bytes": stored,
            "site_bytes_per_second": rates.site,
            "client_bytes_per_second": rates.client,
            "decode_bytes_per_second": rates.decode,
            "decode_rate": decoded,
            "rebuild_objects_per_second": rates.rebuild,
            "custodian_seconds": rates.custodians,
        },
        "formulae": {
            "loss_in_a_year": "birth-death chain, uniformisation",
            "mean_years_to_loss": "birth-death chain, mean first passage",
            "approximate_years_to_loss": "leading term for repairs much faster than losses",
            "readable": "Poisson binomial: at least k of the n worst sites up",
            "writable": "Poisson binomial: at least n sites up, or k + 1 where the policy accepts it",
        },
    }));
}

fn tell(context: &Context<'_>, subject: &Subject, figures: &Figures, restorations: &Restorations) {
    let out = context.output;
    let sites = subject.tiers.len();
    out.text(format_args!("\n{}: {}, {sites} sites", subject.name, policy::text(&subject.policy)));
    for (name, loss) in [
        ("a striped object", &figures.striped),
        ("a small object", &figures.small),
        ("any object", &figures.any),
    ] {
        out.text(format_args!(
            "  loss of {name:<17} {:>9.2e} in a year   mean {:>9.2e} years  (~{:.2e})",
            loss.in_a_year, loss.mean_years, loss.approximate_years
        ));
    }
    out.text(format_args!(
        "  readable {:.7} %, writable {:.5} % of the time",
        figures.readable * 100.0,
        figures.writable * 100.0
    ));
    for (name, restoration) in restorations {
        match restoration {
            Some(all) => {
                out.text(format_args!("  if {name}: whole again after {}", time(all.seconds())));
                for step in &all.steps {
                    out.text(format_args!(
                        "    {:<32} {:>10}  {}",
                        step.name,
                        time(step.seconds),
                        step.formula
                    ));
                }
            }
            None => {
                out.text(format_args!("  if {name}: more than this geometry can lose; nothing comes back"))
            }
        }
    }
    let scenario = |(name, restoration): &(String, Option<Restoration>)| {
        let steps = restoration.iter().flat_map(|all| &all.steps);
        let steps: Vec<Value> = steps
            .map(|step| json!({ "step": step.name, "seconds": step.seconds, "formula": step.formula }))
            .collect();
        let seconds = restoration.as_ref().map(Restoration::seconds);
        json!({ "scenario": name, "seconds": seconds, "steps": steps })
    };
    out.object(&json!({
        "policy_of": subject.name,
        "policy": policy::object(&subject.policy),
        "sites": sites,
        "striped_object": figures.striped.object(),
        "small_object": figures.small.object(),
        "any_object": figures.any.object(),
        "readable": figures.readable,
        "writable": figures.writable,
        "restorations": restorations.iter().map(scenario).collect::<Vec<_>>(),
    }));
}

/// A number of things as one that can be divided. Past 2^32 to the next
/// multiple of 2^32: far closer than any of the rates.
fn wide(number: u64) -> f64 {
    let low = u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    let high = u32::try_from(number >> 32).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

fn part(shards: usize) -> f64 {
    f64::from(u32::try_from(shards).unwrap_or(u32::MAX))
}

/// A time for people.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.1} s"),
        s if s < 5400.0 => format!("{:.1} min", s / 60.0),
        s if s < 2.0 * DAY => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / DAY),
    }
}
