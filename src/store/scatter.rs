//! Runs of arrays, each to a place of its own in one result: no value is copied twice.
//!
//! ```text
//!  runs   b: 7..9   a: 0..3   b: 2..4      result   b7 b8 │ a0 a1 a2 │ b2 b3
//! ```
//! A chunk is undone where it is needed, and its runs go straight to where they are wanted. What reads
//! with [`ArrayReader::read`] has rows in the order of the array, and whoever wants another order moves
//! them again.

use std::collections::BTreeMap;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::Arc;

use arrow::array::{ArrayRef, MutableArrayData, make_array, new_empty_array};
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

/// Reads runs of arrays of one type, one after another as they are given, into one owned array.
///
/// Only chunks that hold some of the rows are fetched, each once; they are decoded on all cores.
///
/// # Errors
/// As [`ArrayReader::read`]; [`Error::IncompatibleSchemas`] where the arrays are not of one type.
pub async fn gather_runs(
    arrays: &[Arc<dyn ArrayReader>],
    runs: &[Run],
    metrics: &ReadMetrics,
) -> Result<ArrayRef> {
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
    for run in runs {
        let array = arrays.get(run.array).unwrap_or(first);
        let end = run.start.saturating_add(run.len);
        if end > array.info().len() {
            return array
                .read(&RowSelection::range(run.start..end), metrics)
                .await;
        }
    }
    let direct: Option<Vec<Scattered>> = arrays.iter().map(|array| array.scattered()).collect();
    match direct {
        Some(direct) => straight(direct, dtype, runs, metrics).await,
        None => by_copies(arrays, runs, metrics).await,
    }
}

async fn straight(
    arrays: Vec<Scattered>,
    dtype: &DType,
    runs: &[Run],
    metrics: &ReadMetrics,
) -> Result<ArrayRef> {
    let (dtype, runs) = (dtype.clone(), runs.to_vec());
    let read_from = arrays.clone();
    let read = move || Ok(read_straight(&read_from, dtype, &runs));
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
    let (array, filled) = outcome
        .map_err(|fault| located(0, fault))?
        .map_err(|(at, fault)| located(at, fault))?;
    metrics.add_bytes(filled.bytes);
    metrics.add_chunks(filled.chunks);
    Ok(array)
}

/// A fault, and which array's it is.
type Located = (usize, Fault);

fn read_straight(
    arrays: &[Scattered],
    dtype: DType,
    runs: &[Run],
) -> std::result::Result<(ArrayRef, Filled), Located> {
    let overflow = || (0, Fault::Corrupt("the runs asked for overflow".into()));
    let row_bytes = arrays.first().map_or(0, |array| array.0.row_bytes());
    let bytes_of = |run: &Run| {
        let bytes = run.len.checked_mul(row_bytes);
        bytes.and_then(|n| usize::try_from(n).ok())
    };
    let total = runs
        .iter()
        .try_fold(0usize, |sum, run| sum.checked_add(bytes_of(run)?));
    let total = total.ok_or_else(overflow)?;
    for (at, array) in arrays.iter().enumerate() {
        let of = || runs.iter().filter(|run| run.array == at);
        let rows = of().map(|run| run.start..run.start.saturating_add(run.len));
        let bytes = of().filter_map(bytes_of).map(|n| n as u64).sum();
        let checked = array.0.check(bytes, &RowSelection::from_ranges(rows));
        checked.map_err(|fault| (at, fault))?;
    }
    let mut failed = None;
    let mut filled = Filled::default();
    let bytes = Bytes::try_fill(total, |out| {
        let mut rest = out;
        let mut targets: Vec<Vec<Target<'_>>> = arrays.iter().map(|_| Vec::new()).collect();
        for run in runs.iter().filter(|run| run.len > 0) {
            let bytes = bytes_of(run).and_then(|len| rest.split_off_mut(..len));
            if let (Some(bytes), Some(targets)) = (bytes, targets.get_mut(run.array)) {
                let start = run.start;
                targets.push(Target { start, bytes });
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
    let bytes = bytes.map_err(|fault| (failed.unwrap_or(0), fault))?;
    let disk = Disk::Number { dtype, swap: false };
    let array = to_arrow(&disk, bytes, &Nowhere).map_err(|fault| (0, fault))?;
    Ok((array, filled))
}

/// Targets by the chunk that their rows are in, each cut where a chunk ends; rows are counted from the
/// chunk's first.
pub(in crate::store) fn by_chunk<'a>(
    targets: Vec<Target<'a>>,
    height: u64,
    row_bytes: u64,
) -> Vec<(u64, Vec<Target<'a>>)> {
    let height = height.max(1);
    let mut chunks: BTreeMap<u64, Vec<Target<'a>>> = BTreeMap::new();
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
            chunks.entry(chunk).or_default().push(Target {
                start: start % height,
                bytes,
            });
            start = (chunk + 1).saturating_mul(height);
        }
    }
    let chunks = chunks.into_iter().map(|(chunk, mut targets)| {
        targets.sort_unstable_by_key(|target| target.start);
        (chunk, targets)
    });
    chunks.collect()
}

/// Values moved twice: what is read in the order of each array is copied run by run.
async fn by_copies(
    arrays: &[Arc<dyn ArrayReader>],
    runs: &[Run],
    metrics: &ReadMetrics,
) -> Result<ArrayRef> {
    let mut read = Vec::with_capacity(arrays.len());
    let mut held = Vec::with_capacity(arrays.len());
    for (at, array) in arrays.iter().enumerate() {
        let of = runs.iter().filter(|run| run.array == at);
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
    let total: u64 = runs.iter().map(|run| run.len).sum();
    let Some(first) = read.first() else {
        return Err(Error::IncompatibleSchemas("runs of no array".to_owned()));
    };
    if total == 0 {
        return Ok(new_empty_array(first.data_type()));
    }
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let width = arrays.first().and_then(|a| a.info().row_len());
    let width = size(width.unwrap_or(1));
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
