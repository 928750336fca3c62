//! `coffer durability`: the model of `coffer_regions::durability` over the
//! policies and sites that there are, with every input, where it is from, and
//! every formula beside the figures.

mod inputs;
mod records;
mod trial;

use std::collections::BTreeSet;

use coffer_client::{Client, Measured, SiteInfo};
use coffer_model::{Degraded, FailureDomain, Geometry, ResidencyPolicy, SiteDescription, Tier};
use coffer_regions::durability::{
    Chain, Crews, NOT_COVERED, Restoration, Scenario, at_least_up, restoration, tier_availability,
};
use serde_json::{Value, json};

use self::inputs::{Inputs, Known};
use self::records::Records;
use self::trial::Trial;
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
    /// Seconds until one lost site is made good.
    repair: f64,
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
    let (subjects, known) = known(context, &flags).await?;
    let inputs = Inputs::of(&flags, known);
    inputs.tell(context);
    for subject in &subjects {
        let figures = figures(subject, &flags, &inputs)?;
        let restorations = restorations(subject, &flags, &inputs)?;
        tell(context, subject, &figures, &restorations);
    }
    context.output.text("\nnot covered by this model:");
    NOT_COVERED.iter().for_each(|line| context.output.text(format_args!("  {line}")));
    context.output.object(&json!({ "not_covered": NOT_COVERED }));
    Ok(Exit::Success)
}

/// The policies to speak about, and what is known about what lies under them.
async fn known(context: &Context<'_>, flags: &DurabilityFlags) -> Result<(Vec<Subject>, Known), Failure> {
    if !flags.tiers.is_empty() {
        let policy = ResidencyPolicy {
            allow: Vec::new(),
            deny: Vec::new(),
            tier_min: Tier::I,
            geometry: flags.geometry,
            degraded: Degraded::Refuse,
        };
        let subject = Subject { name: "supposed sites".to_owned(), policy, tiers: flags.tiers.clone() };
        let recorded = Records::of_files(flags, None)?.recorded();
        let (trial, now) = (Trial::decoding(context, flags)?, context.clock.now());
        return Ok((vec![subject], Known { service: None, volumes: None, recorded, trial, now }));
    }
    let (client, tenant) = context.tenant_unchecked().await?;
    let signer = tenant.log_key()?;
    let records = Records::of_files(flags, Some(signer.clone()))?;
    let (sites, service) = measured(context, &client).await?;
    let now = context.clock.now();
    let buckets = client.list_buckets().await?;
    let subjects: Vec<Subject> = buckets
        .iter()
        .map(|bucket| {
            let tiers = admitted(&bucket.policy, &sites);
            Subject { name: bucket.name.to_string(), policy: bucket.policy.clone(), tiers }
        })
        .collect();
    if subjects.is_empty() {
        return Err(Failure::new("this tenant has no bucket, and so no policy to speak about")
            .next("create one with `coffer bucket create`, or suppose sites with --tier"));
    }
    let recorded = records.and_of_shelf(context, &client, &buckets, &signer).await.recorded();
    let mut trial = Trial::decoding(context, flags)?;
    if let Some(bytes) = flags.measure {
        trial = trial.and_reading(context, &client, &buckets, bytes).await?;
    }
    // For a service that does not count what it holds. What the volumes hold is
    // coded; the default geometry says how much of it is data.
    let volumes: f64 = sites.iter().map(|site| wide(site.volume_bytes)).sum();
    let share = part(Geometry::DEFAULT.k()) / part(Geometry::DEFAULT.n());
    Ok((subjects, Known { service, volumes: Some(volumes * share), recorded, trial, now }))
}

/// What the service counted: as its operator, if this profile is that too, for
/// a tenant is told of its own versions only.
async fn measured(
    context: &Context<'_>,
    client: &Client,
) -> Result<(Vec<SiteInfo>, Option<Measured>), Failure> {
    if let Ok(credentials) = context.profile.operator()
        && let Ok(operator) = context.connect(&credentials).await
        && let Ok(told) = operator.list_sites_measured().await
    {
        return Ok(told);
    }
    Ok(client.list_sites_measured().await?)
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

fn figures(subject: &Subject, flags: &DurabilityFlags, inputs: &Inputs) -> Result<Figures, Failure> {
    let geometry = subject.policy.geometry;
    let (k, m) = geometry.into();
    let sites = count(subject)?;
    let crews = if flags.parallel_repairs { Crews::Each } else { Crews::One };
    let again = restoration(Scenario::Sites(1), geometry, sites, inputs.stored(), inputs.rates());
    let repair = inputs.repair(again.map_or(0.0, |all| all.seconds()));
    let repairs = YEAR / repair.max(1.0);
    let chain = |sites: u8| {
        let chain = Chain::new(sites, m, inputs.losses(), repairs, crews);
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
        repair,
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
    inputs: &Inputs,
) -> Result<Restorations, Failure> {
    let sites = count(subject)?;
    let (stored, rates) = (inputs.stored(), inputs.rates());
    let lost = flags.lost;
    let scenarios = [
        ("the catalogue is lost".to_owned(), Scenario::Catalogue),
        (format!("{lost} sites are lost"), Scenario::Sites(lost)),
        (format!("{lost} sites, catalogue and service are lost"), Scenario::Cold(lost)),
    ];
    let of = |(name, scenario)| (name, restoration(scenario, subject.policy.geometry, sites, stored, rates));
    Ok(scenarios.into_iter().map(of).collect())
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
    out.text(format_args!("  a lost site is made good in {}", time(figures.repair)));
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
        "repair_seconds": figures.repair,
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
