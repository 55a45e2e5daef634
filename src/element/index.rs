//! The index of a data frame as names: text, whatever it is on disk, as pandas would show it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use async_trait::async_trait;

use crate::element::ColumnReader;
use crate::element::node::Encoding;
use crate::error::Result;
use crate::model::{ElementKey, FieldMeta, RowSelection};
use crate::store::ReadMetrics;

/// `obs_names` or `var_names` over the column that holds them.
#[derive(Debug)]
pub(crate) struct IndexColumn {
    field: FieldRef,
    inner: Arc<dyn ColumnReader>,
}

impl IndexColumn {
    /// The index as a field called `name`; `index_name` is what `_index` says.
    pub(crate) fn new(inner: Arc<dyn ColumnReader>, name: &str, index_name: &str) -> Self {
        let meta = FieldMeta::of(inner.field());
        // An index of numbers or categories becomes text, which anndata writes as a string array.
        let kept = matches!(inner.field().data_type(), DataType::Utf8);
        let meta = FieldMeta {
            index_name: Some(index_name.to_owned()),
            encoding: match meta.encoding {
                Some(encoding) if kept => Some(encoding),
                _ => Some(Encoding::StringArray.name().to_owned()),
            },
            na_value: meta.na_value,
            ..FieldMeta::default()
        };
        Self {
            field: Arc::new(meta.apply(Field::new(name, DataType::Utf8, false))),
            inner,
        }
    }
}

#[async_trait]
impl ColumnReader for IndexColumn {
    fn field(&self) -> &FieldRef {
        &self.field
    }

    fn key(&self) -> &ElementKey {
        self.inner.key()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        as_names(self.inner.read(rows, metrics).await?)
    }

    fn row_bytes(&self) -> u64 {
        40
    }
}

/// Values as text without nulls; a missing name is `nan`, as in a pandas index.
pub(crate) fn as_names(values: ArrayRef) -> Result<ArrayRef> {
    if *values.data_type() == DataType::Utf8 && values.null_count() == 0 {
        return Ok(values);
    }
    let mut names = StringBuilder::with_capacity(values.len(), values.len().saturating_mul(8));
    for name in &as_text(&values)? {
        names.append_value(name.unwrap_or("nan"));
    }
    Ok(Arc::new(names.finish()))
}

/// Values as text, spelled as Python spells them; missing ones stay missing.
///
/// # Errors
/// [`Error::Arrow`](crate::Error::Arrow) for a type that has no text.
pub(crate) fn as_text(values: &ArrayRef) -> Result<StringArray> {
    let values = match values.data_type() {
        DataType::Dictionary(_, categories) => &cast(values, categories)?,
        _ => values,
    };
    Ok(match values.data_type() {
        DataType::Boolean => boolean_names(values),
        DataType::Float16 => float_names(&cast(values, &DataType::Float32)?),
        DataType::Float32 | DataType::Float64 => float_names(values),
        _ => cast(values, &DataType::Utf8)?.as_string::<i32>().clone(),
    })
}

fn boolean_names(values: &ArrayRef) -> StringArray {
    let name = |value| if value { "True" } else { "False" };
    values
        .as_boolean()
        .iter()
        .map(|value| value.map(name))
        .collect()
}

fn float_names(values: &ArrayRef) -> StringArray {
    match values.data_type() {
        DataType::Float32 => {
            let values = values.as_primitive::<Float32Type>();
            values
                .iter()
                .map(|v| v.map(|v| python_float(format!("{v:?}"))))
                .collect()
        }
        _ => {
            let values = values.as_primitive::<Float64Type>();
            values
                .iter()
                .map(|v| v.map(|v| python_float(format!("{v:?}"))))
                .collect()
        }
    }
}

/// Rust's shortest form of a float as Python spells it: `1e+16`, `1e-07`, `nan`, `inf`.
fn python_float(text: String) -> String {
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            let mantissa = mantissa.strip_suffix(".0").unwrap_or(mantissa);
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None if text == "NaN" => "nan".to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array};

    use super::*;

    #[test]
    fn numbers_are_named_as_pandas_names_them() {
        let names = as_names(Arc::new(Float64Array::from(vec![1.0, 0.5, 1e16, 1.5e-7]))).unwrap();
        let names: Vec<_> = names.as_string::<i32>().iter().flatten().collect();
        assert_eq!(names, ["1.0", "0.5", "1e+16", "1.5e-07"]);
        let names = as_names(Arc::new(Int64Array::from(vec![3, -1]))).unwrap();
        assert_eq!(names.as_string::<i32>().value(1), "-1");
    }
}
