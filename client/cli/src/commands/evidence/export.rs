//! `coffer evidence export`: gather, report, sign, write.

use std::path::Path;

use coffer_client::Client;
use coffer_client::evidence::{Draft, Files, bill_of_materials};
use coffer_client::profile::{TenantProfile, write_atomically};
use coffer_client::report::Report;

use crate::commands::report::{Material, material, tell};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::flags::MaterialFlags;

/// What this program was built with.
const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"));

pub(super) async fn run(context: &Context<'_>, out: &Path, flags: &MaterialFlags) -> Result<Exit, Failure> {
    files::make_empty_directory(out)?;
    let (client, tenant) = context.tenant().await?;
    let gathered = material(context, &client, &tenant, flags).await?;
    let mut draft = draft(&tenant, &gathered)?;
    sign_reports(&client, &mut draft).await?;
    let (manifest, statement) = draft.manifest()?;
    let signed = client.sign_statement(statement).await?;
    write(out, draft.finish(manifest, signed.envelope))?;
    let report = Report::new(&gathered.material);
    tell(context, &report, out);
    context.output.text(format_args!(
        "verify   coffer evidence verify {} --key '{}'",
        out.display(),
        tenant.log_key()?
    ));
    Ok(Exit::Success)
}

fn draft(tenant: &TenantProfile, gathered: &Material) -> Result<Draft, Failure> {
    let bom = bill_of_materials(LOCK)?;
    Ok(Draft::new(&gathered.material, &tenant.log_key()?, &gathered.ca_pem, bom)?)
}

/// Has the service sign each OSCAL file.
async fn sign_reports(client: &Client, draft: &mut Draft) -> Result<(), Failure> {
    for (path, statement) in draft.to_sign()? {
        let signed = client.sign_statement(statement).await?;
        draft.signed(&path, signed.envelope);
    }
    Ok(())
}

fn write(out: &Path, files: Files) -> Result<(), Failure> {
    for (path, bytes) in files {
        write_atomically(&out.join(path), &bytes)?;
    }
    Ok(())
}
