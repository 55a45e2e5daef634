//! The one buffer a read fills: owned, right-sized, aligned, never zeroed first.

use std::mem::MaybeUninit;

use arrow::buffer::Buffer;

use super::fault::Fault;

/// Bytes aligned to 16, as a vector of words so that Arrow can own them.
#[derive(Debug)]
pub(in crate::store) struct Bytes {
    words: Vec<i128>,
    len: usize,
}

impl Bytes {
    /// Reserves `len` bytes and has `fill` write all of them. `fill` returns how many bytes it
    /// initialised, in disjoint parts of what it was given.
    ///
    /// # Errors
    /// Those of `fill`; [`Fault::Corrupt`] where memory cannot be had or bytes stayed unwritten.
    pub(in crate::store) fn try_fill(
        len: usize,
        fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<Initialised, Fault>,
    ) -> Result<Self, Fault> {
        let n_words = len.div_ceil(16);
        let mut words: Vec<i128> = Vec::new();
        words
            .try_reserve_exact(n_words)
            .map_err(|e| Fault::Corrupt(format!("cannot reserve {len} bytes: {e}")))?;
        let spare = &mut words.spare_capacity_mut()[..n_words];
        if let Some(last) = spare.last_mut() {
            last.write(0);
        }
        // SAFETY: a `MaybeUninit<i128>` is sixteen `MaybeUninit<u8>`; `len` is at most their
        // number, and the borrow of `spare` lives as long as that of the bytes.
        let bytes = unsafe { std::slice::from_raw_parts_mut(spare.as_mut_ptr().cast(), len) };
        let done = fill(bytes)?;
        if done.0 != len {
            return Err(Fault::Corrupt(format!(
                "{} of {len} bytes were read",
                done.0
            )));
        }
        // SAFETY: disjoint initialised parts ([`Initialised`] is made from slices of them alone)
        // add up to the whole, and the tail of the last word was zeroed above.
        unsafe { words.set_len(n_words) };
        Ok(Self { words, len })
    }

    /// The bytes.
    pub(in crate::store) fn as_slice(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    /// The bytes, to be changed in place.
    pub(in crate::store) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }

    /// Gives them to Arrow without a copy.
    pub(in crate::store) fn into_buffer(self) -> Buffer {
        Buffer::from_vec(self.words).slice_with_length(0, self.len)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        let mut words = vec![0i128; bytes.len().div_ceil(16)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self {
            words,
            len: bytes.len(),
        }
    }
}

/// Zeroes a part of an output.
pub(in crate::store) fn zeroed(target: &mut [MaybeUninit<u8>]) -> &mut [u8] {
    target.fill(MaybeUninit::new(0));
    // SAFETY: the line above wrote every byte; `MaybeUninit::write_filled` is not stable yet.
    unsafe { target.assume_init_mut() }
}

/// How many bytes of an output are initialised; made from the initialised slices only.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::store) struct Initialised(usize);

impl Initialised {
    /// The length of a slice of the output that has been written.
    pub(in crate::store) fn of(written: &mut [u8]) -> Self {
        Self(written.len())
    }

    /// Of two disjoint parts.
    pub(in crate::store) fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}
