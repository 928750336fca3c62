//! Files in memory that cannot be run. The filter of system calls makes none at
//! all; this is what holds where it fails: the pod's process id name space refuses every
//! `memfd_create` that does not ask for one without the right to be executed.

use std::io;
use std::path::Path;

use crate::files;

/// What the name space of whoever writes it keeps; kernels from 6.3 on have it.
const SETTING: &str = "/proc/sys/vm/memfd_noexec";
/// Without the right always: what does not ask for that is refused.
const REFUSED: &str = "2";

/// Whether this machine has it, and lets it be set.
pub(crate) fn can_be_refused() -> bool {
    std::fs::OpenOptions::new().write(true).open(SETTING).is_ok()
}

/// Forbids them in this process id name space, for good: what is set there may be made stricter only. A
/// machine without the setting goes on without it, and its probe says so.
pub(crate) fn refuse() -> io::Result<()> {
    if !rustix::process::getpid().is_init() {
        // The name space is not the pod's own: it would be the machine that is changed.
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if can_be_refused() { files::set(Path::new(SETTING), REFUSED) } else { Ok(()) }
}
