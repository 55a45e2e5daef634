//! One array of a store, as `zarrs` asks for its bytes.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use zarrs::storage::byte_range::{ByteRange, ByteRangeIterator};
use zarrs::storage::{
    MaybeBytes, MaybeBytesIterator, ReadableStorageTraits, StorageError, StoreKey,
};

use super::files::{Files, Piece};
use crate::store::remote::Span;

/// Parts of values by key; all of a value where there are no ranges.
pub(super) type Wanted = Vec<(StoreKey, Vec<Range<u64>>)>;

/// Values of one array for `zarrs`, which says how many bytes were taken. The array is the root to
/// it: names such as `__categories` are none that it takes.
#[derive(Debug)]
pub(super) struct Counted {
    files: Arc<dyn Files>,
    /// What keys of the array begin with.
    prefix: String,
    bytes: AtomicU64,
    /// Whether what is read was fetched, and counted, before.
    is_ahead: bool,
}

impl Counted {
    pub(super) fn new(files: Arc<dyn Files>, prefix: String) -> Self {
        Self {
            files,
            prefix,
            bytes: AtomicU64::new(0),
            is_ahead: false,
        }
    }

    /// The same values with parts of them at hand, by key and ranges (all of a value where there are
    /// none); [`None`] where nothing is far away.
    ///
    /// # Errors
    /// Where they cannot be fetched.
    pub(super) fn ahead(&self, wanted: Wanted) -> io::Result<Option<Arc<Self>>> {
        let keys = wanted.into_iter();
        let keys = keys.map(|(key, ranges)| (self.key(&key), ranges));
        let Some(ahead) = Arc::clone(&self.files).ahead(keys.collect())? else {
            return Ok(None);
        };
        self.bytes.fetch_add(ahead.bytes, Ordering::Relaxed);
        Ok(Some(Arc::new(Self {
            files: ahead.files,
            prefix: self.prefix.clone(),
            bytes: AtomicU64::new(0),
            is_ahead: true,
        })))
    }

    /// A part of each of some values, [`None`] where there is no value.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub(super) fn parts<'a>(
        &self,
        keys: impl Iterator<Item = &'a StoreKey>,
        span: &Span,
    ) -> io::Result<Vec<Option<Piece>>> {
        let wanted: Vec<_> = keys.map(|key| (self.key(key), span.clone())).collect();
        let pieces = self.files.parts(&wanted)?;
        let bytes = pieces.iter().flatten().map(|p| p.bytes.len() as u64).sum();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(pieces)
    }

    /// Bytes read since this was last asked.
    pub(super) fn take(&self) -> u64 {
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

impl ReadableStorageTraits for Counted {
    fn get(&self, key: &StoreKey) -> Result<MaybeBytes, StorageError> {
        let bytes = self.files.get(&self.key(key))?;
        if !self.is_ahead {
            let len = bytes.as_ref().map_or(0, Bytes::len);
            self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        }
        Ok(bytes)
    }

    fn get_partial_many<'a>(
        &'a self,
        key: &StoreKey,
        byte_ranges: ByteRangeIterator<'a>,
    ) -> Result<MaybeBytesIterator<'a>, StorageError> {
        let key = self.key(key);
        let Some(size) = self.files.size(&key)? else {
            return Ok(None);
        };
        Ok(Some(Box::new(byte_ranges.map(move |range| {
            let bytes = self.range(&key, range, size)?;
            bytes.ok_or_else(|| StorageError::Other(format!("{key} has gone")))
        }))))
    }

    fn get_partial(&self, key: &StoreKey, range: ByteRange) -> Result<MaybeBytes, StorageError> {
        let key = self.key(key);
        // Of what is asked for by both its ends the size has no say; reading finds out.
        let size = match range {
            ByteRange::FromStart(_, Some(_)) => Some(0),
            _ => self.files.size(&key)?,
        };
        match size {
            Some(size) => self.range(&key, range, size),
            None => Ok(None),
        }
    }

    fn size_key(&self, key: &StoreKey) -> Result<Option<u64>, StorageError> {
        Ok(self.files.size(&self.key(key))?)
    }

    fn supports_get_partial(&self) -> bool {
        true
    }
}

impl Counted {
    fn key(&self, key: &StoreKey) -> String {
        format!("{}{key}", self.prefix)
    }

    fn range(&self, key: &str, range: ByteRange, size: u64) -> Result<MaybeBytes, StorageError> {
        let (from, len) = match range {
            ByteRange::FromStart(from, Some(len)) => (from, len),
            ByteRange::FromStart(from, None) => (from, size.saturating_sub(from)),
            ByteRange::Suffix(len) => (size.saturating_sub(len), len.min(size)),
        };
        if !self.is_ahead {
            self.bytes.fetch_add(len, Ordering::Relaxed);
        }
        Ok(self.files.read(key, from, len)?)
    }
}
