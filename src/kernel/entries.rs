//! Sparse rows from their parts.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, FieldRef};

use crate::error::{Error, Result};

/// Rows of a sparse matrix around their entries, without a copy; `item` is the field of an entry.
///
/// # Errors
/// [`Error::IncompatibleSchemas`] where `item` is no entry of a matrix;
/// [`Error::Arrow`] where the parts are not of its types or lengths.
pub(crate) fn sparse_rows(
    item: &FieldRef,
    offsets: OffsetBuffer<i32>,
    indices: ArrayRef,
    data: ArrayRef,
) -> Result<ListArray> {
    let DataType::Struct(members) = item.data_type() else {
        let reason = format!("{} is no entry of a sparse matrix", item.data_type());
        return Err(Error::IncompatibleSchemas(reason));
    };
    let entries = StructArray::try_new(members.clone(), vec![indices, data], None)?;
    Ok(ListArray::try_new(
        Arc::clone(item),
        offsets,
        Arc::new(entries),
        None,
    )?)
}
