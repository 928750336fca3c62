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

/// An authority, and where it is.
struct Opened {
    authority: SiteAuthority,
    dir: PathBuf,
    /// Whether it was made just now.
    new: bool,
}

impl Opened {
    /// The authority, a new one where there is none.
    fn at(context: &Context<'_>, authority: Option<PathBuf>, safe: &str) -> Result<Self, Failure> {
        let dir = authority.unwrap_or_else(|| context.profile.dir().join("site-authority"));
        let new = !dir.join(CA).exists();
        let authority = SiteAuthority::open_or_create(&dir).advise(safe, NEXT)?;
        Ok(Self { authority, dir, new })
    }

    /// For people.
    fn told(&self) -> String {
        let made = if self.new { "a new authority was made" } else { "the authority is" };
        format!("{made} in {}", self.dir.display())
    }
}

/// The certificate of an authority, beside its key and in what a service shows to pods.
const CA: &str = "ca.pem";
/// What a pod is given.
const POD_FILES: [&str; 3] = [CA, "certificate.pem", "key.pem"];
/// No certificate comes near. In bytes.
const CA_LIMIT: u64 = 64 << 10;

/// Where a service finds what it shows to pods.
struct Shown {
    dir: PathBuf,
    /// Whether a deployment is there.
    founded: bool,
}

impl Shown {
    /// Where it is, for a command that may be called from anywhere.
    fn of(data_dir: &Path) -> Result<Self, Failure> {
        let data_dir = std::path::absolute(data_dir)?;
        let founded = data_dir.join("topology.json").exists();
        Ok(Self { dir: data_dir.join("credentials").join("pods"), founded })
    }

    /// Writes it where there is none. What is of another authority is not touched, and opens no pod of this one.
    fn write(&self, authority: &SiteAuthority, safe: &str) -> Result<(), Failure> {
        let files = authority.caller().advise(safe, NEXT)?.files;
        if !self.dir.exists() {
            return write_site_files(&self.dir, &files)
                .advise(safe, "copy ca.pem, certificate.pem and key.pem of the authority there");
        }
        let there = crate::files::read_small(&self.dir.join(CA), CA_LIMIT)
            .map_err(|failure| failure.safe(safe).next("bring its files back, or remove the directory"))?;
        let own = files.iter().any(|(name, _, text)| *name == CA && text.as_bytes() == there);
        if own {
            return Ok(());
        }
        let what =
            format!("what the service shows to pods, in {}, is of another authority", self.dir.display());
        Err(Failure::new(what)
            .safe(safe)
            .next("name that authority with --authority, or another directory with --data-dir"))
    }

    fn told(&self) -> String {
        format!("what the service shows to pods is in {}", self.dir.display())
    }

    /// What to do where there is no deployment: before it is founded there, and in a wrong folder.
    fn told_where_nothing_is(&self) -> Option<String> {
        let place = self.dir.display();
        (!self.founded).then(|| {
            format!(
                "no deployment is there yet: found it there, or, where it is elsewhere, move {place} to credentials/pods in its data directory (else name that with --data-dir)"
            )
        })
    }
}

pub(super) fn authority(
    context: &Context<'_>,
    authority: Option<PathBuf>,
    data_dir: &Path,
) -> Result<(), Failure> {
    let opened = Opened::at(context, authority, "there is no authority")?;
    let shown = Shown::of(data_dir)?;
    shown.write(&opened.authority, "the authority is made")?;
    let (dir, files) = (&opened.dir, opened.dir.display());
    context.output.object(&json!({ "authority": dir, "credentials": shown.dir, "founded": shown.founded }));
    context.output.text(format_args!("{}; {}", opened.told(), shown.told()));
    shown.told_where_nothing_is().iter().for_each(|line| context.output.text(line));
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
    let taken = POD_FILES.map(|name| out.join(name));
    if let Some(taken) = taken.iter().find(|path| path.exists()) {
        return Err(Failure::new(format!("{} is there already", taken.display()))
            .safe("no pod was enrolled, and keys are never overwritten")
            .next("name a directory that does not exist yet with --out"));
    }
    let shown = Shown::of(data_dir)?;
    let opened = Opened::at(context, authority, safe)?;
    // First, so that nobody has the keys of a pod that its service cannot open.
    shown.write(&opened.authority, safe)?;
    let pod = opened.authority.enrol(country, context.entropy.as_ref()).advise(safe, NEXT)?;
    write_site_files(out, &pod.files)
        .advise("keys are never overwritten", "name a directory that does not exist yet with --out")?;
    context.output.object(&json!({
        "site": name,
        "id": pod.site.to_string(),
        "files": out,
        "authority": opened.dir,
        "credentials": shown.dir,
        "founded": shown.founded,
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
    context.output.text(format_args!("{}; keep it off the service's machine", opened.told()));
    context.output.text(shown.told());
    shown.told_where_nothing_is().iter().for_each(|line| context.output.text(line));
    Ok(())
}
