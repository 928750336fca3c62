//! The pod's root: put together from clones of mounts, entered, and made
//! read-only, before any line of the pod's code runs. Sources are opened while
//! the machine's root is still there; targets are resolved after it is gone, so
//! that a symbolic link in an image can point at nothing but the image.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Gid, Uid};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};

use super::plan::{Plan, Root};
use super::starter::{Step, StepError};
use crate::layer::Layer;

/// Devices that a program may expect; none of them reaches anybody else.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Where a dynamic loader and its libraries are.
const LIBRARIES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];

/// A mount cloned from the machine, and where it goes.
struct Piece {
    tree: OwnedFd,
    target: PathBuf,
    flags: MountFlags,
    file: bool,
}

/// Makes the plan's root the root of this process.
pub(crate) fn enter_root(plan: &Plan) -> Result<(), StepError> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step("make mounts private")?;
    let pieces = pieces(plan)?;
    lay_base(plan)?;
    rustix::process::chdir(&plan.scaffold).step("enter the new root")?;
    rustix::process::pivot_root(".", ".").step("change the root")?;
    unmount(".", UnmountFlags::DETACH).step("let the old root go")?;
    rustix::process::chdir("/").step("enter the new root")?;
    dress(plan, &pieces)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount("/", flags, "").step("make the root read-only")
}

/// Opens a clone of every mount that the pod will see.
fn pieces(plan: &Plan) -> Result<Vec<Piece>, StepError> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV;
    let mut pieces = Vec::new();
    if let Root::Executable { file, name } = &plan.root {
        let target = Path::new("/").join(name);
        pieces.push(Piece { tree: clone(file)?, target, flags: quiet | MountFlags::RDONLY, file: true });
        if needs_loader(file).step("read the executable")? {
            for library in LIBRARIES.map(Path::new).into_iter().filter(|path| path.is_dir()) {
                let flags = quiet | MountFlags::RDONLY;
                pieces.push(Piece { tree: clone(library)?, target: library.to_owned(), flags, file: false });
            }
        }
    }
    for device in DEVICES {
        let path = Path::new("/dev").join(device);
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        pieces.push(Piece { tree: clone(&path)?, target: path, flags, file: true });
    }
    for volume in &plan.volumes {
        let mut flags = quiet | MountFlags::NOEXEC;
        if !volume.writable {
            flags |= MountFlags::RDONLY;
        }
        pieces.push(Piece {
            tree: clone(&volume.source)?,
            target: volume.target.clone(),
            flags,
            file: false,
        });
    }
    Ok(pieces)
}

fn clone(path: &Path) -> Result<OwnedFd, StepError> {
    open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
        .step_at("clone the mount of", path)
}

/// Mounts the first layer of the root on the scaffold: an empty file system, or
/// the image under one that takes the mount points.
fn lay_base(plan: &Plan) -> Result<(), StepError> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", &plan.scaffold, "tmpfs", quiet, Some(c"size=1m,mode=755")).step("mount an empty root")?;
    let Root::Image { directory } = &plan.root else { return Ok(()) };
    let (upper, work) = (plan.scaffold.join("upper"), plan.scaffold.join("work"));
    for path in [&upper, &work] {
        crate::files::make_dirs(path, 0o755).step("make the upper side of the root")?;
    }
    // A colon or comma in a path would end it; the agent's own paths have none.
    let data =
        format!("lowerdir={},upperdir={},workdir={}", directory.display(), upper.display(), work.display());
    let data = std::ffi::CString::new(data).map_err(io::Error::from).step("name the image")?;
    mount("overlay", &plan.scaffold, "overlay", quiet, Some(data.as_c_str())).step("mount the image")
}

/// Puts everything in its place, inside the new root.
fn dress(plan: &Plan, pieces: &[Piece]) -> Result<(), StepError> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    directory(Path::new("/dev"))?;
    mount("tmpfs", "/dev", "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, Some(c"size=64k,mode=755"))
        .step("mount /dev")?;
    directory(Path::new("/tmp"))?;
    let size = std::ffi::CString::new(format!("size={},nr_inodes=4096,mode=1777", plan.tmp_bytes))
        .map_err(io::Error::from)
        .step("size /tmp")?;
    mount("tmpfs", "/tmp", "tmpfs", quiet, Some(size.as_c_str())).step("mount /tmp")?;
    for piece in pieces {
        place(piece)?;
    }
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_remount("/dev", flags, "").step("make /dev read-only")?;
    if plan.layers.has(Layer::Pid) {
        directory(Path::new("/proc"))?;
        mount("proc", "/proc", "proc", quiet | MountFlags::RDONLY, Some(c"hidepid=invisible,subset=pid"))
            .step("mount /proc")?;
    }
    Ok(())
}

fn place(piece: &Piece) -> Result<(), StepError> {
    if piece.file {
        if let Some(parent) = piece.target.parent() {
            directory(parent)?;
        }
        let options =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(&piece.target);
        drop(options.step_at("make the place of", &piece.target)?);
    } else {
        directory(&piece.target)?;
    }
    move_mount(piece.tree.as_fd(), "", CWD, &piece.target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step_at("mount", &piece.target)?;
    mount_remount(&piece.target, MountFlags::BIND | piece.flags, "").step_at("restrict", &piece.target)
}

fn directory(path: &Path) -> Result<(), StepError> {
    crate::files::make_dirs(path, 0o755).step_at("make the directory", path)
}

/// Whether an executable asks for a dynamic loader: an ELF file with a
/// `PT_INTERP` segment (System V ABI, chapter 5). Scripts and foreign formats
/// are taken to need none; they fail to start, and say so.
pub(crate) fn needs_loader(file: &Path) -> io::Result<bool> {
    use std::io::Read;
    const PT_INTERP: u32 = 3;
    let mut head = Vec::new();
    crate::files::open(file)?.take(64 << 10).read_to_end(&mut head)?;
    let number = |at: usize, len: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    if head.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Ok(false);
    }
    let fields = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    let (Some(table), Some(size), Some(count)) = fields else { return Ok(false) };
    let segments =
        (0..count).filter_map(|index| usize::try_from(table.checked_add(index.checked_mul(size)?)?).ok());
    Ok(segments.filter_map(|at| number(at, 4)).any(|kind| kind == u64::from(PT_INTERP)))
}

/// Gives a file or directory to the pod's user. An agent that is not root has
/// one user only, its own, and its files are that user's already.
pub(crate) fn hand_over(path: &Path, uid: u32, mode: u32) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        rustix::fs::chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
