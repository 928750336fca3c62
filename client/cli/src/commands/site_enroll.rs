//! `coffer site enroll`: the certificate and the keys of a new pod; `coffer site
//! authority`: what signs them. Local commands: the site authority is a directory of the operator's.

use std::path::{Path, PathBuf};

use coffer_model::Country;
use coffer_server::{SiteAuthority, write_site_files};
use serde_json::json;

use crate::context::Context;
use crate::exit::{Advise as _, Failure};

/// What helps where an authority is none.
const NEXT: &str = "name an authority's directory, or one that does not exist yet, with --authority";

/// The authority, a new one where there is none, and its directory.
fn open(
    context: &Context<'_>,
    authority: Option<PathBuf>,
    safe: &str,
) -> Result<(SiteAuthority, PathBuf), Failure> {
    let dir = authority.unwrap_or_else(|| context.profile.dir().join("site-authority"));
    let opened = SiteAuthority::open_or_create(&dir);
    Ok((opened.advise(safe, NEXT)?, dir))
}

/// What the service shows to pods, where it finds it.
fn show(authority: &SiteAuthority, data_dir: &Path, safe: &str) -> Result<PathBuf, Failure> {
    let shown = data_dir.join("credentials").join("pods");
    if !shown.exists() {
        let caller = authority.caller().advise(safe, NEXT)?;
        write_site_files(&shown, &caller.files)
            .advise(safe, "copy ca.pem, certificate.pem and key.pem of the authority there")?;
    }
    Ok(shown)
}

pub(super) fn authority(
    context: &Context<'_>,
    authority: Option<PathBuf>,
    data_dir: &Path,
) -> Result<(), Failure> {
    let (authority, dir) = open(context, authority, "there is no authority")?;
    let shown = show(&authority, data_dir, "the authority is made")?;
    context.output.object(&json!({ "authority": dir, "credentials": shown }));
    let files = dir.display();
    context.output.text(format_args!(
        "the authority is in {files}; what the service shows to pods is in {}",
        shown.display()
    ));
    context.output.text("for `coffer fleet control --authority` on a cluster:");
    context.output.text(format_args!(
        "  kubectl -n coffer create secret generic site-authority --from-file={files}/ca.pem --from-file={files}/ca.key --from-file={files}/certificate.pem"
    ));
    Ok(())
}

pub(super) fn enroll(
    context: &Context<'_>,
    name: &str,
    country: Country,
    out: &Path,
    authority: Option<PathBuf>,
    data_dir: &Path,
) -> Result<(), Failure> {
    let safe = "no pod was enrolled";
    let (authority, dir) = open(context, authority, safe)?;
    let pod = authority.enrol(country, context.entropy.as_ref()).advise(safe, NEXT)?;
    write_site_files(out, &pod.files)
        .advise("keys are never overwritten", "name a directory that does not exist yet with --out")?;
    let shown = show(&authority, data_dir, "the pod is enrolled")?;
    context.output.object(&json!({
        "site": name,
        "id": pod.site.to_string(),
        "files": out,
        "authority": dir,
        "credentials": shown,
    }));
    let files = out.display();
    context.output.text(format_args!("start it beside its disk, with the files in {files}:"));
    context.output.text(format_args!("  coffer-site create STORE --certificate {files}/certificate.pem"));
    context.output.text(format_args!(
        "  coffer-site serve --dir STORE --listen ADDRESS:7441 --certificate {files}/certificate.pem --key {files}/key.pem --receipt-key {files}/receipt.key --ca {files}/ca.pem --callers {files}/callers"
    ));
    context.output.text(format_args!("and put it into the site file:"));
    context.output.text(format_args!(
        "[[site]]\nname = \"{name}\"\ncountry = \"{country}\"\ndomain = \"WHAT FAILS TOGETHER\"\ntier = \"III\"\nid = \"{}\"\npod = \"https://ADDRESS:7441\"",
        pod.site
    ));
    context
        .output
        .text(format_args!("the authority is in {}; keep it off the service's machine", dir.display()));
    Ok(())
}
