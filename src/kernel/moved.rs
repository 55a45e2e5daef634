//! Entries of sparse rows on another axis: every index becomes its new one, and its value goes with it.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, Int32Array, ListArray, UInt32Array, make_array};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{concat, take};
use arrow::datatypes::ArrowNativeType;

use super::entries::{list, off_axis, too_large};
use super::row_columns::RowColumns;
use crate::error::Result;

/// Marks a column that has no place, or is new.
pub(super) const NONE: i32 = -1;
/// Marks an entry that is a fill.
const FILL: u32 = u32::MAX;
/// Runs of columns, at most, that rows are put together from; the last is of those that are dropped.
const MOST_RUNS: usize = DROPPED as usize + 1;
const DROPPED: u8 = 31;

/// Where columns go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moves {
    /// New place by old one.
    pub(super) places: Vec<i32>,
    /// Old place by new one.
    pub(super) sources: Vec<i32>,
    /// New places that no old column goes to.
    pub(super) n_empty: usize,
    /// Whether every old column has a new place.
    pub(super) complete: bool,
    /// Whether the order stays, so that sorted rows stay sorted.
    pub(super) ascending: bool,
    /// The run of each old column, where runs are few: within a run the order stays, and new places of
    /// one come before those of the next. A merge has one for each object that brought genes.
    pub(super) runs: Option<Vec<u8>>,
}

/// Rows of these indices and values, each by its own moves.
///
/// # Errors
/// As [`Moves::rows`].
pub(super) fn rows_by<'a>(
    of_row: impl Fn(usize) -> RowMoves<'a> + Copy,
    rows: &ListArray,
    indices: &[i32],
    values: &ArrayRef,
) -> Result<ListArray> {
    let fills = Fills {
        fill: None,
        per_row: 0,
    };
    moved_rows(of_row, rows, indices, values, fills)
}

/// What new columns get.
#[derive(Clone, Copy)]
struct Fills<'a> {
    /// One value, [`None`] where they stay empty.
    fill: Option<&'a ArrayRef>,
    per_row: usize,
}

/// How a row's entries move.
#[derive(Debug, Clone, Copy)]
pub(super) enum RowMoves<'a> {
    /// Like this.
    By(&'a Moves),
    /// Not at all; there are so many columns.
    Not(usize),
}

fn moved_rows<'a>(
    of_row: impl Fn(usize) -> RowMoves<'a> + Copy,
    rows: &ListArray,
    indices: &[i32],
    values: &ArrayRef,
    fills: Fills<'_>,
) -> Result<ListArray> {
    let of_width = match values.data_type().primitive_width() {
        _ if values.null_count() > 0 => None,
        Some(1) => of_width::<u8>(of_row, rows, indices, values, fills)?,
        Some(2) => of_width::<u16>(of_row, rows, indices, values, fills)?,
        Some(4) => of_width::<u32>(of_row, rows, indices, values, fills)?,
        Some(8) => of_width::<u64>(of_row, rows, indices, values, fills)?,
        _ => None,
    };
    match of_width {
        Some(rows) => Ok(rows),
        None => by_order(of_row, rows, indices, values, fills),
    }
}

/// Values of any type: their positions are moved, and then they are taken from there.
fn by_order<'a>(
    of_row: impl Fn(usize) -> RowMoves<'a>,
    rows: &ListArray,
    indices: &[i32],
    values: &ArrayRef,
    fills: Fills<'_>,
) -> Result<ListArray> {
    let n = u32::try_from(values.len()).map_err(|_| too_large())?;
    let order: Vec<u32> = (0..n).collect();
    let fill = fills.fill.map(|_| n);
    let moved = moved(of_row, rows, (indices, &order), fill, fills.per_row)?;
    let values = match fills.fill {
        Some(fill) => concat(&[values.as_ref(), fill.as_ref()])?,
        None => ArrayRef::clone(values),
    };
    let values = take(&values, &UInt32Array::from(moved.values), None)?;
    finished(moved.ends, moved.indices, values)
}

/// Values that are as wide as `T`, whatever they are; [`None`] where they do not lie in one buffer.
fn of_width<'a, T: ArrowNativeType>(
    of_row: impl Fn(usize) -> RowMoves<'a>,
    rows: &ListArray,
    indices: &[i32],
    values: &ArrayRef,
    fills: Fills<'_>,
) -> Result<Option<ListArray>> {
    let (data, fill) = (values.to_data(), fills.fill.map(|fill| fill.to_data()));
    let fill = fill.as_ref().map(native::<T>);
    let (Some(all), false) = (native::<T>(&data), matches!(fill, Some(None))) else {
        return Ok(None);
    };
    let fill = fill.flatten().and_then(|fill| fill.first().copied());
    let moved = moved(of_row, rows, (indices, all), fill, fills.per_row)?;
    let data = ArrayData::builder(values.data_type().clone())
        .len(moved.values.len())
        .add_buffer(ScalarBuffer::from(moved.values).into_inner())
        .build()?;
    finished(moved.ends, moved.indices, make_array(data)).map(Some)
}

fn moved<'a, T: Copy + Default>(
    of_row: impl Fn(usize) -> RowMoves<'a>,
    rows: &ListArray,
    (indices, values): Row<'_, T>,
    fill: Option<T>,
    fills_per_row: usize,
) -> Result<Moved<T>> {
    let n_fills = rows.len().saturating_mul(fills_per_row);
    let mut moved = Moved::with_capacity(rows.len(), n_entries(rows) + n_fills);
    for (at, pair) in rows.value_offsets().windows(2).enumerate() {
        let end = |at: i32| usize::try_from(at).map_err(|_| off_axis());
        let entries = end(pair[0])?..end(pair[1])?;
        let row = indices.get(entries.clone()).zip(values.get(entries));
        let row = row.ok_or_else(off_axis)?;
        match of_row(at) {
            RowMoves::By(moves) => moved.row(moves, row, fill)?,
            RowMoves::Not(n_columns) => moved.same(row, n_columns)?,
        }
        moved.end()?;
    }
    Ok(moved)
}

impl Moves {
    /// Rows of these indices and values. New columns get `fill` (one value) where it is given, and
    /// then rows come out sorted; otherwise those do that were.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`](crate::Error::IncompatibleSchemas) where an index lies off the axis.
    pub(super) fn rows(
        &self,
        rows: &ListArray,
        indices: &[i32],
        values: &ArrayRef,
        fill: Option<&ArrayRef>,
    ) -> Result<ListArray> {
        let fills = Fills {
            fill,
            per_row: fill.map_or(0, |_| self.n_empty),
        };
        moved_rows(|_| RowMoves::By(self), rows, indices, values, fills)
    }
}

/// Rows in the making: new indices, their values, where rows end.
struct Moved<T> {
    indices: Vec<i32>,
    values: Vec<T>,
    ends: Vec<i32>,
    /// Of one row: new index above, place of the value below.
    keys: Vec<u64>,
    columns: RowColumns,
}

/// Indices of a row, and as many values.
type Row<'a, T> = (&'a [i32], &'a [T]);

impl<T: Copy + Default> Moved<T> {
    /// Room for so many rows of so many entries: to grow into it would touch as much memory once more.
    fn with_capacity(n_rows: usize, n_entries: usize) -> Self {
        let mut ends = Vec::with_capacity(n_rows + 1);
        ends.push(0);
        Self {
            indices: Vec::with_capacity(n_entries),
            values: Vec::with_capacity(n_entries),
            ends,
            keys: Vec::new(),
            columns: RowColumns::default(),
        }
    }

    fn row(&mut self, moves: &Moves, row: Row<'_, T>, fill: Option<T>) -> Result<()> {
        match (&moves.runs, fill) {
            (_, Some(fill)) => self.by_keys(moves, row, Some(fill)),
            // What was not sorted need not be sorted now.
            _ if moves.ascending || !row.0.is_sorted() => self.in_place(moves, row),
            (Some(runs), None) => self.by_runs(moves, runs, row),
            (None, None) => match RowColumns::pay(row.0.len(), moves.sources.len()) {
                true => self.by_ranks(moves, row),
                false => self.by_keys(moves, row, None),
            },
        }
    }

    /// A row that stays as it is.
    fn same(&mut self, (indices, values): Row<'_, T>, n_columns: usize) -> Result<()> {
        let is_on_axis = |index: &i32| usize::try_from(*index).is_ok_and(|at| at < n_columns);
        if !indices.iter().all(is_on_axis) {
            return Err(off_axis());
        }
        self.indices.extend_from_slice(indices);
        self.values.extend_from_slice(values);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let end = i32::try_from(self.indices.len()).map_err(|_| too_large())?;
        self.ends.push(end);
        Ok(())
    }

    /// A row whose entries stay in their order. Dropped ones are written over by the next, because a
    /// branch that nobody can foresee costs more.
    fn in_place(&mut self, moves: &Moves, (indices, values): Row<'_, T>) -> Result<()> {
        let start = self.indices.len();
        self.indices.resize(start + indices.len(), 0);
        self.values.resize(start + indices.len(), T::default());
        let (new, with) = (&mut self.indices[start..], &mut self.values[start..]);
        let mut kept = 0;
        for (old, value) in indices.iter().zip(values) {
            let place = place(&moves.places, *old)?;
            new[kept] = place;
            with[kept] = *value;
            kept += usize::from(place >= 0);
        }
        self.truncate(start + kept);
        Ok(())
    }

    /// A sorted row, whose entries of a run stay in their order. Dropped ones are put behind all others
    /// and cut off.
    fn by_runs(&mut self, moves: &Moves, runs: &[u8], (indices, values): Row<'_, T>) -> Result<()> {
        let run_of = |old: i32| {
            let old = usize::try_from(old).ok();
            let run = old.and_then(|old| runs.get(old).copied());
            run.map(usize::from).ok_or_else(off_axis)
        };
        let mut next = [0; MOST_RUNS];
        for old in indices {
            next[run_of(*old)?] += 1;
        }
        let mut end = self.indices.len();
        for slot in &mut next {
            end += std::mem::replace(slot, end);
        }
        self.indices.resize(end, 0);
        self.values.resize(end, T::default());
        let kept = next[usize::from(DROPPED)];
        for (old, value) in indices.iter().zip(values) {
            let slot = &mut next[run_of(*old)?];
            self.indices[*slot] = place(&moves.places, *old)?;
            self.values[*slot] = *value;
            *slot += 1;
        }
        self.truncate(kept);
        Ok(())
    }

    /// A row of which every entry is told its place by how many of the row come before it. To count bits is
    /// an instruction that not all processors have.
    fn by_ranks(&mut self, moves: &Moves, row: Row<'_, T>) -> Result<()> {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "popcnt")]
            fn counting<T: Copy + Default>(
                to: &mut Moved<T>,
                moves: &Moves,
                row: Row<'_, T>,
            ) -> Result<()> {
                to.ranked(moves, row)
            }
            if std::arch::is_x86_feature_detected!("popcnt") {
                // SAFETY: the processor has what the function is compiled for.
                return unsafe { counting(self, moves, row) };
            }
        }
        self.ranked(moves, row)
    }

    /// Dropped entries are put behind all others and cut off.
    #[inline(always)]
    fn ranked(&mut self, moves: &Moves, row: Row<'_, T>) -> Result<()> {
        let (indices, values) = row;
        self.columns.clear(moves.sources.len());
        let mut kept = 0;
        for old in indices {
            let place = place(&moves.places, *old)?;
            self.columns.add(place);
            kept += usize::from(place >= 0);
        }
        if self.columns.sum_up() != kept {
            // Of columns that repeat, the order stays.
            return self.by_keys(moves, row, None);
        }
        // A spare place for what is dropped, where something is: a row that is whole may have no room for it.
        let n = kept + usize::from(kept < indices.len());
        let start = self.indices.len();
        self.indices.resize(start + n, 0);
        self.values.resize(start + n, T::default());
        let (new, with) = (&mut self.indices[start..], &mut self.values[start..]);
        for (old, value) in indices.iter().zip(values) {
            let place = place(&moves.places, *old)?;
            let rank = self.columns.before(place).unwrap_or(kept);
            new[rank] = place;
            with[rank] = *value;
        }
        self.truncate(start + kept);
        Ok(())
    }

    /// Any row, sorted by its new indices, and filled.
    fn by_keys(
        &mut self,
        moves: &Moves,
        (indices, values): Row<'_, T>,
        fill: Option<T>,
    ) -> Result<()> {
        self.keys.clear();
        for (at, old) in (0..).zip(indices) {
            let new = place(&moves.places, *old)?;
            if new >= 0 {
                self.keys.push(key(new, at));
            }
        }
        if fill.is_some() {
            let empty = (0..).zip(&moves.sources).filter(|(_, source)| **source < 0);
            self.keys.extend(empty.map(|(new, _)| key(new, FILL)));
        }
        self.keys.sort_unstable();
        for key in &self.keys {
            let value = match low(*key) {
                FILL => fill,
                at => values.get(at as usize).copied(),
            };
            self.indices.push(high(*key));
            self.values.push(value.ok_or_else(off_axis)?);
        }
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.indices.truncate(len);
        self.values.truncate(len);
    }
}

/// The run of each old column, unless there are many.
pub(super) fn runs(sources: &[i32], n_old: usize) -> Option<Vec<u8>> {
    let mut runs = vec![DROPPED; n_old];
    let (mut run, mut last) = (0, 0);
    for source in sources.iter().filter(|source| **source >= 0) {
        if *source < last {
            run += 1;
        }
        if run >= DROPPED {
            return None;
        }
        last = *source;
        *runs.get_mut(usize::try_from(last).ok()?)? = run;
    }
    Some(runs)
}

/// Values as they lie in memory.
fn native<T: ArrowNativeType>(data: &ArrayData) -> Option<&[T]> {
    let buffer = data.buffers().first()?;
    let end = data.offset().checked_add(data.len())?;
    buffer.typed_data::<T>().get(data.offset()..end)
}

fn finished(ends: Vec<i32>, indices: Vec<i32>, values: ArrayRef) -> Result<ListArray> {
    let indices = Arc::new(Int32Array::from(indices));
    list(OffsetBuffer::new(ScalarBuffer::from(ends)), indices, values)
}

/// Entries of rows, which may be a slice of others.
fn n_entries(rows: &ListArray) -> usize {
    let offsets = rows.value_offsets();
    let ends = offsets.first().zip(offsets.last());
    let n = ends.map_or(0, |(first, last)| last.saturating_sub(*first));
    usize::try_from(n).unwrap_or_default()
}

#[expect(clippy::cast_sign_loss, reason = "a new index is not negative")]
fn key(new: i32, at: u32) -> u64 {
    u64::from(new as u32) << 32 | u64::from(at)
}

fn high(key: u64) -> i32 {
    (key >> 32) as i32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half of a key")]
fn low(key: u64) -> u32 {
    key as u32
}

pub(super) fn place(places: &[i32], old: i32) -> Result<i32> {
    let at = usize::try_from(old).ok().and_then(|old| places.get(old));
    at.copied().ok_or_else(off_axis)
}
