//! Types that hold the values of several: numpy's rules, which anndata's merge follows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Field, Fields};

use super::spec::FillValue;
use crate::error::Result;
use crate::kernel::numbers::promote;

/// The type that holds all numbers of these types (`numpy.result_type`), [`None`] where one is no
/// number or there is none.
pub(super) fn result_type<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Option<DataType> {
    let mut types: Vec<&DataType> = types.into_iter().collect();
    // numpy begins with the largest kind: a float32 holds an int16 and an uint16, whose own common
    // type would ask for a float64.
    types.sort_by_key(|data_type| std::cmp::Reverse(kind(data_type)));
    let mut types = types.into_iter();
    let first = types.next()?;
    kind(first)?;
    types.try_fold(first.clone(), |a, b| common(&a, b))
}

/// bool, integers, floats, complex numbers.
fn kind(data_type: &DataType) -> Option<u8> {
    match data_type {
        DataType::Boolean => Some(0),
        data_type if data_type.is_integer() => Some(1),
        data_type if data_type.is_floating() => Some(2),
        DataType::Struct(parts) if parts.len() == 2 && parts[0].name() == "re" => Some(3),
        _ => None,
    }
}

fn common(a: &DataType, b: &DataType) -> Option<DataType> {
    if a == b {
        return kind(a).map(|_| a.clone());
    }
    let (low, high) = match kind(a)? <= kind(b)? {
        true => (a, b),
        false => (b, a),
    };
    match (kind(low)?, kind(high)?) {
        (0, _) => Some(high.clone()),
        (1, 1) => Some(integers(low, high)),
        (1 | 2, 2) => Some(float(float_bits(low).max(float_bits(high)))),
        (_, 3) => Some(complex(float_bits(low).max(float_bits(high)))),
        _ => None,
    }
}

fn integers(a: &DataType, b: &DataType) -> DataType {
    let wider = |a: &DataType, b: &DataType| match bits(a) >= bits(b) {
        true => a.clone(),
        false => b.clone(),
    };
    match (a.is_signed_integer(), b.is_signed_integer()) {
        (true, true) | (false, false) => wider(a, b),
        (true, false) => mixed(a, b),
        (false, true) => mixed(b, a),
    }
}

fn mixed(signed: &DataType, unsigned: &DataType) -> DataType {
    if bits(signed) > bits(unsigned) {
        return signed.clone();
    }
    match bits(unsigned) {
        8 => DataType::Int16,
        16 => DataType::Int32,
        32 => DataType::Int64,
        _ => DataType::Float64,
    }
}

fn bits(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or(1) * 8
}

/// Bits of the float that holds a real number, or a part of a complex one.
fn float_bits(data_type: &DataType) -> usize {
    match data_type {
        DataType::Boolean => 16,
        DataType::Struct(parts) => parts.first().map_or(64, |part| bits(part.data_type())),
        data_type if data_type.is_floating() => bits(data_type),
        data_type => match bits(data_type) {
            8 => 16,
            16 => 32,
            _ => 64,
        },
    }
}

fn float(bits: usize) -> DataType {
    match bits {
        16 => DataType::Float16,
        32 => DataType::Float32,
        _ => DataType::Float64,
    }
}

fn complex(bits: usize) -> DataType {
    let part = float(bits.max(32));
    DataType::Struct(Fields::from(vec![
        Field::new("re", part.clone(), false),
        Field::new("im", part, false),
    ]))
}

impl FillValue {
    /// The type that numpy gives the number.
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Int(_) => DataType::Int64,
            Self::Float(_) => DataType::Float64,
        }
    }

    /// Whether it is nothing in a sparse matrix.
    pub(super) fn is_zero(self) -> bool {
        match self {
            Self::Int(value) => value == 0,
            Self::Float(value) => value == 0.,
        }
    }

    /// One value of a type.
    ///
    /// # Errors
    /// Where the type does not hold it.
    pub(super) fn array(self, data_type: &DataType) -> Result<ArrayRef> {
        let value: ArrayRef = match self {
            Self::Int(value) => Arc::new(Int64Array::from(vec![value])),
            Self::Float(value) => Arc::new(Float64Array::from(vec![value])),
        };
        promote(&value, data_type)
    }
}

#[cfg(test)]
mod tests {
    use DataType::{
        Boolean, Float16, Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32,
        UInt64,
    };

    use super::*;

    #[test]
    fn types_are_promoted_as_numpy_promotes_them() {
        for (types, expected) in [
            (vec![Int32, Float32], Float64),
            (vec![Int64, Float32], Float64),
            (vec![Int16, Float32], Float32),
            (vec![Int8, Float16], Float16),
            (vec![UInt16, Float16], Float32),
            (vec![UInt8, Int8], Int16),
            (vec![UInt32, Int32], Int64),
            (vec![UInt64, Int8], Float64),
            (vec![UInt64, UInt8], UInt64),
            (vec![Boolean, Int64], Int64),
            (vec![Boolean, Float32], Float32),
            (vec![UInt16, UInt16], UInt16),
            (vec![Int16, UInt16, Float32], Float32),
            (vec![Float32, Float64], Float64),
        ] {
            assert_eq!(result_type(&types), Some(expected), "{types:?}");
        }
        assert_eq!(result_type(&[Int32, DataType::Utf8]), None);
        assert_eq!(result_type(&[complex(32), Int32]), Some(complex(64)));
        assert_eq!(result_type(&[complex(32), Float32]), Some(complex(32)));
        let none: [DataType; 0] = [];
        assert_eq!(result_type(&none), None);
    }
}
