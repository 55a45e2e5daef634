//! What the system says of its memory.

/// Bytes that are free, or are given up by the page cache when somebody needs them; [`None`] where the
/// system does not say (`MemAvailable` of `proc_meminfo(5)`).
pub(in crate::store) fn available() -> Option<u64> {
    let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
    let mut lines = memory.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let bytes = kib.checked_mul(1024)?;
    // In a container (cgroup v2) the limit is its own.
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|limit| limit.trim().parse().ok());
    Some(limit.map_or(bytes, |limit: u64| limit.min(bytes)))
}
