//! Per-row numbers of a block of matrix rows: counts, sums and the value of one gene.
//!
//! A block is `values` (and, where it is sparse, `indices`) and `offsets`, so that row `i` holds
//! entries `offsets[i]..offsets[i + 1]`. Dense rows are blocks whose rows are all equally long.
//! The inner loops have no branch per value, so that they vectorise; a scan of all of `X` is
//! bound by memory.

use std::ops::{Add, Range};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array, Int64Array,
    PrimitiveArray,
};
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use half::f16;

use crate::error::{Error, Result};

/// Number of values that are not zero, per row. NaN counts, as in scipy.
///
/// # Errors
/// [`Error::IncompatibleSchemas`] if the values are no numbers or the offsets do not fit them.
pub(crate) fn count_nonzero(values: &dyn Array, offsets: &[usize]) -> Result<Int64Array> {
    check(offsets, values.len())?;
    macro_rules! count {
        ($t:ty) => {{
            let values = values.as_primitive::<$t>().values();
            per_row(offsets, |row| count_of(&values[row], Default::default()))
        }};
    }
    Ok(Int64Array::from(match values.data_type() {
        DataType::Boolean => {
            let values = values.as_boolean().values();
            per_row(offsets, |row| {
                i64::try_from(values.slice(row.start, row.len()).count_set_bits())
                    .unwrap_or(i64::MAX)
            })
        }
        DataType::Int8 => count!(Int8Type),
        DataType::Int16 => count!(Int16Type),
        DataType::Int32 => count!(Int32Type),
        DataType::Int64 => count!(Int64Type),
        DataType::UInt8 => count!(UInt8Type),
        DataType::UInt16 => count!(UInt16Type),
        DataType::UInt32 => count!(UInt32Type),
        DataType::UInt64 => count!(UInt64Type),
        DataType::Float16 => count!(Float16Type),
        DataType::Float32 => count!(Float32Type),
        DataType::Float64 => count!(Float64Type),
        other => return Err(no_numbers("n_genes", other)),
    }))
}

/// Sum of the values of each row, added up in double precision.
///
/// # Errors
/// As [`count_nonzero`].
pub(crate) fn sum(values: &dyn Array, offsets: &[usize]) -> Result<Float64Array> {
    check(offsets, values.len())?;
    macro_rules! sum {
        ($t:ty, $to:expr) => {{
            let values = values.as_primitive::<$t>().values();
            per_row(offsets, |row| sum_of(&values[row], $to))
        }};
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a sum of 64-bit counts is a double by definition"
    )]
    Ok(Float64Array::from(match values.data_type() {
        DataType::Boolean => {
            let values = values.as_boolean().values();
            per_row(offsets, |row| {
                values.slice(row.start, row.len()).count_set_bits() as f64
            })
        }
        DataType::Int8 => sum!(Int8Type, f64::from),
        DataType::Int16 => sum!(Int16Type, f64::from),
        DataType::Int32 => sum!(Int32Type, f64::from),
        DataType::Int64 => sum!(Int64Type, |v: i64| v as f64),
        DataType::UInt8 => sum!(UInt8Type, f64::from),
        DataType::UInt16 => sum!(UInt16Type, f64::from),
        DataType::UInt32 => sum!(UInt32Type, f64::from),
        DataType::UInt64 => sum!(UInt64Type, |v: u64| v as f64),
        DataType::Float16 => sum!(Float16Type, f16::to_f64),
        DataType::Float32 => sum!(Float32Type, f64::from),
        DataType::Float64 => sum!(Float64Type, |v: f64| v),
        other => return Err(no_numbers("total_counts", other)),
    }))
}

/// Places of the entries whose index is `gene`, in ascending order.
///
/// # Errors
/// [`Error::IncompatibleSchemas`] if the indices are neither Int32 nor Int64.
pub(crate) fn places_of(indices: &dyn Array, gene: usize) -> Result<Vec<usize>> {
    Ok(match indices.data_type() {
        DataType::Int32 => match i32::try_from(gene) {
            Ok(gene) => equal_places(indices.as_primitive::<Int32Type>().values(), gene),
            Err(_) => Vec::new(),
        },
        DataType::Int64 => match i64::try_from(gene) {
            Ok(gene) => equal_places(indices.as_primitive::<Int64Type>().values(), gene),
            Err(_) => Vec::new(),
        },
        other => return Err(no_numbers("indices", other)),
    })
}

/// One value per row from the entries at `places` (ascending): the sum of the row's entries there,
/// zero in a row without one. The type of `values` stays.
///
/// # Errors
/// As [`count_nonzero`].
pub(crate) fn pick(values: &dyn Array, places: &[usize], offsets: &[usize]) -> Result<ArrayRef> {
    check(offsets, values.len())?;
    if places.last().is_some_and(|p| *p >= values.len()) {
        return Err(Error::IncompatibleSchemas(
            "an entry lies beyond the values".to_owned(),
        ));
    }
    macro_rules! pick {
        ($t:ty, $add:expr) => {{ Arc::new(pick_of::<$t>(values.as_primitive(), places, offsets, $add)) as ArrayRef }};
    }
    Ok(match values.data_type() {
        DataType::Boolean => {
            let values = values.as_boolean();
            let mut out = vec![false; offsets.len().saturating_sub(1)];
            for_rows(places, offsets, |row, place| {
                out[row] |= values.value(place)
            });
            Arc::new(BooleanArray::from(out))
        }
        DataType::Int8 => pick!(Int8Type, i8::wrapping_add),
        DataType::Int16 => pick!(Int16Type, i16::wrapping_add),
        DataType::Int32 => pick!(Int32Type, i32::wrapping_add),
        DataType::Int64 => pick!(Int64Type, i64::wrapping_add),
        DataType::UInt8 => pick!(UInt8Type, u8::wrapping_add),
        DataType::UInt16 => pick!(UInt16Type, u16::wrapping_add),
        DataType::UInt32 => pick!(UInt32Type, u32::wrapping_add),
        DataType::UInt64 => pick!(UInt64Type, u64::wrapping_add),
        DataType::Float16 => pick!(Float16Type, f16::add),
        DataType::Float32 => pick!(Float32Type, f32::add),
        DataType::Float64 => pick!(Float64Type, f64::add),
        other => return Err(no_numbers("gene", other)),
    })
}

/// Offsets of `n_rows` rows of `len` values each.
pub(crate) fn dense_offsets(n_rows: usize, len: usize) -> Vec<usize> {
    (0..=n_rows).map(|row| row.saturating_mul(len)).collect()
}

/// The row of each place: `visit(row, place)` for places in ascending order.
pub(crate) fn for_rows(places: &[usize], offsets: &[usize], mut visit: impl FnMut(usize, usize)) {
    let mut row = 0;
    for place in places {
        while offsets.get(row + 1).is_some_and(|end| end <= place) {
            row += 1;
        }
        if row + 1 < offsets.len() && offsets[row] <= *place {
            visit(row, *place);
        }
    }
}

fn check(offsets: &[usize], len: usize) -> Result<()> {
    let ascending = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
    match offsets.last() {
        Some(last) if ascending && *last <= len => Ok(()),
        _ => Err(Error::IncompatibleSchemas(format!(
            "row offsets do not describe {len} entries"
        ))),
    }
}

fn no_numbers(what: &str, data_type: &DataType) -> Error {
    Error::IncompatibleSchemas(format!("{what}: values of type {data_type} are no numbers"))
}

fn per_row<T>(offsets: &[usize], f: impl Fn(Range<usize>) -> T) -> Vec<T> {
    offsets.windows(2).map(|pair| f(pair[0]..pair[1])).collect()
}

fn count_of<T: PartialEq + Copy>(values: &[T], zero: T) -> i64 {
    // Four thousand values at a time in 16-bit lanes would be faster still, but memory is slower.
    values.iter().map(|v| i64::from(*v != zero)).sum()
}

/// Eight running sums, because one is bound by the latency of an addition.
fn sum_of<T: Copy>(values: &[T], to: impl Fn(T) -> f64) -> f64 {
    let mut lanes = [0.0f64; 8];
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += to(*value);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|v| to(*v)).sum::<f64>()
}

/// Blocks without a hit, which are nearly all, cost one comparison per value and no branch.
fn equal_places<T: PartialEq + Copy>(indices: &[T], wanted: T) -> Vec<usize> {
    const BLOCK: usize = 128;
    let mut places = Vec::new();
    for (i, block) in indices.chunks(BLOCK).enumerate() {
        if block.iter().fold(false, |hit, v| hit | (*v == wanted)) {
            let hits = block.iter().enumerate().filter(|(_, v)| **v == wanted);
            places.extend(hits.map(|(j, _)| i * BLOCK + j));
        }
    }
    places
}

fn pick_of<T: ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    places: &[usize],
    offsets: &[usize],
    add: impl Fn(T::Native, T::Native) -> T::Native,
) -> PrimitiveArray<T> {
    let values = values.values();
    let mut out = vec![T::default_value(); offsets.len().saturating_sub(1)];
    for_rows(places, offsets, |row, place| {
        out[row] = add(out[row], values[place])
    });
    PrimitiveArray::from_iter_values(out)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Int32Array, UInt8Array};

    use super::*;

    #[test]
    fn counts_and_sums_ignore_stored_zeros_and_handle_empty_rows() {
        let values = Float32Array::from(vec![1.0, 0.0, f32::NAN, 2.5, 3.0]);
        let offsets = [0, 3, 3, 5];
        assert_eq!(
            count_nonzero(&values, &offsets).unwrap().values(),
            &[2, 0, 2]
        );
        let sums = sum(&values, &offsets).unwrap();
        assert!(sums.value(0).is_nan());
        assert_eq!(&sums.values()[1..], &[0.0, 5.5]);
    }

    #[test]
    fn one_gene_is_summed_over_repeats_and_zero_elsewhere() {
        let indices = Int32Array::from(vec![4, 7, 4, 1, 7]);
        let values = UInt8Array::from(vec![1, 2, 3, 4, 5]);
        let places = places_of(&indices, 4).unwrap();
        let picked = pick(&values, &places, &[0, 3, 4, 5]).unwrap();
        assert_eq!(picked.as_primitive::<UInt8Type>().values(), &[4, 0, 0]);
        assert_eq!(
            places_of(&indices, usize::MAX).unwrap(),
            Vec::<usize>::new()
        );
    }

    #[test]
    fn offsets_that_do_not_fit_are_errors() {
        let values = UInt8Array::from(vec![1, 2]);
        assert!(sum(&values, &[0, 3]).is_err());
        assert!(sum(&values, &[2, 1]).is_err());
        assert!(count_nonzero(&values, &[]).is_err());
    }
}
