//! One array: bands of rows are cut into chunks as soon as they are there.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;

use super::document::{self, DataType};
use super::encode::{Codecs, Elements, Way};
use super::files::ChunkFiles;
use super::grid::Grid;
use super::store::Shared;
use crate::error::Result;
use crate::model::{DType, ElementKey};
use crate::store::encode::{ArrayPlace, Body, RawResult, RowWriter, Twin};
use crate::store::{ArraySpec, ArrayWriter, Extent, Format, Pieces};

/// Bytes collected before chunks are made, so that there is work for all cores.
const BATCH_BYTES: u64 = 1 << 20;
/// Bytes from which on work leaves the thread that runs the caller's tasks.
const HEAVY_BYTES: u64 = 1 << 18;
/// Bytes of chunks encoded before they are written: bounds memory on large appends.
const ROUND_BYTES: u64 = 4 << 20;
/// What a text is taken to need before any was seen.
const TEXT_BYTES: u64 = 32;
/// Mean bytes of texts from which on they are cut by their size; zarr-python takes a text for the
/// pointer to it.
const LONG_TEXT: u64 = 256;

/// Creates the array.
pub(super) fn create(
    shared: &Arc<Shared>,
    key: &ElementKey,
    spec: ArraySpec,
) -> Result<Box<dyn ArrayWriter>> {
    let place = ArrayPlace {
        store: super::store::STORE,
        url: shared.url().to_owned(),
        key: key.clone(),
        open_arrays: shared.open_arrays.clone(),
    };
    let extent = spec.extent.clone();
    let writer = RowWriter::create(place, &extent, || {
        ZarrBody::new(Arc::clone(shared), key.clone(), spec)
    })?;
    Ok(Box::new(writer))
}

/// An array's values on their way.
#[derive(Debug)]
struct ZarrBody {
    /// Before what the store shares, whose end may remove all values: those of this array that are
    /// not ended have to end before.
    state: State,
    shared: Arc<Shared>,
    key: ElementKey,
    spec: ArraySpec,
    twin: Arc<Twin<Way>>,
}

#[derive(Debug)]
enum State {
    /// Kept, because its length, or the width of its text, decides how it is written.
    Kept { values: Vec<ArrayRef>, bytes: u64 },
    /// Cut as it comes.
    Cut(Box<Cutter>),
}

impl ZarrBody {
    fn new(shared: Arc<Shared>, key: ElementKey, mut spec: ArraySpec) -> RawResult<Self> {
        if spec.extent == Extent::Null {
            // anndata's null is a bool without a value.
            spec.dtype = DType::Bool;
        }
        // What has no type in zarr is refused before it gets values.
        DataType::of(&spec.dtype, None)?;
        shared.make_node(&key)?;
        let mut body = Self {
            twin: Arc::new(shared.repeats.array(&spec)),
            shared,
            key,
            spec,
            state: State::Kept {
                values: Vec::new(),
                bytes: 0,
            },
        };
        let is_known = !matches!(body.spec.extent, Extent::Growing(_));
        if is_known && !has_text(&body.spec.dtype) {
            body.begin(body.shape(0), None, TEXT_BYTES)?;
        }
        Ok(body)
    }

    /// Lengths of the array, which has `rows` rows where that was not known.
    fn shape(&self, rows: u64) -> Vec<u64> {
        match &self.spec.extent {
            Extent::Scalar | Extent::Null => Vec::new(),
            Extent::Fixed(shape) => shape.clone(),
            Extent::Growing(tail) => [&[rows], tail.as_slice()].concat(),
        }
    }

    /// Fixes the cut: for an array of these lengths, or, where it goes on growing, with a first one
    /// of nothing.
    fn begin(
        &mut self,
        shape: Vec<u64>,
        values: Option<&ArrayRef>,
        text_bytes: u64,
    ) -> RawResult<()> {
        let data_type = DataType::of(&self.spec.dtype, values)?;
        let size = data_type.size();
        let sharded = data_type.may_be_sharded()
            && matches!(self.shared.format(), Format::Zarr { sharded: true, .. });
        let pieces = match is_record_with_text(&self.spec.dtype) {
            // Texts are as wide as the longest of those that are encoded together: all of them.
            true => shape.first().map(|rows| Pieces::new(*rows, *rows)),
            false => self.spec.pieces,
        };
        let grid = match shape.split_first() {
            None => Grid::scalar(),
            Some((rows, tail)) => Grid::new(
                (*rows > 0 || !self.is_growing()).then_some(*rows),
                tail,
                size.unwrap_or(match text_bytes {
                    0..LONG_TEXT => 8,
                    long => long,
                }),
                sharded,
                pieces,
            )?,
        };
        let files = ChunkFiles::new(
            Arc::clone(self.shared.values()),
            self.key.as_str(),
            self.shared.version(),
            grid.per_shard(),
        );
        self.state = State::Cut(Box::new(Cutter {
            codecs: Codecs::of(self.spec.compression, size)?,
            twin: Arc::clone(&self.twin),
            dtype: self.spec.dtype.clone(),
            element_bytes: size.unwrap_or(text_bytes.max(1)),
            row_len: grid.cut().row_len(),
            waiting: VecDeque::new(),
            waiting_len: 0,
            band: 0,
            data_type,
            grid,
            files,
        }));
        Ok(())
    }

    fn is_growing(&self) -> bool {
        matches!(self.spec.extent, Extent::Growing(_))
    }

    /// Bytes of an element, of text by estimate.
    fn element_bytes(&self) -> u64 {
        match &self.state {
            State::Cut(cutter) => cutter.element_bytes,
            State::Kept { .. } => self.spec.dtype.size().unwrap_or(TEXT_BYTES),
        }
    }

    /// Whether what is kept is enough to begin with.
    fn is_enough(&self, bytes: u64) -> bool {
        !is_record_with_text(&self.spec.dtype) && bytes > 4 * BATCH_BYTES
    }
}

impl Body for ZarrBody {
    fn append(&mut self, values: &ArrayRef) -> RawResult<()> {
        match &mut self.state {
            State::Cut(cutter) => cutter.append(values),
            State::Kept {
                values: kept,
                bytes,
            } => {
                *bytes += values.to_data().get_slice_memory_size()? as u64;
                kept.push(compact(values)?);
                let bytes = *bytes;
                if self.is_enough(bytes) {
                    let State::Kept { values, .. } = &mut self.state else {
                        return Ok(());
                    };
                    let values = std::mem::take(values);
                    let n: usize = values.iter().map(Array::len).sum();
                    self.begin(self.shape(0), None, bytes / n.max(1) as u64)?;
                    values.iter().try_for_each(|values| self.append(values))?;
                }
                Ok(())
            }
        }
    }

    fn finish(mut self, rows: u64) -> RawResult<()> {
        if let State::Kept { values, bytes } = &mut self.state {
            let (values, bytes) = (std::mem::take(values), *bytes);
            let parts: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
            let all = match parts.is_empty() {
                true => None,
                false => Some(concat(&parts)?),
            };
            let n = all.as_ref().map_or(1, |all| all.len().max(1)) as u64;
            self.begin(self.shape(rows), all.as_ref(), bytes / n)?;
            if let Some(all) = &all {
                self.append(all)?;
            }
        }
        let shape = self.shape(rows);
        let State::Cut(mut cutter) = self.state else {
            return Err("nothing was begun".into());
        };
        if self.spec.extent != Extent::Null {
            cutter.cut_rest()?;
        }
        let Cutter {
            grid,
            codecs,
            data_type,
            files,
            ..
        } = *cutter;
        files.finish()?;
        let version = self.shared.version();
        let document = document::array(version, &shape, &grid, &data_type, &codecs);
        self.shared
            .add_array(&self.key, self.spec.attributes, document);
        Ok(())
    }

    fn is_heavy_to_append(&self, values: &ArrayRef) -> bool {
        let len = u64::try_from(values.len()).unwrap_or(u64::MAX);
        let bytes = len.saturating_mul(self.element_bytes());
        bytes >= HEAVY_BYTES
            || match &self.state {
                State::Cut(cutter) => cutter.waiting_len.saturating_add(len) >= cutter.enough(),
                State::Kept { bytes: kept, .. } => self.is_enough(kept.saturating_add(bytes)),
            }
    }

    fn is_heavy_to_finish(&self) -> bool {
        let waiting = match &self.state {
            State::Cut(cutter) => cutter.waiting_len.saturating_mul(self.element_bytes()),
            State::Kept { bytes, .. } => *bytes,
        };
        waiting >= HEAVY_BYTES / 4 || self.shared.values().is_remote()
    }
}

/// Whether there is text, which has to be seen before it can be given a width or a chunk size.
fn has_text(dtype: &DType) -> bool {
    *dtype == DType::String || is_record_with_text(dtype)
}

/// Whether there is text in records, which has to be seen before it can be given a width.
fn is_record_with_text(dtype: &DType) -> bool {
    match dtype {
        DType::Struct(members) => members
            .iter()
            .any(|member| member.dtype == DType::String || is_record_with_text(&member.dtype)),
        _ => false,
    }
}

/// Cuts bands into chunks.
#[derive(Debug)]
struct Cutter {
    dtype: DType,
    /// Bytes of an element, of text by estimate.
    element_bytes: u64,
    data_type: DataType,
    grid: Grid,
    codecs: Codecs,
    twin: Arc<Twin<Way>>,
    files: ChunkFiles,
    row_len: u64,
    /// Values that are no whole band yet.
    waiting: VecDeque<ArrayRef>,
    /// Elements in them.
    waiting_len: u64,
    /// The next band.
    band: u64,
}

impl Cutter {
    /// Elements from which on bands are cut.
    fn enough(&self) -> u64 {
        self.band_len().max(BATCH_BYTES / self.element_bytes)
    }

    /// Chunks that are encoded at a time: some for every core, as far as memory allows.
    fn round(&self) -> RawResult<usize> {
        let bytes = self
            .grid
            .cut()
            .chunk_len()
            .saturating_mul(self.element_bytes)
            .max(1);
        let cores = rayon::current_num_threads();
        Ok(usize::try_from(ROUND_BYTES / bytes)?.clamp(2 * cores, 32 * cores))
    }

    fn band_len(&self) -> u64 {
        self.grid
            .cut()
            .band_rows()
            .saturating_mul(self.row_len)
            .max(1)
    }

    fn append(&mut self, values: &ArrayRef) -> RawResult<()> {
        self.waiting_len += u64::try_from(values.len())?;
        self.waiting.push_back(Arc::clone(values));
        if self.waiting_len < self.enough() {
            // A slice of a large batch would keep all of the batch.
            if let Some(last) = self.waiting.back_mut() {
                *last = compact(last)?;
            }
            return Ok(());
        }
        let parts = self.take_bands()?;
        self.cut(&parts)?;
        if let Some(last) = self.waiting.back_mut() {
            *last = compact(last)?;
        }
        Ok(())
    }

    /// Cuts the last band, which may be short.
    fn cut_rest(&mut self) -> RawResult<()> {
        while self.waiting_len > 0 {
            let len = self.waiting_len.min(self.band_len());
            let values = self.take(len)?;
            let rows = match self.row_len {
                0 => 0,
                row_len => len / row_len,
            };
            self.cut(&[(values, rows)])?;
        }
        Ok(())
    }

    /// All whole bands that wait, and the rows of each part of them. What a band is put together from is
    /// copied, further ones of one array are not.
    fn take_bands(&mut self) -> RawResult<Vec<(ArrayRef, u64)>> {
        let band_len = self.band_len();
        let mut bands = self.waiting_len / band_len;
        let mut parts = Vec::new();
        while bands > 0 {
            let first = self.waiting.front().map_or(0, |first| first.len());
            let n = (u64::try_from(first)? / band_len).clamp(1, bands);
            let values = self.take(n * band_len)?;
            parts.push((values, self.grid.cut().band_rows().saturating_mul(n)));
            bands -= n;
        }
        Ok(parts)
    }

    /// The first `len` elements of what waits; its own buffer where one has them all.
    fn take(&mut self, len: u64) -> RawResult<ArrayRef> {
        let mut left = usize::try_from(len)?;
        let mut parts = Vec::new();
        while left > 0 {
            let Some(first) = self.waiting.front_mut() else {
                return Err("fewer values wait than were counted".into());
            };
            if first.len() <= left {
                left -= first.len();
                parts.extend(self.waiting.pop_front());
            } else {
                parts.push(first.slice(0, left));
                *first = first.slice(left, first.len() - left);
                left = 0;
            }
        }
        self.waiting_len -= len;
        match &parts[..] {
            [one] => Ok(Arc::clone(one)),
            parts => {
                let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                Ok(concat(&parts)?)
            }
        }
    }

    /// Encodes the chunks of whole bands (or of one that is short), which come in parts with so many rows,
    /// on all cores, and stores them.
    fn cut(&mut self, parts: &[(ArrayRef, u64)]) -> RawResult<()> {
        let (height, row_len) = (self.grid.cut().band_rows(), self.row_len);
        let chunk_len = usize::try_from(self.grid.cut().chunk_len())?;
        let mut elements = Vec::with_capacity(parts.len());
        let mut chunks = Vec::new();
        for (part, (values, rows)) in parts.iter().enumerate() {
            elements.push(Elements::of(&self.dtype, values)?);
            for i in 0..rows.div_ceil(height) {
                let first = usize::try_from(i * height * row_len)?;
                let rows = height.min(rows - i * height);
                for place in self.grid.cut().places(self.band) {
                    chunks.push((place, part, first, rows));
                }
                self.band += 1;
            }
        }
        let cut = self.grid.cut();
        let plain = |(place, part, first, rows): &(Vec<u64>, usize, usize, u64)| {
            let mut runs = cut.runs(place, *rows)?;
            runs.iter_mut().for_each(|run| run.from += first);
            elements[*part].chunk(&runs, chunk_len)
        };
        if let [first, _, ..] = chunks.as_slice()
            && self.codecs.is_open()
            && let Some(chunk) = plain(first)?
        {
            self.codecs.settle(&chunk)?;
        }
        for round in chunks.chunks(self.round()?) {
            let compress = |chunk: &[u8]| self.codecs.compress(chunk);
            let way = self.codecs.way();
            let stored = self.twin.compress(way, round, plain, compress)?;
            for ((place, ..), chunk) in round.iter().zip(stored) {
                if let Some(chunk) = chunk {
                    self.files.put(place, &chunk)?;
                }
            }
        }
        Ok(())
    }
}

/// A slice without what it was cut from.
fn compact(values: &ArrayRef) -> RawResult<ArrayRef> {
    let own = values.to_data().get_slice_memory_size()?;
    if values.get_array_memory_size() / 2 <= own {
        return Ok(Arc::clone(values));
    }
    Ok(concat(&[values.as_ref(), values.slice(0, 0).as_ref()])?)
}
