//! What is fetched together of a store that is far away, before it is decoded.

use std::ops::Range;

use zarrs::array::Array;

use super::array::{Core, MOST_ACROSS};
use super::chunk::ChunkCodec;
use super::dtype::Layout;
use super::storage::Counted;
use crate::store::decode::Fault;

/// Decoded bytes of what is fetched together.
const WAVE_BYTES: u64 = 64 << 20;
/// What a band of text is taken to have of them.
const TEXT_BAND_BYTES: u64 = 1 << 20;

impl Core {
    /// How many bands are fetched together; of a store at hand all.
    pub(super) fn wave(&self, n_bands: usize) -> usize {
        if !self.files.is_remote() {
            return n_bands.max(1);
        }
        let band = match self.layout {
            Layout::Text => TEXT_BAND_BYTES,
            _ => self.height.saturating_mul(self.row_bytes),
        };
        usize::try_from(WAVE_BYTES / band.max(1)).map_or(1, |n| n.max(1))
    }

    /// The array with the chunks of these bands at hand that are not kept, where it is far away.
    pub(super) fn ahead(
        &self,
        parts: &[(u64, Vec<Range<u64>>)],
    ) -> Result<Option<Array<Counted>>, Fault> {
        let Some(codec) = &self.whole else {
            return Ok(None);
        };
        if self.cut.n_across() > MOST_ACROSS {
            return Ok(None);
        }
        let bands = parts.iter().map(|(band, _)| *band);
        let wanted = bands.filter(|band| self.recent.recall(*band).is_none());
        self.fetched(codec, wanted)
    }

    /// The array with the chunks of these bands at hand, where it is far away.
    pub(super) fn fetched(
        &self,
        codec: &ChunkCodec,
        bands: impl Iterator<Item = u64>,
    ) -> Result<Option<Array<Counted>>, Fault> {
        if !self.files.is_remote() {
            return Ok(None);
        }
        let places: Vec<Vec<u64>> = match self.cut.chunk().is_empty() {
            true => vec![Vec::new()],
            false => bands.flat_map(|band| self.cut.places(band)).collect(),
        };
        let wanted = codec.wanted(&self.array, &places)?;
        let storage = self.storage.ahead(wanted)?;
        Ok(storage.map(|storage| self.array.with_storage(storage)))
    }
}
