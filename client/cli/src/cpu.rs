//! The CPU floor: x86-64-v3. The Reed-Solomon codec is compiled for Haswell,
//! and on an older processor would end with an illegal instruction in the
//! middle of the first write.

use crate::exit::Failure;

/// Refuses a processor below the floor.
#[cfg(target_arch = "x86_64")]
pub(crate) fn check() -> Result<(), Failure> {
    let features = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("ssse3", std::arch::is_x86_feature_detected!("ssse3")),
        ("bmi2", std::arch::is_x86_feature_detected!("bmi2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
    ];
    let missing: Vec<&str> = features.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("this processor lacks {}; Coffer needs x86-64-v3", missing.join(", ")))
        .safe("nothing was started")
        .next("run it on a processor of 2013 or later, or give the virtual machine a CPU model with AVX2"))
}

/// No floor on other architectures.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn check() -> Result<(), Failure> {
    Ok(())
}
