//! Bytes as the metadata parser asks for them.

use std::sync::Arc;

use hdf5_pure::FormatError;

use super::follow::follow;
use crate::store::source::ByteSource;

/// A source as the metadata parser wants it.
#[derive(Debug, Clone)]
pub(super) struct MetadataSource(pub(super) Arc<dyn ByteSource>);

impl hdf5_pure::Source for MetadataSource {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), FormatError> {
        let length = buf.len() as u64;
        let end = offset
            .checked_add(length)
            .ok_or(FormatError::OffsetOverflow { offset, length })?;
        if end > self.0.len() {
            return Err(FormatError::UnexpectedEof {
                expected: usize::try_from(end).unwrap_or(usize::MAX),
                available: usize::try_from(self.0.len()).unwrap_or(usize::MAX),
            });
        }
        self.0
            .read_at(offset, buf)
            .map_err(|e| FormatError::Source(e.to_string()))?;
        if self.0.is_remote() {
            follow(self.0.as_ref(), buf);
        }
        Ok(())
    }
}
