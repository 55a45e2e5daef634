//! Room for decoded chunks, used again.
//!
//! A chunk is kept for some batches and then let go. Memory that an allocator gives back to the
//! system in between costs as much to touch again as the chunk costs to decode.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Bytes of a buffer up to which it is kept.
const LARGEST: usize = 8 << 20;
/// Bytes kept at most.
const MOST: usize = 16 << 20;
/// How much larger than asked for a buffer may be.
const SLACK: usize = 4;

/// Buffers that nobody uses, the last used last.
static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer whose memory goes to the next one when it is dropped.
#[derive(Debug, Default)]
pub(in crate::store) struct Room(Vec<u8>);

impl Room {
    /// An empty buffer that has room for so many bytes where one is at hand.
    pub(in crate::store) fn with_capacity(bytes: usize) -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |capacity: usize| capacity >= bytes && capacity / SLACK <= bytes;
        let found = free.iter().rposition(|buffer| fits(buffer.capacity()));
        Self(found.map(|at| free.remove(at)).unwrap_or_default())
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
        let mut buffer = std::mem::take(&mut self.0);
        buffer.clear();
        if buffer.capacity() == 0 || buffer.capacity() > LARGEST {
            return;
        }
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(buffer);
        while free.iter().map(Vec::capacity).sum::<usize>() > MOST {
            free.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_where_it_fits() {
        // A size that no other test asks for: the buffers are shared.
        let len = 3_333_333;
        let mut room = Room::with_capacity(len);
        room.resize(len, 1);
        let place = room.as_ptr();
        drop(room);
        assert!(Room::with_capacity(10).capacity() < len);
        let room = Room::with_capacity(len);
        assert_eq!((room.as_ptr(), room.len()), (place, 0));
    }
}
