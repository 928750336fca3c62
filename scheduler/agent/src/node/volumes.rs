//! The volumes of a pod, and its user: directories made, filled, and handed over.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Volume as PodVolume};
use kube::Api;

use super::Context;
use super::record::PodRecord;
use crate::confine::Volume;
use crate::confine::mounts::hand_over;
use crate::{Layer, disk, files};

/// Why a pod's volumes are not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// A kind of volume that this agent does not know, or a path that leads out.
    #[error(
        "volume {0:?} is refused: a hostPath must be relative to the node's data, and else only emptyDir, secret and configMap are known"
    )]
    Refused(String),
    /// The container mounts what the pod does not have.
    #[error("the container mounts volume {0:?}, which the pod does not have")]
    Unknown(String),
    /// Another pod has the data, and has not ended yet.
    #[error("another pod on this node has the data; this one waits until it has ended")]
    InUse,
    /// Every user id of this node is taken.
    #[error("this node has no user id left for the pod")]
    Users,
    /// A secret or a map of settings could not be had.
    #[error("{kind} {name:?} cannot be had: {cause}")]
    Api {
        /// Which kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why.
        cause: Box<kube::Error>,
    },
    /// The data directory has no size.
    #[error(transparent)]
    Disk(#[from] disk::DiskError),
    /// The disk failed.
    #[error("the disk failed: {0}")]
    Io(#[from] io::Error),
}

/// The directories of a pod's volumes that outlive it.
pub(crate) fn data_directories(context: &Context, record: &PodRecord) -> Result<Vec<PathBuf>, VolumeError> {
    let volumes = record.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let host = volumes.filter_map(|volume| volume.host_path.as_ref().map(|host| (volume, host)));
    host.map(|(volume, host)| {
        context.places.data_of(&host.path).ok_or_else(|| VolumeError::Refused(volume.name.clone()))
    })
    .collect()
}

/// Makes every volume of the pod ready, and gives it to a user of the pod's own.
pub(crate) async fn prepare(context: &Context, record: &mut PodRecord) -> Result<Vec<Volume>, VolumeError> {
    let data = data_directories(context, record)?;
    if !context.claims.take(&data, record.uid()) {
        return Err(VolumeError::InUse);
    }
    if record.user.is_none() {
        record.user = Some(context.users.take(data.first().map(PathBuf::as_path)).ok_or(VolumeError::Users)?);
        record.save(&context.places)?;
    }
    let user = record.user.unwrap_or_default();
    let size = super::describe::disk_bytes(&record.pod).filter(|_| sized(context));
    for directory in data {
        tokio::task::spawn_blocking(move || -> Result<(), VolumeError> {
            match size {
                Some(bytes) => disk::mount_sized(&directory, bytes)?,
                None => files::make_dirs(&directory, 0o711)?,
            }
            Ok(give(&directory, user)?)
        })
        .await
        .map_err(io::Error::other)??;
    }
    let mut mounted = Vec::new();
    let spec = record.pod.spec.clone().unwrap_or_default();
    let volumes = spec.volumes.unwrap_or_default();
    let container = spec.containers.into_iter().next().unwrap_or_default();
    for mount in container.volume_mounts.unwrap_or_default() {
        let volume = volumes.iter().find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| VolumeError::Unknown(mount.name.clone()))?;
        let (source, may_write) = source(context, record, volume, user).await?;
        let writable = may_write && !mount.read_only.unwrap_or(false);
        mounted.push(Volume { source, target: mount.mount_path.into(), writable });
    }
    Ok(mounted)
}

/// Whether a declared size becomes a file system of that size.
pub(crate) fn sized(context: &Context) -> bool {
    context.config.sized_disks && context.probe.had().has(Layer::Disk)
}

async fn source(
    context: &Context,
    record: &PodRecord,
    volume: &PodVolume,
    user: u32,
) -> Result<(PathBuf, bool), VolumeError> {
    let refused = || VolumeError::Refused(volume.name.clone());
    // The name is one label, so that it cannot be a path.
    if volume.name.is_empty()
        || !volume.name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    {
        return Err(refused());
    }
    if let Some(host) = &volume.host_path {
        return Ok((context.places.data_of(&host.path).ok_or_else(refused)?, true));
    }
    let directory = context.places.pod(record.uid()).join("volumes").join(&volume.name);
    if volume.empty_dir.is_some() {
        files::make_dirs(&directory, 0o711)?;
        hand_over(&directory, user, 0o700)?;
        return Ok((directory, true));
    }
    let content = match (&volume.secret, &volume.config_map) {
        (Some(secret), _) => {
            secret_content(context, record, &secret.secret_name.clone().ok_or_else(refused)?).await
        }
        (_, Some(map)) => map_content(context, record, &map.name).await,
        _ => return Err(refused()),
    };
    match content {
        Ok(content) => fill(&directory, &content, user)?,
        // Without the API a pod that was here before has what it had.
        Err(_) if directory.is_dir() => {}
        Err(error) => return Err(error),
    }
    Ok((directory, false))
}

async fn secret_content(
    context: &Context,
    record: &PodRecord,
    name: &str,
) -> Result<BTreeMap<String, Vec<u8>>, VolumeError> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), record.namespace());
    let failed = |cause| VolumeError::Api { kind: "secret", name: name.to_owned(), cause: Box::new(cause) };
    let secret = secrets.get(name).await.map_err(failed)?;
    Ok(secret.data.unwrap_or_default().into_iter().map(|(key, ByteString(value))| (key, value)).collect())
}

async fn map_content(
    context: &Context,
    record: &PodRecord,
    name: &str,
) -> Result<BTreeMap<String, Vec<u8>>, VolumeError> {
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), record.namespace());
    let failed =
        |cause| VolumeError::Api { kind: "configMap", name: name.to_owned(), cause: Box::new(cause) };
    let map = maps.get(name).await.map_err(failed)?;
    let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, ByteString(value))| (key, value));
    Ok(text.chain(binary).collect())
}

fn fill(directory: &Path, content: &BTreeMap<String, Vec<u8>>, user: u32) -> io::Result<()> {
    files::make_dirs(directory, 0o711)?;
    if !rustix::process::geteuid().is_root() {
        // The agent is the pod's user then, and closed it the last time to itself.
        files::open_up(directory)?;
    }
    for name in files::names(directory)?.into_iter().filter(|name| !content.contains_key(name)) {
        std::fs::remove_file(directory.join(name))?;
    }
    for (name, bytes) in content {
        // Kubernetes' own rule for keys; it has no slash in it.
        let plain =
            !name.starts_with("..") && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
        if plain && name != "." {
            let path = directory.join(name);
            files::swap(&path, bytes, 0o400)?;
            hand_over(&path, user, 0o400)?;
        }
    }
    hand_over(directory, user, 0o500)
}

/// Gives a directory to the pod's user, and all in it if it was another's: no
/// link is followed, because another pod may have written it.
fn give(directory: &Path, user: u32) -> io::Result<()> {
    let before = std::fs::symlink_metadata(directory)?.uid();
    hand_over(directory, user, 0o700)?;
    if before != user && rustix::process::geteuid().is_root() {
        give_content(directory, user)?;
    }
    Ok(())
}

fn give_content(directory: &Path, user: u32) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        std::os::unix::fs::lchown(entry.path(), Some(user), Some(user))?;
        if entry.file_type()?.is_dir() {
            give_content(&entry.path(), user)?;
        }
    }
    Ok(())
}
