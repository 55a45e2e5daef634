//! The bytes of selected rows: only chunks that hold some of them, each once, on all cores.

use std::mem::MaybeUninit;
use std::ops::{AddAssign, Range};
use std::sync::Arc;

use rayon::prelude::*;

use super::array::Core;
use super::filter::with_scratch;
use super::grid::read_grid;
use super::storage::{Chunked, Entry, Storage};
use crate::model::RowSelection;
use crate::store::decode::{Bytes, Fault, Initialised, bands, zeroed};
use crate::store::source::{ByteSource, check_range};

/// A contiguous run is split into tasks of this size.
const RUN: u64 = 1 << 20;
/// Ranges closer than this are fetched as one: a read call costs more than the bytes between.
const GAP: u64 = 4 << 10;
/// Below this, decoding is not worth the pool's while.
pub(super) const SMALL: u64 = 256 << 10;
/// Below this, copying is not.
pub(super) const COPY: u64 = 1 << 20;
/// Pieces from which on all cores ask for them: a device that has to be asked answers many at once.
const SCATTERED: usize = 64;
/// Bytes that are fetched together of a file that is far away, before they are decoded.
const WAVE: u64 = 64 << 20;
/// What a read may ask for beyond what the file holds: fill values take no space in a file.
const FREE: u64 = 64 << 20;

/// What a read took from the store.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fetched {
    pub(super) bytes: u64,
    pub(super) chunks: u64,
}

impl AddAssign for Fetched {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.chunks += other.chunks;
    }
}

/// A part of the result and where it comes from. `ranges` are bytes within the piece.
struct Task<'a> {
    piece: Piece,
    band: u64,
    ranges: Vec<Range<u64>>,
    target: &'a mut [MaybeUninit<u8>],
}

enum Piece {
    Run { address: u64 },
    Chunk(Entry),
    Fill,
}

/// Refuses a result that the file cannot have in it.
pub(super) fn check_size(source: &dyn ByteSource, bytes: u64) -> Result<(), Fault> {
    let bound = source.len().saturating_mul(1100).max(FREE);
    check_bound(bytes, bound, || {
        format!("a file of {} bytes holds no more than", source.len())
    })
}

/// Refuses a result of which more than [`FREE`] would be fill values.
pub(super) fn check_fill(bytes: u64, stored: u64) -> Result<(), Fault> {
    check_bound(bytes, stored.saturating_add(FREE), || {
        format!("with {stored} bytes stored a read gives no more than")
    })
}

fn check_bound(bytes: u64, bound: u64, reason: impl Fn() -> String) -> Result<(), Fault> {
    match bytes > bound {
        true => Err(Fault::Corrupt(format!(
            "{bytes} bytes are asked for, {} {bound}",
            reason()
        ))),
        false => Ok(()),
    }
}

/// Reads the elements of the selected rows, as they are on disk.
pub(super) fn fetch(core: &Core, rows: &RowSelection) -> Result<(Bytes, Fetched), Fault> {
    let source = core.source.as_ref();
    let total = rows
        .len()
        .checked_mul(core.row_bytes)
        .ok_or_else(|| Fault::Corrupt("the selected rows overflow 64 bits".into()))?;
    match &core.storage {
        Storage::Unallocated => check_fill(total, 0)?,
        // Which chunks there are bounds it better than the file's size, below.
        Storage::Chunked(_) => {}
        _ => check_size(source, total)?,
    }
    let len = usize::try_from(total)
        .map_err(|_| Fault::Corrupt(format!("{total} bytes in one array")))?;
    if len == 0 {
        return Ok((Bytes::from(&[][..]), Fetched::default()));
    }
    let mut fetched = Fetched::default();
    let bytes = match &core.storage {
        Storage::Compact => {
            let all = core.compact()?;
            let mut picked = Vec::with_capacity(len);
            for range in rows.ranges() {
                let range = byte_range(range, core.row_bytes)?;
                picked.extend_from_slice(slice(&all, &range)?);
            }
            fetched.bytes = total;
            fetched.chunks = 1;
            Bytes::from(picked.as_slice())
        }
        Storage::Unallocated => {
            Bytes::try_fill(len, |out| Ok(Initialised::of(fill(out, core.fill(0, 0)?))))?
        }
        Storage::Contiguous { address, size } => {
            let needed = core.info.len().checked_mul(core.row_bytes);
            if needed.is_none_or(|n| n > *size) {
                return Err(Fault::Corrupt(format!(
                    "an array of {:?} does not fit in the {size} bytes stored",
                    core.info.shape
                )));
            }
            check_range(source, *address, *size)?;
            Bytes::try_fill(len, |out| {
                let tasks = split_runs(rows, core.row_bytes, *address, out)?;
                run(core, tasks, total, &mut fetched)
            })?
        }
        Storage::Chunked(chunked) => {
            let table = chunked.table(&core.dataset, source)?;
            let stored = u64::try_from(table.len().saturating_mul(chunked.chunk_bytes));
            check_fill(total, stored.unwrap_or(u64::MAX))?;
            Bytes::try_fill(len, |out| {
                if chunked.whole_rows {
                    let tasks = split_chunks(rows, core.row_bytes, chunked, table, out)?;
                    run(core, tasks, total, &mut fetched)
                } else {
                    read_grid(core, chunked, table, rows, out, &mut fetched)
                }
            })?
        }
        Storage::Library(_) => {
            let bytes = super::library::read_rows(core, rows)?;
            fetched.bytes = total;
            fetched.chunks = 1;
            bytes
        }
    };
    Ok((bytes, fetched))
}

pub(super) fn byte_range(rows: &Range<u64>, row_bytes: u64) -> Result<Range<u64>, Fault> {
    match (
        rows.start.checked_mul(row_bytes),
        rows.end.checked_mul(row_bytes),
    ) {
        (Some(start), Some(end)) => Ok(start..end),
        _ => Err(Fault::Corrupt("the selected rows overflow 64 bits".into())),
    }
}

/// A part of bytes at hand.
pub(super) fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> Result<&'a [u8], Fault> {
    let ends = (usize::try_from(range.start), usize::try_from(range.end));
    let (Ok(start), Ok(end)) = ends else {
        return Err(Fault::Corrupt("a range overflows".into()));
    };
    bytes
        .get(start..end)
        .ok_or_else(|| Fault::Corrupt(format!("bytes {start} to {end} of {} bytes", bytes.len())))
}

/// Cuts `len` bytes off the front of what is left of the result.
pub(super) fn cut<'a>(
    rest: &mut &'a mut [MaybeUninit<u8>],
    len: u64,
) -> Result<&'a mut [MaybeUninit<u8>], Fault> {
    usize::try_from(len)
        .ok()
        .and_then(|len| rest.split_off_mut(..len))
        .ok_or_else(|| Fault::Corrupt("the selected rows overflow the result".into()))
}

fn split_runs<'a>(
    rows: &RowSelection,
    row_bytes: u64,
    address: u64,
    out: &'a mut [MaybeUninit<u8>],
) -> Result<Vec<Task<'a>>, Fault> {
    let mut rest = out;
    let mut tasks = Vec::new();
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut pending = 0;
    let mut close = |ranges: &mut Vec<Range<u64>>, pending: &mut u64| -> Result<(), Fault> {
        if !ranges.is_empty() {
            tasks.push(Task {
                piece: Piece::Run { address },
                band: 0,
                ranges: std::mem::take(ranges),
                target: cut(&mut rest, std::mem::take(pending))?,
            });
        }
        Ok(())
    };
    for range in rows.ranges() {
        let mut range = byte_range(range, row_bytes)?;
        while range.start < range.end {
            let n = (range.end - range.start).min(RUN - pending);
            ranges.push(range.start..range.start + n);
            range.start += n;
            pending += n;
            if pending == RUN {
                close(&mut ranges, &mut pending)?;
            }
        }
    }
    close(&mut ranges, &mut pending)?;
    Ok(tasks)
}

fn split_chunks<'a>(
    rows: &RowSelection,
    row_bytes: u64,
    chunked: &Chunked,
    table: &[Entry],
    out: &'a mut [MaybeUninit<u8>],
) -> Result<Vec<Task<'a>>, Fault> {
    let mut rest = out;
    let mut tasks = Vec::new();
    for (band, ranges) in bands(rows, chunked.chunk_shape[0]) {
        let ranges = ranges
            .iter()
            .map(|r| byte_range(r, row_bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let len = ranges.iter().map(|r| r.end - r.start).sum();
        tasks.push(Task {
            piece: match table.binary_search_by_key(&band, |e| e.index) {
                Ok(i) => Piece::Chunk(table[i]),
                Err(_) => Piece::Fill,
            },
            band,
            ranges,
            target: cut(&mut rest, len)?,
        });
    }
    Ok(tasks)
}

fn run(
    core: &Core,
    mut tasks: Vec<Task<'_>>,
    total: u64,
    fetched: &mut Fetched,
) -> Result<Initialised, Fault> {
    if !core.source.is_remote() {
        return run_with(core, core.source.as_ref(), tasks, total, fetched);
    }
    let mut done = Initialised::default();
    while !tasks.is_empty() {
        let mut ranges = Vec::new();
        let (mut n, mut bytes) = (0, 0u64);
        while n < tasks.len() && bytes < WAVE {
            let wanted = tasks[n].wanted(core)?;
            bytes += wanted.iter().map(|r| r.end - r.start).sum::<u64>();
            ranges.extend(wanted);
            n += 1;
        }
        let rest = tasks.split_off(n);
        let wave = std::mem::replace(&mut tasks, rest);
        let ahead = Arc::clone(&core.source).ahead(&ranges)?;
        let (source, transferred) = match &ahead {
            Some(ahead) => (ahead.source.as_ref(), ahead.bytes),
            None => (core.source.as_ref(), bytes),
        };
        let mut took = Fetched::default();
        done = done.and(run_with(core, source, wave, total, &mut took)?);
        took.bytes = transferred;
        *fetched += took;
    }
    Ok(done)
}

impl Task<'_> {
    /// Where in the file its bytes are, those of chunks that are at hand left out.
    fn wanted(&self, core: &Core) -> Result<Vec<Range<u64>>, Fault> {
        let overflow = || Fault::Corrupt("an address overflows".into());
        let pieces = |address: u64| {
            let ranges = self.ranges.iter();
            let moved =
                ranges.map(|r| Some(address.checked_add(r.start)?..address.checked_add(r.end)?));
            moved.collect::<Option<_>>().ok_or_else(overflow)
        };
        match (&self.piece, &core.storage) {
            (Piece::Run { address }, _) => pieces(*address),
            (Piece::Chunk(entry), Storage::Chunked(chunked)) if !chunked.pipeline.is_empty() => {
                let end = entry.address.checked_add(entry.size).ok_or_else(overflow)?;
                Ok(match chunked.recent.recall(entry.index) {
                    Some(_) => Vec::new(),
                    None => std::iter::once(entry.address..end).collect(),
                })
            }
            (Piece::Chunk(entry), _) => pieces(entry.address),
            (Piece::Fill, _) => Ok(Vec::new()),
        }
    }
}

fn run_with(
    core: &Core,
    source: &dyn ByteSource,
    tasks: Vec<Task<'_>>,
    total: u64,
    fetched: &mut Fetched,
) -> Result<Initialised, Fault> {
    let alone = tasks.len() < 2 || (tasks.len() < SCATTERED && total < core.alone_bytes());
    let one = |task| one(core, source, task);
    let results: Vec<Result<(Initialised, Fetched), Fault>> = if alone {
        tasks.into_iter().map(one).collect()
    } else {
        tasks.into_par_iter().map(one).collect()
    };
    let mut done = Initialised::default();
    for result in results {
        let (part, took) = result?;
        done = done.and(part);
        *fetched += took;
    }
    Ok(done)
}

fn one(
    core: &Core,
    source: &dyn ByteSource,
    task: Task<'_>,
) -> Result<(Initialised, Fetched), Fault> {
    match (task.piece, &core.storage) {
        (Piece::Run { address }, _) => read_ranges(source, address, &task.ranges, task.target),
        (Piece::Chunk(entry), Storage::Chunked(chunked)) if chunked.pipeline.is_empty() => {
            read_ranges(source, entry.address, &task.ranges, task.target)
        }
        (Piece::Chunk(entry), Storage::Chunked(chunked)) => {
            let mut done = Initialised::default();
            let mut rest = task.target;
            let took = with_chunk(source, chunked, entry, &task.ranges, |bytes| {
                for range in &task.ranges {
                    let target = cut(&mut rest, range.end - range.start)?;
                    done = done.and(Initialised::of(
                        target.write_copy_of_slice(slice(bytes, range)?),
                    ));
                }
                Ok(())
            })?;
            Ok((done, took))
        }
        _ => {
            let value = core.fill(task.band, 0)?;
            let written = Initialised::of(fill(task.target, value));
            Ok((written, Fetched::default()))
        }
    }
}

/// Shows a decoded chunk to `take`. `ranges`, bytes of it, tell whether more of it is likely to be
/// wanted by the next batch.
pub(super) fn with_chunk(
    source: &dyn ByteSource,
    chunked: &Chunked,
    entry: Entry,
    ranges: &[Range<u64>],
    take: impl FnOnce(&[u8]) -> Result<(), Fault>,
) -> Result<Fetched, Fault> {
    let to_the_end = ranges
        .last()
        .is_some_and(|r| usize::try_from(r.end).is_ok_and(|end| end >= chunked.chunk_bytes));
    if let Some(bytes) = chunked.recent.recall(entry.index) {
        if to_the_end {
            chunked.recent.forget(entry.index);
        }
        take(&bytes)?;
        return Ok(Fetched::default());
    }
    with_scratch(|scratch| {
        let size = usize::try_from(entry.size)
            .map_err(|_| Fault::Corrupt(format!("a chunk of {} bytes", entry.size)))?;
        scratch.input.resize(size, 0);
        source.read_at(entry.address, &mut scratch.input)?;
        let bytes = chunked
            .pipeline
            .decode(scratch, entry.mask, chunked.chunk_bytes)?;
        if !to_the_end {
            let kept = || Arc::from(bytes);
            chunked.recent.remember(entry.index, bytes.len(), kept);
        }
        take(bytes)
    })?;
    Ok(Fetched {
        bytes: entry.size,
        chunks: 1,
    })
}

/// Reads byte ranges after `address`, near ones together.
fn read_ranges(
    source: &dyn ByteSource,
    address: u64,
    ranges: &[Range<u64>],
    target: &mut [MaybeUninit<u8>],
) -> Result<(Initialised, Fetched), Fault> {
    let mut rest = target;
    let mut done = Initialised::default();
    let mut took = Fetched {
        bytes: 0,
        chunks: 1,
    };
    for group in ranges.chunk_by(|a, b| b.start - a.end <= GAP) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let at = address
            .checked_add(first.start)
            .ok_or_else(|| Fault::Corrupt("an address overflows".into()))?;
        took.bytes += last.end - first.start;
        if group.len() == 1 {
            let target = cut(&mut rest, first.end - first.start)?;
            done = done.and(Initialised::of(source.read_uninit(at, target)?));
            continue;
        }
        let part = with_scratch(|scratch| {
            let len = usize::try_from(last.end - first.start)
                .map_err(|_| Fault::Corrupt("a run overflows".into()))?;
            scratch.input.resize(len, 0);
            source.read_at(at, &mut scratch.input)?;
            let mut part = Initialised::default();
            for range in group {
                let range = range.start - first.start..range.end - first.start;
                let target = cut(&mut rest, range.end - range.start)?;
                let bytes = slice(&scratch.input, &range)?;
                part = part.and(Initialised::of(target.write_copy_of_slice(bytes)));
            }
            Ok::<_, Fault>(part)
        })?;
        done = done.and(part);
    }
    Ok((done, took))
}

/// Repeats an element over the whole target.
pub(super) fn fill<'a>(target: &'a mut [MaybeUninit<u8>], element: &[u8]) -> &'a mut [u8] {
    let bytes = zeroed(target);
    if element.iter().any(|b| *b != 0) {
        for part in bytes.chunks_mut(element.len()) {
            part.copy_from_slice(&element[..part.len()]);
        }
    }
    bytes
}
