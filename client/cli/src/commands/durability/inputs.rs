//! The inputs of the model, each with where it is from: given by a flag,
//! measured by something and at some time, or supposed, with what would measure
//! it. Nothing that was supposed looks like something that was measured.

use coffer_client::{Measured, Timed};
use coffer_model::Timestamp;
use coffer_regions::durability::{Rates, Stored};
use serde_json::{Map, Value, json};

use super::records::Recorded;
use super::trial::Trial;
use super::{DAY, GIB, MIB, time, wide};
use crate::context::Context;
use crate::flags::DurabilityFlags;

/// More than so many times what was measured is said to be far from it.
const FAR: f64 = 10.0;

/// Where a figure is from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// By a flag.
    Given,
    /// Something was counted or timed.
    Measured {
        /// What, in words.
        of: String,
        /// When it ended.
        at: Option<Timestamp>,
        /// How much it was, in what the model multiplies it with.
        amount: Option<f64>,
    },
    /// Nobody knows; what would tell.
    Supposed(&'static str),
}

/// A number and where it is from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) value: f64,
    pub(super) source: Source,
}

impl Figure {
    /// What is given goes before what was measured, and that before what is supposed.
    fn of(given: Option<f64>, measured: Option<Self>, supposed: f64, advice: &'static str) -> Self {
        match (given, measured) {
            (Some(value), _) => Self { value, source: Source::Given },
            (None, Some(measured)) => measured,
            (None, None) => Self { value: supposed, source: Source::Supposed(advice) },
        }
    }

    /// A rate: so much in so many seconds.
    pub(super) fn rate(amount: f64, seconds: f64, of: String, at: Option<Timestamp>) -> Option<Self> {
        let value = amount / seconds;
        let source = Source::Measured { of, at, amount: Some(amount) };
        (value.is_finite() && value > 0.0).then_some(Self { value, source })
    }

    /// What was counted, or timed as a whole.
    pub(super) fn counted(value: f64, of: String, at: Option<Timestamp>) -> Self {
        Self { value, source: Source::Measured { of, at, amount: None } }
    }

    /// How many times what was measured the model makes of it, where that is far.
    fn stretched(&self, needed: f64) -> Option<f64> {
        match self.source {
            Source::Measured { amount: Some(amount), .. } if needed > FAR * amount => Some(needed / amount),
            _ => None,
        }
    }

    fn words(&self, needed: f64) -> String {
        let far = self.stretched(needed);
        let far = far.map(|times| format!("; the model stretches it {times:.0} times")).unwrap_or_default();
        match &self.source {
            Source::Given => "given".to_owned(),
            Source::Measured { of, at, .. } => {
                // To the second, for people.
                let at = at.map(|at| Timestamp(at.0 / 1_000_000_000 * 1_000_000_000));
                let at = at.map(|at| format!(", {at}")).unwrap_or_default();
                format!("measured: {of}{at}{far}")
            }
            Source::Supposed(advice) => format!("SUPPOSED; {advice}"),
        }
    }

    fn object(&self, needed: f64) -> Value {
        match &self.source {
            Source::Given => json!({ "source": "given" }),
            Source::Measured { of, at, .. } => json!({
                "source": "measured",
                "of": of,
                "at": at.map(|at| at.to_string()),
                "stretched": self.stretched(needed),
            }),
            Source::Supposed(advice) => json!({ "source": "supposed", "advice": advice }),
        }
    }
}

/// What there is to take figures from.
pub(super) struct Known {
    /// By the service.
    pub(super) service: Option<Measured>,
    /// Bytes that the volumes of the sites hold, without their redundancy.
    pub(super) volumes: Option<f64>,
    /// By drills.
    pub(super) recorded: Recorded,
    /// By this command, now.
    pub(super) trial: Trial,
    /// When the service was asked.
    pub(super) now: Timestamp,
}

/// All inputs.
pub(super) struct Inputs {
    losses: Figure,
    discovery: Figure,
    /// The whole time of a repair, if it was given.
    repair: Option<f64>,
    parallel: bool,
    objects: Figure,
    bytes: Figure,
    site: Figure,
    decode: Figure,
    client: Figure,
    repair_rate: Figure,
    rebuild: Figure,
    custodians: Figure,
}

fn timed(of: Option<Timed>, what: impl Fn(&Timed, f64) -> String) -> Option<Figure> {
    let timed = of?;
    let seconds = wide(timed.nanos) / 1e9;
    Figure::rate(wide(timed.amount), seconds, what(&timed, seconds), Some(timed.until))
}

/// What the service said.
struct Told {
    versions: Option<Figure>,
    bytes: Option<Figure>,
    repaired: Option<Figure>,
    rebuilt: Option<Figure>,
}

impl Told {
    fn of(known: &Known) -> Self {
        let service = known.service;
        let whose = match service {
            Some(Measured { all_tenants: true, .. }) => "of all tenants, counted by the service",
            _ => "of this tenant, counted by the service, which tells the others' to its operator",
        };
        let counted = |number: u64| Figure::counted(wide(number), whose.to_owned(), Some(known.now));
        let versions = service.map(|all| counted(all.versions));
        let bytes = service.map(|all| counted(all.bytes));
        let volumes = known.volumes.filter(|bytes| *bytes > 0.0).map(|bytes| {
            Figure::counted(
                bytes,
                "volumes of the sites, less the share of parity".to_owned(),
                Some(known.now),
            )
        });
        let repaired = timed(service.and_then(|all| all.repair), |done, seconds| {
            format!("{:.1} MiB read and written by a repair in {}", wide(done.amount) / MIB, time(seconds))
        });
        let rebuilt = timed(service.and_then(|all| all.rebuild), |done, seconds| {
            format!("a rebuild of {} versions in {}", done.amount, time(seconds))
        });
        Self { versions, bytes: bytes.or(volumes), repaired, rebuilt }
    }
}

impl Inputs {
    pub(super) fn of(flags: &DurabilityFlags, known: Known) -> Self {
        let mib = |flag: Option<f64>| flag.map(|rate| rate * MIB);
        let Told { versions, bytes, repaired, rebuilt } = Told::of(&known);
        Self {
            losses: Figure::of(
                flags.losses_per_year,
                None,
                0.01,
                "count the sites that you have lost, and give --losses-per-year",
            ),
            discovery: Figure::of(
                flags.discovery.map(|all| wide(all.0)),
                None,
                DAY,
                "how long your alerts and people take: --discovery",
            ),
            repair: flags.repair.map(|all| wide(all.0)),
            parallel: flags.parallel_repairs,
            objects: Figure::of(flags.objects, versions, 1e6, "a service counts them, or --objects"),
            bytes: Figure::of(
                flags.gib.map(|gib| gib * GIB),
                bytes,
                100.0 * GIB,
                "a service counts them, or --gib",
            ),
            site: Figure::of(
                mib(flags.site_rate),
                known.trial.site,
                100.0 * MIB,
                "`coffer durability --measure 256M` shows what they give at least, or --site-rate",
            ),
            decode: Figure::of(mib(flags.decode_rate), known.trial.decode, 1000.0 * MIB, "--decode-rate"),
            client: Figure::of(
                mib(flags.client_rate),
                known.trial.client.or(known.recorded.client),
                100.0 * MIB,
                "`coffer drill run` or --measure measures it, or --client-rate",
            ),
            repair_rate: Figure::of(
                mib(flags.repair_rate),
                repaired,
                256.0 * MIB,
                "the bound that a repair sets itself; the next repair that moves anything measures it, or --repair-rate",
            ),
            rebuild: Figure::of(
                flags.rebuild_rate,
                rebuilt,
                5000.0,
                "a start that rebuilds catalogues measures it, and tells until the next start; the example `rebuild_scale` of coffer-tests measures it, or --rebuild-rate",
            ),
            custodians: Figure::of(
                flags.custodians.map(|all| wide(all.0)),
                known.recorded.custodians,
                3600.0,
                "a drill that begins with them measures it (`coffer drill run --scenario key-service`), or --custodians",
            ),
        }
    }

    pub(super) fn losses(&self) -> f64 {
        self.losses.value
    }

    /// The time of a repair, if `again` is that of making the lost anew.
    pub(super) fn repair(&self, again: f64) -> f64 {
        self.repair.unwrap_or(self.discovery.value + again)
    }

    pub(super) fn stored(&self) -> Stored {
        Stored { objects: self.objects.value, bytes: self.bytes.value }
    }

    pub(super) fn rates(&self) -> Rates {
        Rates {
            site: self.site.value,
            decode: self.decode.value,
            client: self.client.value,
            rebuild: self.rebuild.value,
            repair: self.repair_rate.value,
            custodians: self.custodians.value,
        }
    }

    /// Name in JSON, words, value in words, the figure, and what the model
    /// multiplies it with.
    fn lines(&self) -> Vec<(&'static str, &'static str, String, &Figure, f64)> {
        let (objects, bytes) = (self.objects.value, self.bytes.value);
        let mib = |figure: &Figure| format!("{:.1} MiB/s", figure.value / MIB);
        let mut all = vec![(
            "losses_per_year",
            "losses of a site in a year",
            self.losses.value.to_string(),
            &self.losses,
            0.0,
        )];
        // Where the whole of a repair was given, its beginning tells nothing.
        if self.repair.is_none() {
            let text = time(self.discovery.value);
            all.push(("discovery_seconds", "until a lost site is given up", text, &self.discovery, 0.0));
        }
        all.extend([
            ("objects", "object versions", format!("{objects:.0}"), &self.objects, 0.0),
            ("bytes", "bytes before coding", format!("{:.3} GiB", bytes / GIB), &self.bytes, 0.0),
            ("site_bytes_per_second", "to and from a site", mib(&self.site), &self.site, bytes),
            ("decode_bytes_per_second", "decoded", mib(&self.decode), &self.decode, 0.0),
            ("client_bytes_per_second", "to whoever restores", mib(&self.client), &self.client, bytes),
            (
                "repair_bytes_per_second",
                "moved by a repair",
                mib(&self.repair_rate),
                &self.repair_rate,
                bytes,
            ),
            (
                "rebuild_objects_per_second",
                "into a catalogue",
                format!("{:.1} a second", self.rebuild.value),
                &self.rebuild,
                objects,
            ),
            (
                "custodian_seconds",
                "until custodians open the key",
                time(self.custodians.value),
                &self.custodians,
                0.0,
            ),
        ]);
        all
    }

    pub(super) fn tell(&self, context: &Context<'_>) {
        let out = context.output;
        out.text("inputs:");
        for (_, words, value, figure, needed) in self.lines() {
            out.text(format_args!("  {words:<30} {value:>14}  {}", figure.words(needed)));
        }
        if let Some(repair) = self.repair {
            out.text(format_args!("  {:<30} {:>14}  given", "a lost site is made good in", time(repair)));
        }
        let crews = if self.parallel { "each by itself" } else { "one after the other" };
        out.text(format_args!("  lost sites are replaced {crews}; a site is up as its tier is commonly quoted: SUPPOSED, nobody measures it"));
        out.text("formulae: loss, birth-death chain solved by uniformisation; mean, its first passage (Trivedi); ~, leading term (Patterson et al., Angus); availability, Poisson binomial over the tiers");
        let mut inputs = Map::new();
        let mut sources = Map::new();
        for (name, _, _, figure, needed) in self.lines() {
            inputs.insert(name.to_owned(), json!(figure.value));
            sources.insert(name.to_owned(), figure.object(needed));
        }
        inputs.insert("parallel_repairs".to_owned(), json!(self.parallel));
        if let Some(repair) = self.repair {
            inputs.insert("repair_seconds".to_owned(), json!(repair));
            sources.insert("repair_seconds".to_owned(), json!({ "source": "given" }));
        }
        sources.insert(
            "availability".to_owned(),
            json!({ "source": "supposed", "advice": "by the tiers, as they are commonly quoted" }),
        );
        out.object(&json!({
            "inputs": inputs,
            "sources": sources,
            "formulae": {
                "loss_in_a_year": "birth-death chain, uniformisation",
                "mean_years_to_loss": "birth-death chain, mean first passage",
                "approximate_years_to_loss": "leading term for repairs much faster than losses",
                "readable": "Poisson binomial: at least k of the n worst sites up",
                "writable": "Poisson binomial: at least n sites up, or k + 1 where the policy accepts it",
            },
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Option<Figure> {
        Figure::rate(20.0, 4.0, "something".to_owned(), Some(Timestamp(0)))
    }

    #[test]
    fn what_is_given_goes_before_what_was_measured_and_that_before_what_is_supposed() {
        assert_eq!(Figure::of(Some(2.0), measured(), 1.0, "").source, Source::Given);
        let figure = Figure::of(None, measured(), 1.0, "");
        assert!((figure.value - 5.0).abs() < 1e-12 && matches!(figure.source, Source::Measured { .. }));
        assert_eq!(Figure::of(None, None, 1.0, "ask").source, Source::Supposed("ask"));
    }

    #[test]
    fn what_took_no_time_or_came_to_nothing_was_not_measured() {
        for (amount, seconds) in [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)] {
            assert_eq!(Figure::rate(amount, seconds, String::new(), None), None);
        }
    }

    #[test]
    fn a_rate_that_is_stretched_far_beyond_what_was_measured_says_so() {
        let figure = measured().unwrap();
        assert!(!figure.words(200.0).contains("stretches"));
        assert!(figure.words(4000.0).ends_with("1970-01-01T00:00:00Z; the model stretches it 200 times"));
        assert_eq!(figure.object(4000.0)["stretched"], 200.0);
    }
}
