//! Arrow arrays as the bytes of elements on disk.

use arrow::array::{Array, ArrayRef, BooleanArray, FixedSizeListArray, StructArray};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;

use super::RawResult;
use crate::error::BoxedError;
use crate::model::DType;

/// Gives the bytes of texts on disk, which stores do differently; all texts of an array alike long.
type Texts<'a> = dyn Fn(&ArrayRef) -> RawResult<Buffer> + 'a;

/// The bytes of elements on disk, row-major; the array's own buffer where that is their form.
///
/// Costs nothing for numbers, one pass for booleans, complex numbers and records.
///
/// # Errors
/// Where the array is not of the type's Arrow form, or has nulls and is not text; those of `texts`.
pub(in crate::store) fn encode(
    dtype: &DType,
    values: &ArrayRef,
    texts: &Texts<'_>,
) -> RawResult<Buffer> {
    if *dtype == DType::String {
        return texts(values);
    }
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
            records(&[&part, &part], values, dtype, texts)
        }
        DType::Struct(members) => {
            let members: Vec<_> = members.iter().map(|m| &m.dtype).collect();
            records(&members, values, dtype, texts)
        }
        DType::FixedArray(item, len) => encode(item, &items(values, *len, dtype)?, texts),
        DType::Reference | DType::Other(_) => Err(mismatch(dtype, data_type)),
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

/// Records, without padding.
fn records(
    members: &[&DType],
    values: &ArrayRef,
    dtype: &DType,
    texts: &Texts<'_>,
) -> RawResult<Buffer> {
    let columns = values
        .as_any()
        .downcast_ref::<StructArray>()
        .map(StructArray::columns)
        .filter(|columns| columns.len() == members.len())
        .ok_or_else(|| mismatch(dtype, values.data_type()))?;
    let mut parts = Vec::with_capacity(members.len());
    for (member, column) in members.iter().zip(columns) {
        let part = encode(member, column, texts)?;
        parts.push((part.len() / values.len().max(1), part));
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

/// Says that values are not of an array's type.
pub(in crate::store) fn mismatch(dtype: &DType, data_type: &DataType) -> BoxedError {
    format!("values of type {data_type} do not fit an array of {dtype}").into()
}
