//! The one buffer a read fills: owned, right-sized, aligned, never zeroed first.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

use arrow::buffer::Buffer;

use super::fault::Fault;
use super::room::Pool;

/// Memory of those that nobody has any more. A quarter more than is asked for is what accounts of memory
/// may be wrong by.
static WORDS: Pool<i128> = Pool::new((5, 4));

/// Bytes aligned to 16, as a vector of words so that Arrow can own them.
#[derive(Debug)]
pub(in crate::store) struct Bytes {
    words: Words,
    len: usize,
}

/// Words whose memory is used again.
#[derive(Debug)]
struct Words(Vec<i128>);

impl Drop for Words {
    fn drop(&mut self) {
        WORDS.give(std::mem::take(&mut self.0));
    }
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
        let mut buffers = Self::try_fill_all(&[len], |mut targets| {
            let target = targets.pop().unwrap_or_default();
            fill(target)
        })?;
        let only = buffers.pop();
        only.ok_or_else(|| Fault::Corrupt(format!("{len} bytes were not reserved")))
    }

    /// As [`try_fill`](Self::try_fill), of several buffers together.
    ///
    /// # Errors
    /// As [`try_fill`](Self::try_fill).
    pub(in crate::store) fn try_fill_all(
        lens: &[usize],
        fill: impl FnOnce(Vec<&mut [MaybeUninit<u8>]>) -> Result<Initialised, Fault>,
    ) -> Result<Vec<Self>, Fault> {
        let mut buffers = Vec::with_capacity(lens.len());
        for len in lens {
            let mut words = Words(WORDS.take(len.div_ceil(16)));
            words
                .0
                .try_reserve_exact(len.div_ceil(16))
                .map_err(|e| Fault::Corrupt(format!("cannot reserve {len} bytes: {e}")))?;
            buffers.push(words);
        }
        let targets = buffers.iter_mut().zip(lens).map(|(words, len)| {
            let spare = &mut words.0.spare_capacity_mut()[..len.div_ceil(16)];
            if let Some(last) = spare.last_mut() {
                last.write(0);
            }
            // SAFETY: a `MaybeUninit<i128>` is sixteen `MaybeUninit<u8>`; `len` is at most their
            // number, and the borrow of `spare` lives as long as that of the bytes.
            unsafe { std::slice::from_raw_parts_mut(spare.as_mut_ptr().cast(), *len) }
        });
        let done = fill(targets.collect())?;
        let total: usize = lens.iter().sum();
        if done.bytes != total {
            return Err(Fault::Corrupt(format!(
                "{} of {total} bytes were read",
                done.bytes
            )));
        }
        let filled = buffers.into_iter().zip(lens).map(|(mut words, len)| {
            // SAFETY: disjoint initialised parts ([`Initialised`] is made from slices of them alone)
            // add up to the whole, and the tail of the last word was zeroed above.
            unsafe { words.0.set_len(len.div_ceil(16)) };
            Self { words, len: *len }
        });
        Ok(filled.collect())
    }

    /// The bytes.
    pub(in crate::store) fn as_slice(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words.0)[..self.len]
    }

    /// The bytes, to be changed in place.
    pub(in crate::store) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words.0)[..self.len]
    }

    /// Gives them to Arrow without a copy.
    pub(in crate::store) fn into_buffer(self) -> Buffer {
        let (mut words, len) = (self.words, self.len);
        let start = NonNull::from(words.0.as_mut_slice()).cast();
        // SAFETY: `len` bytes of the words are initialised, which stay where they are and are nobody
        // else's until the buffer drops its owner.
        unsafe { Buffer::from_custom_allocation(start, len, Arc::new(words)) }
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        let mut words = vec![0i128; bytes.len().div_ceil(16)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self {
            words: Words(words),
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
pub(in crate::store) struct Initialised {
    bytes: usize,
    /// The largest of the bytes' words, where whoever wrote them had a look at it.
    largest: Option<u32>,
}

impl Initialised {
    /// The length of a slice of the output that has been written.
    pub(in crate::store) fn of(written: &mut [u8]) -> Self {
        Self {
            bytes: written.len(),
            largest: None,
        }
    }

    /// As [`of`](Self::of), of words in native order whose largest is known.
    pub(in crate::store) fn of_words(written: &mut [u8], largest: u32) -> Self {
        Self {
            bytes: written.len(),
            largest: Some(largest),
        }
    }

    /// A part of the output, where this is what was written to it and nowhere else.
    pub(in crate::store) fn all_of(self, target: &[MaybeUninit<u8>]) -> Option<&[u8]> {
        // SAFETY: disjoint initialised slices of the target add up to it.
        (self.bytes == target.len()).then(|| unsafe { target.assume_init_ref() })
    }

    /// The largest word, where those who wrote the bytes all say so.
    pub(in crate::store) fn largest_word(self) -> Option<u32> {
        self.largest
    }

    /// Of two disjoint parts.
    pub(in crate::store) fn and(self, other: Self) -> Self {
        let largest = match (self.bytes, other.bytes) {
            (0, _) => other.largest,
            (_, 0) => self.largest,
            _ => self.largest.zip(other.largest).map(|(a, b)| a.max(b)),
        };
        Self {
            bytes: self.bytes + other.bytes,
            largest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_parts_is_known_where_that_of_each_is() {
        let (none, seen) = (
            Initialised::default(),
            Initialised::of_words(&mut [0; 8], 7),
        );
        let larger = Initialised::of_words(&mut [0; 4], 9);
        assert_eq!(seen.and(larger).largest_word(), Some(9));
        assert_eq!(none.and(seen).and(none).largest_word(), Some(7));
        let unseen = Initialised::of(&mut [0; 4]);
        assert_eq!(seen.and(unseen).largest_word(), None);
        assert_eq!(unseen.and(seen).and(larger).largest_word(), None);
    }
}
