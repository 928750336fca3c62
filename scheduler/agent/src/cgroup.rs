//! Control groups, of the first or the second kind, found for each controller
//! by itself: a machine may have memory in the one and hugetlb in the other.

mod group;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;

pub(crate) use group::{Device, Group, GroupLimits};

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Controller {
    /// Time on processors.
    Cpu,
    /// Counting that time, where it is a controller of its own.
    CpuAccount,
    /// Memory.
    Memory,
    /// Number of processes.
    Pids,
    /// Operations on disks.
    Io,
    /// Stopping and killing all at once.
    Freezer,
}

impl Controller {
    pub(crate) const ALL: [Self; 6] =
        [Self::Cpu, Self::CpuAccount, Self::Memory, Self::Pids, Self::Io, Self::Freezer];

    const fn first_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::CpuAccount => "cpuacct",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Io => "blkio",
            Self::Freezer => "freezer",
        }
    }

    /// `None` where the second kind has it without a controller.
    const fn second_name(self) -> Option<&'static str> {
        match self {
            Self::Cpu => Some("cpu"),
            Self::Memory => Some("memory"),
            Self::Pids => Some("pids"),
            Self::Io => Some("io"),
            Self::CpuAccount | Self::Freezer => None,
        }
    }
}

/// Which kind of control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One hierarchy for each controller.
    First,
    /// One hierarchy for all.
    Second,
}

/// Where one controller lives: the directory under which the agent makes groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home {
    pub kind: Kind,
    pub directory: PathBuf,
}

/// The controllers that this machine lets the agent use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Homes {
    pub of: BTreeMap<Controller, Home>,
    /// The one hierarchy of the second kind, whatever controllers it has.
    pub unified: Option<PathBuf>,
}

/// Whether a group has neither processes nor groups of its own.
fn is_empty(group: &Path) -> bool {
    let processes = files::read_text(&group.join("cgroup.procs")).unwrap_or_default();
    let groups = std::fs::read_dir(group).into_iter().flatten().flatten();
    let mut groups = groups.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    processes.trim().is_empty() && groups.next().is_none()
}

impl Homes {
    /// Looks at the machine. `node` becomes part of the groups' names, so that
    /// several agents can share a machine.
    pub(crate) fn find(node: &str) -> io::Result<Self> {
        let mounts = files::read_text(Path::new("/proc/self/mountinfo"))?;
        let own = files::read_text(Path::new("/proc/self/cgroup"))?;
        Ok(Self::from_text(&mounts, &own, node))
    }

    fn from_text(mounts: &str, own: &str, node: &str) -> Self {
        let name = format!("coffer-{node}");
        let mut homes = Self::default();
        for mount in mounts.lines().filter_map(Mounted::parse) {
            if mount.second {
                let base = mount.inside(own_group(own, None));
                homes.unified = Some(base.join(&name));
                continue;
            }
            for controller in Controller::ALL {
                if mount.options.split(',').any(|option| option == controller.first_name()) {
                    let base = mount.inside(own_group(own, Some(controller.first_name())));
                    let directory = base.join(&name);
                    homes.of.insert(controller, Home { kind: Kind::First, directory });
                }
            }
        }
        homes
    }

    /// Makes the agent's own groups, and learns which controllers of the second
    /// kind it may use. What does not work is left out, and the reason told.
    pub(crate) fn prepare(&mut self) -> BTreeMap<Controller, io::Error> {
        let mut reasons = BTreeMap::new();
        if let Some(unified) = self.unified.clone() {
            self.prepare_second(&unified, &mut reasons);
        }
        for controller in Controller::ALL {
            let Some(home) = self.of.get(&controller) else { continue };
            if let Err(error) = make(&home.directory) {
                reasons.insert(controller, error);
                self.of.remove(&controller);
            }
        }
        reasons
    }

    /// Takes the agent's own groups away again, as far as they are empty;
    /// whether it is to be tried again, because one is that the kernel still
    /// holds for a moment: it counts the memory of a group of the first kind
    /// down after its last process has gone.
    pub(crate) fn clear(&self) -> bool {
        let mut again = false;
        for directory in self.of.values().map(|home| &home.directory).chain(&self.unified) {
            // Somebody is in it, or it has gone already: both are well.
            let busy = std::fs::remove_dir(directory)
                .is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy);
            again |= busy && is_empty(directory);
        }
        again
    }

    fn prepare_second(&mut self, unified: &Path, reasons: &mut BTreeMap<Controller, io::Error>) {
        let Some(parent) = unified.parent() else { return };
        if make(unified).is_err() {
            self.unified = None;
            return;
        }
        let there = files::read_text(&parent.join("cgroup.controllers")).unwrap_or_default();
        let mut enabled = false;
        for controller in Controller::ALL {
            let Some(name) = controller.second_name() else { continue };
            if !there.split_whitespace().any(|word| word == name) {
                continue;
            }
            match enable(parent, name).and_then(|()| enable(unified, name)) {
                Ok(()) => {
                    enabled = true;
                    let home = Home { kind: Kind::Second, directory: unified.to_owned() };
                    self.of.insert(controller, home);
                }
                Err(error) => drop(reasons.insert(controller, error)),
            }
        }
        if enabled {
            for controller in [Controller::CpuAccount, Controller::Freezer] {
                let home = Home { kind: Kind::Second, directory: unified.to_owned() };
                self.of.entry(controller).or_insert(home);
            }
        }
    }
}

/// Makes a group in which others can be made. One that is there already may be
/// another user's: of an agent that was root, say.
fn make(directory: &Path) -> io::Result<()> {
    files::make_dirs(directory, 0o755)?;
    Ok(rustix::fs::access(directory, rustix::fs::Access::WRITE_OK)?)
}

/// Lets groups below `directory` use a controller. A group that has processes
/// and is not the root may not: then the agent moves itself one group down.
fn enable(directory: &Path, name: &str) -> io::Result<()> {
    let control = directory.join("cgroup.subtree_control");
    let wanted = format!("+{name}");
    match files::set(&control, &wanted) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            let below = directory.join("coffer-agent");
            files::make_dirs(&below, 0o755)?;
            files::set(&below.join("cgroup.procs"), "0")?;
            files::set(&control, &wanted)
        }
        other => other,
    }
}

struct Mounted {
    root: String,
    point: PathBuf,
    second: bool,
    options: String,
}

impl Mounted {
    /// One line of `proc(5)` mountinfo, if it is a hierarchy of control groups.
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let second = match after.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let options = after.nth(1)?.to_owned();
        Some(Self { root: root.to_owned(), point: point.into(), second, options })
    }

    /// The directory of the group `own` in this mount, which may show only a part.
    fn inside(&self, own: Option<&str>) -> PathBuf {
        let own = own.unwrap_or("/");
        let below = Path::new(own).strip_prefix(&self.root).unwrap_or_else(|_| Path::new(""));
        self.point.join(below)
    }
}

/// The agent's own group in the hierarchy of a controller, or in the unified one.
fn own_group<'a>(text: &'a str, controller: Option<&str>) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let this = match controller {
            Some(name) => controllers.split(',').any(|one| one == name),
            None => controllers.is_empty(),
        };
        this.then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";

    #[test]
    fn each_controller_is_found_where_it_is() {
        let own = "5:memory:/machine/one\n4:cpu,cpuacct:/\n0::/";
        let homes = Homes::from_text(HYBRID, own, "n1");
        let at = |controller| homes.of.get(&controller).map(|home| home.directory.to_str().unwrap());
        assert_eq!(at(Controller::Memory), Some("/sys/fs/cgroup/memory/machine/one/coffer-n1"));
        assert_eq!(at(Controller::CpuAccount), Some("/sys/fs/cgroup/cpu,cpuacct/coffer-n1"));
        assert_eq!(at(Controller::Pids), None);
        assert_eq!(homes.unified.unwrap().to_str(), Some("/sys/fs/cgroup/unified/coffer-n1"));
    }

    #[test]
    fn a_mount_that_shows_a_part_of_the_hierarchy_is_not_entered_twice() {
        let mounts = "31 30 0:27 /machine /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        let homes = Homes::from_text(mounts, "5:memory:/machine/one", "n1");
        let memory = homes.of.get(&Controller::Memory).unwrap();
        assert_eq!(memory.directory.to_str(), Some("/sys/fs/cgroup/memory/one/coffer-n1"));
    }
}
