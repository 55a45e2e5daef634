//! A block of rows, and reading slots for it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Int32Array, Int64Array, StringArray,
};
use arrow::compute::filter;
use arrow::util::bit_iterator::BitSliceIterator;
use futures::future::try_join_all;

use crate::element::{ColumnReader, MatrixReader};
use crate::error::{Error, Result};
use crate::functions::MatrixCall;
use crate::model::{MatrixKind, RowSelection};
use crate::store::ReadMetrics;
use crate::table::layout::{AlignedColumn, AlignedLayout};
use crate::table::scan::calls;
use crate::table::scan::expr::Slot;

/// Dense rows from this size on are read batch by batch, like sparse ones.
const WIDE_ROW: u64 = 1024;

/// Rows, and the slots read for them so far.
#[derive(Debug)]
pub(super) struct Block {
    rows: RowSelection,
    n_rows: usize,
    values: HashMap<Slot, ArrayRef>,
}

impl Block {
    pub(super) fn new(rows: RowSelection) -> Result<Self> {
        let n_rows = usize::try_from(rows.len())
            .map_err(|_| Error::IncompatibleSchemas("a block of too many rows".to_owned()))?;
        Ok(Self {
            rows,
            n_rows,
            values: HashMap::new(),
        })
    }

    pub(super) fn rows(&self) -> &RowSelection {
        &self.rows
    }

    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub(super) fn get(&self, slot: &Slot) -> Option<&ArrayRef> {
        self.values.get(slot)
    }

    /// Reads those of the slots that are not here yet.
    pub(super) async fn load(&mut self, slots: &[Slot], reader: &Reader<'_>) -> Result<()> {
        let missing: Vec<Slot> = slots
            .iter()
            .filter(|slot| !self.values.contains_key(slot))
            .cloned()
            .collect();
        let values = reader.read(&missing, &self.rows).await?;
        self.values.extend(missing.into_iter().zip(values));
        Ok(())
    }

    /// Drops the rows whose bit is not set.
    pub(super) fn keep(&mut self, mask: &BooleanArray) -> Result<()> {
        if mask.len() != self.n_rows {
            return Err(Error::IncompatibleSchemas(format!(
                "a predicate gave {} values for {} rows",
                mask.len(),
                self.n_rows
            )));
        }
        let kept = mask.true_count();
        if kept == self.n_rows {
            return Ok(());
        }
        self.rows = select(&self.rows, mask);
        self.n_rows = kept;
        for values in self.values.values_mut() {
            *values = filter(values, mask)?;
        }
        Ok(())
    }

    /// Drops all rows but the first `n_rows`.
    pub(super) fn truncate(&mut self, n_rows: usize) {
        if n_rows < self.n_rows {
            self.rows = self.rows.slice(0..n_rows as u64);
            self.n_rows = n_rows;
            for values in self.values.values_mut() {
                *values = values.slice(0, n_rows);
            }
        }
    }
}

/// The rows whose bit is set. Costs a pass over the ranges.
fn select(rows: &RowSelection, mask: &BooleanArray) -> RowSelection {
    let bits = mask.values();
    let mut selected: Vec<Range<u64>> = Vec::new();
    let mut ranges = rows.ranges().iter();
    let mut range = ranges.next();
    let mut rank = 0u64;
    for (start, end) in BitSliceIterator::new(bits.values(), bits.offset(), bits.len()) {
        let (start, end) = (start as u64, end as u64);
        while let Some(current) = range {
            let last = rank + (current.end - current.start);
            let (from, to) = (start.max(rank), end.min(last));
            if from < to {
                selected.push(current.start + (from - rank)..current.start + (to - rank));
            }
            if last > end {
                break;
            }
            rank = last;
            range = ranges.next();
        }
    }
    RowSelection::from_ranges(selected)
}

/// A data frame's element and what was read of it.
type ReadFrame<'a> = (&'a Arc<dyn ColumnReader>, ArrayRef);

/// Reads slots of a table.
pub(super) struct Reader<'a> {
    pub(super) table: &'a AlignedLayout,
    pub(super) metrics: &'a ReadMetrics,
}

impl Reader<'_> {
    /// Whether matrix functions of the column are computed from its parts.
    pub(super) fn computes(&self, column: usize) -> bool {
        self.matrix_of(column).is_some()
    }

    fn matrix_of(&self, column: usize) -> Option<&dyn MatrixReader> {
        match self.table.columns.get(column)? {
            AlignedColumn::Element(element) => element.as_matrix(),
            _ => None,
        }
    }

    /// The matrix behind a slot whose rows are large enough to be read batch by batch.
    fn heavy(&self, slot: &Slot) -> Option<&dyn MatrixReader> {
        let Slot::Column(column) = slot else {
            return None;
        };
        let element = match self.table.columns.get(*column)? {
            AlignedColumn::Genes(element, _) => return element.as_matrix(),
            AlignedColumn::Element(element) => element,
            _ => return None,
        };
        let matrix = element.as_matrix()?;
        let sparse = matrix.shape().kind == MatrixKind::Sparse;
        (sparse || element.row_bytes() >= WIDE_ROW).then_some(matrix)
    }

    /// Whether a slot's rows are read batch by batch.
    pub(super) fn is_heavy(&self, slot: &Slot) -> bool {
        self.heavy(slot).is_some()
    }

    /// Whether a slot needs a matrix at all, and so is read only for rows that satisfy the rest.
    pub(super) fn needs_matrix(&self, slot: &Slot) -> bool {
        matches!(slot, Slot::Call(..)) || self.is_heavy(slot)
    }

    /// Bytes of one row of the slots that are not heavy.
    pub(super) fn light_row_bytes(&self, slots: &[Slot]) -> u64 {
        let bytes = |slot: &Slot| match (slot, self.table.columns.get(slot.column())) {
            (Slot::Call(..), _) => 8,
            (_, Some(AlignedColumn::Element(element) | AlignedColumn::Member(element, _)))
                if !self.is_heavy(slot) =>
            {
                element.row_bytes()
            }
            (_, Some(AlignedColumn::Position | AlignedColumn::Object(_))) => 8,
            _ => 0,
        };
        slots.iter().map(bytes).fold(0, u64::saturating_add)
    }

    /// Bytes of each row of heavy slots. Reads row lengths only.
    pub(super) async fn sizes(
        &self,
        slots: &[Slot],
        rows: &RowSelection,
        n_rows: usize,
    ) -> Result<Vec<u64>> {
        let mut sizes = vec![0u64; n_rows];
        for matrix in slots.iter().filter_map(|slot| self.heavy(slot)) {
            let shape = matrix.shape();
            if shape.kind == MatrixKind::Dense {
                let row = matrix.row_bytes();
                sizes
                    .iter_mut()
                    .for_each(|size| *size = size.saturating_add(row));
                continue;
            }
            let index = if shape.n_cols > i32::MAX as u64 { 8 } else { 4 };
            let entry = shape.data.size().unwrap_or(8).saturating_add(index);
            let offsets = matrix.offsets(rows, self.metrics).await?;
            for (size, pair) in sizes.iter_mut().zip(offsets.windows(2)) {
                let row = pair[1].saturating_sub(pair[0]).saturating_mul(entry);
                *size = size.saturating_add(row).saturating_add(4);
            }
        }
        Ok(sizes)
    }

    /// The slots' values for the selected rows.
    pub(super) async fn read(&self, slots: &[Slot], rows: &RowSelection) -> Result<Vec<ArrayRef>> {
        let mut calls: Vec<(usize, Vec<MatrixCall>)> = Vec::new();
        let mut columns: Vec<usize> = Vec::new();
        for slot in slots {
            match slot {
                Slot::Column(column) => columns.push(*column),
                Slot::Call(column, call) => match calls.iter_mut().find(|(c, _)| c == column) {
                    Some((_, of_column)) => of_column.push(call.clone()),
                    None => calls.push((*column, vec![call.clone()])),
                },
            }
        }
        let frames = self.frames(&columns, rows).await?;
        let read = columns.iter().map(|c| self.column(*c, rows, &frames));
        let read = try_join_all(read).await?;
        let mut values: HashMap<Slot, ArrayRef> =
            columns.into_iter().map(Slot::Column).zip(read).collect();
        for (column, calls) in calls {
            let matrix = self.matrix_of(column).ok_or_else(|| not_read(column))?;
            let results = calls::compute(matrix, &calls, rows, self.metrics).await?;
            for (call, result) in calls.into_iter().zip(results) {
                values.insert(Slot::Call(column, call), result);
            }
        }
        slots
            .iter()
            .map(|slot| {
                values
                    .get(slot)
                    .cloned()
                    .ok_or_else(|| not_read(slot.column()))
            })
            .collect()
    }

    /// The data frames that columns are members of, each read once.
    async fn frames(&self, columns: &[usize], rows: &RowSelection) -> Result<Vec<ReadFrame<'_>>> {
        let mut frames: Vec<&Arc<dyn ColumnReader>> = Vec::new();
        for column in columns {
            if let Some(AlignedColumn::Member(frame, _)) = self.table.columns.get(*column)
                && !frames.iter().any(|known| Arc::ptr_eq(known, frame))
            {
                frames.push(frame);
            }
        }
        let read = frames.iter().map(|frame| self.element(frame, rows));
        let read = try_join_all(read).await?;
        Ok(frames.into_iter().zip(read).collect())
    }

    async fn column(
        &self,
        column: usize,
        rows: &RowSelection,
        frames: &[ReadFrame<'_>],
    ) -> Result<ArrayRef> {
        let source = self
            .table
            .columns
            .get(column)
            .ok_or_else(|| not_read(column))?;
        match source {
            AlignedColumn::Position => {
                let rows = rows
                    .iter()
                    .map(|row| i64::try_from(row).unwrap_or(i64::MAX));
                Ok(Arc::new(Int64Array::from_iter_values(rows)))
            }
            AlignedColumn::Object(location) => {
                let n_rows = usize::try_from(rows.len()).unwrap_or(usize::MAX);
                let values = Arc::new(StringArray::from(vec![location.as_str()]));
                let keys = Int32Array::from(vec![0; n_rows]);
                Ok(Arc::new(DictionaryArray::try_new(keys, values)?))
            }
            AlignedColumn::Element(element) => self.element(element, rows).await,
            AlignedColumn::Member(element, member) => {
                let frame = frames.iter().find(|(known, _)| Arc::ptr_eq(known, element));
                let frame = frame.and_then(|(_, values)| values.as_struct_opt());
                let member = frame.and_then(|frame| frame.columns().get(*member));
                member.cloned().ok_or_else(|| not_read(column))
            }
            AlignedColumn::Genes(element, genes) => {
                let values = self.element(element, rows).await?;
                genes.select(&values, &self.table.schema.fields()[column])
            }
        }
    }

    async fn element(
        &self,
        element: &Arc<dyn ColumnReader>,
        rows: &RowSelection,
    ) -> Result<ArrayRef> {
        element.read(rows, self.metrics).await
    }
}

fn not_read(column: usize) -> Error {
    Error::IncompatibleSchemas(format!("column {column} was not read"))
}

/// Cuts rows of these sizes into runs of at most so many rows and bytes, of one row at least.
pub(super) fn cut(sizes: &[u64], max_rows: usize, max_bytes: u64) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    let (mut start, mut bytes) = (0, 0u64);
    for (row, size) in sizes.iter().enumerate() {
        let full = row - start >= max_rows || bytes.saturating_add(*size) > max_bytes;
        if full && row > start {
            cuts.push(start..row);
            (start, bytes) = (row, 0);
        }
        bytes = bytes.saturating_add(*size);
    }
    if start < sizes.len() {
        cuts.push(start..sizes.len());
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_respect_rows_and_bytes_and_never_are_empty() {
        assert_eq!(cut(&[5, 5, 5, 20, 1], 10, 10), vec![0..2, 2..3, 3..4, 4..5]);
        assert_eq!(cut(&[0; 5], 2, 10), vec![0..2, 2..4, 4..5]);
        assert!(cut(&[], 2, 10).is_empty());
    }

    #[test]
    fn a_mask_selects_ranks() {
        let rows = RowSelection::from_ranges([2..5, 10..12, 20..21]);
        let mask = BooleanArray::from(vec![false, true, true, true, false, true]);
        assert_eq!(select(&rows, &mask).ranges(), &[3..5, 10..11, 20..21]);
        let none = BooleanArray::from(vec![false; 6]);
        assert!(select(&rows, &none).is_empty());
    }
}
