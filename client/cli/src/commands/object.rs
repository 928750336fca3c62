//! `coffer object`.

use std::collections::BTreeSet;
use std::path::Path;

use coffer_client::backup::Progress as _;
use coffer_client::{Client, ObjectInfo, PIECE_BYTES, ReadTerms};
use coffer_model::escape_bytes;
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files::{self, Sink};
use crate::flags::{ByteRange, Metadata, ObjectAddress, ObjectCommand};
use crate::output::bytes_text;
use crate::progress::Bars;

fn object(info: &ObjectInfo) -> Value {
    json!({
        "key": escape_bytes(info.key.as_bytes()),
        "version": info.version.to_string(),
        "size": info.size,
        "created": info.created.to_string(),
        "blake3": info.content_blake3.to_string(),
        "metadata": info.metadata,
    })
}

pub(super) async fn run(context: &Context<'_>, command: ObjectCommand) -> Result<Exit, Failure> {
    if let ObjectCommand::Put { metadata, .. } = &command {
        refuse_repeated(metadata)?;
    }
    let (client, _) = context.tenant().await?;
    match command {
        ObjectCommand::Put { file, object, metadata } => {
            put(context, &client, &file, &object, metadata).await
        }
        ObjectCommand::Get { object, range, as_of, output } => {
            let terms = ReadTerms { as_of, ..ReadTerms::default() };
            get(context, &client, &object, range, &terms, &output).await
        }
        ObjectCommand::Ls { prefix: (bucket, prefix) } => {
            let mut after = Vec::new();
            loop {
                let (page, more) = client.list_page(&bucket, &prefix, &after).await?;
                for info in &page {
                    context.output.object(&object(info));
                    context.output.text(format_args!("{:>14}  {}  {}", info.size, info.created, info.key));
                }
                match page.last() {
                    Some(last) if more && last.key.as_bytes() > after.as_slice() => {
                        after = last.key.as_bytes().to_vec();
                    }
                    _ => return Ok(Exit::Success),
                }
            }
        }
        ObjectCommand::Stat { object: address, shards: true, verify } => {
            super::repair::stat_shards(context, &client, &address, verify).await
        }
        ObjectCommand::Stat { object: address, shards: false, .. } => stat(context, &client, &address).await,
        ObjectCommand::Rm { object } => {
            let removed = client.delete(&object.bucket, &object.key).await?;
            let (version, seq) = (removed.version.to_string(), removed.audit_seq);
            context.output.object(&json!({ "deleted": version, "audit_seq": seq }));
            context.output.text(format_args!("deleted {} (version {version})", object.key));
            Ok(Exit::Success)
        }
    }
}

/// Describes an object and where it should lie.
async fn stat(context: &Context<'_>, client: &Client, address: &ObjectAddress) -> Result<Exit, Failure> {
    let placed = client.stat(&address.bucket, &address.key).await?;
    let mut value = object(&placed.object);
    value["geometry"] = json!(placed.geometry);
    value["sites"] = json!(placed.sites);
    context.output.object(&value);
    let info = &placed.object;
    context
        .output
        .text(format_args!("key       {}\nversion   {}\nsize      {}", info.key, info.version, info.size));
    context.output.text(format_args!("created   {}\nblake3    {}", info.created, info.content_blake3));
    context.output.text(format_args!("geometry  {}\nsites     {}", placed.geometry, placed.sites.join(" ")));
    for (key, value) in &info.metadata {
        let (key, value) = (escape_bytes(key.as_bytes()), escape_bytes(value.as_bytes()));
        context.output.text(format_args!("meta      {key}={value}"));
    }
    Ok(Exit::Success)
}

/// Of two values of one key only one could be kept, silently.
fn refuse_repeated(metadata: &[Metadata]) -> Result<(), Failure> {
    let mut keys = BTreeSet::new();
    match metadata.iter().find(|(key, _)| !keys.insert(key)) {
        None => Ok(()),
        Some((key, _)) => {
            let key = escape_bytes(key.as_bytes());
            Err(Failure::usage(format!("--meta gives the key \"{key}\" twice"))
                .next("give each key one value"))
        }
    }
}

async fn put(
    context: &Context<'_>,
    client: &Client,
    file: &Path,
    to: &ObjectAddress,
    metadata: Vec<Metadata>,
) -> Result<Exit, Failure> {
    use tokio_stream::StreamExt as _;
    let bars = Bars::new(context.output);
    bars.stage("put", std::fs::metadata(file).ok().map(|meta| meta.len()), None);
    let counted = std::sync::Arc::clone(&bars);
    let source = files::pieces(file, PIECE_BYTES)?.map(move |piece| {
        if let Ok(bytes) = &piece {
            counted.advance(u64::try_from(bytes.len()).unwrap_or(0), 0);
        }
        piece
    });
    let done = client.put(&to.bucket, &to.key, metadata.into_iter().collect(), source).await.advise(
        "an older version of the object, if there is one, is untouched",
        "mend the cause and run it again",
    )?;
    bars.finish();
    let mut value = object(&done.object);
    value["audit_seq"] = json!(done.audit_seq);
    value["reduced_by"] = json!(done.reduced_by);
    context.output.object(&value);
    context.output.text(format_args!("stored {} ({})", done.object.key, bytes_text(done.object.size)));
    if done.reduced_by > 0 {
        context.output.remark(format_args!(
            "warning: {} shards short of the promise until it is repaired",
            done.reduced_by
        ));
    }
    Ok(Exit::Success)
}

async fn get(
    context: &Context<'_>,
    client: &Client,
    from: &ObjectAddress,
    range: Option<ByteRange>,
    terms: &ReadTerms,
    output: &Path,
) -> Result<Exit, Failure> {
    let range = match range {
        None => None,
        // The last byte may be left out, or lie past the end.
        Some(ByteRange { start, end }) => {
            let size = client.stat_at(&from.bucket, &from.key, terms.as_of).await?.object.size;
            Some(start..end.min(size).max(start))
        }
    };
    let (info, mut body) = client.get_on(&from.bucket, &from.key, range, terms).await?;
    let bars = Bars::new(context.output);
    bars.stage("get", Some(body.expected_bytes()), None);
    let mut sink = Sink::open(output)?;
    loop {
        let piece = body.next().await.advise(
            "what was written is right but not whole; no file of this name was left",
            "run it again; if it fails again, `coffer object stat` shows where the object lies",
        )?;
        let Some(piece) = piece else { break };
        let written = sink.write(&piece);
        if written.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
            // The reader had enough; it knows that this was not the whole.
            return Ok(Exit::Failure);
        }
        written?;
        bars.advance(u64::try_from(piece.len()).unwrap_or(0), 0);
    }
    sink.finish()?;
    bars.finish();
    if output != Path::new("-") {
        context.output.object(&object(&info));
        context.output.text(format_args!(
            "wrote {} to {}",
            bytes_text(body.expected_bytes()),
            output.display()
        ));
    }
    Ok(Exit::Success)
}
