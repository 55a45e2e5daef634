//! The values of a `NumpyArray` node.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, StructArray, UInt64Array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;

use crate::element::write::awkward::json::Json;
use crate::model::DType;

/// Numbers of one type, in the widest of their kind.
#[derive(Debug)]
pub(super) enum Numbers {
    Bool(Vec<bool>),
    Int(Vec<i64>, DataType),
    UInt(Vec<u64>, DataType),
    Single(Vec<f32>, DataType),
    Double(Vec<f64>),
    Complex(Box<Self>, Box<Self>, DType),
}

impl Numbers {
    /// None yet, of the type that numpy calls `primitive`.
    pub(super) fn of(primitive: &str) -> Result<Self, String> {
        Ok(match primitive {
            "bool" => Self::Bool(Vec::new()),
            "int8" => Self::Int(Vec::new(), DataType::Int8),
            "int16" => Self::Int(Vec::new(), DataType::Int16),
            "int32" => Self::Int(Vec::new(), DataType::Int32),
            "int64" => Self::Int(Vec::new(), DataType::Int64),
            "uint8" => Self::UInt(Vec::new(), DataType::UInt8),
            "uint16" => Self::UInt(Vec::new(), DataType::UInt16),
            "uint32" => Self::UInt(Vec::new(), DataType::UInt32),
            "uint64" => Self::UInt(Vec::new(), DataType::UInt64),
            "float16" => Self::Single(Vec::new(), DataType::Float16),
            "float32" => Self::Single(Vec::new(), DataType::Float32),
            "float64" => Self::Double(Vec::new()),
            "complex64" | "complex128" => {
                let (part, dtype) = match primitive {
                    "complex64" => ("float32", DType::Complex64),
                    _ => ("float64", DType::Complex128),
                };
                let part = || Self::of(part).map(Box::new);
                Self::Complex(part()?, part()?, dtype)
            }
            other => return Err(format!("numbers of type {other:?} cannot be written")),
        })
    }

    /// Whether a value is of this kind: what tells the members of a union apart. Floats are spelt
    /// with a point or an exponent.
    pub(super) fn fits(&self, value: &Json<'_>) -> bool {
        match (self, value) {
            (Self::Bool(_), Json::Bool(_)) => true,
            (Self::Int(..), Json::Number(text)) => i64::from_str(text).is_ok(),
            (Self::UInt(..), Json::Number(text)) => u64::from_str(text).is_ok(),
            (Self::Single(..) | Self::Double(_), Json::Number(text)) => {
                text.contains(['.', 'e', 'E'])
            }
            (Self::Single(..) | Self::Double(_), Json::Text(text)) => not_finite(text).is_some(),
            (Self::Complex(..), Json::Map(parts)) => {
                parts.len() == 2 && parts[0].0 == "re" && parts[1].0 == "im"
            }
            _ => false,
        }
    }

    /// Appends a value.
    pub(super) fn push(&mut self, value: &Json<'_>) -> Result<(), String> {
        match (self, value) {
            (Self::Bool(values), Json::Bool(value)) => values.push(*value),
            (Self::Int(values, _), Json::Number(text)) => values.push(number(text)?),
            (Self::UInt(values, _), Json::Number(text)) => values.push(number(text)?),
            (Self::Single(values, _), Json::Number(text)) => values.push(number(text)?),
            (Self::Double(values), Json::Number(text)) => values.push(number(text)?),
            (Self::Single(values, _), Json::Text(text)) => {
                values.push(number(not_finite(text).unwrap_or(text))?);
            }
            (Self::Double(values), Json::Text(text)) => {
                values.push(number(not_finite(text).unwrap_or(text))?);
            }
            (Self::Complex(re, im, _), Json::Map(parts)) if parts.len() == 2 => {
                re.push(&parts[0].1)?;
                im.push(&parts[1].1)?;
            }
            (_, other) => return Err(format!("{} where a number belongs", other.kind())),
        }
        Ok(())
    }

    /// Appends the bytes of a text.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::UInt(values, _) => values.extend(bytes.iter().map(|byte| u64::from(*byte))),
            Self::Int(values, _) => values.extend(bytes.iter().map(|byte| i64::from(*byte))),
            _ => return Err("text over numbers that are no bytes".to_owned()),
        }
        Ok(())
    }

    /// The values as an array of the type that was asked for.
    pub(super) fn finish(self) -> Result<ArrayRef, String> {
        let (values, target): (ArrayRef, DataType) = match self {
            Self::Bool(values) => return Ok(Arc::new(BooleanArray::from(values))),
            Self::Double(values) => return Ok(Arc::new(Float64Array::from(values))),
            Self::Int(values, target) => (Arc::new(Int64Array::from(values)), target),
            Self::UInt(values, target) => (Arc::new(UInt64Array::from(values)), target),
            Self::Single(values, target) => (Arc::new(Float32Array::from(values)), target),
            Self::Complex(re, im, dtype) => {
                let Some(DataType::Struct(fields)) = dtype.arrow() else {
                    return Err(format!("numbers of type {dtype} cannot be written"));
                };
                let parts = vec![re.finish()?, im.finish()?];
                let values = StructArray::try_new(fields, parts, None);
                return Ok(Arc::new(values.map_err(|error| error.to_string())?));
            }
        };
        let exact = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        cast_with_options(&values, &target, &exact).map_err(|error| error.to_string())
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no number of the form's type"))
}

/// Rust's word for what JSON has none for.
fn not_finite(text: &str) -> Option<&'static str> {
    Some(match text {
        "NaN" => "NaN",
        "Infinity" => "inf",
        "-Infinity" => "-inf",
        _ => return None,
    })
}
