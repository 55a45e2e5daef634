//! Bands of an array: all chunks side by side, decoded as far as they are wanted, and kept while their next
//! rows are.

use std::ops::Range;
use std::sync::Arc;

use zarrs::array::{Array, ArrayBytes, ArrayShardedReadableExt, ArraySubset, CodecOptions};

use super::array::{Core, MOST_ACROSS};
use super::chunk::ChunkCodec;
use super::dtype::Layout;
use super::open::LARGEST_CHUNK;
use super::storage::Counted;
use super::text::Texts;
use crate::error::BoxedError;
use crate::store::decode::{Fault, Room};

/// Decoded rows, all columns.
pub(super) enum Band {
    Fixed(Room),
    Text(Texts),
}

impl Core {
    /// Room for a band.
    pub(super) fn room(&self) -> Room {
        let bytes = self.height.saturating_mul(self.row_bytes);
        Room::with_capacity(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Where the first chunk of a band lies.
    pub(super) fn place(&self, band: u64) -> Vec<u64> {
        let mut place = vec![0; self.info.shape.len()];
        if let Some(first) = place.first_mut() {
            *first = band;
        }
        place
    }

    /// Whether a band's rest is not wanted after these rows, and nothing of it is kept.
    pub(super) fn is_last(&self, band: u64, ranges: &[Range<u64>]) -> bool {
        self.is_to_the_end(band, ranges) && self.recent.recall(band).is_none()
    }

    /// Whether the last of the rows is the band's.
    pub(super) fn is_to_the_end(&self, band: u64, ranges: &[Range<u64>]) -> bool {
        let last = ranges.last();
        last.is_some_and(|last| last.end >= self.rows_of(band))
    }

    /// Rows of a band; the last one may be short.
    pub(super) fn rows_of(&self, band: u64) -> u64 {
        let rows = self.info.shape.first().copied().unwrap_or(1);
        self.height.min(rows.saturating_sub(band * self.height))
    }

    /// Numbers of a band in `out`, and of which rows they are: of all where that is little or one
    /// chunk, else of what lies between the first and the last of the wanted ones.
    pub(super) fn numbers(
        &self,
        array: &Array<Counted>,
        codec: &ChunkCodec,
        band: u64,
        ranges: &[Range<u64>],
        out: &mut Vec<u8>,
    ) -> std::result::Result<Range<u64>, Fault> {
        let corrupt = |e: BoxedError| Fault::Corrupt(format!("a band of chunks: {e}"));
        let rows = self.rows_of(band);
        if self.cut.has_whole_rows() {
            if codec.read(array, &self.place(band), out)? {
                return Ok(0..rows);
            }
            let wanted = between(ranges);
            self.filled(wanted.end - wanted.start, out)?;
            return Ok(wanted);
        }
        if self.cut.n_across() > MOST_ACROSS {
            return Err(Fault::Unsupported(format!(
                "{} chunks side by side",
                self.cut.n_across()
            )));
        }
        let wanted = match rows.saturating_mul(self.row_bytes) <= self.room {
            true => 0..rows,
            false => between(ranges),
        };
        self.filled(wanted.end - wanted.start, out)?;
        let row_len = self.cut.row_len().max(1);
        let int = |n: u64| usize::try_from(n).map_err(|e| corrupt(e.into()));
        let (size, row_bytes) = (int(self.row_bytes / row_len)?, int(self.row_bytes)?);
        let chunk_row = self.cut.chunk_row_len().map_err(corrupt)? * size;
        let (first, end) = (int(wanted.start)?, int(wanted.end)?);
        let mut chunk = Room::with_capacity(codec.size().unwrap_or(0));
        for place in self.cut.places(band) {
            if !codec.read(array, &place, &mut chunk)? {
                continue;
            }
            let runs = self.cut.row_runs(&place).map_err(corrupt)?;
            for row in first..end {
                for run in &runs {
                    let to = (row - first) * row_bytes + run.from * size;
                    let from = row * chunk_row + run.to * size;
                    let len = run.len * size;
                    out[to..to + len].copy_from_slice(&chunk[from..from + len]);
                }
            }
        }
        Ok(wanted)
    }

    /// Rows of fill values.
    fn filled(&self, rows: u64, out: &mut Vec<u8>) -> std::result::Result<(), Fault> {
        let bytes = rows.saturating_mul(self.row_bytes);
        let fill = self.array.fill_value().as_ne_bytes();
        let n = usize::try_from(bytes)
            .ok()
            .filter(|_| bytes <= LARGEST_CHUNK);
        let n = n.ok_or_else(|| Fault::Corrupt(format!("{bytes} bytes of fill values")))?;
        out.clear();
        match fill.iter().all(|byte| *byte == 0) {
            true => out.resize(n, 0),
            false => (0..n / fill.len()).for_each(|_| out.extend_from_slice(fill)),
        }
        Ok(())
    }

    /// The wanted rows of a band, decoded, and which row of the band is the first.
    pub(super) fn band(
        &self,
        array: &Array<Counted>,
        band: u64,
        ranges: &[Range<u64>],
    ) -> std::result::Result<(Arc<Band>, u64), Fault> {
        let wanted = between(ranges);
        let rows = self.rows_of(band);
        let to_the_end = self.is_to_the_end(band, ranges);
        if let Some(kept) = self.recent.recall(band) {
            if to_the_end {
                self.recent.forget(band);
            }
            return Ok((kept, 0));
        }
        let (decoded, held) = match &self.whole {
            Some(codec) if matches!(self.layout, Layout::Text) => {
                let n = rows.max(1).saturating_mul(self.info.row_len().unwrap_or(0));
                let texts = codec.texts(array, &self.place(band), n)?;
                (Band::Text(texts), 0..rows)
            }
            Some(codec) => {
                let mut bytes = self.room();
                let held = self.numbers(array, codec, band, ranges, &mut bytes)?;
                (Band::Fixed(bytes), held)
            }
            None => {
                // Of what is not encoded a part is as cheap as it is small.
                let wanted = match self.encoded {
                    true => 0..rows,
                    false => wanted,
                };
                let origin = band * self.height;
                (self.subset(origin, &wanted)?, wanted)
            }
        };
        let decoded = Arc::new(decoded);
        if self.encoded && !to_the_end && held == (0..rows) {
            let len = match decoded.as_ref() {
                Band::Fixed(bytes) => bytes.len(),
                Band::Text(Texts { bytes, offsets }) => {
                    bytes.len() + offsets.len() * size_of::<usize>()
                }
            };
            self.recent.remember(band, len, || Arc::clone(&decoded));
        }
        Ok((decoded, held.start))
    }

    /// Rows of the array as `zarrs` gives them.
    fn subset(&self, origin: u64, wanted: &Range<u64>) -> std::result::Result<Band, Fault> {
        let mut subset: Vec<Range<u64>> = self.info.shape.iter().map(|n| 0..*n).collect();
        if let Some(axis) = subset.first_mut() {
            *axis = origin + wanted.start..origin + wanted.end;
        }
        let subset = ArraySubset::new_with_ranges(&subset);
        let options = CodecOptions::default().with_concurrent_target(1);
        let decoded: ArrayBytes<'static> = self
            .array
            .retrieve_array_subset_sharded_opt(&self.shards, &subset, &options)
            .map_err(|e| Fault::Corrupt(e.to_string()))?;
        Ok(match decoded {
            ArrayBytes::Fixed(bytes) => Band::Fixed(bytes.into_owned().into()),
            ArrayBytes::Variable(texts) => {
                let (bytes, offsets) = texts.into_parts();
                Band::Text(Texts {
                    bytes: bytes.into_owned(),
                    offsets: offsets.to_vec(),
                })
            }
            ArrayBytes::Optional(_) => {
                return Err(Fault::Unsupported("values that may be missing".into()));
            }
        })
    }
}

/// From the first of the rows to the last.
fn between(ranges: &[Range<u64>]) -> Range<u64> {
    let start = ranges.first().map_or(0, |range| range.start);
    start..ranges.last().map_or(start, |range| range.end)
}
