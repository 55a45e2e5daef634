//! Runs of arrays, each to a place of its own in results: no value is copied twice.
//!
//! ```text
//!  runs   b: 7..9   a: 0..3 ║ b: 2..4      results   b7 b8 │ a0 a1 a2 ║ b2 b3
//! ```
//! A chunk is undone where it is needed, and its runs go straight to where they are wanted. What reads
//! with [`ArrayReader::read`] has rows in the order of the array, and whoever wants another order moves
//! them again.

use std::fmt;
use std::mem::MaybeUninit;
use std::sync::Arc;

use arrow::array::{ArrayData, ArrayRef, MutableArrayData, make_array, new_empty_array};
use rayon::prelude::*;

use super::decode::{Bytes, Disk, Fault, Initialised, Nowhere, guard, in_background, to_arrow};
use super::{ArrayReader, ReadMetrics, remote};
use crate::error::{Error, Result};
use crate::model::{DType, RowSelection};

/// Rows of an array that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Which of the arrays.
    pub array: usize,
    /// The first row.
    pub start: u64,
    /// How many.
    pub len: u64,
}

/// Rows that follow each other, and the memory that they go to: as long as they are.
#[derive(Debug)]
pub(in crate::store) struct Target<'a> {
    pub(in crate::store) start: u64,
    pub(in crate::store) bytes: &'a mut [MaybeUninit<u8>],
}

/// What was read.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::store) struct Filled {
    pub(in crate::store) written: Initialised,
    pub(in crate::store) bytes: u64,
    pub(in crate::store) chunks: u64,
}

impl Filled {
    /// Of two parts that do not meet.
    pub(in crate::store) fn and(self, other: Self) -> Self {
        Self {
            written: self.written.and(other.written),
            bytes: self.bytes + other.bytes,
            chunks: self.chunks + other.chunks,
        }
    }
}

/// An array whose values lie in memory as they lie in its chunks.
pub(in crate::store) trait Scatter: Send + Sync {
    /// Fills all targets, which come in the order of their rows and may share some, on all cores.
    fn fill(&self, targets: Vec<Target<'_>>) -> std::result::Result<Filled, Fault>;

    /// Makes reads in any order cheap, where that takes no more than reading all once in order.
    fn warm(&self) -> std::result::Result<(), Fault> {
        Ok(())
    }

    /// The same values, integers that have to be below `below`, in two bytes each, where that takes no more
    /// than copying them as they are. Reading others fails.
    fn narrow(self: Arc<Self>, _below: u64) -> Option<Arc<dyn Scatter>> {
        None
    }

    /// Refuses more bytes of these rows than the store can have, before memory is reserved.
    fn check(&self, bytes: u64, rows: &RowSelection) -> std::result::Result<(), Fault>;

    /// Whether that waits for a network.
    fn is_remote(&self) -> bool;

    /// Bytes of a row.
    fn row_bytes(&self) -> u64;

    /// The error of this array.
    fn at(&self, fault: Fault) -> Error;
}

/// How runs of an array are read to where they are wanted; see [`ArrayReader::scattered`].
#[derive(Clone)]
pub struct Scattered(Arc<dyn Scatter>);

impl Scattered {
    pub(in crate::store) fn new(array: Arc<dyn Scatter>) -> Self {
        Self(array)
    }
}

impl fmt::Debug for Scattered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scattered").finish_non_exhaustive()
    }
}

/// Prepares arrays for runs in any order that are most of them: what lies uncompressed on a disk comes
/// into the page cache first, in order, where it is not there and memory has room for it.
///
/// # Errors
/// Those of reading.
pub(crate) async fn warm(arrays: &[Arc<dyn ArrayReader>]) -> Result<()> {
    for array in arrays {
        let Some(Scattered(scatter)) = array.scattered() else {
            continue;
        };
        let warmed = Arc::clone(&scatter);
        let done = in_background(move || warmed.warm()).await;
        done.map_err(|fault| scatter.at(fault))?;
    }
    Ok(())
}

/// Reads runs of arrays of one type, one after another as they are given, into owned arrays: one for
/// each list of runs.
///
/// Only chunks that hold some of the rows are fetched, each once; they are decoded on all cores.
///
/// # Errors
/// As [`ArrayReader::read`]; [`Error::IncompatibleSchemas`] where the arrays are not of one type.
pub async fn gather_runs(
    arrays: &[Arc<dyn ArrayReader>],
    runs: &Arc<[Vec<Run>]>,
    metrics: &ReadMetrics,
) -> Result<Vec<ArrayRef>> {
    gather(arrays, runs, None, metrics).await
}

/// As [`gather_runs`], of positions that have to be below a number: where that is 2^16 or less, and chunks
/// have to be undone and copied in any case, they come as `UInt16`.
///
/// # Errors
/// As [`gather_runs`]; [`Error::InvalidElement`] where one is not below that.
pub(crate) async fn gather_positions(
    arrays: &[Arc<dyn ArrayReader>],
    runs: &Arc<[Vec<Run>]>,
    below: Option<u64>,
    metrics: &ReadMetrics,
) -> Result<Vec<ArrayRef>> {
    gather(arrays, runs, below.filter(|n| *n <= 1 << 16), metrics).await
}

async fn gather(
    arrays: &[Arc<dyn ArrayReader>],
    runs: &Arc<[Vec<Run>]>,
    below: Option<u64>,
    metrics: &ReadMetrics,
) -> Result<Vec<ArrayRef>> {
    let Some(first) = arrays.first() else {
        return Err(Error::IncompatibleSchemas("runs of no array".to_owned()));
    };
    let dtype = &first.info().dtype;
    let row_len = first.info().row_len();
    for array in arrays {
        if array.info().dtype != *dtype || array.info().row_len() != row_len {
            return Err(Error::IncompatibleSchemas(format!(
                "runs of {} and of {} are not of one array",
                first.info().dtype,
                array.info().dtype
            )));
        }
    }
    for run in runs.iter().flatten() {
        let array = arrays.get(run.array).unwrap_or(first);
        let end = run.start.saturating_add(run.len);
        if end > array.info().len() {
            // The reader knows how to say it.
            let beyond = RowSelection::range(run.start..end);
            return array.read(&beyond, metrics).await.map(|read| vec![read]);
        }
    }
    let direct: Option<Vec<Scattered>> = arrays.iter().map(|array| array.scattered()).collect();
    let Some(direct) = direct else {
        return by_copies(arrays, runs, metrics).await;
    };
    let narrow = |array: &Scattered| Arc::clone(&array.0).narrow(below?).map(Scattered);
    let narrowed: Option<Vec<Scattered>> = direct.iter().map(narrow).collect();
    match narrowed {
        Some(narrowed) => straight(narrowed, &DType::UInt16, runs, metrics).await,
        None => straight(direct, dtype, runs, metrics).await,
    }
}

async fn straight(
    arrays: Vec<Scattered>,
    dtype: &DType,
    runs: &Arc<[Vec<Run>]>,
    metrics: &ReadMetrics,
) -> Result<Vec<ArrayRef>> {
    let (dtype, runs) = (dtype.clone(), Arc::clone(runs));
    let read_from = arrays.clone();
    let read = move || Ok(read_straight(&read_from, &dtype, &runs));
    let outcome = match arrays.iter().any(|array| array.0.is_remote()) {
        true => {
            let waited = remote::in_background(move || guard(read)).await;
            waited.map_err(Fault::Io).flatten()
        }
        false => in_background(read).await,
    };
    let located = |at: usize, fault| match arrays.get(at) {
        Some(array) => array.0.at(fault),
        None => Error::IncompatibleSchemas("runs of no array".to_owned()),
    };
    let (results, filled) = outcome
        .map_err(|fault| located(0, fault))?
        .map_err(|(at, fault)| located(at, fault))?;
    metrics.add_bytes(filled.bytes);
    metrics.add_chunks(filled.chunks);
    Ok(results)
}

/// A fault, and which array's it is.
type Located = (usize, Fault);

fn read_straight(
    arrays: &[Scattered],
    dtype: &DType,
    runs: &[Vec<Run>],
) -> std::result::Result<(Vec<ArrayRef>, Filled), Located> {
    let overflow = || (0, Fault::Corrupt("the runs asked for overflow".into()));
    let row_bytes = arrays.first().map_or(0, |array| array.0.row_bytes());
    let bytes_of = |run: &Run| {
        let bytes = run.len.checked_mul(row_bytes);
        bytes.and_then(|n| usize::try_from(n).ok())
    };
    let sum = |runs: &Vec<Run>| {
        let mut runs = runs.iter();
        runs.try_fold(0usize, |sum, run| sum.checked_add(bytes_of(run)?))
    };
    let lens: Vec<usize> = runs
        .iter()
        .map(sum)
        .collect::<Option<_>>()
        .ok_or_else(overflow)?;
    let total = lens
        .iter()
        .try_fold(0usize, |sum, len| sum.checked_add(*len));
    total.ok_or_else(overflow)?;
    for (at, array) in arrays.iter().enumerate() {
        let of = || runs.iter().flatten().filter(|run| run.array == at);
        let rows = of().map(|run| run.start..run.start.saturating_add(run.len));
        let bytes = of().filter_map(bytes_of).map(|n| n as u64).sum();
        let checked = array.0.check(bytes, &RowSelection::from_ranges(rows));
        checked.map_err(|fault| (at, fault))?;
    }
    let mut failed = None;
    let mut filled = Filled::default();
    let buffers = Bytes::try_fill_all(&lens, |outs| {
        let mut targets: Vec<Vec<Target<'_>>> = arrays.iter().map(|_| Vec::new()).collect();
        for (out, runs) in outs.into_iter().zip(runs) {
            let mut rest = out;
            for run in runs.iter().filter(|run| run.len > 0) {
                let bytes = bytes_of(run).and_then(|len| rest.split_off_mut(..len));
                if let (Some(bytes), Some(targets)) = (bytes, targets.get_mut(run.array)) {
                    let start = run.start;
                    targets.push(Target { start, bytes });
                }
            }
        }
        let parts: Vec<_> = arrays.iter().zip(targets).enumerate().collect();
        let fill = |(at, (array, mut targets)): (usize, (&Scattered, Vec<Target<'_>>))| {
            targets.sort_unstable_by_key(|target| target.start);
            array.0.fill(targets).map_err(|fault| (at, fault))
        };
        let wanted =
            |(_, (_, targets)): &(usize, (&Scattered, Vec<Target<'_>>))| !targets.is_empty();
        let both = |a: Filled, b: Filled| Ok(a.and(b));
        // What is far away is waited for on this thread, not on those that decode.
        let read = match arrays.iter().any(|array| array.0.is_remote()) {
            true => {
                let mut parts = parts.into_iter().filter(wanted).map(fill);
                parts.try_fold(Filled::default(), |all, part| both(all, part?))
            }
            false => {
                let parts = parts.into_par_iter().filter(wanted).map(fill);
                parts.try_reduce(Filled::default, both)
            }
        };
        match read {
            Ok(all) => {
                filled = all;
                Ok(all.written)
            }
            Err((at, fault)) => {
                failed = Some(at);
                Err(fault)
            }
        }
    });
    let buffers = buffers.map_err(|fault| (failed.unwrap_or(0), fault))?;
    let arrays = buffers.into_iter().map(|bytes| {
        let dtype = dtype.clone();
        to_arrow(&Disk::Number { dtype, swap: false }, bytes, &Nowhere)
    });
    let arrays = arrays.collect::<std::result::Result<_, Fault>>();
    Ok((arrays.map_err(|fault| (0, fault))?, filled))
}

/// Targets by the chunk that their rows are in, each cut where a chunk ends; rows are counted from the
/// chunk's first.
pub(in crate::store) fn by_chunk<'a>(
    targets: Vec<Target<'a>>,
    height: u64,
    row_bytes: u64,
) -> Vec<(u64, Vec<Target<'a>>)> {
    let height = height.max(1);
    let mut cut: Vec<(u64, Target<'a>)> = Vec::with_capacity(targets.len());
    for target in targets {
        let mut start = target.start;
        let mut rest = target.bytes;
        while !rest.is_empty() {
            let chunk = start / height;
            let left = (height - start % height).saturating_mul(row_bytes);
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let Some(bytes) = rest.split_off_mut(..n) else {
                break;
            };
            let start_of_rest = (chunk + 1).saturating_mul(height);
            let of_chunk = Target {
                start: start % height,
                bytes,
            };
            cut.push((chunk, of_chunk));
            start = start_of_rest;
        }
    }
    // What is long goes on in later chunks, which others that begin before have, too.
    cut.sort_unstable_by_key(|(chunk, target)| (*chunk, target.start));
    let lens: Vec<usize> = cut.chunk_by(|a, b| a.0 == b.0).map(<[_]>::len).collect();
    let mut cut = cut.into_iter().peekable();
    // Each as long as it has to be: there may be as many as the object has rows.
    let chunks = lens.into_iter().filter_map(|n| {
        let chunk = cut.peek()?.0;
        let mut of_chunk = Vec::with_capacity(n);
        of_chunk.extend(cut.by_ref().take(n).map(|(_, target)| target));
        Some((chunk, of_chunk))
    });
    chunks.collect()
}

/// Values moved twice: what is read in the order of each array is copied run by run.
async fn by_copies(
    arrays: &[Arc<dyn ArrayReader>],
    runs: &[Vec<Run>],
    metrics: &ReadMetrics,
) -> Result<Vec<ArrayRef>> {
    let mut read = Vec::with_capacity(arrays.len());
    let mut held = Vec::with_capacity(arrays.len());
    for (at, array) in arrays.iter().enumerate() {
        let of = runs.iter().flatten().filter(|run| run.array == at);
        let rows = RowSelection::from_ranges(of.map(|run| run.start..run.start + run.len));
        read.push(array.read(&rows, metrics).await?.to_data());
        // The rank of each range's first row.
        let mut rank = 0;
        let ranks = rows.ranges().iter().map(|range| {
            let first = rank;
            rank += range.end - range.start;
            (range.start, first)
        });
        held.push(ranks.collect::<Vec<_>>());
    }
    let width = arrays.first().and_then(|array| array.info().row_len());
    let width = size(width.unwrap_or(1));
    let results = runs.iter().map(|runs| copied(&read, &held, runs, width));
    results.collect()
}

/// Runs of what was read of each array, `held` being where its ranges begin: in the array, in it.
fn copied(
    read: &[ArrayData],
    held: &[Vec<(u64, u64)>],
    runs: &[Run],
    width: usize,
) -> Result<ArrayRef> {
    let Some(first) = read.first() else {
        return Err(Error::IncompatibleSchemas("runs of no array".to_owned()));
    };
    let total: u64 = runs.iter().map(|run| run.len).sum();
    if total == 0 {
        return Ok(new_empty_array(first.data_type()));
    }
    let capacity = size(total).saturating_mul(width);
    let mut result = MutableArrayData::new(read.iter().collect(), false, capacity);
    for run in runs.iter().filter(|run| run.len > 0) {
        let ranks = held.get(run.array).map_or(&[][..], Vec::as_slice);
        let at = ranks.partition_point(|(start, _)| *start <= run.start);
        let Some((start, rank)) = at.checked_sub(1).and_then(|at| ranks.get(at)) else {
            continue;
        };
        let from = size(rank + (run.start - start)).saturating_mul(width);
        let len = size(run.len).saturating_mul(width);
        result.try_extend(run.array, from, from + len)?;
    }
    Ok(make_array(result.freeze()))
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use arrow::compute::cast;
    use arrow::datatypes::DataType;

    use super::*;
    use crate::model::Location;

    #[tokio::test]
    async fn positions_in_two_bytes_are_the_positions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("positions.h5");
        let values = (0..800).map(|i| (i * 37) % 900);
        {
            // The last two of ten chunks are never written.
            let file = hdf5::File::create(&path).unwrap();
            let fours: Vec<i32> = values.clone().collect();
            let set = file.new_dataset::<i32>().shape(1000).chunk(100);
            let set = set.deflate(1).create("fours").unwrap();
            set.write_slice(&fours, 0..800).unwrap();
            let eights: Vec<u64> = values.map(|v| v.try_into().unwrap()).collect();
            let set = file.new_dataset::<u64>().shape(1000).chunk(100);
            let set = set.deflate(1).create("eights").unwrap();
            set.write_slice(&eights, 0..800).unwrap();
            let set = file.new_dataset::<i32>().shape(800);
            set.create("plain").unwrap().write(&fours).unwrap();
        }
        let location = Location::parse(&path.display().to_string());
        let store = crate::store::open(&location).await.unwrap();
        let metrics = ReadMetrics::default();
        let run = |start, len| Run {
            array: 0,
            start,
            len,
        };
        let runs: Arc<[Vec<Run>]> = Arc::new([
            vec![run(95, 210), run(3, 1), run(95, 210)],
            Vec::new(),
            vec![run(790, 150), run(250, 0), run(0, 99)],
        ]);
        for name in ["fours", "eights"] {
            let array = [store.array(&name.into()).await.unwrap()];
            let stored = gather_runs(&array, &runs, &metrics).await.unwrap();
            let narrow = gather_positions(&array, &runs, Some(900), &metrics);
            let narrow = narrow.await.unwrap();
            assert_eq!(narrow.len(), stored.len());
            for (narrow, stored) in narrow.iter().zip(&stored) {
                assert_eq!(narrow, &cast(stored, &DataType::UInt16).unwrap());
            }
            let refused = gather_positions(&array, &runs, Some(700), &metrics).await;
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("not below 700") && refused.contains(name));
            // More of them than two bytes can tell apart.
            let wide = gather_positions(&array, &runs, Some(70_000), &metrics).await;
            assert_eq!(&wide.unwrap(), &stored);
        }
        let plain = [store.array(&"plain".into()).await.unwrap()];
        let first: Arc<[Vec<Run>]> = Arc::new([vec![run(5, 3)]]);
        let read = gather_positions(&plain, &first, Some(900), &metrics).await;
        assert_eq!(read.unwrap()[0].data_type(), &DataType::Int32);
    }
}
