//! Counts made comparable: what scanpy's `pp.normalize_total` and `pp.log1p` compute, row by row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, ListArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Float32Type, Float64Type};

use super::entries::sparse_rows;
use crate::error::{Error, Result};
use crate::model::matrix_type;

/// What happens to the values of matrix rows, in this order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Normalization {
    /// Rows are scaled to this sum; rows of zeros stay.
    pub total: Option<f64>,
    /// Values `x` become `ln(1 + x)`.
    pub log1p: bool,
    /// The type that values are given in: float32, or float64.
    pub data: Option<DataType>,
}

impl Normalization {
    /// Whether nothing happens.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The type of values that were of this one. Integers become float32 where they are computed with,
    /// as in scanpy.
    pub fn data_type(&self, data: &DataType) -> DataType {
        match (&self.data, data) {
            (Some(asked), _) => asked.clone(),
            (None, DataType::Float64) => DataType::Float64,
            (None, other) if self.total.is_none() && !self.log1p => other.clone(),
            (None, _) => DataType::Float32,
        }
    }

    /// The type of matrix rows that were of this one.
    pub fn matrix_type(&self, rows: &DataType) -> DataType {
        match rows {
            DataType::List(item) => match item.data_type() {
                DataType::Struct(members) if members.len() == 2 => {
                    let data = self.data_type(members[1].data_type());
                    matrix_type(data, members[0].data_type().clone())
                }
                _ => rows.clone(),
            },
            DataType::FixedSizeList(item, width) => {
                let data = self.data_type(item.data_type());
                DataType::FixedSizeList(Arc::new(Field::new("item", data, false)), *width)
            }
            other => other.clone(),
        }
    }

    /// The rows of a matrix, normalised.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where they are no rows of numbers.
    pub fn apply(&self, rows: &ArrayRef) -> Result<ArrayRef> {
        if self.is_none() {
            return Ok(Arc::clone(rows));
        }
        let of = self.matrix_type(rows.data_type());
        match (rows.data_type(), &of) {
            (DataType::List(_), DataType::List(item)) => self.sparse(rows.as_list(), item),
            (DataType::FixedSizeList(_, width), DataType::FixedSizeList(item, _)) => {
                let rows = rows.as_fixed_size_list();
                let step = usize::try_from(*width).unwrap_or_default();
                let ends = (0..=rows.len()).map(|row| row * step).collect::<Vec<_>>();
                let first = usize::try_from(rows.value_offset(0)).unwrap_or_default();
                let values = rows.values().slice(first, rows.len() * step);
                let values = self.values(&values, &ends, item.data_type())?;
                Ok(Arc::new(FixedSizeListArray::try_new_with_length(
                    Arc::clone(item),
                    *width,
                    values,
                    None,
                    rows.len(),
                )?))
            }
            (other, _) => Err(no_numbers(other)),
        }
    }

    fn sparse(&self, rows: &ListArray, item: &Arc<Field>) -> Result<ArrayRef> {
        let DataType::Struct(members) = item.data_type() else {
            return Err(no_numbers(rows.data_type()));
        };
        let entries = rows.values().as_struct();
        let ends = rows.value_offsets().iter();
        let ends = ends.map(|end| usize::try_from(*end).unwrap_or_default());
        let ends: Vec<usize> = ends.collect();
        let data = self.values(entries.column(1), &ends, members[1].data_type())?;
        let indices = Arc::clone(entries.column(0));
        let rows = sparse_rows(item, rows.offsets().clone(), indices, data)?;
        Ok(Arc::new(rows))
    }

    /// Values whose rows end at these places.
    fn values(&self, values: &ArrayRef, ends: &[usize], of: &DataType) -> Result<ArrayRef> {
        let values = cast(values, of)?;
        match of {
            DataType::Float32 => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "computed in double precision, given in single"
                )]
                let narrow = |x: f64| x as f32;
                Ok(self.floats::<Float32Type>(&values, ends, f64::from, narrow))
            }
            DataType::Float64 => Ok(self.floats::<Float64Type>(&values, ends, |x| x, |x| x)),
            _ if self.total.is_none() && !self.log1p => Ok(values),
            other => Err(no_numbers(other)),
        }
    }

    fn floats<T: ArrowPrimitiveType>(
        &self,
        values: &ArrayRef,
        ends: &[usize],
        wide: impl Fn(T::Native) -> f64,
        narrow: impl Fn(f64) -> T::Native,
    ) -> ArrayRef {
        let mut out: Vec<T::Native> = values.as_primitive::<T>().values().to_vec();
        for ends in ends.windows(2) {
            let Some(row) = out.get_mut(ends[0]..ends[1]) else {
                continue;
            };
            let scale = self.total.map(|total| {
                let sum: f64 = row.iter().map(|x| wide(*x)).sum();
                if sum == 0.0 { 1.0 } else { total / sum }
            });
            for x in row {
                let scaled = wide(*x) * scale.unwrap_or(1.0);
                *x = narrow(if self.log1p { scaled.ln_1p() } else { scaled });
            }
        }
        Arc::new(PrimitiveArray::<T>::new(out.into(), None))
    }
}

fn no_numbers(data_type: &DataType) -> Error {
    Error::IncompatibleSchemas(format!(
        "{data_type} is not normalised: it is no matrix of numbers"
    ))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, StructArray};
    use arrow::buffer::OffsetBuffer;

    use super::*;

    fn rows() -> ArrayRef {
        let DataType::List(item) = matrix_type(DataType::Int32, DataType::UInt16) else {
            panic!("a matrix is a list");
        };
        let DataType::Struct(members) = item.data_type().clone() else {
            panic!("of structs");
        };
        let indices = cast(
            &(Arc::new(Int32Array::from(vec![0, 2, 1])) as ArrayRef),
            &DataType::UInt16,
        );
        let data: ArrayRef = Arc::new(Int32Array::from(vec![1, 3, 5]));
        let entries = StructArray::try_new(members, vec![indices.unwrap(), data], None).unwrap();
        let offsets = OffsetBuffer::from_lengths([2, 0, 1]);
        Arc::new(ListArray::try_new(item, offsets, Arc::new(entries), None).unwrap())
    }

    #[test]
    fn rows_are_scaled_to_one_sum_and_logged() {
        let of = |total, log1p| {
            let normalization = Normalization {
                total,
                log1p,
                data: None,
            };
            let rows = normalization.apply(&rows()).unwrap();
            let values = rows.as_list::<i32>().values().as_struct().column(1);
            values.as_primitive::<Float32Type>().values().to_vec()
        };
        assert_eq!(of(Some(8.0), false), [2.0, 6.0, 8.0]);
        assert_eq!(of(None, true), [1f32, 3.0, 5.0].map(|x| (1.0 + x).ln()));
        assert!((of(Some(4.0), true)[0] - 2f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn types_change_only_where_values_do() {
        let none = Normalization::default();
        assert_eq!(none.data_type(&DataType::Int32), DataType::Int32);
        let logged = Normalization {
            log1p: true,
            ..none
        };
        assert_eq!(logged.data_type(&DataType::Int32), DataType::Float32);
        assert_eq!(logged.data_type(&DataType::Float64), DataType::Float64);
    }
}
