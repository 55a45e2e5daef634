//! What the system says of its memory.

/// Bytes that are free, or are given up by the page cache when somebody needs them; [`None`] where the
/// system does not say (`MemAvailable` of `proc_meminfo(5)`).
pub(in crate::store) fn available() -> Option<u64> {
    let bytes = bytes(&memory()?, "MemAvailable:")?;
    // In a container (cgroup v2) the limit is its own.
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|limit| limit.trim().parse().ok());
    Some(limit.map_or(bytes, |limit: u64| limit.min(bytes)))
}

/// Bytes of the page cache that the device does not have yet; [`None`] where the system does not say
/// (`Dirty` and `Writeback` of `proc_meminfo(5)`).
pub(in crate::store) fn unwritten() -> Option<u64> {
    let memory = memory()?;
    bytes(&memory, "Dirty:")?.checked_add(bytes(&memory, "Writeback:")?)
}

fn memory() -> Option<String> {
    std::fs::read_to_string("/proc/meminfo").ok()
}

/// What a line of `proc_meminfo(5)` says, in bytes.
fn bytes(memory: &str, name: &str) -> Option<u64> {
    let line = memory.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
