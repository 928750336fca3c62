//! The reader that restores when provider and program are gone: a program of
//! somebody else's, told what to do as `client/READER.md` says, with an empty
//! environment and nothing at hand but copies of the disks and the people's
//! shares.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use coffer_client::drill::{OtherReader, OtherReaderError, OtherReport};
use coffer_client::profile::write_atomically;
use serde_json::Value;

use super::left::Left;
use crate::exit::Failure;
use crate::files;
use crate::flags::LeftFlags;

/// Where a reader finds the programs of its system, and none of ours.
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What of a reader's words is kept, in bytes.
const WORDS_MAX: usize = 400;

/// A reader with what it is given.
pub(super) struct Reader {
    program: PathBuf,
    arguments: Vec<OsString>,
    sites: PathBuf,
    keys: PathBuf,
    tenant_shares: Vec<PathBuf>,
    bucket: String,
    directory: PathBuf,
}

impl Reader {
    /// The ceremony: the custodians' shares become the keys of this tenant.
    /// With its end the provider is not needed any more.
    pub(super) async fn prepare(
        left: &mut Left,
        tenant: &str,
        bucket: &str,
        flags: &LeftFlags,
    ) -> Result<Self, Failure> {
        let program = flags.reader.clone().ok_or_else(|| {
            Failure::usage("no reader was named").next("name a program with --reader, see client/READER.md")
        })?;
        if flags.tenant_shares.is_empty() || flags.provider_shares.is_empty() {
            return Err(Failure::usage("an exit begins with the shares of both quorums")
                .next("bring them with --provider-share and --tenant-share"));
        }
        let absolute =
            |paths: &[PathBuf]| paths.iter().map(|path| files::absolute(path)).collect::<Result<Vec<_>, _>>();
        let provider_shares = absolute(&flags.provider_shares)?;
        let reader = Self {
            program: if program.components().count() > 1 { absolute_program(&program)? } else { program },
            arguments: flags.reader_args.iter().map(|text| argument(text)).collect(),
            sites: files::absolute(&left.sites_dir())?,
            keys: files::absolute(&left.data())?.join("tenant-keys.json"),
            tenant_shares: absolute(&flags.tenant_shares)?,
            bucket: bucket.to_owned(),
            directory: files::absolute(&left.data())?,
        };
        let mut command = reader.command("keys");
        command.arg("--tenant").arg(tenant).arg("--share").args(provider_shares);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        if !output.status.success() {
            return Err(Failure::new(format!(
                "the reader did not open the tenant's keys: {}",
                words(&output)
            ))
            .safe("the copies of the sites were only read")
            .next("bring the shares of more custodians"));
        }
        write_atomically(&reader.keys, &output.stdout)?;
        left.timeline.end_phase("keys", 0);
        Ok(reader)
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(what).arg("--sites").arg(&self.sites);
        command.env_clear().env("PATH", SYSTEM_PATH).current_dir(&self.directory).stdin(Stdio::null());
        command
    }

    /// What the record says of it.
    pub(super) fn facts(&self, (kept, all): (usize, usize)) -> Result<Vec<String>, Failure> {
        let how = format!(
            "another program restored from copies of the disks of {kept} of {all} sites, with an empty environment and without asking any service"
        );
        Ok(vec![how, self.described()?])
    }

    /// The last part of its name and a digest: no path of this machine.
    fn described(&self) -> Result<String, Failure> {
        let script = self.arguments.first().map_or(self.program.as_path(), Path::new);
        let script = if script.exists() { script } else { self.program.as_path() };
        let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let digest = if script.exists() { files::digest_of(script)? } else { "not known".to_owned() };
        Ok(format!("the reader is \"{name}\", BLAKE3 of its files {digest}"))
    }
}

/// A path of this machine made absolute, a word left as it is: the reader
/// works in another directory.
fn argument(text: &str) -> OsString {
    let path = Path::new(text);
    if path.exists() { files::absolute(path).map_or_else(|_| text.into(), Into::into) } else { text.into() }
}

/// The program by its own name: a link to an interpreter must stay the link,
/// for where it lies says which libraries it has.
fn absolute_program(program: &Path) -> Result<PathBuf, Failure> {
    let folder = program.parent().unwrap_or_else(|| Path::new("."));
    Ok(files::absolute(folder)?.join(program.file_name().unwrap_or_default()))
}

/// What a reader said last.
fn words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.trim().lines().last().unwrap_or("it said nothing").to_owned();
    last.chars().take(WORDS_MAX).collect()
}

#[async_trait::async_trait]
impl OtherReader for Reader {
    async fn restore(&self, snapshot: &str, target: &Path) -> Result<OtherReport, OtherReaderError> {
        let target = std::path::absolute(target).map_err(OtherReaderError::Run)?;
        let mut command = self.command("restore");
        command.arg("--keys").arg(&self.keys).args(["--bucket", &self.bucket, "--snapshot", snapshot]);
        command.arg("--target").arg(target).arg("--tenant-share").args(&self.tenant_shares);
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.map_err(|error| OtherReaderError::Run(error.into()))?;
        let output = output.map_err(OtherReaderError::Run)?;
        match output.status.code() {
            Some(0) => {}
            Some(3) => return Err(OtherReaderError::TooFew(words(&output))),
            Some(4) => return Err(OtherReaderError::Damaged(words(&output))),
            _ => return Err(OtherReaderError::Refused(words(&output))),
        }
        let told: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| OtherReaderError::Refused(error.to_string()))?;
        let number = |name: &str| told.get(name).and_then(Value::as_u64).unwrap_or_default();
        Ok(OtherReport { entries: number("entries"), bytes: number("bytes") })
    }
}
