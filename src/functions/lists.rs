//! The matrix functions on list arrays, for calls above a scan.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use crate::error::{Error, Result};
use crate::kernel::sums;

/// See [`sums::count_nonzero`].
pub(super) fn n_genes(rows: &ArrayRef) -> Result<ArrayRef> {
    let block = Block::of(rows)?;
    let counts = sums::count_nonzero(&block.values, &block.offsets)?;
    let nulls = rows.nulls().cloned();
    Ok(Arc::new(Int64Array::new(counts.values().clone(), nulls)))
}

/// See [`sums::sum`].
pub(super) fn total_counts(rows: &ArrayRef) -> Result<ArrayRef> {
    let block = Block::of(rows)?;
    let total = sums::sum(&block.values, &block.offsets)?;
    let nulls = rows.nulls().cloned();
    Ok(Arc::new(Float64Array::new(total.values().clone(), nulls)))
}

/// See [`sums::pick`].
pub(super) fn gene(rows: &ArrayRef, position: usize) -> Result<ArrayRef> {
    let block = Block::of(rows)?;
    let places = match (&block.indices, block.width) {
        (Some(indices), _) => sums::places_of(indices, position)?,
        (None, width) if position < width => {
            (0..rows.len()).map(|row| row * width + position).collect()
        }
        (None, width) => {
            return Err(Error::IncompatibleSchemas(format!(
                "gene at position {position} of rows with {width} values"
            )));
        }
    };
    let picked = sums::pick(&block.values, &places, &block.offsets)?;
    with_nulls(&picked, rows.nulls())
}

/// The entries of a list array's rows. A null row keeps whatever entries it has; its result is
/// null.
struct Block {
    indices: Option<ArrayRef>,
    values: ArrayRef,
    offsets: Vec<usize>,
    width: usize,
}

impl Block {
    fn of(rows: &ArrayRef) -> Result<Self> {
        match rows.data_type() {
            DataType::List(_) => {
                let rows = rows.as_list::<i32>();
                let Some(entries) = rows
                    .values()
                    .as_struct_opt()
                    .filter(|e| e.num_columns() == 2)
                else {
                    return Err(no_matrix(rows.data_type()));
                };
                let offsets = rows
                    .value_offsets()
                    .iter()
                    .map(|o| usize::try_from(*o).unwrap_or(0));
                Ok(Self {
                    indices: Some(Arc::clone(entries.column(0))),
                    values: Arc::clone(entries.column(1)),
                    offsets: offsets.collect(),
                    width: 0,
                })
            }
            DataType::FixedSizeList(_, width) => {
                let width = usize::try_from(*width).unwrap_or(0);
                Ok(Self {
                    indices: None,
                    values: Arc::clone(rows.as_fixed_size_list().values()),
                    offsets: sums::dense_offsets(rows.len(), width),
                    width,
                })
            }
            other => Err(no_matrix(other)),
        }
    }
}

fn no_matrix(data_type: &DataType) -> Error {
    Error::IncompatibleSchemas(format!("a column of type {data_type} is no matrix"))
}

fn with_nulls(array: &ArrayRef, nulls: Option<&NullBuffer>) -> Result<ArrayRef> {
    match nulls {
        None => Ok(Arc::clone(array)),
        Some(nulls) => Ok(make_array(
            array
                .to_data()
                .into_builder()
                .nulls(Some(nulls.clone()))
                .build()?,
        )),
    }
}
