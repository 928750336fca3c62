//! What a pod needs and a node has.

use serde::{Deserialize, Serialize};

/// An amount of everything that is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of disk for shards.
    pub disk_bytes: u64,
    /// Input and output operations a second of that disk.
    pub iops: u64,
}

/// One kind of what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// [`Resources::cpu_millis`].
    Cpu,
    /// [`Resources::memory_bytes`].
    Memory,
    /// [`Resources::disk_bytes`].
    Disk,
    /// [`Resources::iops`].
    Iops,
}

impl Resource {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Disk, Self::Iops];
}

impl Resources {
    /// The amount of one kind.
    pub fn of(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Cpu => self.cpu_millis,
            Resource::Memory => self.memory_bytes,
            Resource::Disk => self.disk_bytes,
            Resource::Iops => self.iops,
        }
    }

    /// The amount of one kind, to be changed.
    pub fn of_mut(&mut self, resource: Resource) -> &mut u64 {
        match resource {
            Resource::Cpu => &mut self.cpu_millis,
            Resource::Memory => &mut self.memory_bytes,
            Resource::Disk => &mut self.disk_bytes,
            Resource::Iops => &mut self.iops,
        }
    }

    /// The kinds of which `self` asks for more than `free` has.
    pub fn lacking(&self, free: &Self) -> impl Iterator<Item = Resource> {
        let pair = (*self, *free);
        Resource::ALL.into_iter().filter(move |resource| pair.0.of(*resource) > pair.1.of(*resource))
    }

    /// Both together; an amount that no machine has where the sum is too large.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = *self;
        for resource in Resource::ALL {
            *sum.of_mut(resource) = sum.of(resource).saturating_add(other.of(resource));
        }
        sum
    }

    /// What is left after `other` is taken; nothing of a kind of which there is not so much.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        let mut rest = *self;
        for resource in Resource::ALL {
            *rest.of_mut(resource) = rest.of(resource).saturating_sub(other.of(resource));
        }
        rest
    }

    /// What is left after `other` is taken; `None` where there is not so much.
    pub fn minus(&self, other: &Self) -> Option<Self> {
        let mut rest = *self;
        for resource in Resource::ALL {
            *rest.of_mut(resource) = rest.of(resource).checked_sub(other.of(resource))?;
        }
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named_and_never_taken() {
        let free = Resources { cpu_millis: 1000, memory_bytes: 10, disk_bytes: 10, iops: 10 };
        let needs = Resources { cpu_millis: 1001, memory_bytes: 10, disk_bytes: 0, iops: 11 };
        assert_eq!(needs.lacking(&free).collect::<Vec<_>>(), [Resource::Cpu, Resource::Iops]);
        assert_eq!(free.minus(&needs), None);
        assert_eq!(free.minus(&free), Some(Resources::default()));
    }
}
