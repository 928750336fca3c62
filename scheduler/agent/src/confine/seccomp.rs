//! The system calls that a pod may make: an allow list, so that a call that
//! the next kernel adds is refused until somebody has thought about it.
//!
//! What is missing on purpose: `ptrace`, `process_vm_*`, `pidfd_getfd`, `kcmp`;
//! every mount call; `unshare`, `setns` and `clone` into name spaces; `bpf`,
//! `perf_event_open`, `userfaultfd`, `io_uring_*`; keys; modules, `kexec`,
//! `reboot`, swap, accounting, quotas, clocks; handles to files by number; files
//! in memory, which could be run; System V and POSIX objects, which have names.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::plan::Plan;

/// Why the filter does not hold.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompError {
    /// The filter could not be made, or the kernel refused it.
    #[error("the filter was refused: {0}")]
    Filter(#[from] seccompiler::Error),
    /// This processor's calls are not known here.
    #[error("no filter is written for this processor")]
    Processor,
}

impl From<seccompiler::BackendError> for SeccompError {
    fn from(error: seccompiler::BackendError) -> Self {
        Self::Filter(error.into())
    }
}

/// Puts the filters on this process, for good.
pub(crate) fn restrict(_plan: &Plan) -> Result<(), SeccompError> {
    put_on(rules()?)
}

/// Those of a process that talks to a registry: it asks for the names of hosts,
/// which a pod does not, and runs no program and waits for no caller, as a pod does.
pub(crate) fn outward() -> Result<(), SeccompError> {
    let mut rules = rules()?;
    for call in [libc::SYS_execve, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4, libc::SYS_kill] {
        rules.remove(&call);
    }
    let datagram = u64::try_from(libc::SOCK_DGRAM).unwrap_or(2);
    let mut allowed = sockets()?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = compare(0, SeccompCmpOp::Eq, u64::try_from(family).unwrap_or(u64::MAX))?;
        let kind = condition(1, SeccompCmpOp::MaskedEq(0xf), datagram)?;
        allowed.push(SeccompRule::new(vec![family, kind])?);
    }
    rules.insert(libc::SYS_socket, allowed);
    put_on(rules)
}

fn put_on(rules: BTreeMap<i64, Vec<SeccompRule>>) -> Result<(), SeccompError> {
    let target = TargetArch::try_from(std::env::consts::ARCH).map_err(|_| SeccompError::Processor)?;
    // `clone3` hides its flags behind a pointer that no filter can follow.
    // `ENOSYS` makes a C library use `clone`, whose flags are looked at below.
    // Of two filters that refuse, the later one's number would be told, so the
    // later one allows it.
    let enosys = SeccompAction::Errno(u32::try_from(libc::ENOSYS).unwrap_or(38));
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let first: BpfProgram = SeccompFilter::new(clone3, SeccompAction::Allow, enosys, target)?.try_into()?;
    let eperm = SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap_or(1));
    let second: BpfProgram = SeccompFilter::new(rules, eperm, SeccompAction::Allow, target)?.try_into()?;
    seccompiler::apply_filter(&first)?;
    Ok(seccompiler::apply_filter(&second)?)
}

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, SeccompError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        [FILES, MEMORY, PROCESS, NETWORK, WAITING, OF_THIS_PROCESSOR]
            .iter()
            .flat_map(|group| group.iter().map(|call| (*call, Vec::new())))
            .collect();
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![flags_clear(0, NEW_SPACES)?])?]);
    rules.insert(libc::SYS_socket, sockets()?);
    // Two ioctls put characters or commands into somebody's terminal.
    let terminal = [libc::TIOCSTI, libc::TIOCLINUX].map(|code| compare(1, SeccompCmpOp::Ne, code));
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(terminal.into_iter().collect::<Result<_, _>>()?)?]);
    let options = PRCTL.iter().map(|option| {
        let option = u64::try_from(*option).unwrap_or(u64::MAX);
        Ok(SeccompRule::new(vec![compare(0, SeccompCmpOp::Eq, option)?])?)
    });
    rules.insert(libc::SYS_prctl, options.collect::<Result<_, SeccompError>>()?);
    let query = vec![SeccompRule::new(vec![compare(0, SeccompCmpOp::Eq, 0xffff_ffff)?])?];
    rules.insert(libc::SYS_personality, query);
    Ok(rules)
}

/// Local sockets of any kind, and TCP. No datagrams and no raw packets: what a
/// pod declares is TCP ports. No netlink: it sets up networks. A stream alone is
/// not yet TCP: SCTP and multipath TCP have them, too.
fn sockets() -> Result<Vec<SeccompRule>, SeccompError> {
    let is = |arg: u8, value: i32| compare(arg, SeccompCmpOp::Eq, u64::try_from(value).unwrap_or(u64::MAX));
    let kind = u64::try_from(libc::SOCK_STREAM).unwrap_or(1);
    let mut allowed = vec![SeccompRule::new(vec![is(0, libc::AF_UNIX)?])?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        for protocol in [0, libc::IPPROTO_TCP] {
            let stream = condition(1, SeccompCmpOp::MaskedEq(0xf), kind)?;
            allowed.push(SeccompRule::new(vec![is(0, family)?, stream, is(2, protocol)?])?);
        }
    }
    Ok(allowed)
}

fn compare(arg: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompCondition, SeccompError> {
    condition(arg, how, value)
}

fn flags_clear(arg: u8, flags: u64) -> Result<SeccompCondition, SeccompError> {
    condition(arg, SeccompCmpOp::MaskedEq(flags), 0)
}

fn condition(arg: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompCondition, SeccompError> {
    Ok(SeccompCondition::new(arg, SeccompCmpArgLen::Dword, how, value)?)
}

/// `CLONE_NEW*`: time, mounts, control groups, uts, ipc, user, pid, network.
const NEW_SPACES: u64 = 0x7e02_0080;

/// Options of `prctl` that concern the caller alone and loosen nothing.
const PRCTL: &[i32] = &[
    libc::PR_SET_PDEATHSIG,
    libc::PR_GET_PDEATHSIG,
    libc::PR_GET_DUMPABLE,
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_GET_SECCOMP,
    libc::PR_CAPBSET_READ,
    libc::PR_SET_TIMERSLACK,
    libc::PR_GET_TIMERSLACK,
    libc::PR_SET_NO_NEW_PRIVS,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_SET_CHILD_SUBREAPER,
    libc::PR_SET_VMA,
];

const FILES: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_umask,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_utimensat,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_tee,
    libc::SYS_copy_file_range,
    libc::SYS_pipe2,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    libc::SYS_removexattr,
    libc::SYS_fremovexattr,
];

const MEMORY: &[i64] = &[
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_brk,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_mlockall,
    libc::SYS_munlockall,
    libc::SYS_membarrier,
    libc::SYS_rseq,
    libc::SYS_getrandom,
];

const PROCESS: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_rt_sigsuspend,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getpgid,
    libc::SYS_setpgid,
    libc::SYS_getsid,
    libc::SYS_setsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
    libc::SYS_prlimit64,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_getcpu,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_restart_syscall,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
    libc::SYS_seccomp,
];

const NETWORK: &[i64] = &[
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_shutdown,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
];

const WAITING: &[i64] = &[
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_signalfd4,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_delete,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
];

/// The older calls that only the first of the two processors has.
#[cfg(target_arch = "x86_64")]
const OF_THIS_PROCESSOR: &[i64] = &[
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_readlink,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_getdents,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_signalfd,
    libc::SYS_inotify_init,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_time,
    libc::SYS_getpgrp,
    libc::SYS_arch_prctl,
    libc::SYS_fork,
    libc::SYS_vfork,
];

#[cfg(not(target_arch = "x86_64"))]
const OF_THIS_PROCESSOR: &[i64] = &[];
