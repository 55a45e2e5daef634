//! Rows of one range of keys, sorted.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use datafusion::execution::memory_pool::MemoryReservation;

use super::spec::within;
use crate::error::Result;
use crate::kernel::{OrderCut, RowPlace, gather, owned_bytes};

/// Batches in the making; rows come in any order.
pub(super) struct Collected {
    batches: Vec<RecordBatch>,
    rows: Vec<(OrderCut, u32, u32)>,
    reservation: MemoryReservation,
}

impl Collected {
    pub(super) fn new(reservation: MemoryReservation) -> Self {
        Self {
            batches: Vec::new(),
            rows: Vec::new(),
            reservation,
        }
    }

    /// Takes a batch whose rows have these places.
    ///
    /// # Errors
    /// What the memory pool says where it has no more.
    pub(super) fn push(&mut self, batch: RecordBatch, places: &[OrderCut]) -> Result<()> {
        let bytes = owned_bytes(&batch);
        self.push_sized(batch, places, bytes)
    }

    /// Counts bytes of batches that are to come.
    ///
    /// # Errors
    /// What the memory pool says where it has no more.
    pub(super) fn reserve(&mut self, bytes: usize) -> Result<()> {
        Ok(self.reservation.try_grow(bytes)?)
    }

    /// Takes a batch that counts for so many bytes.
    pub(super) fn push_sized(
        &mut self,
        batch: RecordBatch,
        places: &[OrderCut],
        bytes: usize,
    ) -> Result<()> {
        let bytes = bytes + size_of_val(places) + 8 * places.len();
        self.reservation.try_grow(bytes)?;
        let at = u32::try_from(self.batches.len()).unwrap_or(u32::MAX);
        let rows = places.iter().zip(0..).map(|(place, row)| (*place, at, row));
        self.rows.extend(rows);
        self.batches.push(batch);
        Ok(())
    }

    /// Takes those rows of a batch that a range of the order holds.
    pub(super) fn push_within(
        &mut self,
        batch: RecordBatch,
        places: &[OrderCut],
        bounds: (Option<OrderCut>, Option<OrderCut>),
    ) -> Result<()> {
        let chosen = places.iter().enumerate();
        let chosen: Vec<RowPlace> = chosen
            .filter(|(_, place)| within(**place, bounds))
            .map(|(row, _)| (0, row))
            .collect();
        if chosen.len() == places.len() {
            return self.push(batch, places);
        }
        if chosen.is_empty() {
            return Ok(());
        }
        let columns = batch.columns().iter();
        let columns = columns.map(|column| gather(std::slice::from_ref(column), &chosen));
        let part = batch_of(
            &batch.schema(),
            columns.collect::<Result<_>>()?,
            chosen.len(),
        )?;
        let places: Vec<OrderCut> = chosen.iter().map(|(_, row)| places[*row]).collect();
        self.push(part, &places)
    }

    /// The rows in their order.
    pub(super) fn finish(mut self) -> Window {
        self.rows.sort_unstable();
        let columns = self.batches.first().map_or(0, RecordBatch::num_columns);
        let columns = (0..columns).map(|at| {
            let parts = self
                .batches
                .iter()
                .map(|batch| Arc::clone(batch.column(at)));
            share_values(parts.collect())
        });
        Window {
            columns: columns.collect(),
            bytes: self.reservation.size(),
            rows: self.rows,
            _reservation: self.reservation,
        }
    }
}

/// Rows in their order.
pub(super) struct Window {
    /// The parts of each column.
    columns: Vec<Vec<ArrayRef>>,
    rows: Vec<(OrderCut, u32, u32)>,
    bytes: usize,
    _reservation: MemoryReservation,
}

impl Window {
    /// Bytes of a row on the average.
    fn row_bytes(&self) -> usize {
        self.bytes / self.rows.len().max(1)
    }

    /// Ranges of the rows that a part of the order holds, in steps of `bytes`.
    pub(super) fn steps(
        &self,
        (from, to): (Option<OrderCut>, Option<OrderCut>),
        bytes: usize,
        most_rows: usize,
    ) -> Vec<std::ops::Range<usize>> {
        let at = |cut: OrderCut| self.rows.partition_point(|(place, ..)| *place < cut);
        let (start, end) = (from.map_or(0, at), to.map_or(self.rows.len(), at));
        let step = (bytes / self.row_bytes().max(1)).clamp(1, most_rows.max(1));
        let starts = (start..end).step_by(step);
        starts.map(|start| start..end.min(start + step)).collect()
    }

    /// The rows of a range as a batch of this schema; columns behind it are left out.
    pub(super) fn batch(
        &self,
        rows: std::ops::Range<usize>,
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let places: Vec<RowPlace> = self.rows[rows]
            .iter()
            .map(|(_, batch, row)| (*batch as usize, *row as usize))
            .collect();
        let columns = self.columns.iter().take(schema.fields().len());
        let columns = columns.map(|parts| gather(parts, &places));
        batch_of(schema, columns.collect::<Result<_>>()?, places.len())
    }
}

/// A batch of columns that may be none.
pub(super) fn batch_of(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    n_rows: usize,
) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
    let schema = Arc::clone(schema);
    Ok(RecordBatch::try_new_with_options(
        schema, columns, &options,
    )?)
}

/// Gives codes over equal values, as they come back from a file, one array of values.
fn share_values(mut parts: Vec<ArrayRef>) -> Vec<ArrayRef> {
    let Some(first) = parts.first().cloned() else {
        return parts;
    };
    if !matches!(first.data_type(), DataType::Dictionary(key, _) if **key == DataType::Int32) {
        return parts;
    }
    let values = first.as_dictionary::<Int32Type>().values();
    for part in &mut parts[1..] {
        let codes = part.as_dictionary::<Int32Type>();
        if Arc::ptr_eq(codes.values(), values) || codes.values() != values {
            continue;
        }
        if let Ok(shared) = DictionaryArray::try_new(codes.keys().clone(), Arc::clone(values)) {
            *part = Arc::new(shared);
        }
    }
    parts
}
