//! When elements of several objects are equal, as `anndata.concat` sees it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, ListArray};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, Field, Fields};

use super::promote::result_type;
use super::spread::is_frame;
use crate::error::Result;
use crate::kernel::list;
use crate::kernel::numbers::{canonical, promote};
use crate::model::{CategoryRegistry, FieldMeta, MatrixKind};

/// Whether values of two fields can be equal at all: types, encodings and widths; sparse matrices are
/// equal by value, whatever their types.
pub(super) fn comparable(a: &Field, b: &Field) -> bool {
    match (MatrixKind::of(a.data_type()), MatrixKind::of(b.data_type())) {
        (Some(MatrixKind::Sparse), Some(MatrixKind::Sparse)) => {
            FieldMeta::of(a).width == FieldMeta::of(b).width
        }
        (Some(_), Some(_)) => a.data_type().equals_datatype(b.data_type()),
        (None, None) => match (a.data_type(), b.data_type()) {
            (DataType::Struct(p), DataType::Struct(q)) if is_frame(p) && is_frame(q) => {
                let names = |fields: &Fields| {
                    fields
                        .iter()
                        .skip(1)
                        .map(|f| f.name().clone())
                        .collect::<Vec<_>>()
                };
                names(p) == names(q) && p.iter().zip(q).skip(1).all(|(a, b)| comparable(a, b))
            }
            (DataType::Dictionary(_, p), DataType::Dictionary(_, q)) => {
                p == q && same_categories(a, b)
            }
            (p, q) => p.equals_datatype(q) && is_nullable(a) == is_nullable(b),
        },
        _ => false,
    }
}

/// Whether a column is one of pandas' own types; text with NaN is the same whether or not some is
/// missing.
fn is_nullable(field: &Field) -> bool {
    let meta = FieldMeta::of(field);
    let nullable = meta.encoding.is_some_and(|e| e.starts_with("nullable-"));
    match field.data_type().is_string() {
        true => nullable && meta.na_value.as_deref() == Some("NA"),
        false => nullable,
    }
}

/// Whether rows of comparable fields are equal. Missing values are alike.
pub(super) fn equal(a: &Field, x: &ArrayRef, b: &Field, y: &ArrayRef) -> Result<bool> {
    if let (Some(x), Some(y)) = (x.as_list_opt::<i32>(), y.as_list_opt::<i32>()) {
        return equal_sparse(x, y);
    }
    match (a.data_type(), b.data_type()) {
        (DataType::Struct(p), DataType::Struct(q)) if is_frame(p) => {
            let (x, y) = (x.as_struct(), y.as_struct());
            // The indexes are the axis' names in both.
            for at in 1..p.len() {
                if !equal(&p[at], x.column(at), &q[at], y.column(at))? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (DataType::Dictionary(_, of), DataType::Dictionary(_, _)) => {
            Ok(cast(x, of)?.as_ref() == cast(y, of)?.as_ref())
        }
        (DataType::FixedSizeList(_, _), _) => {
            let (x, y) = (x.as_fixed_size_list(), y.as_fixed_size_list());
            Ok(x.values().as_ref() == y.values().as_ref())
        }
        _ => Ok(without_null_floats(x)?.as_ref() == without_null_floats(y)?.as_ref()),
    }
}

/// Whether two columns have the same categories; where they have no order, in any.
fn same_categories(a: &Field, b: &Field) -> bool {
    let (a, b) = (FieldMeta::of(a), FieldMeta::of(b));
    let ordered = a.ordered.unwrap_or(false);
    if ordered != b.ordered.unwrap_or(false) {
        return false;
    }
    let set = |id: Option<String>| id.and_then(|id| CategoryRegistry::global().get(&id));
    let (Some(x), Some(y)) = (set(a.categories), set(b.categories)) else {
        return false;
    };
    if ordered || x.as_ref() == y.as_ref() {
        return x.as_ref() == y.as_ref();
    }
    let sorted = |values: &ArrayRef| arrow::compute::sort(values, None);
    matches!((sorted(&x), sorted(&y)), (Ok(x), Ok(y)) if x.as_ref() == y.as_ref())
}

fn equal_sparse(x: &ListArray, y: &ListArray) -> Result<bool> {
    let data = |rows: &ListArray| rows.values().as_struct().column(1).data_type().clone();
    let Some(common) = result_type([&data(x), &data(y)]) else {
        return Ok(false);
    };
    let comparable = |rows: &ListArray| -> Result<ListArray> {
        let entries = rows.values().as_struct();
        let indices = cast(entries.column(0), &DataType::Int64)?;
        let values = promote(entries.column(1), &common)?;
        canonical(&list(rows.offsets().clone(), indices, values)?)
    };
    Ok(comparable(x)? == comparable(y)?)
}

/// Floats with NaN in place of nulls; anything else as it is.
fn without_null_floats(values: &ArrayRef) -> Result<ArrayRef> {
    if values.null_count() == 0 || !values.data_type().is_floating() {
        return Ok(Arc::clone(values));
    }
    let nan = cast(&Float64Array::from(vec![f64::NAN]), values.data_type())?;
    let both = concat(&[values.as_ref(), nan.as_ref()])?;
    let last = i32::try_from(values.len()).unwrap_or(i32::MAX);
    let places = (0..last)
        .zip(0usize..)
        .map(|(at, row)| match values.is_null(row) {
            true => last,
            false => at,
        });
    Ok(take(&both, &Int32Array::from_iter_values(places), None)?)
}
