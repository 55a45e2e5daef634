//! Numbers in a wider type, and sparse rows in a form of which there is one.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Int32Array, ListArray, StructArray, UInt32Array,
    new_null_array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Fields, Int64Type};

use crate::error::{Error, Result};
use crate::kernel::form::is_stored;
use crate::kernel::list;

/// The values as `to`, a type that holds them all. Costs nothing where it is theirs.
///
/// A real number becomes a complex one (`Struct<re, im>`) with an imaginary part of 0.
///
/// # Errors
/// [`Error::Arrow`] where Arrow knows no way between the types.
pub(crate) fn promote(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if values.data_type() == to {
        return Ok(Arc::clone(values));
    }
    let DataType::Struct(parts) = to else {
        return match (to, values.as_fixed_size_list_opt()) {
            // Axes after the second: their lengths stay.
            (DataType::FixedSizeList(item, size), Some(rows)) if *size == rows.value_length() => {
                let values = promote(rows.values(), item.data_type())?;
                let list = FixedSizeListArray::try_new_with_length(
                    Arc::clone(item),
                    *size,
                    values,
                    None,
                    rows.len(),
                )?;
                Ok(Arc::new(list))
            }
            _ => Ok(cast(values, to)?),
        };
    };
    complex(values, parts)
}

fn complex(values: &ArrayRef, parts: &Fields) -> Result<ArrayRef> {
    let [re, im] = &parts[..] else {
        return Err(Error::IncompatibleSchemas(
            "a complex number has two parts".to_owned(),
        ));
    };
    let columns = match values.as_struct_opt() {
        Some(complex) => vec![
            cast(complex.column(0), re.data_type())?,
            cast(complex.column(1), im.data_type())?,
        ],
        None => {
            let zero = cast(&Int32Array::from(vec![0; values.len()]), im.data_type())?;
            let real = cast(values, re.data_type())?;
            vec![real, zero]
        }
    };
    let nulls = values.logical_nulls();
    // A missing number has no parts; a struct's members may not be null on their own.
    let columns = columns
        .into_iter()
        .map(|column| match column.null_count() {
            0 => Ok(column),
            _ => without_nulls(&column),
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new(
        parts.clone(),
        columns,
        nulls,
    )?))
}

/// The values with 0 in place of nulls.
fn without_nulls(values: &ArrayRef) -> Result<ArrayRef> {
    let data = values.to_data().into_builder().nulls(None).build()?;
    Ok(arrow::array::make_array(data))
}

/// `n` missing values of a type: null, but a struct's members are 0.
pub(crate) fn missing(data_type: &DataType, n: usize) -> ArrayRef {
    new_null_array(data_type, n)
}

/// Sparse rows in the form in which equal ones are equal arrays: sorted, without zeros.
///
/// # Errors
/// [`Error::IncompatibleSchemas`] where the values are no numbers, or there are too many.
pub(crate) fn canonical(rows: &ListArray) -> Result<ListArray> {
    let entries = rows.values().as_struct();
    let indices = cast(entries.column(0), &DataType::Int64)?;
    let indices = indices.as_primitive::<Int64Type>().values();
    let stored = is_stored(entries.column(1))?;
    let too_many = |_| Error::IncompatibleSchemas("a batch of matrix rows is too large".to_owned());
    let mut kept: Vec<u32> = Vec::with_capacity(indices.len());
    let mut ends = vec![0i32];
    for pair in rows.value_offsets().windows(2) {
        let start = kept.len();
        for at in pair[0]..pair[1] {
            let place = usize::try_from(at).map_err(too_many)?;
            if stored.value(place) {
                kept.push(u32::try_from(at).map_err(too_many)?);
            }
        }
        kept[start..].sort_by_key(|at| usize::try_from(*at).ok().map(|at| indices[at]));
        ends.push(i32::try_from(kept.len()).map_err(too_many)?);
    }
    let kept = UInt32Array::from(kept);
    let indices = take(entries.column(0), &kept, None)?;
    let values = take(entries.column(1), &kept, None)?;
    list(OffsetBuffer::new(ScalarBuffer::from(ends)), indices, values)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn real_numbers_become_complex() {
        let to = DataType::Struct(Fields::from(vec![
            Field::new("re", DataType::Float64, false),
            Field::new("im", DataType::Float64, false),
        ]));
        let values: ArrayRef = Arc::new(Int32Array::from(vec![3, 4]));
        let complex = promote(&values, &to).unwrap();
        assert_eq!(complex.data_type(), &to);
    }
}
