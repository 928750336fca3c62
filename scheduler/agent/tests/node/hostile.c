/* A hostile pod: tries to get at everything that is not its own, one attempt
 * after the other, and says what came of each. It is C and not Rust because it
 * needs the raw system calls, and this project writes no unsafe code.
 *
 * Every attempt is harmless where it succeeds: it changes nothing, or changes
 * it back. Results: "NAME breach", "NAME denied ERRNO", and three that prove
 * nothing: "NAME untried ERRNO", "NAME hung", "NAME died SIGNAL".
 * With ONLY in its environment it makes the attempts that are named there.
 *
 * As "hostile victim" it is the neighbour instead: it holds what the attempts
 * are after, and waits. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/perf_event.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <grp.h>
#include <unistd.h>

static const char *data, *tmp, *secret, *passwd, *neighbour, *shared, *self;
static int victim, victim_port, open_port;
static long long memory_limit, disk_limit, tmp_limit, pids_limit, files_limit;
#define KEY 0x0c0ffee0

static int held(long result) { return result < 0 ? errno : 0; }
static char path_buffer[4096];
static const char *at(const char *dir, const char *name) {
    snprintf(path_buffer, sizeof path_buffer, "%s/%s", dir, name);
    return path_buffer;
}
static const char *of_victim(const char *name) {
    snprintf(path_buffer, sizeof path_buffer, "/proc/%d/%s", victim, name);
    return path_buffer;
}
static int opens(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0) return errno;
    close(fd);
    return 0;
}
static int reads(const char *path) {
    char byte;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    long got = read(fd, &byte, 1);
    int error = got < 0 ? errno : got == 0 ? ENODATA : 0;
    close(fd);
    return error;
}

/* --- files --- */
static int read_host_secret(void) { return reads(secret); }
static int read_host_passwd(void) { return reads(passwd); }
static int read_neighbour_data(void) { return reads(neighbour); }
static int write_neighbour_data(void) { return opens(neighbour, O_WRONLY); }
static int write_host_directory(void) {
    const char *path = at(shared, "written-by-hostile");
    int error = opens(path, O_WRONLY | O_CREAT);
    if (!error) unlink(path);
    return error;
}
static int list_host_directory(void) { return opens(shared, O_RDONLY | O_DIRECTORY); }
static int follow(const char *target) {
    const char *path = at(data, "link");
    unlink(path);
    if (symlink(target, path)) return errno;
    int error = reads(path);
    unlink(path);
    return error;
}
static int symlink_to_secret(void) { return follow(secret); }
static int symlink_to_neighbour(void) { return follow(neighbour); }
static int symlink_to_host_passwd(void) { return follow(passwd); }
static int dotdot_to_host_passwd(void) {
    char path[4200];
    snprintf(path, sizeof path, "%s/../../../../../../../../../../..%s", data, passwd);
    return reads(path);
}
static int proc_root_of_init(void) {
    char path[4200];
    snprintf(path, sizeof path, "/proc/%d/root%s", victim, secret);
    return reads(path);
}
static int hard_link_to_host_file(void) {
    const char *path = at(data, "hard");
    if (link(passwd, path)) return errno;
    unlink(path);
    return 0;
}
/* It runs, so that nobody may write it: who is told only that had the right to. */
static int write_own_image(void) {
    struct stat own;
    if (stat(self, &own)) return errno;
    int error = held(truncate(self, own.st_size));
    return error == ETXTBSY ? 0 : error;
}
static int create_in_root(void) {
    int error = opens("/hostile-was-here", O_WRONLY | O_CREAT);
    if (!error) unlink("/hostile-was-here");
    return error;
}
static int run_copy(const char *path) {
    char block[65536];
    long got;
    int from = open(self, O_RDONLY), to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    if (from < 0 || to < 0) return errno;
    while ((got = read(from, block, sizeof block)) > 0)
        if (write(to, block, got) != got) return errno;
    close(from);
    close(to);
    chmod(path, 0755);
    pid_t child = fork();
    if (!child) {
        execl(path, path, "run", NULL);
        _exit(errno);
    }
    int status;
    waitpid(child, &status, 0);
    unlink(path);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}
static int run_from_data(void) { return run_copy(at(data, "copy")); }
static int run_from_tmp(void) { return run_copy(at(tmp, "copy")); }
static int run_from_memory(void) {
    int fd = syscall(SYS_memfd_create, "copy", 0);
    if (fd < 0) return errno;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    char block[65536];
    long got;
    int from = open(self, O_RDONLY);
    while ((got = read(from, block, sizeof block)) > 0)
        if (write(fd, block, got) != got) return errno;
    pid_t child = fork();
    if (!child) {
        char *args[] = {(char *)"copy", (char *)"run", NULL}, *none[] = {NULL};
        syscall(SYS_execveat, fd, "", args, none, AT_EMPTY_PATH);
        _exit(errno);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}
static int make_disk_device(void) {
    const char *path = at(data, "disk");
    struct stat root;
    dev_t device = stat("/", &root) ? makedev(7, 0) : root.st_dev;
    if (mknod(path, S_IFBLK | 0600, device)) return errno;
    int error = opens(path, O_RDONLY);
    unlink(path);
    return error;
}
static int open_disk(void) { return opens("/dev/vda", O_RDONLY); }
static int open_memory_device(void) { return opens("/dev/mem", O_RDONLY); }
static int open_kernel_log(void) { return opens("/dev/kmsg", O_RDONLY); }
static int open_by_number(void) {
    /* Inode 2 is the root of an ext4 file system, whatever is mounted over it. */
    struct { struct file_handle head; uint32_t inode, generation; } handle = {{8, 1, {}}, 2, 0};
    int mount = open(data, O_RDONLY);
    int fd = syscall(SYS_open_by_handle_at, mount, &handle, O_RDONLY);
    if (fd < 0) return errno == ESTALE ? 0 : errno;
    close(fd);
    return 0;
}
static int change_root(void) { return held(chroot(data)); }
/* With the capability the answer is that there is no such place. */
static int allowed_but_absent(long result) { return result < 0 && errno != ENOENT ? errno : 0; }
static int pivot(void) { return allowed_but_absent(syscall(SYS_pivot_root, "/not-there", "/not-there")); }
static int unmount_something(void) {
    /* Nothing is mounted there: with the capability the kernel says so. */
    const char *path = at(data, "no-mount");
    mkdir(path, 0700);
    long result = umount2(path, 0);
    int error = result < 0 && errno != EINVAL ? errno : 0;
    rmdir(path);
    return error;
}
static int mount_here(const char *source, const char *kind, unsigned long flags) {
    const char *path = at(data, "mnt");
    mkdir(path, 0700);
    int error = held(mount(source, path, kind, flags, NULL));
    if (!error) umount2(path, MNT_DETACH);
    rmdir(path);
    return error;
}
static int mount_tmpfs(void) { return mount_here("tmpfs", "tmpfs", 0); }
static int mount_bind(void) { return mount_here("/", NULL, MS_BIND); }
static int mount_proc(void) { return mount_here("proc", "proc", 0); }
static int mount_cgroup(void) { return mount_here("cgroup2", "cgroup2", 0); }
static int mount_sysfs(void) { return mount_here("sysfs", "sysfs", 0); }
static int clone_mount(void) { return held(syscall(SYS_open_tree, AT_FDCWD, "/", 1)); }
static int open_filesystem(void) { return held(syscall(SYS_fsopen, "tmpfs", 0)); }
static int write_core_pattern(void) { return opens("/proc/sys/kernel/core_pattern", O_WRONLY); }
static int open_sysrq(void) { return opens("/proc/sysrq-trigger", O_WRONLY); }
static int open_kernel_memory(void) { return opens("/proc/kcore", O_RDONLY); }
static int write_cgroup(void) {
    const char *path = getenv("CGROUP");
    return path ? opens(path, O_WRONLY) : ENOENT;
}
static int open_sysfs(void) { return opens("/sys/kernel/mm/transparent_hugepage/enabled", O_WRONLY); }
static int read_shared_memory_file(void) { return reads("/dev/shm/coffer-hostile-victim"); }

/* --- name spaces --- */
static int mount_in(long left) {
    if (left < 0) return errno;
    return held(mount("tmpfs", data, "tmpfs", 0, NULL));
}
static int space_user(void) { return mount_in(unshare(CLONE_NEWUSER | CLONE_NEWNS)); }
static int space_mount(void) { return held(unshare(CLONE_NEWNS)); }
static int space_network(void) { return held(unshare(CLONE_NEWNET)); }
static int space_pid(void) { return held(unshare(CLONE_NEWPID)); }
static int by_clone(int three) {
    struct { uint64_t flags, pidfd, ctid, ptid, signal, stack, size, tls; } args = {0};
    args.flags = CLONE_NEWUSER | CLONE_NEWNS;
    args.signal = SIGCHLD;
    long child = three ? syscall(SYS_clone3, &args, sizeof args) : syscall(SYS_clone, args.flags | SIGCHLD, 0, 0, 0, 0);
    if (child < 0) return errno;
    if (!child) _exit(held(mount("tmpfs", data, "tmpfs", 0, NULL)));
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}
static int space_by_clone(void) { return by_clone(0); }
static int space_by_clone3(void) { return by_clone(1); }
static int enter(const char *which) {
    int fd = open(of_victim(which), O_RDONLY);
    return fd < 0 ? errno : held(setns(fd, 0));
}
static int enter_mounts(void) { return enter("ns/mnt"); }
static int enter_network(void) { return enter("ns/net"); }

/* --- processes --- */
static int trace(void) {
    if (ptrace(PTRACE_SEIZE, victim, 0, 0)) return errno;
    ptrace(PTRACE_DETACH, victim, 0, 0);
    return 0;
}
static int read_memory_of(void) {
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
    long got = syscall(SYS_process_vm_readv, victim, &here, 1, &there, 1, 0);
    return got < 0 && errno != EFAULT ? errno : 0;
}
static int take_descriptor(void) {
    int fd = syscall(SYS_pidfd_open, victim, 0);
    return fd < 0 ? errno : held(syscall(SYS_pidfd_getfd, fd, 1, 0));
}
static int signal_neighbour(void) { return held(kill(victim, SIGURG)); }
static int see_neighbour(void) { return reads(of_victim("cmdline")); }
static int read_environment(void) { return reads(of_victim("environ")); }
static int open_memory_of(void) { return opens(of_victim("mem"), O_RDONLY); }
static int slow_neighbour(void) { return held(setpriority(PRIO_PROCESS, victim, 1)); }
static int limit_neighbour(void) {
    struct rlimit limit;
    if (prlimit(victim, RLIMIT_NOFILE, NULL, &limit)) return errno;
    return held(prlimit(victim, RLIMIT_NOFILE, &limit, NULL));
}
static int pin_neighbour(void) {
    cpu_set_t all;
    if (sched_getaffinity(victim, sizeof all, &all)) return errno;
    return held(sched_setaffinity(victim, sizeof all, &all));
}
static int be_real_time(void) {
    struct sched_param param = {1};
    return held(sched_setscheduler(0, SCHED_FIFO, &param));
}
static int be_first(void) { return held(setpriority(PRIO_PROCESS, 0, -20)); }

/* --- privileges --- */
static int raise_limit(int which) {
    struct rlimit limit;
    getrlimit(which, &limit);
    if (limit.rlim_max == RLIM_INFINITY) return 0;
    limit.rlim_max += 1;
    return held(setrlimit(which, &limit));
}
static int raise_open_files(void) { return raise_limit(RLIMIT_NOFILE); }
static int raise_core(void) { return raise_limit(RLIMIT_CORE); }
static int capabilities(void) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {0};
    if (syscall(SYS_capget, &head, sets)) return errno;
    return sets[0].effective ? 0 : EPERM;
}
static int become_root(void) {
    if (setresuid(0, 0, 0)) return errno;
    return capabilities();
}
static int join_root_group(void) {
    gid_t none = 0;
    return held(setgroups(1, &none));
}
static int take_capabilities(void) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {0};
    if (syscall(SYS_capget, &head, sets)) return errno;
    sets[0].effective |= 1u << CAP_SYS_ADMIN;
    sets[0].permitted |= 1u << CAP_SYS_ADMIN;
    return held(syscall(SYS_capset, &head, sets));
}
static int take_ambient(void) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {0};
    syscall(SYS_capget, &head, sets);
    sets[0].inheritable |= 1u << CAP_CHOWN;
    if (syscall(SYS_capset, &head, sets)) return errno;
    return held(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
}

/* --- the kernel --- */
static int add_key(void) { return held(syscall(SYS_add_key, "user", "hostile", "x", 1, -2)); }
static int join_keyring(void) { return held(syscall(SYS_keyctl, 1, 0, 0, 0, 0)); }
static int read_keys(void) { return opens("/proc/keys", O_RDONLY); }
static int load_bpf(void) {
    uint32_t attr[32] = {2, 4, 4, 1};
    return held(syscall(SYS_bpf, 0, attr, 20));
}
static int watch_processor(void) {
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .config = PERF_COUNT_SW_CPU_CLOCK};
    return held(syscall(SYS_perf_event_open, &attr, -1, 0, -1, 0));
}
static int fault_in_user(void) { return held(syscall(SYS_userfaultfd, 0)); }
static int ring(void) {
    char params[120] = {0};
    return held(syscall(SYS_io_uring_setup, 4, params));
}
/* A module that is none: with the capability the kernel says so. */
static int load_module(void) {
    long result = syscall(SYS_init_module, "none", 4, "");
    return result < 0 && errno != ENOEXEC ? errno : 0;
}
static int load_module_file(void) {
    int fd = open(self, O_RDONLY);
    long result = syscall(SYS_finit_module, fd, "", 0);
    return result < 0 && errno != ENOEXEC && errno != EINVAL ? errno : 0;
}
static int load_kernel(void) { return held(syscall(SYS_kexec_load, 0, 0, NULL, 0)); }
static int restart_machine(void) { return held(syscall(SYS_reboot, 0xfee1dead, 672274793, 0, NULL)); }
static int swap_on(void) {
    const char *path = at(data, "swap");
    opens(path, O_WRONLY | O_CREAT);
    long result = syscall(SYS_swapon, path, 0);
    int error = result < 0 && errno != EINVAL ? errno : 0;
    unlink(path);
    return error;
}
static int account(void) { return held(acct(NULL)); }
static int rename_host(void) {
    char name[256];
    gethostname(name, sizeof name);
    return held(sethostname(name, strlen(name)));
}
static int read_kernel_log(void) { return held(syscall(SYS_syslog, 10, NULL, 0)); }
static int set_clock(void) {
    /* Sets it to go as it goes. */
    struct timex clock = {0};
    if (adjtimex(&clock) < 0) return errno;
    clock.modes = ADJ_FREQUENCY;
    return held(adjtimex(&clock));
}
static int input_output_ports(void) {
#ifdef SYS_ioperm
    return held(syscall(SYS_ioperm, 0x80, 1, 1));
#else
    return ENOSYS;
#endif
}
static int unrandomize(void) { return held(syscall(SYS_personality, 0x0040000)); }

/* --- network --- */
static int makes(int family, int kind, int protocol) {
    int fd = socket(family, kind, protocol);
    if (fd < 0) return errno;
    close(fd);
    return 0;
}
static int raw_socket(void) { return makes(AF_INET, SOCK_RAW, IPPROTO_ICMP); }
static int packet_socket(void) { return makes(AF_PACKET, SOCK_RAW, 0); }
static int crypto_socket(void) { return makes(AF_ALG, SOCK_SEQPACKET, 0); }
static int sctp_socket(void) { return makes(AF_INET, SOCK_STREAM, IPPROTO_SCTP); }
static int multipath_socket(void) { return makes(AF_INET6, SOCK_STREAM, 262); }
static int vsock_socket(void) { return makes(AF_VSOCK, SOCK_STREAM, 0); }
static int set_interface(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct ifreq request = {0};
    strcpy(request.ifr_name, "lo");
    if (ioctl(fd, SIOCGIFFLAGS, &request)) return errno;
    return held(ioctl(fd, SIOCSIFFLAGS, &request));
}
static int reach(const char *address, int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) return errno;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &to.sin_addr);
    if (!connect(fd, (void *)&to, sizeof to)) return 0;
    if (errno != EINPROGRESS) return errno;
    /* Dropped packets have no answer: a short while is enough on one machine. */
    struct timeval wait = {0, 300000};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    if (select(fd + 1, NULL, &set, NULL, &wait) != 1) return ETIMEDOUT;
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return error;
}
static int reach_neighbour(void) { return reach(getenv("NEIGHBOUR"), victim_port); }
static int reach_host_loopback(void) { return reach("127.0.0.1", victim_port); }
static int reach_gateway(void) { return reach(getenv("GATEWAY"), victim_port); }
static int listen_at(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    if (fd < 0) return errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(port)};
    int error = held(bind(fd, (void *)&own, sizeof own));
    close(fd);
    return error;
}
/* A breach only if somebody outside gets through; the test calls all the time. */
static int listen_undeclared(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    if (fd < 0) return errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(open_port)};
    if (bind(fd, (void *)&own, sizeof own) || listen(fd, 4)) return errno;
    struct timeval wait = {2, 0};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    return select(fd + 1, &set, NULL, NULL, &wait) == 1 ? held(accept(fd, NULL, NULL)) : ETIMEDOUT;
}
static int listen_low(void) { return listen_at(81); }
static int send_datagram(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0) return errno;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    inet_pton(AF_INET, getenv("NEIGHBOUR"), &to.sin_addr);
    return held(sendto(fd, "x", 1, 0, (void *)&to, sizeof to));
}
static int local(struct sockaddr_un *to, socklen_t size) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return fd < 0 ? errno : held(connect(fd, (void *)to, size));
}
static int abstract_socket(void) {
    struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = "\0coffer-hostile-victim"};
    return local(&to, sizeof(sa_family_t) + 22);
}
static int path_socket(void) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s/socket", shared);
    return local(&to, sizeof to);
}

/* --- shared kernel objects --- */
static int shared_memory(void) {
    int id = shmget(KEY, 0, 0);
    if (id < 0) return errno;
    void *at = shmat(id, NULL, SHM_RDONLY);
    return at == (void *)-1 ? errno : 0;
}
static int message_queue(void) {
    int id = msgget(KEY, 0);
    struct msqid_ds about;
    return id < 0 ? errno : held(msgctl(id, IPC_STAT, &about));
}

/* --- exhaustion: a breach is more than the limit --- */
static int exhaust_files(void) {
    long long opened = 0;
    while (open("/dev/null", O_RDONLY) >= 0)
        if (++opened > files_limit) return 0;
    return errno;
}
static int fill(const char *path, long long limit) {
    static char block[1 << 16];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600), error = 0;
    if (fd < 0) return errno;
    signal(SIGXFSZ, SIG_IGN);
    for (long long written = 0; written <= limit && !error;) {
        long got = write(fd, block, sizeof block);
        if (got < 0) error = errno; else written += got;
    }
    if (!error && fsync(fd)) error = errno;
    close(fd);
    unlink(path);
    return error;
}
static int exhaust_disk(void) { return fill(at(data, "fill"), disk_limit); }
static int exhaust_tmp(void) { return fill(at(tmp, "fill"), tmp_limit); }
static int exhaust_inodes(void) {
    char path[4200];
    int error = 0, made;
    for (made = 0; made < 6000 && !error; made++) {
        snprintf(path, sizeof path, "%s/i%d", tmp, made);
        error = opens(path, O_WRONLY | O_CREAT);
    }
    for (int i = 0; i < made; i++) {
        snprintf(path, sizeof path, "%s/i%d", tmp, i);
        unlink(path);
    }
    return error;
}
static int exhaust_processes(void) {
    int started = 0, error = 0;
    pid_t child[4096];
    while (started <= pids_limit && !error) {
        pid_t pid = fork();
        if (!pid) { pause(); _exit(0); }
        if (pid < 0) error = errno; else child[started++] = pid;
    }
    for (int i = 0; i < started; i++) { kill(child[i], SIGKILL); waitpid(child[i], NULL, 0); }
    return error;
}
static int exhaust_memory(void) {
    for (long long had = 0; had <= memory_limit * 48; had += 16 << 20) {
        char *block = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block == MAP_FAILED) return errno;
        for (int i = 0; i < 16 << 20; i += 4096) block[i] = 1;
    }
    return 0;
}

#define TRY(name) {#name, name}
static const struct { const char *name; int (*run)(void); } attempts[] = {
    TRY(read_host_secret), TRY(read_host_passwd), TRY(read_neighbour_data), TRY(write_neighbour_data),
    TRY(write_host_directory), TRY(list_host_directory), TRY(symlink_to_secret), TRY(symlink_to_neighbour),
    TRY(symlink_to_host_passwd), TRY(dotdot_to_host_passwd), TRY(proc_root_of_init), TRY(hard_link_to_host_file),
    TRY(write_own_image), TRY(create_in_root), TRY(run_from_data), TRY(run_from_tmp), TRY(run_from_memory),
    TRY(make_disk_device), TRY(open_disk), TRY(open_memory_device), TRY(open_kernel_log), TRY(open_by_number),
    TRY(change_root), TRY(pivot), TRY(unmount_something), TRY(mount_tmpfs), TRY(mount_bind), TRY(mount_proc),
    TRY(mount_cgroup), TRY(mount_sysfs), TRY(clone_mount), TRY(open_filesystem), TRY(write_core_pattern),
    TRY(open_sysrq), TRY(open_kernel_memory), TRY(write_cgroup), TRY(open_sysfs), TRY(read_shared_memory_file),
    TRY(space_user), TRY(space_mount), TRY(space_network), TRY(space_pid), TRY(space_by_clone),
    TRY(space_by_clone3), TRY(enter_mounts), TRY(enter_network), TRY(trace), TRY(read_memory_of),
    TRY(take_descriptor), TRY(signal_neighbour), TRY(see_neighbour), TRY(read_environment), TRY(open_memory_of),
    TRY(slow_neighbour), TRY(limit_neighbour), TRY(pin_neighbour), TRY(be_real_time), TRY(be_first),
    TRY(raise_open_files), TRY(raise_core), TRY(become_root), TRY(join_root_group), TRY(take_capabilities),
    TRY(take_ambient), TRY(add_key), TRY(join_keyring), TRY(read_keys), TRY(load_bpf), TRY(watch_processor),
    TRY(fault_in_user), TRY(ring), TRY(load_module), TRY(load_module_file), TRY(load_kernel), TRY(restart_machine),
    TRY(swap_on), TRY(account), TRY(rename_host), TRY(read_kernel_log), TRY(set_clock), TRY(input_output_ports),
    TRY(unrandomize), TRY(raw_socket), TRY(packet_socket), TRY(crypto_socket), TRY(vsock_socket),
    TRY(sctp_socket), TRY(multipath_socket),
    TRY(set_interface), TRY(reach_neighbour), TRY(reach_host_loopback), TRY(reach_gateway), TRY(listen_undeclared),
    TRY(listen_low), TRY(send_datagram), TRY(abstract_socket), TRY(path_socket), TRY(shared_memory),
    TRY(message_queue), TRY(exhaust_files), TRY(exhaust_disk), TRY(exhaust_tmp), TRY(exhaust_inodes),
    TRY(exhaust_processes), TRY(exhaust_memory),
};

static int named(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = strstr(list, name); at; at = strstr(at + 1, name))
        if ((at == list || at[-1] == ',') && (!at[length] || at[length] == ',')) return 1;
    return 0;
}

static void attempt(const char *name, int (*run)(void)) {
    int result[2], error = EINTR;
    const char *only = getenv("ONLY");
    if (only && !named(only, name)) return;
    if (pipe(result)) { printf("%s untried %s\n", name, strerrorname_np(errno)); return; }
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) {
        printf("%s untried %s\n", name, strerrorname_np(errno));
        fflush(stdout);
        close(result[0]);
        close(result[1]);
        return;
    }
    if (!child) {
        alarm(20);
        error = run();
        if (write(result[1], &error, sizeof error) < 0) _exit(1);
        _exit(0);
    }
    close(result[1]);
    long got = read(result[0], &error, sizeof error);
    close(result[0]);
    int status;
    waitpid(child, &status, 0);
    int deadly = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (got != sizeof error && deadly == SIGALRM) printf("%s hung\n", name);
    else if (got != sizeof error) printf("%s died %d\n", name, deadly);
    else if (error) printf("%s denied %s\n", name, strerrorname_np(error));
    else printf("%s breach\n", name);
    fflush(stdout);
}

static int be_victim(const char *directory, int port) {
    int tcp = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (bind(tcp, (void *)&own, sizeof own) || listen(tcp, 64)) return 1;
    int abstract = socket(AF_UNIX, SOCK_STREAM, 0), named = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0coffer-hostile-victim"};
    if (bind(abstract, (void *)&name, sizeof(sa_family_t) + 22) || listen(abstract, 64)) return 2;
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    snprintf(path.sun_path, sizeof path.sun_path, "%s/socket", directory);
    unlink(path.sun_path);
    umask(077);
    if (bind(named, (void *)&path, sizeof path) || listen(named, 64)) return 3;
    if (shmget(KEY, 4096, IPC_CREAT | 0600) < 0 || msgget(KEY, IPC_CREAT | 0600) < 0) return 4;
    int file = open("/dev/shm/coffer-hostile-victim", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || write(file, "x", 1) != 1) return 5;
    printf("ready\n");
    fflush(stdout);
    /* Ends with the test that started it. */
    char byte;
    while (read(0, &byte, 1) > 0) {}
    shmctl(shmget(KEY, 0, 0), IPC_RMID, NULL);
    msgctl(msgget(KEY, 0), IPC_RMID, NULL);
    unlink("/dev/shm/coffer-hostile-victim");
    return 0;
}

/* Somebody in another pod's network who may be called. */
static int be_listener(int port) {
    int tcp = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (bind(tcp, (void *)&own, sizeof own) || listen(tcp, 64)) return 1;
    printf("ready\n");
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0) {}
    return 0;
}

static long long number(const char *name) {
    const char *text = getenv(name);
    return text ? atoll(text) : 0;
}

int main(int count, char **args) {
    if (count == 2 && !strcmp(args[1], "run")) return 0;
    if (count == 4 && !strcmp(args[1], "victim")) return be_victim(args[2], atoi(args[3]));
    if (count == 3 && !strcmp(args[1], "listener")) return be_listener(atoi(args[2]));
    self = args[0];
    data = getenv("DATA");
    tmp = getenv("TMP");
    secret = getenv("SECRET");
    passwd = getenv("PASSWD");
    neighbour = getenv("NEIGHBOUR_DATA");
    shared = getenv("SHARED");
    victim = number("VICTIM");
    victim_port = number("VICTIM_PORT");
    open_port = number("OPEN_PORT");
    memory_limit = number("MEMORY");
    disk_limit = number("DISK");
    tmp_limit = number("TMP_LIMIT");
    pids_limit = number("PIDS");
    files_limit = number("FILES");
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++) attempt(attempts[i].name, attempts[i].run);
    return 0;
}
