//! How much memory this process has taken.

/// The most bytes that were in memory at once so far; `None` where the system does not tell.
#[cfg(unix)]
pub fn peak() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    // Apple counts bytes, all others KiB.
    const UNIT: u64 = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    u64::try_from(usage.max_rss()).ok().map(|peak| peak * UNIT)
}

/// The most bytes that were in memory at once so far; `None` where the system does not tell.
#[cfg(not(unix))]
pub fn peak() -> Option<u64> {
    None
}
