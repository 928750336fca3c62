//! What is looked up when somebody asks for the figures, family by family.

use std::sync::Arc;

use coffer_catalog::CatalogError;
use coffer_model::Timestamp;
use coffer_regions::Standing;
use tonic::Code;

use super::appends::BOUNDS;
use super::certificates::expiry_of_pem;
use super::text::{Family, Kind, Text};
use crate::drill::drills_signed;
use crate::facts::founded;
use crate::jobs::Coverage;
use crate::service::Service;
use crate::tenant::Tenant;
use crate::witness::WitnessTrouble;

const fn family(name: &'static str, kind: Kind, help: &'static str) -> Family {
    Family { name, kind, help }
}

macro_rules! families {
    ($($constant:ident = $name:literal, $kind:ident, $help:literal;)*) => {
        $(const $constant: Family = family($name, Kind::$kind, $help);)*
        /// Every family, in the order of the text.
        pub const METRIC_FAMILIES: &[Family] = &[$($constant),*];
    };
}

families! {
    BUILD = "coffer_build_info", Gauge, "Which version runs; always 1.";
    CALLS = "coffer_calls_total", Counter, "Calls by method and gRPC status.";
    CALL_SECONDS = "coffer_call_seconds", Histogram, "Duration of calls until their answer was over.";
    APPENDS = "coffer_log_append_seconds", Histogram, "Duration until a single leaf was durable in its catalogue.";
    APPEND_FAILURES = "coffer_log_append_failures_total", Counter, "Leaves that no log took; their calls were refused.";
    LEAVES = "coffer_log_leaves", Gauge, "Leaves of a log; of a tenant by its ordinal, or of the service.";
    LEAVES_AT_SITES = "coffer_log_leaves_at_sites", Gauge, "Leaves that are on more sites than may be lost.";
    OPERATIONS = "coffer_catalogue_operations_total", Counter, "Operations of all catalogues.";
    COMMITS = "coffer_catalogue_commits_total", Counter, "Transactions of all catalogues; each is an fsync.";
    SITE_UP = "coffer_site_up", Gauge, "Whether the site answers.";
    SITE_QUARANTINED = "coffer_site_quarantined", Gauge, "Whether the site came back older than it was.";
    SITE_REFILLING = "coffer_site_refilling", Gauge, "Whether the site has a new disk that repair has not filled yet.";
    SITE_READ_ONLY = "coffer_site_read_only", Gauge, "Whether the site takes no writes.";
    SITE_RECORDS = "coffer_site_records", Gauge, "Records at the site.";
    SITE_BYTES = "coffer_site_volume_bytes", Gauge, "Bytes of the site's volumes.";
    SITE_WRITTEN = "coffer_site_written_bytes_total", Counter, "Bytes of records that the site acknowledged since this start, by kind: data (shards and manifest records) or other.";
    SITE_FREE = "coffer_site_free_bytes", Gauge, "Bytes that may still be written; absent where nobody knows.";
    SITE_DAMAGED = "coffer_site_damaged_records", Gauge, "Records at the site that are known to be wrong.";
    SCRUB_PROMISED = "coffer_scrub_promised_seconds", Gauge, "Within which time every byte is to be read and verified.";
    SCRUB_KEPT = "coffer_scrub_kept", Gauge, "Whether every byte of the site is shown to have been verified in time.";
    SCRUB_AGE = "coffer_scrub_age_seconds", Gauge, "Since the oldest byte of the site can have been verified; absent where nothing is shown.";
    SCRUB_AT_RISK = "coffer_scrub_at_risk", Gauge, "Whether the pass under way will be too late.";
    UNASKED = "coffer_challenges_unasked", Gauge, "Questions that no site has seen yet, by tenant.";
    UNCHALLENGED = "coffer_versions_unchallenged", Gauge, "Striped versions of which a shard has no question, by tenant.";
    REPAIR_RUNNING = "coffer_repair_running", Gauge, "Whether a repair is under way.";
    REPAIR_ENDED = "coffer_repair_last_ended_timestamp_seconds", Gauge, "When the last repair ended; absent before the first.";
    SHORT = "coffer_versions_below_promise", Gauge, "Versions that have less than was promised, at the last look of repair.";
    WAITING = "coffer_versions_waiting_for_site", Gauge, "Versions of those that wait for a site that does not answer.";
    BEYOND = "coffer_versions_beyond_repair", Gauge, "Versions of which too little is left.";
    OUT_OF_PLACE = "coffer_records_out_of_place", Gauge, "Records that lie where they should not, at the last look of repair.";
    DRILLS = "coffer_drill_records", Gauge, "Signed records of drills, by tenant.";
    DRILL_LAST = "coffer_drill_last_record_timestamp_seconds", Gauge, "When the tenant's last record of a drill was signed; absent without one.";
    FOUNDED = "coffer_tenant_founded_timestamp_seconds", Gauge, "When the tenant was made.";
    KEY_EPOCHS = "coffer_key_epochs", Gauge, "Key epochs of the tenant.";
    KEY_AGE = "coffer_key_epoch_age_seconds", Gauge, "Age of the tenant's first key epoch.";
    CERTIFICATE = "coffer_certificate_expiry_timestamp_seconds", Gauge, "Until when a certificate is valid.";
    WITNESS_UP = "coffer_witness_up", Gauge, "Whether the witness cosigned when it was asked last.";
    WITNESS_LAST = "coffer_witness_last_cosigned_timestamp_seconds", Gauge, "When the witness last cosigned; absent before the first time.";
    WITNESS_AHEAD = "coffer_witness_ahead", Gauge, "Whether the witness knows more leaves of a log than there are: the log went back.";
    JOBS_TROUBLED = "coffer_jobs_troubled", Gauge, "Whether the last step of a background job failed.";
}

fn seconds(time: Timestamp) -> u64 {
    time.0 / 1_000_000_000
}

/// A tenant under the number that stands for it.
struct Numbered {
    /// By age, from 1; `service` for the realm of the service itself.
    ordinal: String,
    founded: Option<u64>,
    tenant: Arc<Tenant>,
}

impl Service {
    /// The figures of now. What cannot be looked up is absent; the alarm for
    /// that is the absence.
    pub(crate) async fn metrics_text(&self) -> String {
        let mut text = Text::default();
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        text.family(&BUILD).add(&version, 1);
        self.counted(&mut text);
        let tenants = self.numbered().await;
        self.logs(&mut text, &tenants).await;
        self.site_figures(&mut text).await;
        self.scrub_figures(&mut text).await;
        challenge_figures(&mut text, &tenants).await;
        self.repair_figures(&mut text);
        self.tenant_figures(&mut text, &tenants).await;
        self.certificate_figures(&mut text);
        self.witness_figures(&mut text);
        text.family(&JOBS_TROUBLED).flag(&[], self.watch.trouble().is_some());
        text.into_string()
    }

    fn counted(&self, text: &mut Text) {
        let methods = self.calls.methods();
        let mut samples = text.family(&CALLS);
        for (name, method) in &*methods {
            for (code, count) in &method.outcomes {
                let code = format!("{:?}", Code::from(*code));
                samples.add(&[("method", name), ("code", &code)], *count);
            }
        }
        let mut samples = text.family(&CALL_SECONDS);
        for (name, method) in &*methods {
            let (counts, sum) = (method.took.counts(), method.took.sum_seconds());
            samples.histogram(&[("method", name)], &BOUNDS, &counts, sum);
        }
        drop(methods);
        let appends = &self.appends;
        let (counts, sum) = (appends.took.counts(), appends.took.sum_seconds());
        text.family(&APPENDS).histogram(&[], &BOUNDS, &counts, sum);
        text.family(&APPEND_FAILURES).add(&[], appends.failed());
        let grouping = self.grouping();
        text.family(&OPERATIONS).add(&[], grouping.operations);
        text.family(&COMMITS).add(&[], grouping.commits);
    }

    /// The tenants by age: a number that stays, and that tells nothing.
    async fn numbered(&self) -> Vec<Numbered> {
        let mut all = Vec::new();
        for tenant in self.all_tenants() {
            let founded = founded(&tenant).await.ok().flatten();
            all.push(Numbered { ordinal: String::new(), founded, tenant });
        }
        all.sort_by_key(|one| (!one.tenant.service, one.founded, one.tenant.id));
        let mut next = 1;
        for one in &mut all {
            if one.tenant.service {
                "service".clone_into(&mut one.ordinal);
            } else {
                one.ordinal = next.to_string();
                next += 1;
            }
        }
        all
    }

    async fn logs(&self, text: &mut Text, tenants: &[Numbered]) {
        let mut samples = text.family(&LEAVES);
        for one in tenants {
            if let Ok(size) = one.tenant.catalog.log_size().await {
                samples.add(&[("log", &one.ordinal)], size);
            }
        }
        let mut samples = text.family(&LEAVES_AT_SITES);
        for one in tenants {
            if let Ok(size) = one.tenant.catalog.replicated_size().await {
                samples.add(&[("log", &one.ordinal)], size);
            }
        }
    }

    async fn site_figures(&self, text: &mut Text) {
        let mut all = Vec::new();
        // A retired site stays on the list for life and is no trouble of anybody's.
        let stays = self.sites.listed().iter().filter(|listed| listed.standing != Standing::Retired);
        for listed in stays {
            let site = &listed.address.site;
            all.push((site, self.sites.state(site.id).await));
        }
        let known = |site| u64::try_from(self.damage.count(site)).unwrap_or(u64::MAX);
        let mut samples = text.family(&SITE_UP);
        all.iter().for_each(|(site, state)| samples.flag(&[("site", &site.name)], state.alive));
        let mut samples = text.family(&SITE_REFILLING);
        all.iter().for_each(|(site, _)| {
            samples.flag(&[("site", &site.name)], self.sites.is_refilling(site.id));
        });
        let mut samples = text.family(&SITE_QUARANTINED);
        all.iter().for_each(|(site, _)| {
            samples.flag(&[("site", &site.name)], self.sites.is_quarantined(site.id));
        });
        let mut samples = text.family(&SITE_READ_ONLY);
        all.iter().for_each(|(site, state)| samples.flag(&[("site", &site.name)], state.read_only));
        let mut samples = text.family(&SITE_RECORDS);
        all.iter().for_each(|(site, state)| samples.add(&[("site", &site.name)], state.records));
        let mut samples = text.family(&SITE_BYTES);
        all.iter().for_each(|(site, state)| samples.add(&[("site", &site.name)], state.volume_bytes));
        let mut samples = text.family(&SITE_WRITTEN);
        for (site, _) in &all {
            let written = self.sites.written(site.id);
            for (kind, bytes) in [("data", written.data()), ("other", written.other())] {
                samples.add(&[("site", &site.name), ("kind", kind)], bytes);
            }
        }
        let mut samples = text.family(&SITE_FREE);
        for (site, state) in &all {
            state.free_bytes.into_iter().for_each(|free| samples.add(&[("site", &site.name)], free));
        }
        let mut samples = text.family(&SITE_DAMAGED);
        all.iter().for_each(|(site, state)| {
            samples.add(&[("site", &site.name)], state.damaged.max(known(site.id)));
        });
    }

    async fn scrub_figures(&self, text: &mut Text) {
        text.family(&SCRUB_PROMISED).add(&[], self.watch.settings().scrub_within.as_secs());
        let all = self.scrub_status().await.unwrap_or_default();
        let mut samples = text.family(&SCRUB_KEPT);
        all.iter().for_each(|one| samples.flag(&[("site", &one.site.name)], one.is_kept()));
        let mut samples = text.family(&SCRUB_AGE);
        for one in &all {
            if let Coverage::Kept(age) | Coverage::Slipped(age) = one.coverage {
                samples.add(&[("site", &one.site.name)], age.as_secs());
            }
        }
        let mut samples = text.family(&SCRUB_AT_RISK);
        all.iter().for_each(|one| samples.flag(&[("site", &one.site.name)], one.at_risk));
    }

    fn repair_figures(&self, text: &mut Text) {
        let status = self.repair_status();
        text.family(&REPAIR_RUNNING).flag(&[], status.running);
        let mut samples = text.family(&REPAIR_ENDED);
        status.ended.into_iter().for_each(|ended| samples.add(&[], seconds(ended)));
        let plan = status.last.map(|last| last.plan);
        let mut figure = |family, value: Option<u64>| {
            let mut samples = text.family(family);
            value.into_iter().for_each(|value| samples.add(&[], value));
        };
        figure(&SHORT, plan.as_ref().map(|plan| plan.versions_short));
        figure(&WAITING, plan.as_ref().map(|plan| plan.waiting));
        figure(&BEYOND, plan.as_ref().map(|plan| plan.beyond_repair));
        figure(&OUT_OF_PLACE, plan.as_ref().map(|plan| plan.out_of_place));
    }

    async fn tenant_figures(&self, text: &mut Text, tenants: &[Numbered]) {
        let tenants = || tenants.iter().filter(|one| !one.tenant.service);
        let mut signed = Vec::new();
        for one in tenants() {
            signed.push((one, drills_signed(&one.tenant).await.unwrap_or_default()));
        }
        let mut samples = text.family(&DRILLS);
        signed.iter().for_each(|(one, drills)| samples.add(&[("tenant", &one.ordinal)], drills.count));
        let mut samples = text.family(&DRILL_LAST);
        for (one, last) in signed.iter().filter_map(|(one, drills)| Some((one, drills.last?))) {
            samples.add(&[("tenant", &one.ordinal)], seconds(last));
        }
        let mut samples = text.family(&FOUNDED);
        for (one, founded) in tenants().filter_map(|one| Some((one, one.founded?))) {
            samples.add(&[("tenant", &one.ordinal)], founded / 1000);
        }
        let mut samples = text.family(&KEY_EPOCHS);
        for one in tenants() {
            let epochs = u64::try_from(one.tenant.secrets.epochs().count()).unwrap_or(u64::MAX);
            samples.add(&[("tenant", &one.ordinal)], epochs);
        }
        let mut samples = text.family(&KEY_AGE);
        let now = seconds(self.host.clock.now());
        for (one, founded) in tenants().filter_map(|one| Some((one, one.founded?))) {
            samples.add(&[("tenant", &one.ordinal)], now.saturating_sub(founded / 1000));
        }
    }

    fn certificate_figures(&self, text: &mut Text) {
        let mut samples = text.family(&CERTIFICATE);
        if let Some(expiry) = expiry_of_pem(self.ca_pem()) {
            samples.add(&[("certificate", "authority")], expiry);
        }
    }

    fn witness_figures(&self, text: &mut Text) {
        let all = self.witness_states();
        let mut samples = text.family(&WITNESS_UP);
        for one in &all {
            samples.flag(&[("witness", &one.name)], one.trouble.is_none() && one.cosigned.is_some());
        }
        let mut samples = text.family(&WITNESS_LAST);
        for (one, time) in all.iter().filter_map(|one| Some((one, one.cosigned?))) {
            samples.add(&[("witness", &one.name)], seconds(time));
        }
        let mut samples = text.family(&WITNESS_AHEAD);
        for one in &all {
            let ahead = matches!(one.trouble, Some(WitnessTrouble::Ahead { .. }));
            samples.flag(&[("witness", &one.name)], ahead);
        }
    }
}

async fn challenge_figures(text: &mut Text, tenants: &[Numbered]) {
    let mut all = Vec::new();
    for one in tenants.iter().filter(|one| !one.tenant.service) {
        let counts: Result<_, CatalogError> = one.tenant.catalog.challenge_counts().await;
        if let Ok(counts) = counts {
            all.push((&one.ordinal, counts.fresh.values().sum(), counts.unchallenged_versions));
        }
    }
    let mut samples = text.family(&UNASKED);
    all.iter().for_each(|(ordinal, unasked, _)| samples.add(&[("tenant", ordinal.as_str())], *unasked));
    let mut samples = text.family(&UNCHALLENGED);
    all.iter().for_each(|(ordinal, _, bare)| samples.add(&[("tenant", ordinal.as_str())], *bare));
}
