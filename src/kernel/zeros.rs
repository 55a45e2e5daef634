//! Memory full of zeros that is used again once nobody holds it.
//!
//! A minibatch of dense rows takes tens of megabytes, all of it new to the process each time: that
//! costs more than the values do.

use std::sync::{Mutex, PoisonError};

use arrow::array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::error::ArrowError;
use bytemuck::{cast_slice, cast_slice_mut};

use crate::error::{Error, Result};

/// Bytes from which memory is kept, and that are kept at most.
const LEAST: usize = 1 << 20;
const MOST: usize = 512 << 20;
/// Buffers kept at most.
const KEPT: usize = 8;

/// Memory that nobody holds, the last used last.
static FREE: Mutex<Vec<Vec<u64>>> = Mutex::new(Vec::new());

/// Words whose memory goes to the next ones when they are dropped.
struct Words(Vec<u64>);

impl AsRef<[u8]> for Words {
    fn as_ref(&self) -> &[u8] {
        cast_slice(&self.0)
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        let bytes = |words: &Vec<u64>| words.capacity() * size_of::<u64>();
        if bytes(&self.0) < LEAST {
            return;
        }
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let held: usize = free.iter().map(bytes).sum();
        if free.len() < KEPT && held + bytes(&self.0) <= MOST {
            free.push(std::mem::take(&mut self.0));
        }
    }
}

impl Words {
    fn zeroed(n: usize) -> Result<Self> {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |words: &Vec<u64>| words.capacity() >= n && words.capacity() / 2 <= n;
        let found = free.iter().rposition(fits).map(|at| free.remove(at));
        drop(free);
        match found {
            Some(mut words) => {
                words.clear();
                words.resize(n, 0);
                Ok(Self(words))
            }
            None => {
                let mut words = Vec::new();
                words.try_reserve_exact(n).map_err(|e| {
                    let reason = format!("{n} words of dense rows: {e}");
                    Error::from(ArrowError::MemoryError(reason))
                })?;
                words.resize(n, 0);
                Ok(Self(words))
            }
        }
    }
}

/// `len` zeros, changed by `fill`, as an array.
pub(super) fn zeros<T: ArrowPrimitiveType>(
    len: usize,
    fill: impl FnOnce(&mut [T::Native]),
) -> Result<ArrayRef>
where
    T::Native: bytemuck::Pod,
{
    let bytes = len * size_of::<T::Native>();
    let mut words = Words::zeroed(bytes.div_ceil(size_of::<u64>()))?;
    fill(&mut cast_slice_mut(&mut words.0)[..len]);
    let buffer = Buffer::from(bytes::Bytes::from_owner(words));
    let values = ScalarBuffer::<T::Native>::new(buffer, 0, len);
    Ok(std::sync::Arc::new(PrimitiveArray::<T>::new(values, None)))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Float32Type;

    use super::*;

    #[test]
    fn what_is_used_again_is_zero() {
        for _ in 0..3 {
            let array = zeros::<Float32Type>(1 << 20, |values| {
                assert!(values.iter().all(|value| *value == 0.0));
                values[7] = 3.0;
            })
            .unwrap();
            assert_eq!(array.as_primitive::<Float32Type>().value(7), 3.0);
        }
        assert_eq!(zeros::<Float32Type>(3, |_| ()).unwrap().len(), 3);
    }
}
