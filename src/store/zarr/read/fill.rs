//! What missing chunks may cost.

use std::ops::Range;

use zarrs::storage::{ReadableStorageTraits, StoreKey};

use super::array::Core;
use crate::store::decode::Fault;

/// What a codec can make of a byte at most; zstd packs zeros this far and further, but not data.
pub(super) const RATIO: u64 = 1 << 17;
/// What a read may give without a byte stored for it: fill values.
pub(super) const FREE: u64 = 64 << 20;

impl Core {
    /// Refuses a large result for which little is stored: chunks that are missing are fill values,
    /// and a shape is only a claim.
    pub(super) fn check_fill(
        &self,
        total: u64,
        parts: &[(u64, Vec<Range<u64>>)],
    ) -> Result<(), Fault> {
        if total <= FREE {
            return Ok(());
        }
        let shard = self
            .array
            .chunk_shape(&vec![0; self.info.shape.len()])
            .map_err(|e| Fault::Corrupt(e.to_string()))?;
        let height = shard.first().map_or(1, |n| n.get());
        let mut stored = 0u64;
        let mut last = None;
        for (band, _) in parts {
            let row = band * self.height / height;
            if last.replace(row) == Some(row) {
                continue;
            }
            // The first of the chunks side by side stands for the others.
            let mut place = vec![0; shard.len()];
            if let Some(first) = place.first_mut() {
                *first = row;
            }
            let key: StoreKey = self.array.chunk_key(&place);
            let across: u64 = shard
                .iter()
                .zip(&self.info.shape)
                .skip(1)
                .map(|(chunk, n)| n.div_ceil(chunk.get()))
                .product();
            let size = self
                .storage
                .size_key(&key)
                .map_err(|e| Fault::Corrupt(e.to_string()))?;
            let size = size
                .unwrap_or(0)
                .saturating_mul(across)
                .saturating_mul(RATIO);
            stored = stored.saturating_add(size);
            if stored >= total {
                return Ok(());
            }
        }
        match total <= stored.saturating_add(FREE) {
            true => Ok(()),
            false => Err(Fault::Corrupt(format!(
                "{total} bytes are asked for, and the chunks that are stored cannot hold them"
            ))),
        }
    }
}
