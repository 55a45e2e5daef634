//! Values of an object's axis on the merged one: their types there, and where each comes to stand.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float64Array, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};

use super::promote::result_type;
use crate::error::{Error, Result};
use crate::kernel::RowPlace;
use crate::kernel::list;
use crate::kernel::numbers::promote;
use crate::kernel::reindex::ColumnMap;
use crate::model::{FieldMeta, MatrixKind};

/// What a field becomes where rows may be missing.
pub(super) fn aligned_field(
    field: &FieldRef,
    map: &ColumnMap,
    empty: bool,
    square: bool,
) -> Result<Field> {
    let missing = map.has_empty();
    match (MatrixKind::of(field.data_type()), field.data_type()) {
        (Some(MatrixKind::Sparse), DataType::List(item)) => {
            // scipy makes a matrix of float64 where there is no row to begin with.
            let data = match (item.data_type(), empty && map.n_new() > 0) {
                (DataType::Struct(parts), false) if parts.len() == 2 => {
                    parts[1].data_type().clone()
                }
                _ => DataType::Float64,
            };
            let meta = FieldMeta {
                width: match square {
                    true => Some(map.n_new() as u64),
                    false => FieldMeta::of(field).width,
                },
                ..FieldMeta::of(field)
            };
            let data_type = crate::model::matrix_type(data, DataType::Int32);
            Ok(meta.apply(field.as_ref().clone().with_data_type(data_type)))
        }
        (Some(MatrixKind::Dense), DataType::FixedSizeList(item, width)) => {
            let mut data = item.data_type().clone();
            if missing {
                let types = match empty {
                    true => vec![&DataType::Float64],
                    false => vec![&data, &DataType::Float64],
                };
                data = result_type(types).ok_or_else(|| never_missing(field))?;
            }
            let width = match square {
                true => i32::try_from(map.n_new()).map_err(|_| never_missing(field))?,
                false => *width,
            };
            let meta = FieldMeta {
                width: square
                    .then_some(map.n_new() as u64)
                    .or(FieldMeta::of(field).width),
                ..FieldMeta::of(field)
            };
            let item = Arc::new(Field::new("item", data, false));
            let data_type = DataType::FixedSizeList(item, width);
            Ok(meta.apply(field.as_ref().clone().with_data_type(data_type)))
        }
        (None, DataType::Struct(members)) if is_frame(members) => {
            let fields = members.iter().enumerate().map(|(at, member)| match at {
                // The index is replaced by the axis' names.
                0 => Ok(Arc::clone(member)),
                _ => Ok(Arc::new(column_field(member, missing)?)),
            });
            let fields: Fields = fields.collect::<Result<Vec<FieldRef>>>()?.into();
            Ok(field
                .as_ref()
                .clone()
                .with_data_type(DataType::Struct(fields)))
        }
        _ => column_field(field, missing),
    }
}

fn column_field(field: &FieldRef, missing: bool) -> Result<Field> {
    if !missing {
        return Ok(field.as_ref().clone());
    }
    let meta = FieldMeta::of(field);
    let nullable = meta
        .encoding
        .as_deref()
        .is_some_and(|e| e.starts_with("nullable-"));
    if meta.form.is_some() {
        return Err(never_missing(field));
    }
    let (data_type, encoding) = match field.data_type() {
        DataType::Dictionary(_, _) => (field.data_type().clone(), meta.encoding.clone()),
        other if nullable => (other.clone(), meta.encoding.clone()),
        DataType::Boolean => (DataType::Boolean, Some("nullable-boolean".to_owned())),
        other if other.is_integer() => (DataType::Float64, Some("array".to_owned())),
        other if other.is_string() => (other.clone(), Some("nullable-string-array".to_owned())),
        other => (other.clone(), meta.encoding.clone()),
    };
    let na_value = match encoding.as_deref() {
        Some("nullable-string-array") => meta.na_value.clone().or_else(|| Some("NaN".to_owned())),
        _ => meta.na_value.clone(),
    };
    let meta = FieldMeta {
        encoding,
        na_value,
        ..meta
    };
    Ok(meta.apply(Field::new(field.name(), data_type, true)))
}

/// Whether a struct is a data frame, and no complex number.
pub(super) fn is_frame(members: &Fields) -> bool {
    members.first().is_some_and(|field| field.name() != "re")
}

/// The rows at `places` as values of the aligned field.
pub(super) fn gather(
    to: &Field,
    from: &Field,
    values: &ArrayRef,
    places: &[Option<usize>],
) -> Result<ArrayRef> {
    match (MatrixKind::of(from.data_type()), to.data_type()) {
        (Some(MatrixKind::Sparse), DataType::List(item)) => {
            let rows = values.as_list::<i32>();
            let entries = rows.values().as_struct();
            let data = match item.data_type() {
                DataType::Struct(parts) if parts.len() == 2 => {
                    promote(entries.column(1), parts[1].data_type())?
                }
                _ => return Err(never_missing(from)),
            };
            let indices = cast(entries.column(0), &DataType::Int32)?;
            let none = (indices.slice(0, 0), data.slice(0, 0));
            let none = list(OffsetBuffer::new_zeroed(1), none.0, none.1)?;
            let rows = list(rows.offsets().clone(), indices, data)?;
            crate::kernel::gather(&[Arc::new(rows), Arc::new(none)], &or_none(places))
        }
        (Some(MatrixKind::Dense), DataType::FixedSizeList(item, _)) => {
            let rows = values.as_fixed_size_list();
            let (width, data) = (rows.value_length(), item.data_type());
            let list_of = |values: ArrayRef, len: usize| {
                let item = Arc::new(Field::new("item", data.clone(), false));
                FixedSizeListArray::try_new_with_length(item, width, values, None, len)
            };
            let rows = list_of(promote(rows.values(), data)?, rows.len())?;
            let none = match places.iter().all(Option::is_some) {
                true => rows.slice(0, 0),
                false => {
                    let n = usize::try_from(width).unwrap_or_default();
                    let nan: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN; n]));
                    list_of(promote(&nan, data)?, 1)?
                }
            };
            crate::kernel::gather(&[Arc::new(rows), Arc::new(none)], &or_none(places))
        }
        (_, to) => {
            let places = places.iter().map(|at| at.map(|at| at as u64));
            let values = take(values, &UInt64Array::from_iter(places), None)?;
            match values.data_type() == to {
                true => Ok(values),
                false => Ok(cast(&values, to)?),
            }
        }
    }
}

/// Where each row comes from: its place among the object's, or the one row of nothing.
fn or_none(places: &[Option<usize>]) -> Vec<RowPlace> {
    places
        .iter()
        .map(|at| at.map_or((1, 0), |at| (0, at)))
        .collect()
}

/// The columns of a square matrix on the merged axis.
pub(super) fn columns_on(map: &ColumnMap, field: &Field, values: &ArrayRef) -> Result<ArrayRef> {
    match (values.as_list_opt::<i32>(), values.as_fixed_size_list_opt()) {
        (Some(rows), _) => {
            let data = rows.values().as_struct().column(1).data_type().clone();
            Ok(Arc::new(map.sparse(rows, &data, None)?))
        }
        (_, Some(rows)) => {
            let data = rows.value_type();
            let nan: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN]));
            let fill = map.has_empty().then(|| promote(&nan, &data)).transpose()?;
            Ok(Arc::new(map.dense(rows, &data, fill.as_ref())?))
        }
        _ => Err(never_missing(field)),
    }
}

fn never_missing(field: &Field) -> Error {
    Error::IncompatibleSchemas(format!(
        "'{}' of type {} cannot be brought onto the merged axis, because not all of it is there; \
         an inner join or --drop leaves no need to",
        field.name(),
        field.data_type()
    ))
}
