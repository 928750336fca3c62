//! `coffer tenant`: the keys of a tenant are made on its own machine.

use std::path::{Path, PathBuf};

use coffer_client::NewTenant;
use coffer_client::keys::{DEFAULT_COUNT, DEFAULT_THRESHOLD, RecoverySecret, split_for};
use coffer_client::profile::TenantProfile;
use coffer_custody::write_shares;
use coffer_model::ResidencyPolicy;
use serde_json::json;

use super::policy;
use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files;
use crate::flags::TenantCommand;

pub(super) async fn run(context: &Context<'_>, command: TenantCommand) -> Result<Exit, Failure> {
    let TenantCommand::Create { name, policy: flags, people_out } = command;
    let people = people_out.unwrap_or_else(|| context.profile.dir().join("people"));
    let (tenant, shares) = create(context, &name, policy::of(flags), &people).await?;
    let paths: Vec<String> = shares.iter().map(|path| path.display().to_string()).collect();
    context.output.object(&json!({
        "tenant": tenant.identity().tenant,
        "name": name,
        "log_origin": tenant.identity().log_origin,
        "log_key": tenant.identity().log_key,
        "recovery_shares": paths,
        "recovery_threshold": DEFAULT_THRESHOLD,
    }));
    context.output.text(format_args!("created tenant {name} ({})", tenant.identity().tenant));
    context.output.text(format_args!(
        "its recovery key is split {DEFAULT_THRESHOLD} of {DEFAULT_COUNT}; hand these files to five people and delete them here:"
    ));
    paths.iter().for_each(|path| context.output.text(format_args!("  {path}")));
    Ok(Exit::Success)
}

/// Creates the tenant, enters it into the profile, and writes the shares of
/// its recovery key, whose secret half exists only in them from then on.
pub(super) async fn create(
    context: &Context<'_>,
    name: &str,
    policy: ResidencyPolicy,
    people: &Path,
) -> Result<(TenantProfile, Vec<PathBuf>), Failure> {
    if context.profile.tenant(Some(name)).is_ok() {
        return Err(Failure::usage(format!("this profile already has a tenant {name}"))
            .next("choose another name, or another directory with --config-dir"));
    }
    let client = context.operator().await?;
    let entropy = context.entropy.as_ref();
    let secret = RecoverySecret::generate(entropy);
    let purpose = "coffer tenant recovery key";
    let shares = split_for(purpose, secret.danger_expose(), DEFAULT_THRESHOLD, DEFAULT_COUNT, entropy)?;
    files::make_directory(people)?;
    // Before the tenant: a tenant whose recovery shares were never written
    // would look recoverable and not be.
    let paths = write_shares(people, &format!("tenant-{}", plain(name)), &shares)
        .advise("no tenant was created", "move the old share files away, or name another --people-out")?;
    let new = NewTenant { name: name.to_owned(), policy };
    let granted = client.create_tenant(&new, entropy).await;
    let grant = granted.advise(
        "no tenant was created; the share files that were written belong to no key in use",
        "delete the share files and try again",
    )?;
    let tenant = context.profile.save_tenant(name, &grant, Some(&secret.public_key()))?;
    Ok((tenant, paths))
}

/// The part of a name that is good in a file's name.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}
