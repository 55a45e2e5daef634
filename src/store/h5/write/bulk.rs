//! Bytes that go to the device past the page cache.
//!
//! Once more is written than the kernel keeps for later, writers wait for the device in any case, and
//! meanwhile pay for pages that nobody reads again and that push out what is being read.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::store::memory;

use super::descriptor::Descriptor;

/// What places, lengths and memory are multiples of: pages, and blocks of every usual device.
const BLOCK: usize = 4096;
/// Bytes of a write. Each waits for the device on another thread, and the way there and back costs more
/// than the memory: with a mebibyte a large slice takes a third longer.
const WRITE: usize = 4 << 20;
/// Runs below this go through the page cache.
pub(super) const LEAST: u64 = 4 << 20;
/// Bytes through the page cache after which its fullness is asked for anew: some milliseconds of writing,
/// beside which the question is nothing.
pub(super) const ASK: u64 = 32 << 20;

/// File systems whose direct writes are known to be at least as fast as their buffered ones in the
/// long run.
#[cfg(target_os = "linux")]
fn is_suitable(about: &libc::statfs) -> bool {
    // `linux/magic.h`; the constants of `libc` have another type on every system.
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    u64::try_from(about.f_type).is_ok_and(|kind| [EXT4, XFS].contains(&kind))
}

/// Opens the file for such writes: [`None`] where the run's bytes, as far as they are known, fit
/// into the page cache, and where the file system is not one of those that gain.
pub(super) fn open(path: &Path, run_bytes: u64) -> Option<File> {
    (run_bytes > kept_for_later()?).then(|| open_direct(path))?
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> Option<File> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).custom_flags(libc::O_DIRECT).open(path);
    let file = file.ok()?;
    let mut about = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the descriptor is open, and the call fills the structure where it succeeds; zeros
    // are one, too.
    let about = unsafe {
        if libc::fstatfs(file.as_raw_fd(), about.as_mut_ptr()) != 0 {
            return None;
        }
        about.assume_init()
    };
    is_suitable(&about).then_some(file)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_path: &Path) -> Option<File> {
    None
}

/// Whether the kernel makes those wait who write more. Until then a run goes through the page cache, for
/// the device writes that while others are made.
pub(super) fn is_cache_full() -> bool {
    match memory::unwritten().zip(free_run()) {
        Some((unwritten, most)) => unwritten > most,
        None => true,
    }
}

/// Bytes of changed pages from which on writers wait: half-way between those from which on they are
/// written out and those that there may be (`balance_dirty_pages` of Linux).
fn free_run() -> Option<u64> {
    let most = threshold("dirty")?;
    Some(kept_for_later()?.min(most).midpoint(most))
}

/// Bytes of changed pages from which on the kernel writes them out.
fn kept_for_later() -> Option<u64> {
    threshold("dirty_background")
}

/// A number of bytes, or a share of the memory that is available (`vm.dirty_bytes`, `vm.dirty_ratio` and
/// those of `dirty_background`; `proc_sys_vm(5)`). [`None`] where the system does not say.
fn threshold(name: &str) -> Option<u64> {
    let number = |of: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/vm/{name}_{of}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    match number("bytes")? {
        0 => memory::available()?
            .checked_mul(number("ratio")?)?
            .checked_div(100),
        bytes => Some(bytes),
    }
}

/// Runs of the process that go past the page cache at a time: what each holds is no part of any
/// other reckoning of memory.
const MOST: usize = 8;
/// How many do.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// The bytes of a run that wait to be a whole write.
#[derive(Debug)]
pub(super) struct Bulk {
    /// A block more than a write, which begins at `skew`.
    memory: Box<[u8]>,
    skew: usize,
    /// Bytes that wait.
    filled: usize,
    /// Where the first of them belongs; a whole block where any wait.
    at: u64,
}

impl Drop for Bulk {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Bulk {
    /// One for a run; [`None`] where there are as many as may be.
    pub(super) fn try_new() -> Option<Self> {
        LIVE.fetch_update(Ordering::AcqRel, Ordering::Acquire, |live| {
            (live < MOST).then_some(live + 1)
        })
        .ok()?;
        let memory = vec![0; WRITE + BLOCK].into_boxed_slice();
        let skew = memory.as_ptr().align_offset(BLOCK).min(BLOCK);
        Some(Self {
            memory,
            skew,
            filled: 0,
            at: 0,
        })
    }

    /// Bytes that are taken before a write, which waits for the device.
    pub(super) fn room(&self) -> u64 {
        u64::try_from(WRITE - self.filled).unwrap_or(0)
    }

    /// Takes bytes that follow those taken before, or the first of a run.
    pub(super) fn write(
        &mut self,
        to: &Descriptor,
        mut bytes: &[u8],
        mut at: u64,
    ) -> io::Result<()> {
        if self.filled == 0 {
            let into_block = usize::try_from(at % (BLOCK as u64)).unwrap_or(0);
            let head = bytes.len().min((BLOCK - into_block) % BLOCK);
            let (now, later) = bytes.split_at(head);
            to.write_all_at(now, at)?;
            at += head as u64;
            bytes = later;
            self.at = at;
        }
        while !bytes.is_empty() {
            if self.filled == WRITE {
                self.make_room(to)?;
            }
            let len = bytes.len().min(WRITE - self.filled);
            let (now, later) = bytes.split_at(len);
            let start = self.skew + self.filled;
            self.memory[start..start + len].copy_from_slice(now);
            self.filled += len;
            bytes = later;
        }
        Ok(())
    }

    /// Writes the whole blocks that wait; what is left of another is the beginning of the next write.
    pub(super) fn make_room(&mut self, to: &Descriptor) -> io::Result<()> {
        let whole = self.filled - self.filled % BLOCK;
        let end = self.skew + self.filled;
        to.write_blocks_at(&self.memory[self.skew..self.skew + whole], self.at)?;
        self.memory.copy_within(self.skew + whole..end, self.skew);
        self.at += whole as u64;
        self.filled -= whole;
        Ok(())
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self, to: &Descriptor) -> io::Result<()> {
        let waiting = &self.memory[self.skew..self.skew + self.filled];
        let (blocks, rest) = waiting.split_at(self.filled - self.filled % BLOCK);
        to.write_blocks_at(blocks, self.at)?;
        let after = self.at + blocks.len() as u64;
        to.write_all_at(rest, after)?;
        self.at += self.filled as u64;
        self.filled = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn bytes_of_any_length_come_to_any_place() {
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        let direct = open_direct(file.path());
        if direct.is_none() {
            println!("SKIPPED: writes past the page cache; this file system is not ext4 or XFS");
        }
        let descriptor = Descriptor::new(file.reopen().unwrap(), direct);
        let mut rng = SmallRng::seed_from_u64(7);
        let mut expected = vec![0u8; 9 << 20];
        rng.fill(&mut expected[..]);
        descriptor.write_all_at(&expected, 0).unwrap();
        for (start, end) in [
            (0, 4 << 20),
            (5000, 5001),
            (4096, 8192),
            (12_345, 8_765_432),
        ] {
            rng.fill(&mut expected[start..end]);
            let mut bulk = Bulk::try_new().unwrap();
            let mut at = start;
            while at < end {
                let len = rng.random_range(1..700_000).min(end - at);
                bulk.write(&descriptor, &expected[at..at + len], at as u64)
                    .unwrap();
                at += len;
                if rng.random_bool(0.05) {
                    bulk.make_room(&descriptor).unwrap();
                }
            }
            bulk.flush(&descriptor).unwrap();
            assert_eq!(
                std::fs::read(file.path()).unwrap(),
                expected,
                "{start}..{end}"
            );
        }
    }
}
