//! Which rows of a batch go to which output.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type};

use crate::error::{Error, Result};
use crate::model::{ROW_COLUMN, RowSelection};

/// Where rows stand in their object.
///
/// # Errors
/// [`Error::IncompatibleSchemas`] where they do not say so.
pub(super) fn row_positions(batch: &RecordBatch) -> Result<ArrayRef> {
    let column = batch.column_by_name(ROW_COLUMN).ok_or_else(|| {
        Error::IncompatibleSchemas(format!("rows cannot be routed without {ROW_COLUMN}"))
    })?;
    Ok(Arc::clone(column))
}

/// The rows of the batch that a selection holds, [`None`] where there are none.
pub(super) fn select_rows(
    batch: &RecordBatch,
    positions: &ArrayRef,
    rows: &RowSelection,
) -> Result<Option<RecordBatch>> {
    let positions = positions.as_primitive::<Int64Type>().values();
    let (Some(first), Some(last)) = (positions.iter().min(), positions.iter().max()) else {
        return Ok(None);
    };
    let bounds = u64::try_from(*first).and_then(|lo| Ok((lo, u64::try_from(*last)?)));
    let (lo, hi) = bounds.map_err(|_| {
        Error::IncompatibleSchemas(format!("{ROW_COLUMN} runs from {first} to {last}"))
    })?;
    let here = rows.clip(lo..hi.saturating_add(1));
    if here.is_empty() {
        return Ok(None);
    }
    let chosen = |row: &i64| u64::try_from(*row).is_ok_and(|row| here.contains(row));
    let mask: BooleanArray = positions.iter().map(|row| Some(chosen(row))).collect();
    match mask.true_count() {
        0 => Ok(None),
        n if n == batch.num_rows() => Ok(Some(batch.clone())),
        _ => Ok(Some(filter_record_batch(batch, &mask)?)),
    }
}

/// A column as text.
///
/// # Errors
/// [`Error::InvalidOption`] where there is none of that name.
pub(super) fn text_column(batch: &RecordBatch, column: &str) -> Result<ArrayRef> {
    let values = batch.column_by_name(column).ok_or_else(|| {
        Error::option(
            "PARTITIONED BY",
            format!("there is no column '{column}' in what is written"),
        )
    })?;
    Ok(cast(values, &DataType::Utf8)?)
}
