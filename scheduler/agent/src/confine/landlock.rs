//! The Landlock rules of a pod: its image may be read and run, its data may be
//! read and written but not run, its declared TCP ports may be used, and no
//! process or abstract socket outside may be reached.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};

use super::plan::{Plan, Root};
use crate::layer::Layer;

/// Why the rules do not hold.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LandlockError {
    /// A rule was refused.
    #[error("a rule was refused: {0}")]
    Rule(#[from] RulesetError),
    /// A path could not be opened.
    #[error("a path of the pod cannot be opened: {0}")]
    Path(#[from] landlock::PathFdError),
    /// The root could not be listed.
    #[error("the root cannot be listed: {0}")]
    Root(#[from] std::io::Error),
    /// The kernel has no Landlock.
    #[error("this kernel enforces nothing of it; run the agent without this layer to say that you know")]
    Absent,
}

/// What a pod may do beneath one path.
struct Grant {
    path: PathBuf,
    access: BitFlags<AccessFs>,
}

/// Puts the rules on this process, for good; what of them this kernel enforces.
pub(crate) fn restrict(plan: &Plan) -> Result<String, LandlockError> {
    enforce(&grants(plan)?, &plan.listen, plan.connect.as_deref())
}

/// Lets this process read beneath those of the paths that are there, and nothing
/// else of the disk, for good. It may connect to where it likes and listen nowhere.
pub(crate) fn only_read(paths: impl Iterator<Item = PathBuf>) -> Result<String, LandlockError> {
    let access = AccessFs::ReadFile | AccessFs::ReadDir;
    let grants: Vec<Grant> = paths.filter(|path| path.exists()).map(|path| Grant { path, access }).collect();
    enforce(&grants, &[], None)
}

fn enforce(grants: &[Grant], listen: &[u16], connect: Option<&[u16]>) -> Result<String, LandlockError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::BindTcp)?;
    let ruleset = match connect {
        Some(_) => ruleset.handle_access(AccessNet::ConnectTcp)?,
        None => ruleset,
    };
    let mut created = ruleset.scope(Scope::AbstractUnixSocket | Scope::Signal)?.create()?;
    for grant in grants {
        created = allow(created, grant)?;
    }
    for port in listen {
        created = created.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    for port in connect.iter().copied().flatten() {
        created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    let status = created.restrict_self()?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Err(LandlockError::Absent),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(abilities(effective_abi)),
        _ => Err(LandlockError::Absent),
    }
}

fn abilities(abi: ABI) -> String {
    let since = [
        (ABI::V1, "files"),
        (ABI::V4, "TCP ports"),
        (ABI::V5, "ioctl"),
        (ABI::V6, "signals and abstract sockets"),
    ];
    let (had, lacking): (Vec<_>, Vec<_>) = since.into_iter().partition(|(version, _)| abi >= *version);
    let names = |list: Vec<(ABI, &'static str)>| {
        list.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(", ")
    };
    let lacking = if lacking.is_empty() { String::new() } else { format!("; not {}", names(lacking)) };
    format!("ABI {abi}: {}{lacking}", names(had))
}

fn allow(created: RulesetCreated, grant: &Grant) -> Result<RulesetCreated, LandlockError> {
    let mut access = grant.access;
    if !grant.path.is_dir() {
        access &= AccessFs::from_file(ABI::V5);
    }
    Ok(created.add_rule(PathBeneath::new(PathFd::new(&grant.path)?, access))?)
}

fn grants(plan: &Plan) -> Result<Vec<Grant>, LandlockError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let run = read | AccessFs::Execute;
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    let write = AccessFs::from_all(ABI::V5)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let inside = plan.layers.has(Layer::Mount);
    let mut grants = Vec::new();
    let mut grant = |path: PathBuf, access: BitFlags<AccessFs>| grants.push(Grant { path, access });
    for path in image_paths(plan)? {
        grant(path, run);
    }
    for volume in &plan.volumes {
        let path = if inside { &volume.target } else { &volume.source };
        grant(path.clone(), if volume.writable { write } else { read });
    }
    for name in ["null", "zero", "full", "random", "urandom"] {
        grant(Path::new("/dev").join(name), device);
    }
    if inside {
        grant("/tmp".into(), write);
        if plan.layers.has(Layer::Pid) {
            grant("/proc".into(), read);
        }
    }
    Ok(grants)
}

/// The paths of the image: everything in the root that nothing was mounted on.
fn image_paths(plan: &Plan) -> Result<Vec<PathBuf>, LandlockError> {
    if !plan.layers.has(Layer::Mount) {
        return Ok(match &plan.root {
            Root::Image { directory } => vec![directory.clone()],
            Root::Executable { file, .. } => {
                let libraries = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"].map(PathBuf::from);
                std::iter::once(file.clone())
                    .chain(libraries.into_iter().filter(|path| path.exists()))
                    .collect()
            }
        });
    }
    let mounted = |path: &Path| {
        let ours = ["/dev", "/proc", "/tmp", "/upper", "/work"].iter().any(|own| path == Path::new(own));
        ours || plan.volumes.iter().any(|volume| volume.target == path)
    };
    let mut paths = Vec::new();
    for name in crate::files::names(Path::new("/"))? {
        let path = Path::new("/").join(name);
        let only_volumes = plan.volumes.iter().any(|volume| volume.target.starts_with(&path))
            && matches!(plan.root, Root::Executable { .. });
        if !mounted(&path) && !only_volumes && path.exists() {
            paths.push(path);
        }
    }
    Ok(paths)
}
