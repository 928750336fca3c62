//! `coffer site enroll`: the certificate and the keys of a new pod. A local
//! command: the site authority is a directory of the operator's.

use std::path::{Path, PathBuf};

use coffer_model::Country;
use coffer_server::{SiteAuthority, write_site_files};
use serde_json::json;

use crate::context::Context;
use crate::exit::{Advise as _, Failure};

pub(super) fn enroll(
    context: &Context<'_>,
    name: &str,
    country: Country,
    out: &Path,
    authority: Option<PathBuf>,
    data_dir: &Path,
) -> Result<(), Failure> {
    let dir = authority.unwrap_or_else(|| context.profile.dir().join("site-authority"));
    let safe = "no pod was enrolled";
    let next = "name an authority's directory, or one that does not exist yet, with --authority";
    let authority = SiteAuthority::open_or_create(&dir).advise(safe, next)?;
    let pod = authority.enrol(country, context.entropy.as_ref()).advise(safe, next)?;
    write_site_files(out, &pod.files)
        .advise("keys are never overwritten", "name a directory that does not exist yet with --out")?;
    let caller = authority.caller().advise(safe, next)?;
    let shown = data_dir.join("credentials").join("pods");
    if !shown.exists() {
        write_site_files(&shown, &caller.files).advise(
            "the pod is enrolled",
            "copy ca.pem, certificate.pem and key.pem of the authority there",
        )?;
    }
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
