//! Runs of an array straight to where they are wanted.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::array::Core;
use super::fetch::{check_fill, check_size, fill, slice, with_chunk};
use super::storage::{Chunked, Entry, Storage};
use crate::error::Error;
use crate::model::{DType, RowSelection};
use crate::store::decode::{Disk, Fault, Initialised};
use crate::store::scatter::{Filled, Scatter, Target, by_chunk};
use crate::store::source::check_range;

/// Runs that lie in the file as they are wanted, which a core reads before another may.
const AT_A_TIME: usize = 64;
/// Bytes that are read together to spare a call for each of their runs, at most.
const TOGETHER: u64 = 1 << 20;
/// Bytes that are copied out of the page cache in the time that a call takes.
const CALL: u64 = 3 << 10;

thread_local! {
    static SPAN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes of the file, and the memory that they go to: as long as they are.
struct Piece<'a> {
    at: u64,
    bytes: &'a mut [MaybeUninit<u8>],
}

impl Core {
    /// Whether values lie in memory as they lie in the file, in one run or in chunks of whole rows. Of
    /// what is far away, ranges are fetched together by a plain read.
    pub(super) fn is_scattered(&self) -> bool {
        let native = matches!(self.disk, Disk::Number { swap: false, .. });
        let stored = match &self.storage {
            Storage::Contiguous { .. } => true,
            Storage::Chunked(chunked) => chunked.whole_rows,
            _ => false,
        };
        native && stored && self.row_bytes > 0 && !self.source.is_remote()
    }

    /// Runs of bytes that lie in the file as they are wanted: many together in one read where little lies
    /// between them.
    fn direct(&self, mut pieces: Vec<Piece<'_>>) -> Result<Filled, Fault> {
        pieces.sort_unstable_by_key(|piece| piece.at);
        let mut groups: Vec<Vec<Piece<'_>>> = Vec::new();
        for piece in pieces {
            match groups.last_mut() {
                Some(group) if group.len() < AT_A_TIME => group.push(piece),
                _ => groups.push(vec![piece]),
            }
        }
        let read = groups.into_par_iter().map(|group| self.group(group));
        read.try_reduce(Filled::default, |a, b| Ok(a.and(b)))
    }

    /// Pieces in the order of the file.
    fn group(&self, group: Vec<Piece<'_>>) -> Result<Filled, Fault> {
        let end_of = |piece: &Piece<'_>| piece.at.saturating_add(piece.bytes.len() as u64);
        let start = group.first().map_or(0, |piece| piece.at);
        let end = group.iter().map(end_of).max().unwrap_or(0);
        let wanted: u64 = group.iter().map(|piece| piece.bytes.len() as u64).sum();
        let mut filled = Filled {
            chunks: group.len() as u64,
            ..Filled::default()
        };
        let span = end.saturating_sub(start);
        let calls = CALL.saturating_mul(group.len() as u64);
        if group.len() == 1 || span > TOGETHER || span > wanted.saturating_add(calls) {
            for piece in group {
                let read = self.source.read_uninit(piece.at, piece.bytes)?;
                filled.written = filled.written.and(Initialised::of(read));
            }
            filled.bytes = wanted;
            return Ok(filled);
        }
        filled.bytes = span;
        SPAN.with_borrow_mut(|bytes| {
            let len = usize::try_from(span).unwrap_or(usize::MAX);
            bytes.clear();
            bytes.reserve(len);
            let all = &mut bytes.spare_capacity_mut()[..len];
            let all = self.source.read_uninit(start, all)?;
            for piece in group {
                let part = slice(all, &(piece.at - start..end_of(&piece) - start))?;
                let copied = piece.bytes.write_copy_of_slice(part);
                filled.written = filled.written.and(Initialised::of(copied));
            }
            Ok(filled)
        })
    }

    /// Where a run lies in a region of the file.
    fn located<'a>(
        &self,
        (address, size): (u64, u64),
        target: Target<'a>,
    ) -> Result<Piece<'a>, Fault> {
        let start = target.start.checked_mul(self.row_bytes);
        let end = start.and_then(|start| start.checked_add(target.bytes.len() as u64));
        match (start, end) {
            (Some(start), Some(end)) if end <= size => {
                let at = address.checked_add(start);
                let at = at.ok_or_else(|| Fault::Corrupt("an address overflows".into()))?;
                let bytes = target.bytes;
                Ok(Piece { at, bytes })
            }
            (Some(start), Some(end)) => Err(Fault::Corrupt(format!(
                "bytes {start} to {end} of {size} bytes"
            ))),
            _ => Err(Fault::Corrupt("a run overflows".into())),
        }
    }

    fn contiguous(&self, region: (u64, u64), targets: Vec<Target<'_>>) -> Result<Filled, Fault> {
        check_range(self.source.as_ref(), region.0, region.1)?;
        let pieces = targets.into_iter();
        let pieces = pieces.map(|target| self.located(region, target));
        self.direct(pieces.collect::<Result<_, Fault>>()?)
    }

    fn chunked(&self, chunked: &Chunked, targets: Vec<Target<'_>>) -> Result<Filled, Fault> {
        if !chunked.pipeline.is_empty() {
            return self.compressed(chunked, targets, Form::Stored);
        }
        let table = chunked.table(&self.dataset, self.source.as_ref())?;
        let height = chunked.chunk_shape.first().copied().unwrap_or(1);
        let mut filled = Filled::default();
        let mut pieces = Vec::new();
        for (band, targets) in by_chunk(targets, height, self.row_bytes) {
            match entry(table, band) {
                Some(entry) => {
                    let region = (entry.address, chunked.chunk_bytes as u64);
                    for target in targets {
                        pieces.push(self.located(region, target)?);
                    }
                }
                None => filled = filled.and(self.missing(band, targets, Form::Stored)?),
            }
        }
        Ok(filled.and(self.direct(pieces)?))
    }

    /// Runs of chunks that have to be undone.
    fn compressed(
        &self,
        chunked: &Chunked,
        targets: Vec<Target<'_>>,
        form: Form,
    ) -> Result<Filled, Fault> {
        let table = chunked.table(&self.dataset, self.source.as_ref())?;
        let height = chunked.chunk_shape.first().copied().unwrap_or(1);
        let chunks = by_chunk(targets, height, form.bytes(self.row_bytes, self.element));
        let read = chunks
            .into_par_iter()
            .map(|(band, targets)| match entry(table, band) {
                Some(entry) => self.chunk(chunked, entry, targets, form),
                None => self.missing(band, targets, form),
            });
        read.try_reduce(Filled::default, |a, b| Ok(a.and(b)))
    }

    /// Runs of a chunk that is not stored.
    fn missing(&self, band: u64, targets: Vec<Target<'_>>, form: Form) -> Result<Filled, Fault> {
        let stored = self.fill(band, 0)?;
        let mut value = [MaybeUninit::uninit(); size_of::<u16>()];
        let value = match form {
            Form::Stored => stored,
            Form::Narrow { below } => narrow(stored, self.element, below, &mut value)?,
        };
        let mut filled = Filled::default();
        for target in targets {
            let written = Initialised::of(fill(target.bytes, value));
            filled.written = filled.written.and(written);
        }
        Ok(filled)
    }

    fn chunk(
        &self,
        chunked: &Chunked,
        entry: Entry,
        targets: Vec<Target<'_>>,
        form: Form,
    ) -> Result<Filled, Fault> {
        let row_bytes = form.bytes(self.row_bytes, self.element).max(1);
        let range = |target: &Target<'_>| -> Range<u64> {
            let rows = target.bytes.len() as u64 / row_bytes;
            let start = target.start.saturating_mul(self.row_bytes);
            start..start.saturating_add(rows.saturating_mul(self.row_bytes))
        };
        let ranges: Vec<Range<u64>> = targets.iter().map(range).collect();
        let mut written = Initialised::default();
        let source = self.source.as_ref();
        let took = with_chunk(source, chunked, entry, &ranges, |bytes| {
            for (target, range) in targets.into_iter().zip(&ranges) {
                let (stored, target) = (slice(bytes, range)?, target.bytes);
                written = written.and(Initialised::of(match form {
                    Form::Stored => target.write_copy_of_slice(stored),
                    Form::Narrow { below } => narrow(stored, self.element, below, target)?,
                }));
            }
            Ok(())
        })?;
        Ok(Filled {
            written,
            bytes: took.bytes,
            chunks: took.chunks,
        })
    }
}

/// The chunk of a band, where it is stored.
fn entry(table: &[Entry], band: u64) -> Option<Entry> {
    let at = table.binary_search_by_key(&band, |entry| entry.index);
    at.ok().and_then(|at| table.get(at)).copied()
}

/// How values come to their places.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// As they are stored.
    Stored,
    /// Integers that have to be below this, in two bytes each.
    Narrow { below: u64 },
}

impl Form {
    /// Bytes of what takes `stored` bytes in elements of so many.
    fn bytes(self, stored: u64, element: usize) -> u64 {
        match self {
            Self::Stored => stored,
            Self::Narrow { .. } => stored / element.max(1) as u64 * size_of::<u16>() as u64,
        }
    }
}

/// Copies integers of four or eight bytes into two each.
///
/// # Errors
/// [`Fault::Corrupt`] where one is negative, or not below `below`.
fn narrow<'a>(
    stored: &[u8],
    element: usize,
    below: u64,
    target: &'a mut [MaybeUninit<u8>],
) -> Result<&'a mut [u8], Fault> {
    let (places, rest) = target.as_chunks_mut::<2>();
    let n = stored.len() / element.max(1);
    if n != places.len() || !rest.is_empty() {
        return Err(Fault::Corrupt(format!(
            "{n} integers for {} places",
            places.len()
        )));
    }
    // The largest is found on the way, which takes no branch for each.
    let largest = match element {
        4 => narrowed(stored.as_chunks().0, places, |v| {
            u32::from_ne_bytes(v).into()
        }),
        8 => narrowed(stored.as_chunks().0, places, u64::from_ne_bytes),
        _ => {
            let reason = format!("integers of {element} bytes in two");
            return Err(Fault::Unsupported(reason));
        }
    };
    if largest.is_some_and(|largest| largest >= below.min(1 << 16)) {
        // Negative ones are the largest without their sign, which unsigned types do not have.
        let bits = largest.unwrap_or_default();
        let signed = match element {
            4 => i64::from(u32::try_from(bits).unwrap_or_default().cast_signed()),
            _ => bits.cast_signed(),
        };
        let found = match signed {
            ..0 => format!("{signed} (unsigned, {bits})"),
            _ => bits.to_string(),
        };
        return Err(Fault::Corrupt(format!(
            "position {found} is not below {below}"
        )));
    }
    // SAFETY: as many places as the target has were written, two bytes each.
    Ok(unsafe { target.assume_init_mut() })
}

/// Writes the lower two bytes of each; the largest of all.
fn narrowed<const N: usize>(
    stored: &[[u8; N]],
    places: &mut [[MaybeUninit<u8>; 2]],
    value: impl Fn([u8; N]) -> u64,
) -> Option<u64> {
    let mut largest = None;
    for (stored, place) in stored.iter().zip(places) {
        let value = value(*stored);
        largest = largest.max(Some(value));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "what is cut off is refused"
        )]
        let [low, high] = (value as u16).to_ne_bytes();
        *place = [MaybeUninit::new(low), MaybeUninit::new(high)];
    }
    largest
}

/// Integers of an array of compressed chunks, in two bytes each.
struct Narrow {
    core: Arc<Core>,
    below: u64,
}

impl Scatter for Narrow {
    fn fill(&self, targets: Vec<Target<'_>>) -> Result<Filled, Fault> {
        match &self.core.storage {
            Storage::Chunked(chunked) => {
                let form = Form::Narrow { below: self.below };
                self.core.compressed(chunked, targets, form)
            }
            _ => Err(Fault::Unsupported("runs of such an array".into())),
        }
    }

    fn check(&self, bytes: u64, rows: &RowSelection) -> Result<(), Fault> {
        let stored = bytes / self.row_bytes() * self.core.row_bytes;
        self.core.check(stored, rows)
    }

    fn is_remote(&self) -> bool {
        self.core.is_remote()
    }

    fn row_bytes(&self) -> u64 {
        size_of::<u16>() as u64
    }

    fn at(&self, fault: Fault) -> Error {
        self.core.at(fault)
    }
}

impl Scatter for Core {
    fn fill(&self, targets: Vec<Target<'_>>) -> Result<Filled, Fault> {
        match &self.storage {
            Storage::Contiguous { address, size } => self.contiguous((*address, *size), targets),
            Storage::Chunked(chunked) => self.chunked(chunked, targets),
            _ => Err(Fault::Unsupported("runs of such an array".into())),
        }
    }

    fn warm(&self) -> Result<(), Fault> {
        let source = self.source.as_ref();
        match &self.storage {
            Storage::Contiguous { address, size } => {
                check_range(source, *address, *size)?;
                Ok(source.warm(*address..*address + *size)?)
            }
            // Chunks of an array are written one after another, more or less.
            Storage::Chunked(chunked) if chunked.pipeline.is_empty() => {
                let table = chunked.table(&self.dataset, source)?;
                let starts = table.iter().map(|entry| entry.address);
                let start = starts.clone().min().unwrap_or(0);
                let end = starts.max().unwrap_or(0);
                let end = end.saturating_add(chunked.chunk_bytes as u64);
                Ok(source.warm(start..end.min(source.len()))?)
            }
            _ => Ok(()),
        }
    }

    fn check(&self, bytes: u64, _: &RowSelection) -> Result<(), Fault> {
        let source = self.source.as_ref();
        match &self.storage {
            Storage::Chunked(chunked) => {
                let n = chunked.table(&self.dataset, source)?.len();
                let stored = u64::try_from(n.saturating_mul(chunked.chunk_bytes));
                check_fill(bytes, stored.unwrap_or(u64::MAX))
            }
            _ => check_size(source, bytes),
        }
    }

    fn narrow(self: Arc<Self>, below: u64) -> Option<Arc<dyn Scatter>> {
        let is_wide = matches!(
            self.info.dtype,
            DType::Int32 | DType::UInt32 | DType::Int64 | DType::UInt64
        );
        let is_undone =
            matches!(&self.storage, Storage::Chunked(chunked) if !chunked.pipeline.is_empty());
        let is_one = self.row_bytes == self.element as u64;
        (is_wide && is_undone && is_one).then(|| Arc::new(Narrow { core: self, below }) as _)
    }

    fn is_remote(&self) -> bool {
        self.source.is_remote()
    }

    fn row_bytes(&self) -> u64 {
        self.row_bytes
    }

    fn at(&self, fault: Fault) -> Error {
        fault.at(&self.file.url, &self.info.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_narrowed_where_all_fit() {
        for n in [0usize, 1, 15, 100] {
            let expected: Vec<u16> = (0..n).map(|i| u16::try_from(i * 601).unwrap()).collect();
            let fours = expected.iter().flat_map(|v| i32::from(*v).to_ne_bytes());
            let eights = expected.iter().flat_map(|v| i64::from(*v).to_ne_bytes());
            for (element, stored) in [(4, fours.collect::<Vec<_>>()), (8, eights.collect())] {
                let mut target = vec![MaybeUninit::uninit(); 2 * n];
                let found = narrow(&stored, element, 60_000, &mut target).unwrap();
                let found: Vec<u16> = found
                    .as_chunks()
                    .0
                    .iter()
                    .map(|v| u16::from_ne_bytes(*v))
                    .collect();
                assert_eq!(found, expected);
            }
        }
        let mut target = vec![MaybeUninit::uninit(); 4];
        for (bad, said) in [(-3, "-3"), (70_000, "70000"), (500, "500")] {
            let stored = [1i32, bad].map(i32::to_ne_bytes).concat();
            let fault = narrow(&stored, 4, 500, &mut target).unwrap_err();
            assert!(matches!(fault, Fault::Corrupt(reason) if reason.contains(said)));
        }
        assert!(narrow(&[0; 12], 4, 500, &mut target).is_err());
    }
}
