//! Sends bytes through every entrance of a site: the first byte says which.
#![no_main]

use coffer_site::entrances::ENTRANCES;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let (_, enter) = ENTRANCES[usize::from(*which) % ENTRANCES.len()];
    enter(bytes);
});
