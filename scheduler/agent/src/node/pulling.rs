//! The image of a pod, before its container starts: what is here is taken; what
//! is not is pulled, if the pod and the operator of the node let it be.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Container, Secret};
use kube::Api;
use zeroize::Zeroizing;

use super::Context;
use super::record::PodRecord;
use crate::image::{Image, ImageError, ImageReference, Wanted};
use crate::pull::{Login, PullError, Source, login, place};

/// The reason, in a status, of an image that could not be had.
pub(super) const FAILED: &str = "ErrImagePull";
/// And of one that is waited for before it is asked for again.
pub(super) const BACK_OFF: &str = "ImagePullBackOff";

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoImage {
    /// Its name is none.
    #[error(transparent)]
    Name(ImageError),
    /// It is not here, and the pod does not want it to be pulled.
    #[error("image {0:?} is not on this node, and the pod says that it is never pulled")]
    Never(String),
    /// It could not be pulled.
    #[error("Failed to pull image {0:?}: {1}")]
    Pull(String, PullError),
    /// What is here of it cannot be run.
    #[error(transparent)]
    Here(ImageError),
    /// The agent was interrupted.
    #[error("the agent was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl NoImage {
    /// The word of a kubelet for it.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Name(_) => "InvalidImageName",
            Self::Never(_) => "ErrImageNeverPull",
            Self::Pull(..) | Self::Here(_) => FAILED,
            Self::Interrupted(_) => "CreateContainerConfigError",
        }
    }
}

/// Keeps the images that the pod names from being removed, as long as what is returned is held.
pub(super) fn want(context: &Context, record: &PodRecord) -> Vec<Wanted> {
    let containers = record.pod.spec.iter().flat_map(|spec| &spec.containers);
    let named = containers.filter_map(|container| ImageReference::parse(container.image.as_deref()?).ok());
    named.map(|reference| context.images.want(&reference)).collect()
}

/// Makes the image of the pod's container ready.
pub(super) async fn image(
    context: &Arc<Context>,
    record: &PodRecord,
    container: &Container,
) -> Result<Image, NoImage> {
    let text = container.image.clone().unwrap_or_default();
    let reference = ImageReference::parse(&text).map_err(NoImage::Name)?;
    let policy = container.image_pull_policy.as_deref();
    let remote = place::has_registry(&reference);
    let here = ready(context, &reference).await?;
    let absent = match here {
        Ok(image) if policy != Some("Always") || context.puller.source(&reference).is_err() => {
            if remote && record.started_unix_ms.is_none() {
                let message = format!("Container image {text:?} already present on machine");
                context.note(record, "Normal", "Pulled", &message);
            }
            return Ok(image);
        }
        Ok(_) => None,
        Err(error @ (ImageError::Absent(_) | ImageError::Forged { .. })) => Some(error),
        Err(error) => return Err(NoImage::Here(error)),
    };
    match absent {
        Some(_) if policy == Some("Never") => return Err(NoImage::Never(text)),
        Some(error) if !remote => return Err(NoImage::Here(error)),
        // What is here is spoiled, and nobody may be asked: that is what somebody must mend.
        Some(error @ ImageError::Forged { .. }) if context.puller.source(&reference).is_err() => {
            return Err(NoImage::Here(error));
        }
        _ => {}
    }
    pull(context, record, &reference, policy == Some("Always"))
        .await
        .map_err(|error| NoImage::Pull(text, error))?;
    ready(context, &reference).await?.map_err(NoImage::Here)
}

async fn ready(
    context: &Arc<Context>,
    reference: &ImageReference,
) -> Result<Result<Image, ImageError>, tokio::task::JoinError> {
    let (context, reference) = (Arc::clone(context), reference.clone());
    tokio::task::spawn_blocking(move || context.images.ready(&reference)).await
}

async fn pull(
    context: &Arc<Context>,
    record: &PodRecord,
    reference: &ImageReference,
    ask: bool,
) -> Result<(), PullError> {
    let source = context.puller.source(reference)?;
    let text = format!("{}@{}", reference.name, reference.digest);
    context.note(record, "Normal", "Pulling", &format!("Pulling image {text:?}"));
    let login = match of_pod(context, record, &source).await {
        Some(login) => Some(login),
        None => {
            let node = Arc::clone(context);
            let found = tokio::task::spawn_blocking(move || node.puller.login(&source)).await;
            found.map_err(|error| PullError::Process(std::io::Error::other(error)))??
        }
    };
    let begun = tokio::time::Instant::now();
    let pulled = context.puller.pull(reference, login, ask).await?;
    let message = format!(
        "Successfully pulled image {text:?} in {} ms: {} bytes, {} of them from the registry",
        begun.elapsed().as_millis(),
        pulled.bytes,
        pulled.came
    );
    context.note(record, "Normal", "Pulled", &message);
    Ok(())
}

/// The login that the pod brings. As with a kubelet, a secret that cannot be had
/// is told and passed over: the registry says whether it was needed.
async fn of_pod(context: &Context, record: &PodRecord, source: &Source) -> Option<Login> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), record.namespace());
    let named = record.pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    for name in named.map(|reference| reference.name.as_str()).filter(|name| !name.is_empty()) {
        let unusable = |why: &dyn std::fmt::Display| {
            let message = format!("imagePullSecret {name:?} cannot be used: {why}");
            context.note(record, "Warning", "FailedToRetrieveImagePullSecret", &message);
        };
        let secret = match secrets.get(name).await {
            Ok(secret) => secret,
            Err(error) => {
                unusable(&error);
                continue;
            }
        };
        let list = secret.data.and_then(|mut data| data.remove(login::KEY));
        let Some(ByteString(list)) = list.filter(|_| secret.type_.as_deref() == Some(login::KIND)) else {
            unusable(&format!("it is not of the type {}", login::KIND));
            continue;
        };
        match Login::find(&Zeroizing::new(list), source) {
            Ok(Some(login)) => return Some(login),
            Ok(None) => {}
            Err(error) => unusable(&error),
        }
    }
    None
}
