//! The largest of positions: who checks them looks at them while they are in a core's cache, where that
//! can be had.

use arrow::array::Array;
use bytemuck::Pod;

use crate::model::DType;

/// The largest of integers in native order; those below 0 count as beyond all. [`None`] of none, and of
/// what is no integers.
pub(in crate::store) fn largest_of(dtype: &DType, bytes: &[u8]) -> Option<u64> {
    fn of<T: Pod + Ord + Into<u64>>(bytes: &[u8], beyond: u64) -> Option<u64> {
        let values: &[T] = bytemuck::try_cast_slice(bytes).ok()?;
        Some(or_beyond(largest_value(values)?.into(), beyond))
    }
    const NONE: u64 = u64::MAX;
    match dtype {
        DType::Int8 => of::<u8>(bytes, 1 << 7),
        DType::Int16 => of::<u16>(bytes, 1 << 15),
        DType::Int32 => of::<u32>(bytes, 1 << 31),
        DType::Int64 => of::<u64>(bytes, 1 << 63),
        DType::UInt8 => of::<u8>(bytes, NONE),
        DType::UInt16 => of::<u16>(bytes, NONE),
        DType::UInt32 => of::<u32>(bytes, NONE),
        DType::UInt64 => of::<u64>(bytes, NONE),
        _ => None,
    }
}

/// As [`largest_of`], of integers of four bytes whose largest as unsigned ones is known.
pub(in crate::store) fn largest_of_words(dtype: &DType, word: u32) -> Option<u64> {
    match dtype {
        DType::Int32 => Some(or_beyond(word.into(), 1 << 31)),
        DType::UInt32 => Some(word.into()),
        _ => None,
    }
}

/// What is `beyond` is the sign bit of an integer that has one.
fn or_beyond(largest: u64, beyond: u64) -> u64 {
    if largest >= beyond { u64::MAX } else { largest }
}

/// One pass that the compiler vectorises: the larger of two unsigned integers is an instruction of AVX2,
/// and of what all processors have it is several.
fn largest_value<T: Pod + Ord>(values: &[T]) -> Option<T> {
    #[inline(always)]
    fn fold<T: Pod + Ord>(values: &[T]) -> Option<T> {
        let first = *values.first()?;
        let larger = |largest: T, value: &T| if *value > largest { *value } else { largest };
        Some(values.iter().fold(first, larger))
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn wide<T: Pod + Ord>(values: &[T]) -> Option<T> {
            fold(values)
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { wide(values) };
        }
    }
    fold(values)
}

/// The largest of integers; those below 0 count as beyond all. [`None`] of none, and of what is no
/// integers.
pub(crate) fn largest(values: &dyn Array) -> Option<u64> {
    let dtype = DType::from_arrow(values.data_type())?;
    let size = usize::try_from(dtype.size()?).ok()?;
    let data = values.to_data();
    let bytes = data.buffers().first()?.as_slice();
    let start = data.offset() * size;
    largest_of(&dtype, bytes.get(start..start + data.len() * size)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Int8Array, Int32Array, UInt64Array};

    use super::*;

    #[test]
    fn what_is_below_0_is_beyond_all() {
        let fours = Int32Array::from(vec![-1, 7, 3, 5]);
        assert_eq!(largest(&fours), Some(u64::MAX));
        assert_eq!(largest(&fours.slice(1, 3)), Some(7));
        assert_eq!(largest(&fours.slice(2, 2)), Some(5));
        assert_eq!(largest(&fours.slice(1, 0)), None);
        assert_eq!(largest(&Int8Array::from(vec![127])), Some(127));
        assert_eq!(largest(&Int8Array::from(vec![-128])), Some(u64::MAX));
        assert_eq!(largest(&UInt64Array::from(vec![1 << 63])), Some(1 << 63));
        assert_eq!(largest(&Float32Array::from(vec![1.0])), None);
        assert_eq!(largest_of_words(&DType::Int32, 7), Some(7));
        assert_eq!(largest_of_words(&DType::Int32, 1 << 31), Some(u64::MAX));
        assert_eq!(largest_of_words(&DType::UInt32, 1 << 31), Some(1 << 31));
        assert_eq!(largest_of_words(&DType::Int64, 7), None);
    }
}
