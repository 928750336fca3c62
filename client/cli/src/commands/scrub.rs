//! `coffer scrub`: whether the sites hold what they were given, as the
//! service found out by reading and by asking.

use std::time::Duration;

use coffer_client::{
    ChallengeRequest, Client, ScrubPassInfo, ScrubStatusInfo, SiteChallengeInfo, SiteDelayInfo, SiteScrubInfo,
};
use coffer_model::Timestamp;
use serde_json::{Value, json};

use super::site::named;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::ScrubCommand;
use crate::output::bytes_text;

pub(super) async fn run(context: &Context<'_>, command: ScrubCommand) -> Result<Exit, Failure> {
    let operator = context.operator().await?;
    match command {
        ScrubCommand::Status { check } => status(context, &operator, check).await,
        ScrubCommand::Run { site, anew } => read(context, &operator, site.as_deref(), anew).await,
        ScrubCommand::Challenge { site, answers, confirm_delays } => {
            let request = ChallengeRequest { site, answers, enrol_delays: confirm_delays };
            challenge(context, &operator, &request).await
        }
    }
}

async fn status(context: &Context<'_>, operator: &Client, check: bool) -> Result<Exit, Failure> {
    let status = operator.scrub_status().await?;
    context.output.object(&status_object(&status));
    for site in &status.sites {
        context.output.text(site_text(site, &status));
    }
    let promised = span(status.promised);
    let sentence = match (status.kept, status.sites.iter().filter_map(|site| site.age).max()) {
        (true, Some(age)) => {
            format!("every byte was read and verified within {}; promised: {promised}", span(age))
        }
        _ => format!("it is not shown that every byte was read and verified within {promised}"),
    };
    context.output.text(&sentence);
    if status.unchallenged_versions > 0 {
        context.output.text(format_args!(
            "{} versions have shards without challenges; the next rounds make them",
            status.unchallenged_versions
        ));
    }
    if let Some(trouble) = &status.trouble {
        context.output.remark(format_args!("the last background step failed: {trouble}"));
    }
    Ok(if check && !status.kept { Exit::Differences } else { Exit::Success })
}

/// Days, hours, minutes or seconds, whichever still says something.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{}.{} days", seconds / 86_400, seconds % 86_400 / 8_640),
    }
}

fn site_text(site: &SiteScrubInfo, status: &ScrubStatusInfo) -> String {
    let verified = match (site.age, site.kept) {
        (Some(age), true) => format!("verified within {}", span(age)),
        (Some(age), false) => format!("LATE: {}", span(age)),
        (None, _) => "unknown".to_owned(),
    };
    let pass = match (&site.running, site.predicted_end) {
        (Some(pass), Some(end)) => {
            let left = span(end.since(status.now));
            let risk = if site.at_risk { ", TOO LATE" } else { "" };
            format!(
                "pass at {} of {}, ends in {left}{risk}",
                bytes_text(pass.bytes),
                bytes_text(site.bytes_total)
            )
        }
        (Some(_), None) => "pass begun".to_owned(),
        (None, _) => "no pass under way".to_owned(),
    };
    let delay = match site.delay {
        SiteDelayInfo::Learning => "delays being learned",
        SiteDelayInfo::AsEnrolled => "delays as enrolled",
        SiteDelayInfo::Later => "LATE ANSWERS: look why, then `coffer scrub challenge --confirm-delays`",
        SiteDelayInfo::Indistinct => "delays scatter too much to judge",
    };
    format!(
        "{:<12} {verified:<26} {pass}; damaged {}, {} new challenges, {delay}",
        site.name, site.damaged, site.challenges
    )
}

fn delay_word(delay: SiteDelayInfo) -> &'static str {
    match delay {
        SiteDelayInfo::Learning => "learning",
        SiteDelayInfo::AsEnrolled => "as_enrolled",
        SiteDelayInfo::Later => "later",
        SiteDelayInfo::Indistinct => "indistinct",
    }
}

fn moment(moment: Option<Timestamp>) -> Value {
    moment.map_or(Value::Null, |moment| json!(moment.to_string()))
}

fn pass_object(pass: Option<ScrubPassInfo>) -> Value {
    pass.map_or(Value::Null, |pass| {
        json!({
            "started": moment(Some(pass.started)),
            "ended": moment(pass.ended),
            "bytes": pass.bytes,
            "records": pass.records,
            "findings": pass.findings,
        })
    })
}

fn status_object(status: &ScrubStatusInfo) -> Value {
    let site = |site: &SiteScrubInfo| {
        json!({
            "site": site.name,
            "id": site.site.to_string(),
            "kept": site.kept,
            "age_seconds": site.age.map(|age| age.as_secs()),
            "last_pass": pass_object(site.last),
            "running_pass": pass_object(site.running),
            "bytes_total": site.bytes_total,
            "predicted_end": moment(site.predicted_end),
            "at_risk": site.at_risk,
            "damaged": site.damaged,
            "new_challenges": site.challenges,
            "delay": delay_word(site.delay),
        })
    };
    json!({
        "now": moment(Some(status.now)),
        "promised_seconds": status.promised.as_secs(),
        "kept": status.kept,
        "unchallenged_versions": status.unchallenged_versions,
        "trouble": status.trouble,
        "sites": status.sites.iter().map(site).collect::<Vec<_>>(),
    })
}

async fn read(
    context: &Context<'_>,
    operator: &Client,
    site: Option<&str>,
    anew: bool,
) -> Result<Exit, Failure> {
    let (mut findings, mut silent) = (0, 0_u64);
    let told = operator.run_scrub(site, anew, |step| {
        if step.answered && !step.pass_ended {
            return;
        }
        findings += step.findings;
        silent += u64::from(!step.answered);
        context.output.object(&json!({
            "site": step.name,
            "answered": step.answered,
            "pass_ended": step.pass_ended,
            "bytes": step.bytes,
            "findings": step.findings,
        }));
        let end = if step.answered { "the pass has ended" } else { "it does not answer" };
        context.output.text(format_args!(
            "{:<12} {} read and verified, {} findings; {end}",
            step.name,
            bytes_text(step.bytes),
            step.findings
        ));
    });
    named(told.await, "nothing was done")?;
    Ok(match (findings, silent) {
        (0, 0) => Exit::Success,
        (0, _) => Exit::Partial,
        _ => Exit::Differences,
    })
}

async fn challenge(
    context: &Context<'_>,
    operator: &Client,
    request: &ChallengeRequest,
) -> Result<Exit, Failure> {
    let round = named(operator.run_challenges(request).await, "nothing was done")?;
    for site in &round {
        context.output.object(&challenge_object(site));
        let answered = if site.answered { "" } else { ", does not answer" };
        context.output.text(format_args!(
            "{:<12} {} right, {} wrong or missing{answered}; delays {}",
            site.name,
            site.right,
            site.failed.len(),
            delay_word(site.delay).replace('_', " "),
        ));
        for record in &site.failed {
            context.output.text(format_args!("{:<12}   lost or damaged: record {record}", ""));
        }
    }
    let bad = |site: &SiteChallengeInfo| !site.failed.is_empty() || site.delay == SiteDelayInfo::Later;
    Ok(if round.iter().any(bad) {
        Exit::Differences
    } else if round.iter().all(|site| site.answered) {
        Exit::Success
    } else {
        Exit::Partial
    })
}

fn challenge_object(site: &SiteChallengeInfo) -> Value {
    json!({
        "site": site.name,
        "answered": site.answered,
        "right": site.right,
        "failed": site.failed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "repeats": site.repeats,
        "delay": delay_word(site.delay),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_a_unit_that_says_something() {
        let told = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(
            [told(7), told(600), told(86_400), told(30 * 86_400 + 43_200)],
            ["7 s", "10 min", "24 h", "30.5 days"]
        );
    }
}
