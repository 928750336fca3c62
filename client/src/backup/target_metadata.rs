//! Putting metadata back, in the one order that works: owner (which clears
//! set-id bits and capabilities), attributes and lists, mode, times.
//! What the system refuses is a problem of that entry, not an end.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat,
    fchmod, fchown, fremovexattr, fsetxattr, fstat, futimens, lsetxattr, makedev, mknodat, openat, statat,
    symlinkat, utimensat,
};
use rustix::io::Errno;

use super::compare::is_acl;
use super::entry::{Entry, Kind};
use super::metadata::{proc_path, proc_self, xattrs_of_fd};
use super::problem::Problem;

/// Makes a symbolic link, pipe, socket or device.
pub(crate) fn make_special(parent: &OwnedFd, name: &CString, entry: &Entry) -> Result<(), Errno> {
    let kind = match entry.kind {
        Kind::Symlink => {
            let target = entry.symlink_target.as_deref().unwrap_or_default();
            return symlinkat(target, parent, name);
        }
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::File | Kind::Directory => return Err(Errno::INVAL),
    };
    let (major, minor) = entry.device.unwrap_or_default();
    mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, makedev(major, minor))
}

/// Metadata of an open file or directory.
pub(crate) fn apply_to_fd(handle: &OwnedFd, entry: &Entry, problems: &mut Vec<Problem>) {
    let mut note = |step, result: Result<(), Errno>| {
        if let Err(errno) = result {
            problems.push(Problem::restoring(&entry.path, step, errno));
        }
    };
    let owner = fchown(handle, uid(entry), gid(entry)).or_else(|errno| {
        let stat = fstat(handle)?;
        if (stat.st_uid, stat.st_gid) == (entry.uid, entry.gid) { Ok(()) } else { Err(errno) }
    });
    let mode = mode_for(entry, owner.is_ok());
    note("owner", owner);
    // Lists that were inherited from the directory and not in the backup.
    let inherited = xattrs_of_fd(handle).unwrap_or_default();
    for name in inherited.keys().filter(|name| is_acl(name) && !entry.xattrs.contains_key(*name)) {
        note("access control list", fremovexattr(handle, name.as_slice()));
    }
    for (name, value) in &entry.xattrs {
        let step = if is_acl(name) { "access control list" } else { "extended attribute" };
        note(step, fsetxattr(handle, name.as_slice(), value, XattrFlags::empty()));
    }
    note("mode", fchmod(handle, Mode::from_raw_mode(mode)));
    note("modification time", futimens(handle, &times(entry)));
}

/// Metadata of what cannot be opened for writing: links, pipes, sockets, devices.
pub(crate) fn apply_to_name(parent: &OwnedFd, name: &CStr, entry: &Entry, problems: &mut Vec<Problem>) {
    let mut note = |step, result: Result<(), Errno>| {
        if let Err(errno) = result {
            problems.push(Problem::restoring(&entry.path, step, errno));
        }
    };
    let owner = chownat(parent, name, uid(entry), gid(entry), AtFlags::SYMLINK_NOFOLLOW).or_else(|errno| {
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if (stat.st_uid, stat.st_gid) == (entry.uid, entry.gid) { Ok(()) } else { Err(errno) }
    });
    let mode = mode_for(entry, owner.is_ok());
    note("owner", owner);
    for (key, value) in &entry.xattrs {
        let set = lsetxattr(proc_path(parent, name), key.as_slice(), value, XattrFlags::empty());
        note("extended attribute", set);
    }
    if entry.kind != Kind::Symlink {
        note("mode", chmod_name(parent, name, mode));
    }
    let set = utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW);
    note("modification time", set);
}

/// The mode to set: a file that could not be given to its owner must not run
/// with the rights of whoever restored it.
fn mode_for(entry: &Entry, owned: bool) -> u32 {
    const SET_ID: u32 = 0o6000;
    if owned { entry.mode } else { entry.mode & !SET_ID }
}

/// Changes the mode of exactly this entry: a path handle that follows nothing,
/// then its magic link.
fn chmod_name(parent: &OwnedFd, name: &CStr, mode: u32) -> Result<(), Errno> {
    let handle = openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    chmod(proc_self(&handle), Mode::from_raw_mode(mode))
}

fn uid(entry: &Entry) -> Option<Uid> {
    Some(Uid::from_raw(entry.uid))
}

fn gid(entry: &Entry) -> Option<Gid> {
    Some(Gid::from_raw(entry.gid))
}

fn times(entry: &Entry) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: entry.mtime.seconds, tv_nsec: i64::from(entry.mtime.nanos) },
    }
}
