//! One container's control groups: made, limited, measured, emptied, removed.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Controller, Homes, Kind};
use crate::files;

/// What a container may use; `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupLimits {
    /// Thousandths of a processor.
    pub cpu_milli: Option<u64>,
    /// Weight against others when processors are short, in thousandths.
    pub cpu_request_milli: u64,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Operations a second, reading and writing each, on the device of its data.
    pub iops: Option<(Device, u64)>,
}

/// A block device by its numbers.
pub(crate) type Device = (u32, u32);

/// What a container uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct GroupUsage {
    /// Time on processors since its start.
    pub cpu: Duration,
    /// Bytes of memory that cannot be taken back without it noticing.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
    /// How often the kernel killed in it for want of memory.
    pub out_of_memory: u64,
}

/// The groups of one container.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    homes: Homes,
    name: String,
}

impl Group {
    pub(crate) fn new(homes: &Homes, name: &str) -> Self {
        Self { homes: homes.clone(), name: name.to_owned() }
    }

    /// Makes the groups and sets the limits. A limit whose controller this
    /// machine lacks is told by the probe, not here.
    pub(crate) fn make(&self, limits: &GroupLimits) -> io::Result<()> {
        for directory in self.directories() {
            files::make_dirs(&directory, 0o755)?;
        }
        self.limit_cpu(limits)?;
        if let (Some(bytes), Some((kind, directory))) = (limits.memory, self.at(Controller::Memory)) {
            limit_memory(kind, &directory, bytes)?;
        }
        if let (Some(pids), Some((_, directory))) = (limits.pids, self.at(Controller::Pids)) {
            files::set(&directory.join("pids.max"), &pids.to_string())?;
        }
        if let (Some((device, iops)), Some((kind, directory))) = (limits.iops, self.at(Controller::Io)) {
            limit_io(kind, &directory, device, iops)?;
        }
        Ok(())
    }

    fn limit_cpu(&self, limits: &GroupLimits) -> io::Result<()> {
        const PERIOD: u64 = 100_000;
        let Some((kind, directory)) = self.at(Controller::Cpu) else { return Ok(()) };
        // The kernel refuses a share of less than 1 ms.
        let quota = limits.cpu_milli.map(|milli| (milli * PERIOD / 1000).max(1000));
        let shares = (limits.cpu_request_milli * 1024 / 1000).clamp(2, 262_144);
        match kind {
            Kind::First => {
                files::set(&directory.join("cpu.shares"), &shares.to_string())?;
                if let Some(quota) = quota {
                    files::set(&directory.join("cpu.cfs_period_us"), &PERIOD.to_string())?;
                    files::set(&directory.join("cpu.cfs_quota_us"), &quota.to_string())?;
                }
                Ok(())
            }
            Kind::Second => {
                let weight = 1 + (shares - 2) * 9999 / 262_142;
                files::set(&directory.join("cpu.weight"), &weight.to_string())?;
                let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
                files::set(&directory.join("cpu.max"), &format!("{quota} {PERIOD}"))
            }
        }
    }

    /// What the container uses now.
    pub(crate) fn usage(&self) -> GroupUsage {
        let mut usage = GroupUsage::default();
        match self.at(Controller::CpuAccount) {
            Some((Kind::First, directory)) => {
                usage.cpu = Duration::from_nanos(number(&directory.join("cpuacct.usage")));
            }
            Some((Kind::Second, directory)) => {
                usage.cpu = Duration::from_micros(field(&directory.join("cpu.stat"), "usage_usec"));
            }
            None => {}
        }
        if let Some((kind, directory)) = self.at(Controller::Memory) {
            let (current, stat, events) = match kind {
                Kind::First => ("memory.usage_in_bytes", "total_inactive_file", "memory.oom_control"),
                Kind::Second => ("memory.current", "inactive_file", "memory.events"),
            };
            let cache = field(&directory.join("memory.stat"), stat);
            usage.memory = number(&directory.join(current)).saturating_sub(cache);
            usage.out_of_memory = field(&directory.join(events), "oom_kill");
        }
        if let Some((_, directory)) = self.at(Controller::Pids) {
            usage.pids = number(&directory.join("pids.current"));
        }
        usage
    }

    /// The files by which a process enters the groups.
    pub(crate) fn entrances(&self) -> Vec<PathBuf> {
        self.directories().into_iter().map(|directory| directory.join("cgroup.procs")).collect()
    }

    /// The processes in the groups.
    pub(crate) fn pids(&self) -> BTreeSet<i32> {
        let texts = self.entrances().into_iter().filter_map(|path| files::read_text(&path).ok());
        texts
            .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<i32>>())
            .collect()
    }

    /// Kills everything in the groups, at once where the kernel can.
    pub(crate) fn kill(&self) {
        for directory in self.directories() {
            // There from Linux 5.14 on, in the second kind only.
            drop(files::set(&directory.join("cgroup.kill"), "1"));
        }
        for pid in self.pids() {
            if let Ok(process) = crate::process_id::ProcessId::of(pid) {
                process.signal(rustix::process::Signal::KILL);
            }
        }
    }

    /// Removes the groups; an error while there still is somebody in them.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for directory in self.directories() {
            match std::fs::remove_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn at(&self, controller: Controller) -> Option<(Kind, PathBuf)> {
        self.homes.of.get(&controller).map(|home| (home.kind, home.directory.join(&self.name)))
    }

    fn directories(&self) -> BTreeSet<PathBuf> {
        let homes = self.homes.of.values().map(|home| &home.directory).chain(&self.homes.unified);
        homes.map(|home| home.join(&self.name)).collect()
    }
}

fn limit_memory(kind: Kind, directory: &Path, bytes: u64) -> io::Result<()> {
    match kind {
        Kind::First => {
            files::set(&directory.join("memory.limit_in_bytes"), &bytes.to_string())?;
            // Without accounting of swap there is no such file, and then no swap either.
            optional(files::set(&directory.join("memory.memsw.limit_in_bytes"), &bytes.to_string()))
        }
        Kind::Second => {
            files::set(&directory.join("memory.max"), &bytes.to_string())?;
            optional(files::set(&directory.join("memory.swap.max"), "0"))?;
            optional(files::set(&directory.join("memory.oom.group"), "1"))
        }
    }
}

fn limit_io(kind: Kind, directory: &Path, (major, minor): Device, iops: u64) -> io::Result<()> {
    match kind {
        Kind::First => {
            for file in ["blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device"] {
                files::set(&directory.join(file), &format!("{major}:{minor} {iops}"))?;
            }
            Ok(())
        }
        Kind::Second => {
            files::set(&directory.join("io.max"), &format!("{major}:{minor} riops={iops} wiops={iops}"))
        }
    }
}

fn optional(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn number(path: &Path) -> u64 {
    files::read_text(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn field(path: &Path, name: &str) -> u64 {
    let text = files::read_text(path).unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
    found.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::Home;
    use super::*;

    fn second(directory: &Path) -> Homes {
        let home = Home { kind: Kind::Second, directory: directory.to_owned() };
        let of = Controller::ALL.into_iter().map(|controller| (controller, home.clone())).collect();
        Homes { of, unified: Some(directory.to_owned()) }
    }

    #[test]
    fn the_second_kind_is_written_as_the_kernel_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let group = Group::new(&second(dir.path()), "pod");
        let own = dir.path().join("pod");
        files::make_dirs(&own, 0o755).unwrap();
        for name in ["cpu.max", "cpu.weight", "memory.max", "memory.swap.max", "pids.max", "io.max"] {
            files::replace(&own.join(name), b"", 0o600).unwrap();
        }
        let limits = GroupLimits {
            cpu_milli: Some(250),
            cpu_request_milli: 250,
            memory: Some(64 << 20),
            pids: Some(32),
            iops: Some(((8, 0), 100)),
        };
        group.make(&limits).unwrap();
        let text = |name: &str| files::read_text(&own.join(name)).unwrap();
        assert_eq!(text("cpu.max"), "25000 100000");
        assert_eq!(text("memory.max"), "67108864");
        assert_eq!(text("pids.max"), "32");
        assert_eq!(text("io.max"), "8:0 riops=100 wiops=100");
    }
}
