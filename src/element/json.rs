//! Arrow values as JSON: numbers as they are, what JSON has no word for as null.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, UInt64Type};
use serde_json::{Map, Number, Value};

use crate::error::Result;

/// One JSON value per Arrow value. NaN and infinities are null; structs are objects; dictionaries
/// are their values.
///
/// # Errors
/// [`Error::Arrow`](crate::Error::Arrow) for a type that cannot be read as one of these.
pub(crate) fn values(array: &ArrayRef) -> Result<Vec<Value>> {
    Ok(match array.data_type() {
        DataType::Boolean => array.as_boolean().iter().map(Value::from).collect(),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            let wide = cast(array, &DataType::Int64)?;
            wide.as_primitive::<Int64Type>()
                .iter()
                .map(Value::from)
                .collect()
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            let wide = cast(array, &DataType::UInt64)?;
            wide.as_primitive::<UInt64Type>()
                .iter()
                .map(Value::from)
                .collect()
        }
        DataType::Float16 | DataType::Float32 => {
            let wide = cast(array, &DataType::Float32)?;
            let wide = wide.as_primitive::<Float32Type>();
            // The digits that name the single, not those of the double next to it.
            let double = |v: f32| v.to_string().parse::<f64>().unwrap_or(f64::NAN);
            wide.iter().map(|v| float(v.map(double))).collect()
        }
        DataType::Float64 => array
            .as_primitive::<Float64Type>()
            .iter()
            .map(float)
            .collect(),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter();
            let mut columns: Vec<_> = columns
                .map(|column| Ok(values(column)?.into_iter()))
                .collect::<Result<_>>()?;
            let row = |_| {
                let members = fields.iter().zip(&mut columns);
                let members = members
                    .map(|(f, column)| (f.name().clone(), column.next().unwrap_or(Value::Null)));
                Value::Object(members.collect::<Map<_, _>>())
            };
            (0..array.len()).map(row).collect()
        }
        DataType::FixedSizeList(_, size) => {
            let items = values(array.as_fixed_size_list().values())?;
            let size = usize::try_from(*size).unwrap_or(0);
            nest(items, &[size], array.len())
        }
        DataType::Dictionary(_, categories) => values(&cast(array, categories)?)?,
        _ => {
            let text = cast(array, &DataType::Utf8)?;
            text.as_string::<i32>().iter().map(Value::from).collect()
        }
    })
}

/// Lists of lists: `len` rows, each with the lengths `dims` along its own axes.
pub(crate) fn nest(values: Vec<Value>, dims: &[usize], len: usize) -> Vec<Value> {
    let [outer, inner @ ..] = dims else {
        return values;
    };
    let items = nest(values, inner, len.saturating_mul(*outer));
    let mut items = items.into_iter();
    (0..len)
        .map(|_| Value::Array(items.by_ref().take(*outer).collect()))
        .collect()
}

fn float(value: Option<f64>) -> Value {
    value
        .and_then(Number::from_f64)
        .map_or(Value::Null, Value::Number)
}
