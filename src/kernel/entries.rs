//! Sparse rows from their parts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};

use crate::error::{Error, Result};
use crate::model::matrix_type;

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

/// Rows of a sparse matrix with their indices in the type that `rows_type` has for them; other rows,
/// and those that are of the type, as they are.
///
/// # Errors
/// [`Error::Arrow`] where an index is out of the type's range.
pub(crate) fn with_indices(rows: ArrayRef, rows_type: &DataType) -> Result<ArrayRef> {
    let (Some(list), DataType::List(item)) = (rows.as_list_opt::<i32>(), rows_type) else {
        return Ok(rows);
    };
    let (Some(entries), DataType::Struct(members)) =
        (list.values().as_struct_opt(), item.data_type())
    else {
        return Ok(rows);
    };
    let (Some(of), [indices, data]) = (members.first(), entries.columns()) else {
        return Ok(rows);
    };
    if indices.data_type() == of.data_type() {
        return Ok(rows);
    }
    let indices = cast(indices, of.data_type())?;
    let offsets = list.offsets().clone();
    let rows = sparse_rows(item, offsets, indices, Arc::clone(data))?;
    Ok(Arc::new(rows))
}

/// Sparse rows from their parts, whose types are theirs.
///
/// # Errors
/// [`Error::Arrow`] where the parts are not as long as each other.
pub(crate) fn list(
    offsets: OffsetBuffer<i32>,
    indices: ArrayRef,
    values: ArrayRef,
) -> Result<ListArray> {
    match matrix_type(values.data_type().clone(), indices.data_type().clone()) {
        DataType::List(item) => sparse_rows(&item, offsets, indices, values),
        _ => Err(off_axis()),
    }
}

pub(super) fn off_axis() -> Error {
    Error::IncompatibleSchemas("an index of a matrix row lies off its axis".to_owned())
}

pub(super) fn too_large() -> Error {
    Error::IncompatibleSchemas("a batch of matrix rows is too large".to_owned())
}
