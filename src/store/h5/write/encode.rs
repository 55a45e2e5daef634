//! Arrow arrays as the bytes of elements on disk.

use arrow::array::{Array, ArrayRef, BooleanArray, FixedSizeListArray, StructArray};
use arrow::buffer::Buffer;
use arrow::datatypes::DataType;

use super::file::Shared;
use super::raw::{RawResult, disk_size};
use crate::model::DType;

/// The bytes of elements on disk, row-major; the array's own buffer where that is their form.
///
/// Costs nothing for numbers, one pass for booleans, complex numbers and records. Text goes to the
/// file's heap, and its places there are the elements.
///
/// # Errors
/// Where the array is not of the type's Arrow form, or has nulls and is not text; those of
/// [`Shared::put_texts`].
pub(super) fn encode(file: &Shared, dtype: &DType, values: &ArrayRef) -> RawResult<Buffer> {
    if *dtype == DType::String {
        return file.put_texts(values);
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
            records(file, &[&part, &part], values, dtype)
        }
        DType::Struct(members) => {
            let members: Vec<_> = members.iter().map(|m| &m.dtype).collect();
            records(file, &members, values, dtype)
        }
        DType::FixedArray(item, len) => encode(file, item, &items(values, *len, dtype)?),
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
    file: &Shared,
    members: &[&DType],
    values: &ArrayRef,
    dtype: &DType,
) -> RawResult<Buffer> {
    let columns = values
        .as_any()
        .downcast_ref::<StructArray>()
        .map(StructArray::columns)
        .filter(|columns| columns.len() == members.len())
        .ok_or_else(|| mismatch(dtype, values.data_type()))?;
    let mut parts = Vec::with_capacity(members.len());
    for (member, column) in members.iter().zip(columns) {
        let width = disk_size(member).ok_or_else(|| mismatch(member, column.data_type()))?;
        parts.push((usize::try_from(width)?, encode(file, member, column)?));
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
pub(super) fn mismatch(dtype: &DType, data_type: &DataType) -> crate::error::BoxedError {
    format!("values of type {data_type} do not fit an array of {dtype}").into()
}
