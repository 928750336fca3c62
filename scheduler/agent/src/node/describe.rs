//! From a pod of Kubernetes to a container of the runtime: what is understood
//! is taken, and what would change its meaning if it were ignored is refused.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container as PodContainer, Pod};

use super::Context;
use super::quantity::Quantity;
use super::record::PodRecord;
use crate::confine::{Program, Root, Volume};
use crate::image::Image;
use crate::layer::Layers;
use crate::network::{Egress, EgressError};
use crate::runtime::{Container, ContainerIdError, Limits};

/// Grows whenever the pod's place changes hands.
const EPOCH: &str = "fleet.coffer/epoch";
/// Where the pod connects to.
const EGRESS: &str = "fleet.coffer/egress";

/// Why a pod is not one that this agent can run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DescribeError {
    /// It has more, or fewer, than one container.
    #[error("a storage pod has one container and no init containers; this one has {0} and {1}")]
    Containers(usize, usize),
    /// It has no program.
    #[error("neither the image nor the pod names a program")]
    NoProgram,
    /// It would share what a pod must not share.
    #[error("hostPID, hostIPC, privileged containers and added capabilities are refused")]
    Privileged,
    /// A port is no port.
    #[error("port {0} is none")]
    Port(i32),
    /// A destination is none.
    #[error("annotation {EGRESS}: {0}")]
    Egress(#[from] EgressError),
    /// The epoch is no number.
    #[error("annotation {EPOCH} is no number: {0:?}")]
    Epoch(String),
    /// An environment variable comes from where this agent does not look.
    #[error(
        "environment variable {0:?} has a source that is not understood; fieldRef and literal values are"
    )]
    Environment(String),
    /// The uid of the pod is no name.
    #[error(transparent)]
    Id(#[from] ContainerIdError),
}

/// What a pod declares, checked before anything is done for it.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub container: PodContainer,
    pub listen: Vec<u16>,
    pub egress: Vec<Egress>,
    pub epoch: u64,
    pub host_network: bool,
}

pub(crate) fn declared(pod: &Pod) -> Result<Declared, DescribeError> {
    let spec = pod.spec.clone().unwrap_or_default();
    let inits = spec.init_containers.as_ref().map_or(0, Vec::len);
    let count = spec.containers.len();
    let Some(container) = spec.containers.into_iter().next().filter(|_| count == 1 && inits == 0) else {
        return Err(DescribeError::Containers(count, inits));
    };
    let security = container.security_context.clone().unwrap_or_default();
    let added = security.capabilities.and_then(|capabilities| capabilities.add).unwrap_or_default();
    let shares = spec.host_pid.unwrap_or(false) || spec.host_ipc.unwrap_or(false);
    if shares || security.privileged.unwrap_or(false) || !added.is_empty() {
        return Err(DescribeError::Privileged);
    }
    let ports =
        container.ports.iter().flatten().filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let number =
        |port: i32| u16::try_from(port).ok().filter(|port| *port != 0).ok_or(DescribeError::Port(port));
    let listen = ports.map(|port| number(port.container_port)).collect::<Result<_, _>>()?;
    let annotation = |name: &str| pod.metadata.annotations.as_ref().and_then(|all| all.get(name));
    let egress = Egress::parse(annotation(EGRESS).map_or("", String::as_str))?;
    let epoch = match annotation(EPOCH) {
        Some(text) => text.parse().map_err(|_| DescribeError::Epoch(text.clone()))?,
        None => 0,
    };
    Ok(Declared { container, listen, egress, epoch, host_network: spec.host_network.unwrap_or(false) })
}

/// The container of the pod's present attempt.
pub(crate) fn container(
    context: &Context,
    record: &PodRecord,
    declared: &Declared,
    image: Image,
    volumes: Vec<Volume>,
) -> Result<Container, DescribeError> {
    let network = record.network.as_ref();
    // Where a pod has a network of its own its rules know addresses; ports alone
    // would forbid what they allow only if a destination has no port.
    let any_port = declared.egress.iter().any(|egress| egress.port.is_none());
    let ports = declared.egress.iter().filter_map(|egress| egress.port).collect();
    Ok(Container {
        id: record.container()?,
        hostname: record.name().chars().take(63).collect(),
        program: program(context, record, &declared.container, &image)?,
        root: image.root,
        volumes,
        uid: record.user.unwrap_or(65_534),
        limits: limits(&record.pod, &declared.container),
        listen: declared.listen.clone(),
        connect: if any_port { None } else { Some(ports) },
        network: network.map(crate::network::PodNetwork::path),
        without: Layers::none(),
    })
}

fn program(
    context: &Context,
    record: &PodRecord,
    container: &PodContainer,
    image: &Image,
) -> Result<Program, DescribeError> {
    let env = environment(context, record, container, image)?;
    let expand = |text: &String| expand(text, &env);
    let given = |list: &Option<Vec<String>>| list.as_ref().filter(|list| !list.is_empty()).cloned();
    // Kubernetes: a command of the pod replaces both of the image's, arguments only the second.
    let (entrypoint, command) = match (given(&container.command), given(&container.args)) {
        (Some(command), args) => (command, args.unwrap_or_default()),
        (None, Some(args)) => (image.entrypoint.clone(), args),
        (None, None) => (image.entrypoint.clone(), image.command.clone()),
    };
    let mut words = entrypoint.iter().chain(&command).map(expand);
    let path = PathBuf::from(words.next().ok_or(DescribeError::NoProgram)?);
    let args = words.collect();
    let path = if path.is_absolute() { path } else { find(&path, &env, &image.root) };
    let directory = container.working_dir.clone().map_or_else(|| image.directory.clone(), PathBuf::from);
    Ok(Program { path, args, env, directory })
}

/// A program without a path is looked for where the image's `PATH` says.
fn find(name: &Path, env: &[(String, String)], root: &Root) -> PathBuf {
    let Root::Image { directory } = root else { return Path::new("/").join(name) };
    let path = env.iter().find(|(key, _)| key == "PATH").map_or("/usr/bin:/bin", |(_, value)| value.as_str());
    let places = path.split(':').map(|place| Path::new(place).join(name));
    let there = |place: &PathBuf| place.strip_prefix("/").is_ok_and(|inside| directory.join(inside).exists());
    places.into_iter().find(there).unwrap_or_else(|| Path::new("/").join(name))
}

fn environment(
    context: &Context,
    record: &PodRecord,
    container: &PodContainer,
    image: &Image,
) -> Result<Vec<(String, String)>, DescribeError> {
    let mut env = image.env.clone();
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => expand(variable.value.as_deref().unwrap_or_default(), &env),
            Some(source) => {
                let field = source.field_ref.as_ref().and_then(|field| match field.field_path.as_str() {
                    "metadata.name" => Some(record.name().to_owned()),
                    "metadata.namespace" => Some(record.namespace().to_owned()),
                    "metadata.uid" => Some(record.uid().to_owned()),
                    "spec.nodeName" => Some(context.config.name.clone()),
                    "status.hostIP" => Some(context.config.address.to_string()),
                    "status.podIP" => Some(pod_address(context, record)),
                    _ => None,
                });
                field.ok_or_else(|| DescribeError::Environment(variable.name.clone()))?
            }
        };
        env.retain(|(name, _)| *name != variable.name);
        env.push((variable.name.clone(), value));
    }
    Ok(env)
}

/// The pod's own address, or the node's where it shares its network.
pub(crate) fn pod_address(context: &Context, record: &PodRecord) -> String {
    let own = record.network.as_ref().map(|network| network.address.to_string());
    own.unwrap_or_else(|| context.config.address.to_string())
}

/// Replaces `$(NAME)` by the variable of that name; `$$` is a dollar, and what
/// names no variable stays, as in Kubernetes.
fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let inner = after.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
        let value = inner.and_then(|(name, tail)| Some((&env.iter().find(|(key, _)| key == name)?.1, tail)));
        rest = match (after.strip_prefix("$$"), value) {
            (Some(tail), _) => {
                out.push('$');
                tail
            }
            (None, Some((value, tail))) => {
                out.push_str(value);
                tail
            }
            (None, None) => {
                out.push('$');
                after.get(1..).unwrap_or_default()
            }
        };
    }
    out.push_str(rest);
    out
}

fn amount(container: &PodContainer, limit: bool, resource: &str) -> Option<Quantity> {
    let resources = container.resources.as_ref()?;
    let amounts = if limit { resources.limits.as_ref() } else { resources.requests.as_ref() };
    Quantity::parse(&amounts?.get(resource)?.0).ok()
}

fn limits(pod: &Pod, container: &PodContainer) -> Limits {
    let limit = |resource| amount(container, true, resource);
    let usual = Limits::default();
    let request = amount(container, false, "cpu").or_else(|| limit("cpu"));
    Limits {
        cpu_milli: limit("cpu").map(Quantity::thousandths),
        cpu_request_milli: request.map_or(usual.cpu_request_milli, Quantity::thousandths),
        memory: limit("memory").map(Quantity::whole),
        pids: limit("fleet.coffer/pids").map_or(usual.pids, Quantity::whole),
        iops: limit("fleet.coffer/iops").map(Quantity::whole),
        file_bytes: disk_bytes(pod),
        files: usual.files,
        tmp_bytes: limit("ephemeral-storage").map_or(usual.tmp_bytes, Quantity::whole),
    }
}

/// The declared size of the pod's data.
pub(crate) fn disk_bytes(pod: &Pod) -> Option<u64> {
    let container = pod.spec.as_ref()?.containers.first()?;
    let resource = "fleet.coffer/disk-bytes";
    amount(container, true, resource).or_else(|| amount(container, false, resource)).map(Quantity::whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({ "spec": spec })).unwrap()
    }

    #[test]
    fn variables_are_put_in_as_kubernetes_does() {
        let env = [("A".to_owned(), "x".to_owned())];
        assert_eq!(expand("--dir=$(A)/$(B) $$(A) $", &env), "--dir=x/$(B) $(A) $");
    }

    #[test]
    fn what_would_weaken_the_walls_is_refused() {
        use serde_json::json;
        let one = json!([{ "name": "site" }]);
        assert!(declared(&pod(json!({ "containers": one }))).is_ok());
        for spec in [
            json!({ "containers": [] }),
            json!({ "containers": [{ "name": "a" }, { "name": "b" }] }),
            json!({ "containers": one, "initContainers": one }),
            json!({ "containers": one, "hostPID": true }),
            json!({ "containers": one, "hostIPC": true }),
            json!({ "containers": [{ "name": "site", "securityContext": { "privileged": true } }] }),
            json!({ "containers": [{ "name": "site", "securityContext": { "capabilities": { "add": ["SYS_ADMIN"] } } }] }),
            json!({ "containers": [{ "name": "site", "ports": [{ "containerPort": 0 }] }] }),
            json!({ "containers": [{ "name": "site", "ports": [{ "containerPort": 70000 }] }] }),
        ] {
            assert!(declared(&pod(spec.clone())).is_err(), "{spec}");
        }
    }
}
