//! Arrow arrays as the bytes of elements on disk.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, StructArray};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;

use super::raw::RawResult;
use crate::model::DType;

/// The bytes of fixed-width elements, row-major; the array's own buffer where that is their form.
///
/// Costs nothing for numbers, one pass for booleans, complex numbers and records.
///
/// # Errors
/// Where the array is not of the type's Arrow form or has nulls.
pub(super) fn encode(dtype: &DType, values: &ArrayRef) -> RawResult<Buffer> {
    if values.null_count() > 0 {
        return Err(format!("{} nulls in an array of {dtype}", values.null_count()).into());
    }
    let data_type = values.data_type();
    match dtype {
        DType::Bool => match values.as_any().downcast_ref::<BooleanArray>() {
            Some(values) => Ok(values.values().iter().map(u8::from).collect()),
            None => Err(mismatch(dtype, data_type)),
        },
        DType::Complex64 | DType::Complex128 => {
            let part = match dtype {
                DType::Complex64 => DType::Float32,
                _ => DType::Float64,
            };
            records(&[&part, &part], values, dtype)
        }
        DType::Struct(members) => {
            let members: Vec<_> = members.iter().map(|m| &m.dtype).collect();
            records(&members, values, dtype)
        }
        DType::FixedArray(item, len) => encode(item, &items(values, *len, dtype)?),
        DType::String | DType::Reference | DType::Other(_) => Err(mismatch(dtype, data_type)),
        number => {
            if number.arrow().as_ref() != Some(data_type) {
                return Err(mismatch(dtype, data_type));
            }
            let width = data_type.primitive_width().unwrap_or(1);
            let data = values.to_data();
            match data.buffers().first() {
                Some(buffer) => {
                    Ok(buffer.slice_with_length(data.offset() * width, data.len() * width))
                }
                None => Err(mismatch(dtype, data_type)),
            }
        }
    }
}

/// The items of fixed-size lists, one after the other.
fn items(values: &ArrayRef, len: u64, dtype: &DType) -> RawResult<ArrayRef> {
    let lists = values
        .as_any()
        .downcast_ref::<FixedSizeListArray>()
        .filter(|lists| u64::try_from(lists.value_length()) == Ok(len))
        .ok_or_else(|| mismatch(dtype, values.data_type()))?;
    let len = usize::try_from(len)?;
    Ok(lists
        .values()
        .slice(lists.offset() * len, lists.len() * len))
}

/// Records of fixed-width members, without padding.
fn records(members: &[&DType], values: &ArrayRef, dtype: &DType) -> RawResult<Buffer> {
    let columns = values
        .as_any()
        .downcast_ref::<StructArray>()
        .map(StructArray::columns)
        .filter(|columns| columns.len() == members.len())
        .ok_or_else(|| mismatch(dtype, values.data_type()))?;
    let mut parts = Vec::with_capacity(members.len());
    for (member, column) in members.iter().zip(columns) {
        let width = member
            .size()
            .ok_or_else(|| mismatch(member, column.data_type()))?;
        parts.push((usize::try_from(width)?, encode(member, column)?));
    }
    let size: usize = parts.iter().map(|(width, _)| width).sum();
    let mut bytes = vec![0u8; size * values.len()];
    let mut offset = 0;
    for (width, part) in parts {
        if width > 0 {
            let slots = bytes.chunks_exact_mut(size);
            for (slot, value) in slots.zip(part.chunks_exact(width)) {
                slot[offset..offset + width].copy_from_slice(value);
            }
        }
        offset += width;
    }
    Ok(bytes.into())
}

/// The texts of a string array of any kind; null is the empty text.
pub(super) enum Texts<'a> {
    Utf8(&'a arrow::array::StringArray),
    LargeUtf8(&'a arrow::array::LargeStringArray),
    Utf8View(&'a arrow::array::StringViewArray),
}

impl<'a> Texts<'a> {
    pub(super) fn try_new(values: &'a ArrayRef) -> RawResult<Self> {
        match values.data_type() {
            DataType::Utf8 => Ok(Self::Utf8(values.as_string())),
            DataType::LargeUtf8 => Ok(Self::LargeUtf8(values.as_string())),
            DataType::Utf8View => Ok(Self::Utf8View(values.as_string_view())),
            other => Err(mismatch(&DType::String, other)),
        }
    }

    /// The text at a position of the array.
    pub(super) fn get(&self, at: usize) -> &'a str {
        match self {
            Self::Utf8(values) if values.is_valid(at) => values.value(at),
            Self::LargeUtf8(values) if values.is_valid(at) => values.value(at),
            Self::Utf8View(values) if values.is_valid(at) => values.value(at),
            _ => "",
        }
    }
}

pub(super) fn mismatch(dtype: &DType, data_type: &DataType) -> crate::error::BoxedError {
    format!("values of type {data_type} do not fit an array of {dtype}").into()
}
