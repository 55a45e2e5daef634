//! Dense rows as sparse ones, and back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder,
    FixedSizeListArray, ListArray, PrimitiveArray, StructArray, downcast_primitive,
};
use arrow::buffer::{BooleanBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, filter};
use arrow::datatypes::{
    ArrowNativeTypeOp, DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type, UInt16Type,
    UInt32Type,
};

use super::zeros::zeros;
use crate::error::{Error, Result};
use crate::model::{ElementKey, matrix_type};

/// Whether values of a type can change between the two forms: numbers, booleans, complex numbers.
pub(crate) fn is_of_numbers(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean => true,
        DataType::Struct(parts) => parts.iter().all(|part| part.data_type().is_floating()),
        other => other.is_numeric(),
    }
}

/// The entries of dense rows that are not zero, as scipy's `csr_matrix` keeps them: what compares
/// equal to zero is dropped, so -0.0 as well; NaN is an entry.
///
/// # Errors
/// [`Error::IncompatibleSchemas`] where values are no numbers.
pub(crate) fn sparsify(rows: &FixedSizeListArray) -> Result<ListArray> {
    let values = rows.values();
    let width = usize::try_from(rows.value_length()).unwrap_or_default();
    let stored = is_stored(values)?;
    let n_stored = stored.count_set_bits();
    let mut indices: Vec<i32> = Vec::with_capacity(n_stored);
    let mut lengths = Vec::with_capacity(rows.len());
    for row in 0..rows.len() {
        let before = indices.len();
        let of_row = stored.slice(row * width, width);
        // The row's length is an i32, so its positions are.
        indices.extend(of_row.set_indices().filter_map(|at| i32::try_from(at).ok()));
        lengths.push(indices.len() - before);
    }
    let data = filter(values, &BooleanArray::new(stored, None))?;
    let DataType::List(item) = matrix_type(values.data_type().clone(), DataType::Int32) else {
        return Err(not_numbers(values.data_type()));
    };
    let DataType::Struct(fields) = item.data_type() else {
        return Err(not_numbers(values.data_type()));
    };
    let indices: ArrayRef = Arc::new(PrimitiveArray::<Int32Type>::from(indices));
    let entries = StructArray::try_new(fields.clone(), vec![indices, data], None)?;
    // More entries than offsets count would not have fitted into the dense rows, either.
    let offsets = OffsetBuffer::from_lengths(lengths);
    let nulls = rows.nulls().cloned();
    Ok(ListArray::try_new(item, offsets, Arc::new(entries), nulls)?)
}

/// Sparse rows with every one of their `width` values; entries at one place add up, as in scipy.
///
/// # Errors
/// [`Error::IncompatibleSchemas`] where values are no numbers; [`Error::OutOfRange`] for an entry
/// beyond the width.
pub(crate) fn densify(rows: &ListArray, width: i32) -> Result<FixedSizeListArray> {
    let n_cols = usize::try_from(width).unwrap_or_default();
    let offsets = rows.value_offsets();
    let (first, last) = match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (*first, *last),
        _ => (0, 0),
    };
    let at = |offset: i32| usize::try_from(offset - first).unwrap_or_default();
    let entries = rows.values().as_struct();
    let start = usize::try_from(first).unwrap_or_default();
    if let Some(values) = floats(rows, n_cols)? {
        let item = Arc::new(Field::new("item", values.data_type().clone(), false));
        let nulls = rows.nulls().cloned();
        let n_rows = rows.len();
        return Ok(FixedSizeListArray::try_new_with_length(
            item, width, values, nulls, n_rows,
        )?);
    }
    let indices = cast(&entries.column(0).slice(start, at(last)), &DataType::Int64)?;
    let data = entries.column(1).slice(start, at(last));
    let mut places = Vec::with_capacity(indices.len());
    for (row, ends) in offsets.windows(2).enumerate() {
        for index in &indices.as_primitive::<Int64Type>().values()[at(ends[0])..at(ends[1])] {
            let column = usize::try_from(*index)
                .ok()
                .filter(|column| *column < n_cols);
            let Some(column) = column else {
                return Err(Error::OutOfRange {
                    url: String::new(),
                    element: ElementKey::root(),
                    position: i128::from(*index),
                    len: n_cols as u64,
                });
            };
            places.push(row * n_cols + column);
        }
    }
    let values = spread(&data, &places, rows.len() * n_cols)?;
    let item = Arc::new(Field::new("item", values.data_type().clone(), false));
    let nulls = rows.nulls().cloned();
    // Rows of no columns have no values to be counted by.
    Ok(FixedSizeListArray::try_new_with_length(
        item,
        width,
        values,
        nulls,
        rows.len(),
    )?)
}

/// The values of rows of floats whose indices are of a usual type, without a step between; [`None`] of
/// others, and of rows with an index beyond the width.
fn floats(rows: &ListArray, n_cols: usize) -> Result<Option<ArrayRef>> {
    macro_rules! by_index {
        ($t:ty, $entries:expr) => {
            match $entries.column(0).data_type() {
                DataType::UInt16 => floats_of::<$t, UInt16Type>(rows, n_cols),
                DataType::UInt32 => floats_of::<$t, UInt32Type>(rows, n_cols),
                DataType::Int32 => floats_of::<$t, Int32Type>(rows, n_cols),
                _ => Ok(None),
            }
        };
    }
    let entries = rows.values().as_struct_opt();
    let Some(entries) = entries.filter(|entries| entries.num_columns() == 2) else {
        return Ok(None);
    };
    match entries.column(1).data_type() {
        DataType::Float32 => by_index!(Float32Type, entries),
        DataType::Float64 => by_index!(Float64Type, entries),
        _ => Ok(None),
    }
}

fn floats_of<T, I>(rows: &ListArray, n_cols: usize) -> Result<Option<ArrayRef>>
where
    T: ArrowPrimitiveType,
    T::Native: bytemuck::Pod + std::ops::AddAssign,
    I: ArrowPrimitiveType,
    I::Native: TryInto<usize>,
{
    let entries = rows.values().as_struct();
    let indices = entries.column(0).as_primitive::<I>().values();
    let data = entries.column(1).as_primitive::<T>().values();
    let mut all_within = true;
    let values = zeros::<T>(rows.len().saturating_mul(n_cols), |values| {
        // Rows of no columns have no chunk; an entry of theirs is beyond their width.
        for (row, ends) in rows.value_offsets().windows(2).enumerate() {
            let at = |end: i32| usize::try_from(end).unwrap_or_default();
            let of = at(ends[0])..at(ends[1]);
            let to = &mut values[row * n_cols..(row + 1) * n_cols];
            for (index, value) in indices[of.clone()].iter().zip(&data[of]) {
                let place = (*index).try_into().ok();
                match place.and_then(|at: usize| to.get_mut(at)) {
                    Some(sum) => *sum += *value,
                    None => all_within = false,
                }
            }
        }
    })?;
    Ok(all_within.then_some(values))
}

/// Which values are not zero.
pub(super) fn is_stored(values: &ArrayRef) -> Result<BooleanBuffer> {
    macro_rules! of_type {
        ($t:ty) => {
            nonzero(values.as_primitive::<$t>())
        };
    }
    Ok(downcast_primitive! {
        values.data_type() => (of_type),
        DataType::Boolean => values.as_boolean().values().clone(),
        DataType::Struct(_) => {
            let mut stored = BooleanBuffer::new_unset(values.len());
            for part in values.as_struct().columns() {
                stored = &stored | &is_stored(part)?;
            }
            stored
        }
        other => return Err(not_numbers(other)),
    })
}

fn nonzero<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>) -> BooleanBuffer {
    let values = values.values();
    // Not `is_zero`, which goes by the bits.
    BooleanBuffer::collect_bool(values.len(), |i| values[i] != T::Native::default())
}

/// `len` zeros to which values are added at their places.
fn spread(data: &ArrayRef, places: &[usize], len: usize) -> Result<ArrayRef> {
    macro_rules! of_type {
        ($t:ty) => {
            add_at(data.as_primitive::<$t>(), places, len)
        };
    }
    Ok(downcast_primitive! {
        data.data_type() => (of_type),
        DataType::Boolean => {
            let mut values = BooleanBufferBuilder::new(len);
            values.append_n(len, false);
            for i in data.as_boolean().values().set_indices() {
                values.set_bit(places[i], true);
            }
            Arc::new(BooleanArray::new(values.finish(), None))
        }
        DataType::Struct(fields) => {
            let parts = data.as_struct().columns().iter();
            let parts = parts.map(|part| spread(part, places, len));
            let parts = parts.collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new(fields.clone(), parts, None)?)
        }
        other => return Err(not_numbers(other)),
    })
}

fn add_at<T: ArrowPrimitiveType>(
    data: &PrimitiveArray<T>,
    places: &[usize],
    len: usize,
) -> ArrayRef {
    let mut values = vec![T::Native::default(); len];
    for (place, value) in places.iter().zip(data.values()) {
        values[*place] = values[*place].add_wrapping(*value);
    }
    let values = PrimitiveArray::<T>::new(ScalarBuffer::from(values), None);
    Arc::new(values.with_data_type(data.data_type().clone()))
}

fn not_numbers(data_type: &DataType) -> Error {
    Error::IncompatibleSchemas(format!(
        "rows of type {data_type}: only numbers are stored sparse"
    ))
}

#[cfg(test)]
mod tests {
    use arrow::array::Float32Array;

    use super::*;

    fn dense(values: Vec<f32>, width: i32) -> FixedSizeListArray {
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        FixedSizeListArray::new(item, width, Arc::new(Float32Array::from(values)), None)
    }

    /// `csr_matrix([[0, -0.0, nan], [inf, 0, 0], [0, 0, 5e-42]])` of scipy 1.18.
    #[test]
    fn entries_are_those_of_scipy() {
        let values = [
            0.0,
            -0.0,
            f32::NAN,
            f32::INFINITY,
            0.0,
            0.0,
            0.0,
            0.0,
            5e-42,
        ];
        let sparse = sparsify(&dense(values.to_vec(), 3)).unwrap();
        assert_eq!(sparse.value_offsets(), [0, 1, 2, 3]);
        let entries = sparse.values().as_struct();
        assert_eq!(
            entries.column(0).as_primitive::<Int32Type>().values(),
            &[2, 0, 2]
        );
        let back = densify(&sparse, 3).unwrap();
        let expected = values.map(|v| v + 0.0); // -0.0 became 0.0
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let back = back
            .values()
            .as_primitive::<arrow::datatypes::Float32Type>()
            .values();
        assert_eq!(bits(back), bits(&expected));
    }

    #[test]
    fn slices_are_taken_from_their_own_rows() {
        let rows = dense((0u8..12).map(f32::from).collect(), 3);
        let sparse = sparsify(&rows.slice(1, 2)).unwrap();
        assert_eq!(sparse.value_offsets(), [0, 3, 6]);
        let whole = sparsify(&rows).unwrap();
        assert_eq!(densify(&whole.slice(1, 2), 3).unwrap(), rows.slice(1, 2));
        assert!(densify(&whole, 2).is_err());
        let empty = densify(&whole.slice(0, 0), 3).unwrap();
        assert_eq!(empty.len(), 0);
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let none = Arc::new(Float32Array::from(Vec::<f32>::new()));
        let narrow = FixedSizeListArray::try_new_with_length(item, 0, none, None, 4).unwrap();
        assert_eq!(densify(&sparsify(&narrow).unwrap(), 0).unwrap().len(), 4);
    }
}
