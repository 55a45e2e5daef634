//! Columns that are held in memory, such as names of merged axes; and the parts of matrix rows that are.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::FieldRef;
use async_trait::async_trait;

use crate::element::{ColumnReader, EntryParts};
use crate::error::{Error, Result};
use crate::model::{ElementKey, RowSelection};
use crate::store::ReadMetrics;

/// A column whose values are at hand.
#[derive(Debug, Clone)]
pub(crate) struct MemoryColumn {
    field: FieldRef,
    key: ElementKey,
    values: ArrayRef,
}

impl MemoryColumn {
    /// A column of these values; `key` is what messages call it.
    pub(crate) fn new(field: FieldRef, key: ElementKey, values: ArrayRef) -> Self {
        Self { field, key, values }
    }
}

#[async_trait]
impl ColumnReader for MemoryColumn {
    fn field(&self) -> &FieldRef {
        &self.field
    }

    fn key(&self) -> &ElementKey {
        &self.key
    }

    fn len(&self) -> u64 {
        self.values.len() as u64
    }

    async fn read(&self, rows: &RowSelection, _: &ReadMetrics) -> Result<ArrayRef> {
        select(&self.values, rows, &self.key)
    }

    fn row_bytes(&self) -> u64 {
        bytes_per_row(&self.values)
    }
}

/// Running sums of the lengths of matrix rows.
pub(crate) fn offsets(rows: &ArrayRef, n_cols: u64) -> Vec<u64> {
    match rows.as_list_opt::<i32>() {
        Some(rows) => {
            let offsets = rows.value_offsets();
            let first = offsets.first().copied().unwrap_or_default();
            let ends = offsets
                .iter()
                .map(|end| u64::try_from(end - first).unwrap_or_default());
            ends.collect()
        }
        None => (0..=rows.len() as u64)
            .map(|row| row.saturating_mul(n_cols))
            .collect(),
    }
}

/// The parts of matrix rows, one after another.
pub(crate) fn entries(rows: &ArrayRef, parts: EntryParts) -> (Option<ArrayRef>, Option<ArrayRef>) {
    let Some(list) = rows.as_list_opt::<i32>() else {
        let values = rows
            .as_fixed_size_list_opt()
            .map(|rows| Arc::clone(rows.values()));
        return (None, values.filter(|_| parts.data));
    };
    let offsets = list.value_offsets();
    let first = offsets
        .first()
        .and_then(|first| usize::try_from(*first).ok());
    let last = offsets.last().and_then(|last| usize::try_from(*last).ok());
    let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
    let entries = list.values().as_struct();
    let part = |at: usize| entries.column(at).slice(first, last - first);
    (parts.indices.then(|| part(0)), parts.data.then(|| part(1)))
}

/// The selected rows, owned.
fn select(values: &ArrayRef, rows: &RowSelection, key: &ElementKey) -> Result<ArrayRef> {
    let len = values.len() as u64;
    if *rows == RowSelection::all(len) {
        return Ok(Arc::clone(values));
    }
    if rows.end() > len {
        return Err(Error::OutOfRange {
            url: "memory".to_owned(),
            element: key.clone(),
            position: i128::from(rows.end()) - 1,
            len,
        });
    }
    Ok(take(
        values,
        &UInt64Array::from_iter_values(rows.iter()),
        None,
    )?)
}

fn bytes_per_row(values: &ArrayRef) -> u64 {
    let bytes = u64::try_from(values.get_array_memory_size()).unwrap_or(u64::MAX);
    bytes / (values.len() as u64).max(1)
}
