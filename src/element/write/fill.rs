//! Nulls out, so that values can be handed to an array on disk.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, StringArray,
    downcast_primitive_array,
};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};

use crate::element::write::place::Place;
use crate::error::Result;

/// The values with NaN, 0, false or empty text where they are null; a NaN below a null stays as it
/// is. Costs nothing without nulls.
pub(super) fn without_nulls(values: &ArrayRef, place: &Place) -> Result<ArrayRef> {
    if values.null_count() == 0 {
        return Ok(Arc::clone(values));
    }
    let array: &dyn Array = values.as_ref();
    Ok(match array.data_type() {
        DataType::Float16 => reals(
            array.as_primitive::<Float16Type>(),
            half::f16::NAN,
            half::f16::is_nan,
        ),
        DataType::Float32 => reals(array.as_primitive::<Float32Type>(), f32::NAN, f32::is_nan),
        DataType::Float64 => reals(array.as_primitive::<Float64Type>(), f64::NAN, f64::is_nan),
        DataType::Boolean => Arc::new(
            array
                .as_boolean()
                .iter()
                .map(|value| Some(value.unwrap_or_default()))
                .collect::<BooleanArray>(),
        ),
        DataType::Utf8 => text(array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => text(array.as_string::<i64>().iter()),
        DataType::Utf8View => text(array.as_string_view().iter()),
        _ => downcast_primitive_array!(
            array => filled(array, Default::default()),
            other => return Err(place.invalid(format!(
                "{} of {} values of type {other} are null, which has no encoding",
                values.null_count(),
                values.len()
            )))
        ),
    })
}

fn filled<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, fill: T::Native) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(
        array.iter().map(|value| value.unwrap_or(fill)),
    ))
}

fn reals<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    nan: T::Native,
    is_nan: fn(T::Native) -> bool,
) -> ArrayRef {
    let values = array.iter().zip(array.values());
    Arc::new(PrimitiveArray::<T>::from_iter_values(values.map(
        |(value, below)| match value {
            Some(value) => value,
            None if is_nan(*below) => *below,
            None => nan,
        },
    )))
}

fn text<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(
        values.map(Option::unwrap_or_default),
    ))
}
