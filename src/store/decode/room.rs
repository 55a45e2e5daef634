//! Memory that is used again: of decoded chunks, and of what reads give.
//!
//! A chunk is kept for some batches and then let go, and batches come and go. Memory that an allocator
//! gives back to the system in between costs as much to touch again as a chunk costs to decode.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Buffers that nobody uses, the last used last.
#[derive(Debug)]
pub(super) struct Pool<T> {
    free: Mutex<Vec<Vec<T>>>,
    /// How much larger than asked for a buffer may be: so many parts of `slack.1`.
    slack: (usize, usize),
}

/// Bytes of a buffer from and up to which it is kept.
const LEAST: usize = 64 << 10;
const LARGEST: usize = 8 << 20;
/// Bytes that a pool keeps at most.
const MOST: usize = 16 << 20;

impl<T> Pool<T> {
    pub(super) const fn new(slack: (usize, usize)) -> Self {
        Self {
            free: Mutex::new(Vec::new()),
            slack,
        }
    }

    /// An empty buffer that has room for so many values where one is at hand, else one that has none.
    pub(super) fn take(&self, len: usize) -> Vec<T> {
        let (parts, of) = self.slack;
        let most = len.saturating_mul(parts) / of;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let found = free
            .iter()
            .rposition(|buffer| (len..=most).contains(&buffer.capacity()));
        found.map(|at| free.remove(at)).unwrap_or_default()
    }

    /// Keeps a buffer for the next one who needs it, in place of the oldest ones.
    pub(super) fn give(&self, mut buffer: Vec<T>) {
        let bytes = |buffer: &Vec<T>| buffer.capacity().saturating_mul(size_of::<T>());
        buffer.clear();
        if !(LEAST..=LARGEST).contains(&bytes(&buffer)) {
            return;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(buffer);
        while free.iter().map(bytes).sum::<usize>() > MOST {
            free.remove(0);
        }
    }
}

/// Those of [`Room`]s.
static ROOMS: Pool<u8> = Pool::new((4, 1));

/// A buffer whose memory goes to the next one when it is dropped.
#[derive(Debug, Default)]
pub(in crate::store) struct Room(Vec<u8>);

impl Room {
    /// An empty buffer that has room for so many bytes where one is at hand.
    pub(in crate::store) fn with_capacity(bytes: usize) -> Self {
        Self(ROOMS.take(bytes))
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Room {
    fn from(buffer: Vec<u8>) -> Self {
        Self(buffer)
    }
}

impl Deref for Room {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        ROOMS.give(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_where_it_fits() {
        let pool = Pool::new((5, 4));
        let buffer: Vec<u32> = Vec::with_capacity(100_000);
        let place = buffer.as_ptr();
        pool.give(buffer);
        for other in [10, 70_000, 100_001] {
            assert_eq!(pool.take(other).capacity(), 0);
        }
        let buffer = pool.take(90_000);
        assert_eq!((buffer.as_ptr(), buffer.len()), (place, 0));
        assert_eq!(pool.take(90_000).capacity(), 0);
        // Small and very large ones are not kept, and of the others as many bytes as may be.
        for len in [100, LARGEST / 4 + 1] {
            pool.give(Vec::with_capacity(len));
            assert_eq!(pool.take(len).capacity(), 0);
        }
        for _ in 0..100 {
            pool.give(Vec::with_capacity(LARGEST / 4));
        }
        assert_eq!(pool.free.lock().unwrap().len(), MOST / LARGEST);
    }
}
