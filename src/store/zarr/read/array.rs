//! An array: selected rows, through the codecs of `zarrs`.

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::ArrayRef;
use async_trait::async_trait;
use rayon::prelude::*;
use zarrs::array::{Array, ArrayShardedReadableExtCache};

use super::band::Band;
use super::chunk::ChunkCodec;
use super::dtype::Layout;
use super::files::Files;
use super::storage::Counted;
use super::text::Texts;
use super::tree::prefix;
use crate::error::Result;
use crate::model::RowSelection;
use crate::store::decode::{
    Bytes, Disk, Fault, Initialised, Nowhere, Recent, TextBuilder, bands, guard, in_background,
    largest_of, largest_of_words, to_arrow,
};
use crate::store::remote;
use crate::store::scatter::Target;
use crate::store::zarr::cut::Cut;
use crate::store::{ArrayInfo, ArrayReader, MissingChunks, ReadMetrics, Scattered};

/// Chunks side by side that are put together at most.
pub(super) const MOST_ACROSS: u64 = 1 << 20;

/// Bytes up to which rows of kept chunks are copied on the thread that asks.
const FEW_BYTES: u64 = 1 << 16;

/// A band, the rows of it that are wanted, and where they go.
type Task<'a> = (u64, &'a [Range<u64>], &'a mut [MaybeUninit<u8>]);

/// A reader; cheap to clone.
#[derive(Clone)]
pub(super) struct ZarrArray(pub(super) Arc<Core>);

pub(super) struct Core {
    pub(super) info: ArrayInfo,
    pub(super) url: String,
    pub(super) files: Arc<dyn Files>,
    pub(super) layout: Layout,
    pub(super) array: Array<Counted>,
    pub(super) storage: Arc<Counted>,
    /// Where chunks are read whole, and here.
    pub(super) whole: Option<ChunkCodec>,
    /// Where chunks lie in the array.
    pub(super) cut: Cut,
    /// Shard indexes of what `zarrs` reads.
    pub(super) shards: ArrayShardedReadableExtCache,
    /// Rows of the smallest piece that is decoded at once.
    pub(super) height: u64,
    /// Bytes of a row; of text, of nothing.
    pub(super) row_bytes: u64,
    /// Whether decoding a part of a chunk costs as much as all of it.
    pub(super) encoded: bool,
    /// Bytes of them that are kept.
    pub(super) room: u64,
    pub(super) recent: Recent<Band>,
}

impl fmt::Debug for ZarrArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZarrArray")
            .field("info", &self.0.info)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// The rows, and how many bands they are of; `largest` is raised to the largest of positions where
    /// somebody asks for it.
    fn read(
        &self,
        rows: &RowSelection,
        largest: Option<&AtomicU64>,
    ) -> std::result::Result<(ArrayRef, u64), Fault> {
        let parts = bands(rows, self.height);
        let n_parts = parts.len() as u64;
        let array = match &self.layout {
            Layout::Fixed { disk, .. } => {
                let total = rows
                    .len()
                    .checked_mul(self.row_bytes)
                    .ok_or_else(|| Fault::Corrupt("the selected rows overflow 64 bits".into()))?;
                self.check_fill(total, &parts)?;
                let len = usize::try_from(total)
                    .map_err(|_| Fault::Corrupt(format!("{total} bytes in one array")))?;
                let bytes = Bytes::try_fill(len, |out| self.fill(parts, out, largest))?;
                to_arrow(disk, bytes, &Nowhere)?
            }
            Layout::Text => {
                let mut texts = Vec::with_capacity(parts.len());
                for wave in parts.chunks(self.wave(parts.len())) {
                    let ahead = self.ahead(wave)?;
                    let array = ahead.as_ref().unwrap_or(&self.array);
                    texts.extend(
                        wave.par_iter()
                            .map(|(band, ranges)| self.texts(array, *band, ranges))
                            .collect::<std::result::Result<Vec<_>, Fault>>()?,
                    );
                }
                Arc::new(TextBuilder::join(texts)?.finish()?)
            }
            Layout::Unknown => {
                return Err(Fault::Unsupported(format!(
                    "values of type {}",
                    self.info.dtype
                )));
            }
        };
        Ok((array, n_parts))
    }

    /// A few rows that are all in chunks which are kept: a copy, for which no other thread has to wake up.
    fn kept(&self, rows: &RowSelection) -> Option<std::result::Result<ArrayRef, Fault>> {
        let Layout::Fixed { disk, .. } = &self.layout else {
            return None;
        };
        let bytes = rows.len().checked_mul(self.row_bytes)?;
        let len = usize::try_from(bytes).ok().filter(|_| bytes <= FEW_BYTES)?;
        let parts = bands(rows, self.height);
        let kept = parts.iter().map(|(band, _)| self.recent.recall(*band));
        let kept: Vec<Arc<Band>> = kept.collect::<Option<_>>()?;
        let filled = Bytes::try_fill(len, |mut out| {
            let mut done = Initialised::default();
            for ((band, ranges), kept) in parts.iter().zip(&kept) {
                let Band::Fixed(bytes) = kept.as_ref() else {
                    return Err(Fault::Corrupt("text where numbers were expected".into()));
                };
                let rows: u64 = ranges.iter().map(|range| range.end - range.start).sum();
                let target = usize::try_from(rows * self.row_bytes).ok();
                let target = target.and_then(|len| out.split_off_mut(..len));
                done = done.and(self.copy(bytes, 0, ranges, target.unwrap_or_default())?);
                if self.is_to_the_end(*band, ranges) {
                    self.recent.forget(*band);
                }
            }
            Ok(done)
        });
        Some(filled.and_then(|bytes| to_arrow(disk, bytes, &Nowhere)))
    }

    fn fill(
        &self,
        parts: Vec<(u64, Vec<Range<u64>>)>,
        out: &mut [MaybeUninit<u8>],
        largest: Option<&AtomicU64>,
    ) -> std::result::Result<Initialised, Fault> {
        let overflow = || Fault::Corrupt("the selected rows overflow the result".into());
        let mut rest = out;
        let mut done = Initialised::default();
        for wave in parts.chunks(self.wave(parts.len())) {
            let ahead = self.ahead(wave)?;
            let mut tasks = Vec::with_capacity(wave.len());
            for (band, ranges) in wave {
                let rows: u64 = ranges.iter().map(|r| r.end - r.start).sum();
                let len = usize::try_from(rows * self.row_bytes).map_err(|_| overflow())?;
                let target = rest.split_off_mut(..len).ok_or_else(overflow)?;
                tasks.push((*band, ranges.as_slice(), target));
            }
            let array = ahead.as_ref().unwrap_or(&self.array);
            done = done.and(self.decode(array, tasks, largest)?);
        }
        Ok(done)
    }

    /// Decodes bands on all cores, each into its target.
    fn decode(
        &self,
        array: &Array<Counted>,
        tasks: Vec<Task<'_>>,
        largest: Option<&AtomicU64>,
    ) -> std::result::Result<Initialised, Fault> {
        let done = tasks.into_par_iter().map(|(band, ranges, target)| {
            let done = self.decode_band(array, band, ranges, target)?;
            if let Some((largest, values)) = largest.zip(done.all_of(target)) {
                let dtype = &self.info.dtype;
                let seen = done.largest_word();
                let seen = seen.and_then(|word| largest_of_words(dtype, word));
                let of_band = seen.or_else(|| largest_of(dtype, values)).unwrap_or(0);
                largest.fetch_max(of_band, Ordering::Relaxed);
            }
            Ok(done)
        });
        done.try_reduce(Initialised::default, |a, b| Ok(a.and(b)))
    }

    fn decode_band(
        &self,
        array: &Array<Counted>,
        band: u64,
        ranges: &[Range<u64>],
        target: &mut [MaybeUninit<u8>],
    ) -> std::result::Result<Initialised, Fault> {
        if let Some(codec) = self.whole.as_ref().filter(|_| self.is_last(band, ranges)) {
            // Nobody comes back for the rest, so nothing is kept.
            if !self.cut.has_whole_rows() {
                let mut bytes = self.room();
                let held = self.numbers(array, codec, band, ranges, &mut bytes)?;
                return self.copy(&bytes, held.start, ranges, target);
            }
            if codec.size() == Some(target.len())
                && let Some(done) = codec.read_into(array, &self.place(band), target)?
            {
                return Ok(done);
            }
            return self.fill_chunk(array, codec, (band, self.targets(ranges, target)?));
        }
        let (decoded, first) = self.band(array, band, ranges)?;
        let Band::Fixed(bytes) = decoded.as_ref() else {
            return Err(Fault::Corrupt("text where numbers were expected".into()));
        };
        self.copy(bytes, first, ranges, target)
    }

    /// Where ranges of rows of a band go, one behind the other.
    fn targets<'a>(
        &self,
        ranges: &[Range<u64>],
        mut target: &'a mut [MaybeUninit<u8>],
    ) -> std::result::Result<Vec<Target<'a>>, Fault> {
        let part = |range: &Range<u64>| {
            let len = usize::try_from((range.end - range.start) * self.row_bytes).ok()?;
            let bytes = target.split_off_mut(..len)?;
            let start = range.start;
            Some(Target { start, bytes })
        };
        let parts: Option<Vec<Target<'a>>> = ranges.iter().map(part).collect();
        parts.ok_or_else(|| Fault::Corrupt("the selected rows overflow the result".into()))
    }

    /// Copies rows of a band, of which `bytes` has those from `first` on.
    fn copy(
        &self,
        bytes: &[u8],
        first: u64,
        ranges: &[Range<u64>],
        mut target: &mut [MaybeUninit<u8>],
    ) -> std::result::Result<Initialised, Fault> {
        let overflow = || Fault::Corrupt("the selected rows overflow the result".into());
        let mut done = Initialised::default();
        for range in ranges {
            let at = |row: u64| usize::try_from((row - first) * self.row_bytes);
            let (Ok(from), Ok(to)) = (at(range.start), at(range.end)) else {
                return Err(overflow());
            };
            let source = bytes.get(from..to).ok_or_else(|| {
                Fault::Corrupt(format!("a chunk decodes to {} bytes", bytes.len()))
            })?;
            let part = target.split_off_mut(..source.len()).ok_or_else(overflow)?;
            done = done.and(Initialised::of(part.write_copy_of_slice(source)));
        }
        Ok(done)
    }

    fn texts(
        &self,
        array: &Array<Counted>,
        band: u64,
        ranges: &[Range<u64>],
    ) -> std::result::Result<TextBuilder, Fault> {
        let (decoded, first) = self.band(array, band, ranges)?;
        let Band::Text(Texts { bytes, offsets }) = decoded.as_ref() else {
            return Err(Fault::Corrupt("numbers where text was expected".into()));
        };
        let row_len = self.info.row_len().unwrap_or(0);
        let mut texts = TextBuilder::with_capacity(offsets.len(), bytes.len());
        for range in ranges {
            for i in (range.start - first) * row_len..(range.end - first) * row_len {
                let i = usize::try_from(i).unwrap_or(usize::MAX);
                let text = offsets
                    .get(i)
                    .zip(offsets.get(i.saturating_add(1)))
                    .and_then(|(from, to)| bytes.get(*from..*to));
                let text = text.ok_or_else(|| {
                    Fault::Corrupt(format!("a chunk holds {} texts", offsets.len()))
                })?;
                texts.push(text)?;
            }
        }
        Ok(texts)
    }
}

#[async_trait]
impl ArrayReader for ZarrArray {
    fn info(&self) -> &ArrayInfo {
        &self.0.info
    }

    async fn stored_bytes(&self) -> Result<Option<u64>> {
        let core = Arc::clone(&self.0);
        let total = match core.files.is_remote() {
            true => {
                let job = Arc::clone(&core);
                let total = move || job.files.total(&prefix(&job.info.key));
                remote::in_background(total).await.flatten()
            }
            false => core.files.total(&prefix(&core.info.key)),
        };
        let total = total.map_err(|e| Fault::Io(e).at(&core.url, &core.info.key))?;
        Ok(Some(total))
    }

    fn scattered(&self) -> Option<Scattered> {
        let core = &self.0;
        let scatter = || Scattered::new(Arc::clone(core) as _);
        core.is_scattered().then(scatter)
    }

    async fn missing_chunks(&self) -> Result<Option<MissingChunks>> {
        let core = Arc::clone(&self.0);
        if core.files.is_remote() {
            // That would be a request per chunk, or a list of names, which web servers do not give.
            return Ok(None);
        }
        let missing = in_background(move || core.missing_chunks()).await;
        let missing = missing.map_err(|fault| fault.at(&self.0.url, &self.0.info.key))?;
        Ok(Some(missing))
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        let (array, _) = self.read_with(rows, metrics, false).await?;
        Ok(array)
    }

    async fn read_positions(
        &self,
        rows: &RowSelection,
        metrics: &ReadMetrics,
    ) -> Result<(ArrayRef, Option<u64>)> {
        let native = Disk::Number {
            dtype: self.0.info.dtype.clone(),
            swap: false,
        };
        let is_native = matches!(&self.0.layout, Layout::Fixed { disk, .. } if *disk == native);
        let (array, largest) = self.read_with(rows, metrics, is_native).await?;
        let largest = largest.or_else(|| crate::store::largest(&array));
        Ok((array, largest))
    }
}

impl ZarrArray {
    /// Reads rows, and finds the largest of positions in native order.
    async fn read_with(
        &self,
        rows: &RowSelection,
        metrics: &ReadMetrics,
        positions: bool,
    ) -> Result<(ArrayRef, Option<u64>)> {
        let core = &self.0;
        core.info.check(&core.url, rows)?;
        if !positions && let Some(kept) = core.kept(rows) {
            let array = kept.map_err(|fault| fault.at(&core.url, &core.info.key))?;
            return Ok((array, None));
        }
        let (job, rows) = (Arc::clone(core), rows.clone());
        let read = move || {
            let largest = positions.then(AtomicU64::default);
            let (array, chunks) = job.read(&rows, largest.as_ref())?;
            Ok((array, largest.map(AtomicU64::into_inner), chunks))
        };
        let result = match core.files.is_remote() {
            true => {
                let waited = remote::in_background(move || guard(read)).await;
                waited.map_err(Fault::Io).flatten()
            }
            false => in_background(read).await,
        };
        let read = result.map_err(|fault| fault.at(&core.url, &core.info.key))?;
        let (array, largest, chunks) = read;
        metrics.add_bytes(core.storage.take());
        metrics.add_chunks(chunks);
        Ok((array, largest))
    }
}
