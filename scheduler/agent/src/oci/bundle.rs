//! The bundle of one container: `config.json` as `runc` reads it. Limits of the
//! process are always set, and never above the machine's own: `runc` would try
//! to raise them to its defaults, which a machine without `CAP_SYS_RESOURCE` refuses.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::cgroup::Device;
use crate::confine::mounts::needs_loader;
use crate::confine::{Root, Volume};
use crate::files;
use crate::runtime::Container;

/// Writes the bundle into `directory`, with an empty root to mount on if needed.
pub(super) fn write(
    container: &Container,
    directory: &Path,
    node: &str,
    iops: Option<(Device, u64)>,
) -> io::Result<()> {
    let rootfs = directory.join("rootfs");
    files::make_dirs(&rootfs, 0o755)?;
    let config = json!({
        "ociVersion": "1.0.2",
        "process": process(container),
        "root": { "path": root(&container.root, &rootfs), "readonly": true },
        "hostname": container.hostname,
        "mounts": mounts(container, &rootfs)?,
        "linux": linux(container, node, iops),
    });
    files::replace_json(&directory.join("config.json"), &config)
}

fn root<'a>(root: &'a Root, rootfs: &'a Path) -> &'a Path {
    match root {
        Root::Image { directory } => directory,
        Root::Executable { .. } => rootfs,
    }
}

fn process(container: &Container) -> Value {
    let program = &container.program;
    let args: Vec<String> =
        std::iter::once(program.path.display().to_string()).chain(program.args.iter().cloned()).collect();
    let env: Vec<String> = program.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let limits = &container.limits;
    let mut rlimits = vec![
        rlimit("RLIMIT_CORE", 0, rustix::process::Resource::Core),
        rlimit("RLIMIT_NOFILE", limits.files, rustix::process::Resource::Nofile),
        rlimit("RLIMIT_NPROC", limits.pids, rustix::process::Resource::Nproc),
        rlimit("RLIMIT_MEMLOCK", 64 << 10, rustix::process::Resource::Memlock),
    ];
    if let Some(bytes) = limits.file_bytes {
        rlimits.push(rlimit("RLIMIT_FSIZE", bytes, rustix::process::Resource::Fsize));
    }
    json!({
        "terminal": false,
        "user": { "uid": container.uid, "gid": container.uid },
        "args": args,
        "env": env,
        "cwd": program.directory,
        "capabilities": { "bounding": [], "effective": [], "permitted": [], "ambient": [] },
        "rlimits": rlimits,
        "noNewPrivileges": true,
    })
}

fn rlimit(name: &str, value: u64, resource: rustix::process::Resource) -> Value {
    let value = value.min(rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX));
    json!({ "type": name, "hard": value, "soft": value })
}

fn mounts(container: &Container, rootfs: &Path) -> io::Result<Vec<Value>> {
    let tmp = format!("size={}", container.limits.tmp_bytes);
    let files = "nr_inodes=4096";
    let mut mounts = vec![
        mount(
            "proc",
            "/proc",
            "proc",
            &["nosuid", "noexec", "nodev", "ro", "hidepid=invisible", "subset=pid"],
        ),
        mount("tmpfs", "/dev", "tmpfs", &["nosuid", "noexec", "mode=755", "size=64k"]),
        mount("tmpfs", "/tmp", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", &tmp, files]),
    ];
    if let Root::Executable { file, name } = &container.root {
        // runc makes the places in its root, which here is this bundle's own and empty.
        bind(&mut mounts, file, &Path::new("/").join(name), &["ro", "nosuid", "nodev"]);
        files::replace(&rootfs.join(name), b"", 0o555)?;
        if needs_loader(file)? {
            for library in ["/lib", "/lib64", "/usr/lib", "/usr/lib64"].map(Path::new) {
                if library.is_dir() {
                    bind(&mut mounts, library, library, &["ro", "nosuid", "nodev"]);
                }
            }
        }
    }
    for Volume { source, target, writable } in &container.volumes {
        let access = if *writable { "rw" } else { "ro" };
        bind(&mut mounts, source, target, &[access, "nosuid", "nodev", "noexec"]);
    }
    Ok(mounts)
}

fn bind(mounts: &mut Vec<Value>, source: &Path, target: &Path, options: &[&str]) {
    let options: Vec<&str> = ["bind"].into_iter().chain(options.iter().copied()).collect();
    mounts.push(json!({ "source": source, "destination": target, "type": "bind", "options": options }));
}

fn mount(source: &str, target: &str, kind: &str, options: &[&str]) -> Value {
    json!({ "source": source, "destination": target, "type": kind, "options": options })
}

fn linux(container: &Container, node: &str, iops: Option<(Device, u64)>) -> Value {
    let limits = &container.limits;
    let mut spaces = vec![
        json!({ "type": "pid" }),
        json!({ "type": "ipc" }),
        json!({ "type": "uts" }),
        json!({ "type": "mount" }),
    ];
    if let Some(network) = &container.network {
        spaces.push(json!({ "type": "network", "path": network }));
    }
    let shares = (limits.cpu_request_milli * 1024 / 1000).clamp(2, 262_144);
    let mut cpu = json!({ "shares": shares });
    if let Some(milli) = limits.cpu_milli {
        cpu["period"] = json!(100_000);
        cpu["quota"] = json!((milli * 100).max(1000));
    }
    let mut resources = json!({
        "devices": [{ "allow": false, "access": "rwm" }],
        "cpu": cpu,
        "pids": { "limit": limits.pids },
    });
    if let Some(memory) = limits.memory {
        resources["memory"] = json!({ "limit": memory });
    }
    if let Some(((major, minor), rate)) = iops {
        let limit = json!([{ "major": major, "minor": minor, "rate": rate }]);
        resources["blockIO"] = json!({ "throttleReadIOPSDevice": limit, "throttleWriteIOPSDevice": limit });
    }
    json!({
        "namespaces": spaces,
        "cgroupsPath": format!("/coffer-{node}-runc-{}", container.id),
        "resources": resources,
        "seccomp": seccomp(),
        "maskedPaths": ["/proc/keys", "/proc/kcore", "/proc/timer_list"],
        "readonlyPaths": ["/proc"],
    })
}

/// The filter: a deny list, because `runc` has no allow list of its own. The list of the confined process is not
/// repeated here, because it is written in numbers; what it says of arguments is.
fn seccomp() -> Value {
    let refused = |names: &[&str], args: Value| json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM, "args": args });
    let mut calls = vec![
        refused(REFUSED, json!([])),
        // Its flags cannot be seen; C libraries then use `clone`.
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }),
    ];
    for space in NEW_SPACES {
        let flag = json!([{ "index": 0, "value": space, "valueTwo": space, "op": "SCMP_CMP_MASKED_EQ" }]);
        calls.push(refused(&["clone"], flag));
    }
    // Local sockets, and TCP.
    let beyond = json!([{ "index": 0, "value": libc::AF_INET6, "op": "SCMP_CMP_GT" }]);
    calls.push(refused(&["socket"], beyond));
    for family in (libc::AF_INET + 1)..libc::AF_INET6 {
        calls.push(refused(&["socket"], json!([{ "index": 0, "value": family, "op": "SCMP_CMP_EQ" }])));
    }
    // A kind and a protocol make TCP together: a stream may be SCTP, too. Each family by name: with "from
    // `AF_INET` on" libseccomp 2.5.4 let the later protocols through.
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = json!({ "index": 0, "value": family, "op": "SCMP_CMP_EQ" });
        for kind in (0..=KINDS).filter(|kind| *kind != libc::SOCK_STREAM) {
            let this = json!({ "index": 1, "value": KINDS, "valueTwo": kind, "op": "SCMP_CMP_MASKED_EQ" });
            calls.push(refused(&["socket"], json!([family, this])));
        }
        let later = json!({ "index": 2, "value": libc::IPPROTO_TCP, "op": "SCMP_CMP_GT" });
        calls.push(refused(&["socket"], json!([family, later])));
        for protocol in 1..libc::IPPROTO_TCP {
            let this = json!({ "index": 2, "value": protocol, "op": "SCMP_CMP_EQ" });
            calls.push(refused(&["socket"], json!([family, this])));
        }
    }
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls })
}

/// The bits of a socket's type that say its kind; the others are flags.
const KINDS: i32 = 0xf;

/// Calls that are refused whatever their arguments.
const REFUSED: &[&str] = &[
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "kcmp",
    "pidfd_getfd",
    "mount",
    "umount2",
    "pivot_root",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsmount",
    "fsconfig",
    "fspick",
    "mount_setattr",
    "unshare",
    "setns",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "add_key",
    "request_key",
    "keyctl",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "swapon",
    "swapoff",
    "acct",
    "quotactl",
    "settimeofday",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "open_by_handle_at",
    "name_to_handle_at",
    "lookup_dcookie",
    "chroot",
    "mknod",
    "mknodat",
    "syslog",
    "vhangup",
    "nfsservctl",
    "ioperm",
    "iopl",
    "sethostname",
    "setdomainname",
    "personality",
    "memfd_create",
    "memfd_secret",
];

/// `CLONE_NEW*`: time, mounts, control groups, uts, ipc, user, pid, network.
const NEW_SPACES: [u32; 8] =
    [0x0000_0080, 0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
