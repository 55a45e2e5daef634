//! Fixed-width values as bytes, whatever their type, so that entries can be moved without naming it.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, BooleanArray, StructArray, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// How values of one type are packed.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    data_type: DataType,
    width: usize,
}

impl Packed {
    /// The packing of a type: numbers as they are, booleans in a byte, complex numbers as two
    /// parts. [`None`] for others.
    pub(crate) fn of_type(data_type: &DataType) -> Option<Self> {
        let width = match data_type {
            DataType::Boolean => 1,
            DataType::Struct(fields) => {
                let parts = fields.iter().map(|f| f.data_type().primitive_width());
                parts.sum::<Option<usize>>()?
            }
            other => other.primitive_width()?,
        };
        Some(Self {
            data_type: data_type.clone(),
            width,
        })
    }

    /// Bytes per value.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The values of an array of this type, packed; numbers are not copied.
    pub(crate) fn bytes(&self, array: &ArrayRef) -> Option<Buffer> {
        if *array.data_type() != self.data_type {
            return None;
        }
        match &self.data_type {
            DataType::Boolean => {
                let values = array.as_boolean().values();
                Some(values.iter().map(u8::from).collect::<Vec<_>>().into())
            }
            DataType::Struct(_) => {
                let parts: Vec<Buffer> = array
                    .as_struct()
                    .columns()
                    .iter()
                    .map(|part| Self::of_type(part.data_type())?.bytes(part))
                    .collect::<Option<_>>()?;
                let width = self.width / parts.len().max(1);
                let mut bytes = Vec::with_capacity(array.len() * self.width);
                for row in 0..array.len() {
                    for part in &parts {
                        bytes.extend_from_slice(part.get(row * width..(row + 1) * width)?);
                    }
                }
                Some(bytes.into())
            }
            _ => {
                let data = array.to_data();
                let start = data.offset() * self.width;
                let buffer = data.buffers().first()?;
                Some(buffer.slice_with_length(start, data.len() * self.width))
            }
        }
    }

    /// The array of `len` packed values; numbers are not copied.
    pub(crate) fn array(&self, bytes: MutableBuffer, len: usize) -> Result<ArrayRef, ArrowError> {
        match &self.data_type {
            DataType::Boolean => {
                let bits = BooleanBuffer::collect_bool(len, |i| bytes[i] != 0);
                Ok(Arc::new(BooleanArray::new(bits, None)))
            }
            DataType::Struct(fields) => {
                let width = self.width / fields.len().max(1);
                let parts = fields.iter().enumerate().map(|(at, field)| {
                    let mut part = MutableBuffer::with_capacity(len * width);
                    for value in bytes.chunks_exact(self.width) {
                        part.extend_from_slice(&value[at * width..(at + 1) * width]);
                    }
                    build(field.data_type(), part, len)
                });
                let parts = parts.collect::<Result<_, _>>()?;
                Ok(Arc::new(StructArray::try_new(fields.clone(), parts, None)?))
            }
            other => build(other, bytes, len),
        }
    }
}

fn build(data_type: &DataType, bytes: MutableBuffer, len: usize) -> Result<ArrayRef, ArrowError> {
    let data = ArrayData::builder(data_type.clone())
        .len(len)
        .add_buffer(bytes.into())
        .build()?;
    Ok(make_array(data))
}
