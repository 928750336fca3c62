//! `coffer bucket`.

use coffer_client::BucketInfo;
use serde_json::{Value, json};

use super::policy;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::{BucketCommand, BucketPolicyCommand};

fn object(bucket: &BucketInfo) -> Value {
    json!({
        "bucket": bucket.name.as_str(),
        "id": bucket.id.to_string(),
        "created": bucket.created.to_string(),
        "policy": policy::object(&bucket.policy),
    })
}

pub(super) async fn run(context: &Context<'_>, command: BucketCommand) -> Result<Exit, Failure> {
    let (client, _) = context.tenant().await?;
    match command {
        BucketCommand::Create { name, own_policy, policy: flags } => {
            // Any wish is one for a policy of its own, with or without the flag.
            let own = own_policy || flags.any();
            let chosen = policy::of(flags);
            let bucket = client.create_bucket(&name, own.then_some(&chosen)).await?;
            context.output.object(&object(&bucket));
            context.output.text(format_args!("created bucket {name}: {}", policy::text(&bucket.policy)));
        }
        BucketCommand::Ls => {
            for bucket in client.list_buckets().await? {
                context.output.object(&object(&bucket));
                let policy = policy::text(&bucket.policy);
                context.output.text(format_args!(
                    "{:<32} {}  {policy}",
                    bucket.name.as_str(),
                    bucket.created
                ));
            }
        }
        BucketCommand::Policy(BucketPolicyCommand::Set { name, policy: flags }) => {
            let bucket = client.set_bucket_policy(&name, &policy::of(flags)).await?;
            context.output.object(&object(&bucket));
            let text = policy::text(&bucket.policy);
            context.output.text(format_args!("bucket {name} is under another policy: {text}"));
            context.output.remark("what lies elsewhere moves with the next repair: `coffer repair run`");
        }
        BucketCommand::Rm { name } => {
            client.remove_bucket(&name).await?;
            context.output.object(&json!({ "removed": name.as_str() }));
            context.output.text(format_args!("removed bucket {name}"));
        }
    }
    Ok(Exit::Success)
}
