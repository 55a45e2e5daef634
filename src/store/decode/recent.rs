//! Decoded chunks kept for the next batch.

use std::sync::{Arc, Mutex, PoisonError};

/// The last decoded chunks of an array, so that a scan in small batches decodes a chunk once.
#[derive(Debug)]
pub(in crate::store) struct Recent<T: ?Sized> {
    /// Bytes kept at most.
    room: usize,
    chunks: Mutex<Vec<Kept<T>>>,
}

/// A chunk's index, its bytes, and how many those are.
type Kept<T> = (u64, Arc<T>, usize);

impl<T: ?Sized> Recent<T> {
    pub(in crate::store) fn new(room: usize) -> Self {
        Self {
            room,
            chunks: Mutex::new(Vec::new()),
        }
    }

    pub(in crate::store) fn recall(&self, index: u64) -> Option<Arc<T>> {
        let chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        let found = chunks.iter().find(|(i, ..)| *i == index);
        found.map(|(_, chunk, _)| Arc::clone(chunk))
    }

    /// Keeps a decoded chunk of which rows are left to be read, in place of the oldest ones.
    pub(in crate::store) fn remember(
        &self,
        index: u64,
        len: usize,
        chunk: impl FnOnce() -> Arc<T>,
    ) {
        if len > self.room {
            return;
        }
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        if chunks.iter().any(|(i, ..)| *i == index) {
            return;
        }
        chunks.push((index, chunk(), len));
        while chunks.iter().map(|(.., len)| len).sum::<usize>() > self.room {
            chunks.remove(0);
        }
    }

    /// Lets a chunk go whose last row has been read.
    pub(in crate::store) fn forget(&self, index: u64) {
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.retain(|(i, ..)| *i != index);
    }
}
