//! What a process gives up for good: limits, capabilities, its user. The order
//! matters: limits and the bounding set need the privileges that go last.

use std::io;

use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::plan::Limit;

/// Sets hard and soft limits alike; a limit above the machine's own is lowered
/// to it, because raising needs a capability that a machine may not give.
pub(crate) fn limit(limits: &[(Limit, u64)]) -> io::Result<()> {
    for (limit, value) in limits {
        let resource = resource(*limit);
        let ceiling = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let value = Some((*value).min(ceiling)).filter(|value| *value != u64::MAX);
        setrlimit(resource, Rlimit { current: value, maximum: value })?;
    }
    Ok(())
}

fn resource(limit: Limit) -> Resource {
    match limit {
        Limit::AddressSpace => Resource::As,
        Limit::FileSize => Resource::Fsize,
        Limit::Files => Resource::Nofile,
        Limit::Processes => Resource::Nproc,
        Limit::Core => Resource::Core,
        Limit::Locked => Resource::Memlock,
        Limit::MessageQueues => Resource::Msgqueue,
    }
}

/// Empties the bounding and ambient sets, and locks the rules by which user 0
/// would get capabilities back. The sets themselves go with [`drop_sets`].
pub(crate) fn drop_bounding() -> io::Result<()> {
    for bit in 0..64_u32 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match remove_capability_from_bounding_set(one) {
            // Beyond the last capability that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            other => other?,
        }
    }
    clear_ambient_capability_set()?;
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    Ok(set_capabilities_secure_bits(bits)?)
}

/// Becomes the user `uid`, with the group of the same number and no other.
pub(crate) fn become_user(uid: u32) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}

/// Drops what capabilities are left, and forbids `execve` to give new ones.
pub(crate) fn drop_sets() -> io::Result<()> {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(set_no_new_privs(true)?)
}
