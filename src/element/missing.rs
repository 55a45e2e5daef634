//! Real numbers of a data frame, whose NaN is a value that is missing.
//!
//! AnnData has no mask for real numbers: pandas, whose frames they are, takes NaN for what is
//! missing, so that it is on neither side of a comparison and in no mean. As a null it is the same
//! in SQL. What bits a NaN had stays below the null, and is written as it was.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, FieldRef, Float16Type, Float32Type, Float64Type};
use async_trait::async_trait;

use crate::element::ColumnReader;
use crate::error::Result;
use crate::model::{ElementKey, RowSelection};
use crate::store::ReadMetrics;

/// A column of real numbers with nulls for NaN.
#[derive(Debug)]
struct MissingColumn {
    field: FieldRef,
    column: Arc<dyn ColumnReader>,
}

/// The column with nulls for what its encoding has no other way to say is missing.
pub(crate) fn with_missing(column: Arc<dyn ColumnReader>) -> Arc<dyn ColumnReader> {
    let field = column.field();
    match field.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let field = Arc::new(field.as_ref().clone().with_nullable(true));
            Arc::new(MissingColumn { field, column })
        }
        _ => column,
    }
}

#[async_trait]
impl ColumnReader for MissingColumn {
    fn field(&self) -> &FieldRef {
        &self.field
    }

    fn key(&self) -> &ElementKey {
        self.column.key()
    }

    fn len(&self) -> u64 {
        self.column.len()
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        let values = self.column.read(rows, metrics).await?;
        Ok(match values.data_type() {
            DataType::Float16 => nulls::<Float16Type>(values, half::f16::is_nan),
            DataType::Float32 => nulls::<Float32Type>(values, f32::is_nan),
            DataType::Float64 => nulls::<Float64Type>(values, f64::is_nan),
            _ => values,
        })
    }

    fn row_bytes(&self) -> u64 {
        self.column.row_bytes()
    }
}

/// Nulls over the values that are missing; the values stay where they are.
fn nulls<T: ArrowPrimitiveType>(values: ArrayRef, is_missing: fn(T::Native) -> bool) -> ArrayRef {
    let array = values.as_primitive::<T>();
    if !array.values().iter().any(|value| is_missing(*value)) {
        return values;
    }
    let valid = array.values().iter().map(|value| !is_missing(*value));
    let valid: NullBuffer = valid.collect();
    Arc::new(PrimitiveArray::<T>::new(
        array.values().clone(),
        NullBuffer::union(Some(&valid), array.nulls()),
    ))
}

#[cfg(test)]
mod tests {
    use arrow::array::Float32Array;

    use super::*;

    #[test]
    fn nan_is_null_and_keeps_its_bits() {
        let odd = f32::from_bits(0xffc0_1234);
        let values: ArrayRef = Arc::new(Float32Array::from(vec![1.0, odd, f32::INFINITY]));
        let seen = nulls::<Float32Type>(Arc::clone(&values), f32::is_nan);
        assert!(seen.is_null(1) && seen.null_count() == 1);
        let bits = seen.as_primitive::<Float32Type>().value(1).to_bits();
        assert_eq!(bits, 0xffc0_1234);
        let whole: ArrayRef = Arc::new(values.slice(2, 1));
        assert_eq!(nulls::<Float32Type>(whole, f32::is_nan).nulls(), None);
    }
}
