//! Rows of several arrays, in any order, as one owned array of exactly their size.
//!
//! ```text
//!  arrays   a b c   d e        places (1, 0) (0, 2) (0, 0)   ──►   d c a
//! ```
//! Arrow's own `take` reserves by the average of what a slice's parent holds, and its `interleave`
//! moves lists value by value; rows of a matrix are runs of bytes, and moved as such.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, DictionaryArray, FixedSizeListArray, Int32Array,
    ListArray, RecordBatch, StructArray, make_array, new_empty_array,
};
use arrow::buffer::{Buffer, MutableBuffer, NullBuffer, OffsetBuffer};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Int32Type};
use arrow::error::ArrowError;

use crate::error::Result;

/// A row: which array it is in, and where.
pub type RowPlace = (usize, usize);

/// The rows at `places` of arrays of one type.
///
/// # Errors
/// [`Error::Arrow`](crate::Error::Arrow) where the arrays are not of one type, or the rows hold more
/// entries than one list array can.
pub fn gather(arrays: &[ArrayRef], places: &[RowPlace]) -> Result<ArrayRef> {
    let Some(first) = arrays.first() else {
        return Err(ArrowError::InvalidArgumentError("rows of no array".to_owned()).into());
    };
    if places.is_empty() {
        return Ok(new_empty_array(first.data_type()));
    }
    let own = match first.data_type() {
        DataType::List(_) => sparse(arrays, places)?,
        DataType::Dictionary(_, _) => shared_values(arrays, places)?,
        DataType::Struct(_) => members(arrays, places)?,
        DataType::FixedSizeList(_, _) => without_values(arrays, places)?,
        _ => None,
    };
    if let Some(rows) = own {
        return Ok(rows);
    }
    let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    Ok(interleave(&arrays, places)?)
}

/// Rows of sparse matrices; [`None`] where these are other lists.
fn sparse(arrays: &[ArrayRef], places: &[RowPlace]) -> Result<Option<ArrayRef>> {
    let lists: Vec<&ListArray> = arrays.iter().filter_map(|a| a.as_list_opt()).collect();
    let entries: Vec<&StructArray> = lists
        .iter()
        .filter_map(|list| list.values().as_struct_opt())
        .collect();
    let plain = lists.iter().all(|list| list.null_count() == 0)
        && entries.iter().all(|entries| entries.null_count() == 0);
    if !plain || entries.len() != arrays.len() {
        return Ok(None);
    }
    let Some(first) = lists.first() else {
        return Ok(None);
    };
    let mut offsets: Vec<i32> = Vec::with_capacity(places.len() + 1);
    let mut runs: Vec<(usize, usize, usize)> = Vec::with_capacity(places.len());
    let mut total = 0usize;
    offsets.push(0);
    for (array, row) in places {
        let range = lists.get(*array).and_then(|list| {
            let offsets = list.value_offsets().get(*row..)?.get(..2)?;
            Some((
                usize::try_from(offsets[0]).ok()?,
                usize::try_from(offsets[1]).ok()?,
            ))
        });
        let (start, end) = range.ok_or_else(|| missing(*array, *row))?;
        runs.push((*array, start, end - start));
        total += end - start;
        offsets.push(i32::try_from(total).map_err(|_| ArrowError::OffsetOverflowError(total))?);
    }
    let DataType::List(item) = first.data_type() else {
        return Ok(None);
    };
    let DataType::Struct(members) = item.data_type() else {
        return Ok(None);
    };
    let mut columns = Vec::with_capacity(members.len());
    for at in 0..members.len() {
        let parts: Vec<ArrayData> = entries.iter().map(|e| e.column(at).to_data()).collect();
        match fixed(&parts, &runs, total)? {
            Some(column) => columns.push(column),
            None => return Ok(None),
        }
    }
    let entries = StructArray::try_new(members.clone(), columns, None)?;
    let offsets = OffsetBuffer::new(offsets.into());
    let rows = ListArray::try_new(Arc::clone(item), offsets, Arc::new(entries), None)?;
    Ok(Some(Arc::new(rows)))
}

/// Rows of no values, whose number Arrow's `interleave` and `take` forget; [`None`] where rows have
/// some, or are null.
fn without_values(arrays: &[ArrayRef], places: &[RowPlace]) -> Result<Option<ArrayRef>> {
    let Some(first) = arrays
        .first()
        .filter(|first| is_zero_wide(first.data_type()))
    else {
        return Ok(None);
    };
    if arrays.iter().any(|array| array.null_count() > 0) {
        return Ok(None);
    }
    for (array, row) in places {
        let of = arrays
            .get(*array)
            .filter(|rows| *row < rows.len() && rows.data_type() == first.data_type());
        of.ok_or_else(|| missing(*array, *row))?;
    }
    Ok(Some(zero_wide(first.data_type(), places.len())?))
}

/// Whether some axis of a row has no place.
fn is_zero_wide(data_type: &DataType) -> bool {
    match data_type {
        DataType::FixedSizeList(item, size) => *size == 0 || is_zero_wide(item.data_type()),
        _ => false,
    }
}

/// So many rows of no values.
fn zero_wide(data_type: &DataType, len: usize) -> Result<ArrayRef> {
    let DataType::FixedSizeList(item, size) = data_type else {
        return Ok(new_empty_array(data_type));
    };
    let items = len * usize::try_from(*size).unwrap_or_default();
    let values = zero_wide(item.data_type(), items)?;
    let item = Arc::clone(item);
    let rows = FixedSizeListArray::try_new_with_length(item, *size, values, None, len)?;
    Ok(Arc::new(rows))
}

/// Structs member by member, so that categories in them stay one array; [`None`] where some are null.
fn members(arrays: &[ArrayRef], places: &[RowPlace]) -> Result<Option<ArrayRef>> {
    let structs: Vec<&StructArray> = arrays.iter().filter_map(|a| a.as_struct_opt()).collect();
    let Some(first) = structs.first().filter(|_| structs.len() == arrays.len()) else {
        return Ok(None);
    };
    if structs.iter().any(|array| array.null_count() > 0) {
        return Ok(None);
    }
    let mut columns = Vec::with_capacity(first.num_columns());
    for at in 0..first.num_columns() {
        let parts: Vec<ArrayRef> = structs.iter().map(|s| Arc::clone(s.column(at))).collect();
        columns.push(gather(&parts, places)?);
    }
    let fields = first.fields().clone();
    let gathered = StructArray::try_new_with_length(fields, columns, None, places.len())?;
    Ok(Some(Arc::new(gathered)))
}

/// Runs of values of a fixed width; [`None`] where they have none, or some are null.
fn fixed(
    parts: &[ArrayData],
    runs: &[(usize, usize, usize)],
    total: usize,
) -> Result<Option<ArrayRef>> {
    let Some(data_type) = parts.first().map(ArrayData::data_type) else {
        return Ok(None);
    };
    let Some(width) = data_type.primitive_width() else {
        return Ok(None);
    };
    let mut bytes: Vec<&[u8]> = Vec::with_capacity(parts.len());
    for part in parts {
        let buffer = part.buffers().first();
        let values = buffer.and_then(|b| b.as_slice().get(part.offset() * width..));
        match values {
            Some(values) if part.null_count() == 0 && part.data_type() == data_type => {
                bytes.push(values);
            }
            _ => return Ok(None),
        }
    }
    let mut out = MutableBuffer::with_capacity(total * width);
    for (array, start, len) in runs {
        let run = bytes[*array].get(start * width..(start + len) * width);
        out.extend_from_slice(run.ok_or_else(|| missing(*array, *start))?);
    }
    let data = ArrayData::builder(data_type.clone())
        .len(total)
        .add_buffer(out.into())
        .build()?;
    Ok(Some(make_array(data)))
}

/// Codes over values that all arrays have; [`None`] where they have different ones.
fn shared_values(arrays: &[ArrayRef], places: &[RowPlace]) -> Result<Option<ArrayRef>> {
    let codes: Vec<&DictionaryArray<Int32Type>> = arrays
        .iter()
        .filter_map(|array| array.as_dictionary_opt())
        .collect();
    let Some(first) = codes.first().filter(|_| codes.len() == arrays.len()) else {
        return Ok(None);
    };
    let values = first.values();
    let same = |other: &&DictionaryArray<Int32Type>| {
        Arc::ptr_eq(values, other.values()) || values == other.values()
    };
    if !codes[1..].iter().all(same) {
        return Ok(None);
    }
    let mut keys = Vec::with_capacity(places.len());
    let mut valid = Vec::with_capacity(places.len());
    for (array, row) in places {
        let of = codes.get(*array).map(|codes| codes.keys());
        let of = of.filter(|keys| *row < keys.len());
        let of = of.ok_or_else(|| missing(*array, *row))?;
        keys.push(of.values()[*row]);
        valid.push(of.is_valid(*row));
    }
    let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
    let keys = Int32Array::try_new(Buffer::from_vec(keys).into(), nulls)?;
    let gathered = DictionaryArray::try_new(keys, Arc::clone(values))?;
    Ok(Some(Arc::new(gathered)))
}

/// Bytes that a batch holds alone: categories, which it shares with others, are left out.
pub fn owned_bytes(batch: &RecordBatch) -> usize {
    let bytes = |column: &ArrayRef| match column.as_any_dictionary_opt() {
        Some(codes) => codes.keys().get_array_memory_size(),
        None => column.get_array_memory_size(),
    };
    batch.columns().iter().map(bytes).sum()
}

fn missing(array: usize, row: usize) -> ArrowError {
    ArrowError::InvalidArgumentError(format!("there is no row {row} in array {array}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, StringArray};
    use arrow::datatypes::Field;

    use super::*;
    use crate::model::matrix_type;

    #[test]
    fn sparse_rows_of_slices_are_owned_and_of_their_size() {
        let a = sparse_rows(&[&[(9, 9.)], &[(1, 1.), (2, 2.)], &[]]);
        let b = sparse_rows(&[&[(3, 3.), (4, 4.), (5, 5.)]]);
        let rows = gather(
            &[a.slice(1, 2), Arc::clone(&b)],
            &[(1, 0), (0, 1), (0, 0), (1, 0)],
        );
        let rows = rows.unwrap();
        let expected = sparse_rows(&[
            &[(3, 3.), (4, 4.), (5, 5.)],
            &[],
            &[(1, 1.), (2, 2.)],
            &[(3, 3.), (4, 4.), (5, 5.)],
        ]);
        assert_eq!(&rows, &expected);
        assert_eq!(rows.get_buffer_memory_size(), 5 * 4 + 8 * 8 + 2 * 32);
        assert!(gather(&[b], &[(0, 1)]).is_err());
    }

    #[test]
    fn rows_of_no_values_are_counted() {
        let item = |data_type| Arc::new(Field::new("item", data_type, false));
        let narrow = DataType::FixedSizeList(item(DataType::Float32), 0);
        let deep = DataType::FixedSizeList(item(narrow.clone()), 3);
        let flat = DataType::FixedSizeList(item(deep.clone()), 0);
        for data_type in [narrow, deep, flat] {
            let rows = zero_wide(&data_type, 4).unwrap();
            let gathered = gather(&[Arc::clone(&rows), rows], &[(1, 3), (0, 0)]).unwrap();
            assert_eq!((gathered.len(), gathered.data_type()), (2, &data_type));
            assert!(gather(&[gathered], &[(0, 2)]).is_err());
        }
    }

    #[test]
    fn categories_that_are_equal_stay_one_array() {
        let codes = |codes: Vec<Option<i32>>, names: Vec<&str>| -> ArrayRef {
            let names = Arc::new(StringArray::from(names));
            Arc::new(DictionaryArray::new(Int32Array::from(codes), names))
        };
        let a = codes(vec![Some(1), None], vec!["x", "y", "unused"]);
        let b = codes(vec![Some(0)], vec!["x", "y", "unused"]);
        let both = gather(&[a, b], &[(1, 0), (0, 1), (0, 0)]).unwrap();
        let both = both.as_dictionary::<Int32Type>();
        assert_eq!(both.values().len(), 3);
        assert_eq!(both.keys(), &Int32Array::from(vec![Some(0), None, Some(1)]));
    }

    fn sparse_rows(rows: &[&[(i32, f32)]]) -> ArrayRef {
        let DataType::List(item) = matrix_type(DataType::Float32, DataType::Int32) else {
            unreachable!()
        };
        let DataType::Struct(fields) = item.data_type() else {
            unreachable!()
        };
        let flat: Vec<_> = rows.concat();
        let indices: ArrayRef = Arc::new(Int32Array::from_iter_values(flat.iter().map(|e| e.0)));
        let data: ArrayRef = Arc::new(Float32Array::from_iter_values(flat.iter().map(|e| e.1)));
        let entries = StructArray::new(fields.clone(), vec![indices, data], None);
        let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.len()));
        let item: Arc<Field> = item;
        Arc::new(ListArray::new(item, offsets, Arc::new(entries), None))
    }
}
