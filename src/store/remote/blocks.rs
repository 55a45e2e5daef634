//! Aligned blocks of an object, read once and kept.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Bytes kept at most.
const KEEP_BYTES: u64 = 64 << 20;
/// Bytes of a block. The nodes of a file's chunk tables are 2 to 3 kB, megabytes apart: with larger
/// blocks a query on few cells fetched more of what lies around them than of the cells.
const BLOCK: u64 = 8 << 10;
/// Blocks that are fetched at a time, for what they are likely to hold.
const MOST_TOUCHED: usize = 256;
/// Bytes that are read ahead at most, where blocks are asked for in order.
const MOST_AHEAD: u64 = 1 << 20;

/// The blocks of one object.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Bytes of the object.
    len: u64,
    /// Bytes of a block.
    size: u64,
    state: Mutex<State>,
    /// Told when a block has come.
    came: Condvar,
}

#[derive(Debug, Default)]
struct State {
    kept: HashMap<u64, Kept>,
    /// Blocks that somebody asks for now.
    coming: HashSet<u64>,
    /// Counts uses, to tell which block was used last.
    clock: u64,
    /// The block after those read last, and how many were read: who goes on there gets more.
    next: u64,
    run: u64,
}

#[derive(Debug)]
struct Kept {
    bytes: Bytes,
    used: u64,
}

impl Blocks {
    /// The blocks of an object of `len` bytes.
    pub(super) fn new(len: u64) -> Self {
        Self {
            len,
            size: BLOCK,
            state: Mutex::default(),
            came: Condvar::new(),
        }
    }

    /// Keeps the object's first bytes, as far as they are whole blocks.
    pub(super) fn begin(&self, bytes: &Bytes) {
        let mut state = self.lock();
        let mut index = 0;
        while let Some(block) = self.part(bytes, 0, index) {
            state.keep(index, block);
            index += 1;
        }
        (state.next, state.run) = (index, 1);
    }

    /// A block of bytes that begin at `start` in the object, where all of it is there.
    fn part(&self, bytes: &Bytes, start: u64, index: u64) -> Option<Bytes> {
        let range = self.range(index..index + 1);
        let from = usize::try_from(range.start.checked_sub(start)?).ok()?;
        let to = usize::try_from(range.end.checked_sub(start)?).ok()?;
        (from < to && to <= bytes.len()).then(|| bytes.slice(from..to))
    }

    /// Where blocks lie in the object.
    fn range(&self, blocks: Range<u64>) -> Range<u64> {
        let at = |index: u64| index.saturating_mul(self.size).min(self.len);
        at(blocks.start)..at(blocks.end)
    }

    /// Fills `buf` from `offset`, both within the object; what is not here comes from `fetch`.
    ///
    /// # Errors
    /// Those of `fetch`.
    pub(super) fn read(
        &self,
        offset: u64,
        buf: &mut [u8],
        fetch: impl Fn(Range<u64>) -> io::Result<Bytes>,
    ) -> io::Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        let last = end.saturating_sub(1) / self.size;
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let index = at / self.size;
            let block = self.block(index, last, &fetch)?;
            let skip = usize::try_from(at % self.size).map_err(io::Error::other)?;
            let there = block
                .get(skip..)
                .filter(|there| !there.is_empty())
                .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            let n = there.len().min(rest.len());
            let (target, left) = rest.split_at_mut(n);
            target.copy_from_slice(&there[..n]);
            rest = left;
            at += n as u64;
        }
        Ok(())
    }

    /// A block; where it has to be fetched, up to `last` and beyond with it.
    fn block(
        &self,
        index: u64,
        last: u64,
        fetch: &impl Fn(Range<u64>) -> io::Result<Bytes>,
    ) -> io::Result<Bytes> {
        let mut state = self.lock();
        loop {
            if let Some(bytes) = state.recall(index) {
                return Ok(bytes);
            }
            if !state.coming.contains(&index) {
                break;
            }
            state = self
                .came
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let run = match index == state.next {
            true => (state.run * 2).min(MOST_AHEAD / self.size),
            false => 1,
        };
        let wanted = (last - index + 1).min(MOST_AHEAD / self.size).max(run);
        let n_blocks = self.len.div_ceil(self.size);
        let mut end = index + 1;
        while end < (index + wanted).min(n_blocks)
            && !state.kept.contains_key(&end)
            && !state.coming.contains(&end)
        {
            end += 1;
        }
        state.coming.extend(index..end);
        (state.next, state.run) = (end, end - index);
        drop(state);
        let _coming = Coming {
            blocks: self,
            indexes: (index..end).collect(),
        };
        let range = self.range(index..end);
        let bytes = fetch(range.clone())?;
        let mut state = self.lock();
        for at in index..end {
            if let Some(block) = self.part(&bytes, range.start, at) {
                state.keep(at, block);
            }
        }
        state.drop_oldest();
        state
            .recall(index)
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// Fetches the blocks of ranges that are not here, together.
    ///
    /// # Errors
    /// Those of `fetch`.
    pub(super) fn touch(
        &self,
        ranges: &[Range<u64>],
        fetch: impl Fn(&[Range<u64>]) -> io::Result<Vec<Bytes>>,
    ) -> io::Result<()> {
        let mut coming = Coming {
            blocks: self,
            indexes: Vec::new(),
        };
        let mut state = self.lock();
        let n_blocks = self.len.div_ceil(self.size);
        'ranges: for range in ranges.iter().filter(|r| r.start < r.end) {
            for index in range.start / self.size..=(range.end - 1) / self.size {
                if coming.indexes.len() >= MOST_TOUCHED || index >= n_blocks {
                    continue 'ranges;
                }
                if !state.kept.contains_key(&index) && state.coming.insert(index) {
                    coming.indexes.push(index);
                }
            }
        }
        drop(state);
        if coming.indexes.is_empty() {
            return Ok(());
        }
        coming.indexes.sort_unstable();
        // Neighbours come in one answer.
        let runs: Vec<Range<u64>> = coming
            .indexes
            .chunk_by(|a, b| a + 1 == *b)
            .filter_map(|run| Some(*run.first()?..run.last()? + 1))
            .collect();
        let wanted: Vec<_> = runs.iter().map(|run| self.range(run.clone())).collect();
        let fetched = fetch(&wanted)?;
        let mut state = self.lock();
        for ((run, range), bytes) in runs.into_iter().zip(&wanted).zip(fetched) {
            for index in run {
                if let Some(block) = self.part(&bytes, range.start, index) {
                    state.keep(index, block);
                }
            }
        }
        state.drop_oldest();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn recall(&mut self, index: u64) -> Option<Bytes> {
        self.clock += 1;
        let kept = self.kept.get_mut(&index)?;
        kept.used = self.clock;
        Some(kept.bytes.clone())
    }

    fn keep(&mut self, index: u64, bytes: Bytes) {
        self.clock += 1;
        // Its own: a slice would keep all that came with it.
        let bytes = Bytes::copy_from_slice(&bytes);
        let used = self.clock;
        self.kept.insert(index, Kept { bytes, used });
    }

    /// Lets go of what was used longest ago, a quarter at a time.
    fn drop_oldest(&mut self) {
        let bytes: u64 = self.kept.values().map(|kept| kept.bytes.len() as u64).sum();
        if bytes <= KEEP_BYTES {
            return;
        }
        let mut uses: Vec<u64> = self.kept.values().map(|kept| kept.used).collect();
        uses.sort_unstable();
        let oldest = uses.get(uses.len() / 4).copied().unwrap_or_default();
        self.kept.retain(|_, kept| kept.used > oldest);
    }
}

/// Blocks on their way; whatever happens, they are no longer so in the end.
struct Coming<'a> {
    blocks: &'a Blocks,
    indexes: Vec<u64>,
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        let mut state = self.blocks.lock();
        for index in &self.indexes {
            state.coming.remove(index);
        }
        drop(state);
        self.blocks.came.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn blocks_are_fetched_once_and_more_of_them_in_order() {
        let all: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        let blocks = Blocks::new(all.len() as u64);
        let fetched = RefCell::new(Vec::new());
        let fetch = |range: Range<u64>| {
            fetched.borrow_mut().push(range.clone());
            let at = |at: u64| usize::try_from(at).unwrap();
            Ok(Bytes::copy_from_slice(&all[at(range.start)..at(range.end)]))
        };
        let check = |offset: usize, len: usize| {
            let mut buf = vec![0; len];
            blocks.read(offset as u64, &mut buf, fetch).unwrap();
            assert_eq!(buf, all[offset..offset + len]);
        };
        let block = usize::try_from(BLOCK).unwrap();
        check(100, 50);
        check(block - 300, 1_000);
        check(block * 3, 10);
        check(299_999, 1);
        check(100, 50);
        assert_eq!(
            *fetched.borrow(),
            [
                0..BLOCK,
                BLOCK..3 * BLOCK,
                3 * BLOCK..7 * BLOCK,
                36 * BLOCK..300_000
            ]
        );
    }

    #[test]
    fn a_failure_is_not_kept() {
        let blocks = Blocks::new(10);
        let mut buf = [0; 2];
        let failed = blocks.read(0, &mut buf, |_| Err(io::Error::other("no")));
        assert!(failed.is_err());
        blocks
            .read(3, &mut buf, |_| Ok(Bytes::from_static(b"0123456789")))
            .unwrap();
        assert_eq!(&buf, b"34");
    }
}
