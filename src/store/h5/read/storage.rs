//! Where an array's bytes are.

use hdf5_pure::{Chunk, ChunkIndex, Dataset, Layout};

use super::filter::Pipeline;
use crate::store::decode::{Fault, Once, Recent, guard};
use crate::store::source::{ByteSource, check_range};

/// Decoded chunks kept per array, so that a scan in small batches decodes a chunk once.
const KEEP_BYTES: usize = 8 << 20;
/// The same where chunks hold parts of rows: a batch of whole rows wants a band of them.
const KEEP_BAND_BYTES: usize = 32 << 20;

/// How the elements of an array are stored.
#[derive(Debug)]
pub(super) enum Storage {
    /// Not at all yet: every element is the fill value.
    Unallocated,
    /// In the object's header.
    Compact,
    /// One run of bytes.
    Contiguous { address: u64, size: u64 },
    /// A grid of chunks.
    Chunked(Box<Chunked>),
    /// In a way that only the reference library reads, and why.
    Library(String),
}

/// What the layout message says.
pub(super) struct Placed {
    pub(super) storage: Storage,
    pub(super) chunk_shape: Option<Vec<u64>>,
    pub(super) stored_bytes: Option<u64>,
    /// Whether there is no value at all.
    pub(super) null: bool,
}

impl Placed {
    /// Reads the layout message; the chunk table is left for the first read.
    pub(super) fn of(dataset: &Dataset, shape: &[u64], element: usize) -> Result<Self, Fault> {
        let new = |storage, stored_bytes| Self {
            storage,
            chunk_shape: None,
            stored_bytes,
            // A null dataspace shows as a scalar of which nothing is stored.
            null: shape.is_empty() && element > 0 && stored_bytes == Some(0),
        };
        Ok(match dataset.layout() {
            // The newest layouts are beyond the parser, not beyond the library.
            Err(error) => new(Storage::Library(error.to_string()), None),
            Ok(Layout::Compact { size }) => new(Storage::Compact, Some(size)),
            Ok(Layout::Contiguous {
                address: Some(address),
                size,
            }) => new(Storage::Contiguous { address, size }, Some(size)),
            Ok(Layout::Contiguous {
                address: None,
                size,
            }) => Self {
                null: shape.is_empty() && element > 0 && size == 0,
                ..new(Storage::Unallocated, Some(0))
            },
            Ok(Layout::Chunked { chunk_shape, index }) => Self {
                chunk_shape: Some(chunk_shape.clone()),
                ..new(
                    Storage::chunked(dataset, shape, element, chunk_shape, index)?,
                    None,
                )
            },
            Ok(other) => new(Storage::Library(format!("{other} storage")), None),
        })
    }
}

impl Storage {
    fn chunked(
        dataset: &Dataset,
        shape: &[u64],
        element: usize,
        chunk_shape: Vec<u64>,
        index: ChunkIndex,
    ) -> Result<Self, Fault> {
        if index == ChunkIndex::BTreeV2 {
            return Ok(Self::Library("a version 2 B-tree of chunks".into()));
        }
        let filters = dataset.filter_pipeline();
        let Some(pipeline) = Pipeline::new(&filters, element) else {
            let names: Vec<_> = filters.iter().map(ToString::to_string).collect();
            return Ok(Self::Library(format!("filters {}", names.join(", "))));
        };
        let chunked = Chunked::new(shape, chunk_shape, element, pipeline)?;
        Ok(Self::Chunked(Box::new(chunked)))
    }
}

/// A grid of chunks and, once read, its table.
#[derive(Debug)]
pub(super) struct Chunked {
    /// Lengths of a chunk.
    pub(super) chunk_shape: Vec<u64>,
    /// Chunks per axis.
    grid: Vec<u64>,
    /// Chunks side by side in one band of rows.
    pub(super) per_band: u64,
    /// Bytes of a decoded chunk.
    pub(super) chunk_bytes: usize,
    /// Whether a chunk holds whole rows, so that its bytes are bytes of the result.
    pub(super) whole_rows: bool,
    pub(super) pipeline: Pipeline,
    table: Once<Vec<Entry>>,
    /// Those decoded last.
    pub(super) recent: Recent<[u8]>,
}

/// A chunk in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Position in the grid, row-major.
    pub(super) index: u64,
    pub(super) address: u64,
    pub(super) size: u64,
    /// Filters that were skipped.
    pub(super) mask: u32,
}

impl Chunked {
    fn new(
        shape: &[u64],
        chunk_shape: Vec<u64>,
        element: usize,
        pipeline: Pipeline,
    ) -> Result<Self, Fault> {
        if chunk_shape.len() != shape.len() || shape.is_empty() || chunk_shape.contains(&0) {
            return Err(Fault::Corrupt(format!(
                "chunks of {chunk_shape:?} in an array of {shape:?}"
            )));
        }
        let too_large = || {
            Fault::Corrupt(format!(
                "chunks of {chunk_shape:?} in an array of {shape:?}"
            ))
        };
        let grid: Vec<u64> = shape
            .iter()
            .zip(&chunk_shape)
            .map(|(n, c)| n.div_ceil(*c))
            .collect();
        grid.iter()
            .try_fold(1u64, |product, n| product.checked_mul(*n))
            .ok_or_else(too_large)?;
        let per_band = grid[1..].iter().product();
        let chunk_bytes = chunk_shape.iter().try_fold(
            u64::try_from(element).ok().ok_or_else(too_large)?,
            |p, n| p.checked_mul(*n).ok_or_else(too_large),
        )?;
        Ok(Self {
            whole_rows: chunk_shape[1..] == shape[1..],
            chunk_bytes: usize::try_from(chunk_bytes).map_err(|_| too_large())?,
            grid,
            per_band,
            pipeline,
            table: Once::new(),
            recent: Recent::new(if per_band == 1 {
                KEEP_BYTES
            } else {
                KEEP_BAND_BYTES
            }),
            chunk_shape,
        })
    }

    /// The chunks that are allocated, by position. Read once, with the first rows.
    pub(super) fn table(
        &self,
        dataset: &Dataset,
        source: &dyn ByteSource,
    ) -> Result<&[Entry], Fault> {
        self.table
            .get_or_make(|| guard(|| self.load(dataset.chunks()?, source)))
            .map(Vec::as_slice)
    }

    /// Bytes of all chunks. Without filters every chunk has its full size, so the table is not
    /// needed: chunks that were never written are counted as if they were there.
    pub(super) fn stored_bytes(
        &self,
        dataset: &Dataset,
        source: &dyn ByteSource,
    ) -> Result<u64, Fault> {
        if self.pipeline.is_empty() {
            let chunks = self.grid.iter().product::<u64>();
            let bytes = u64::try_from(self.chunk_bytes).unwrap_or(u64::MAX);
            return Ok(chunks.saturating_mul(bytes).min(source.len()));
        }
        let entries = self.table(dataset, source)?;
        Ok(entries.iter().map(|entry| entry.size).sum())
    }

    /// Chunks that the array's shape asks for.
    pub(super) fn n_chunks(&self) -> u64 {
        self.grid.iter().product()
    }

    /// The position of the first chunk that is not in the table.
    pub(super) fn first_missing(&self, table: &[Entry]) -> Option<u64> {
        let gap = (0u64..).zip(table).find(|(at, entry)| *at != entry.index);
        let first = gap.map_or(table.len() as u64, |(at, _)| at);
        (first < self.n_chunks()).then_some(first)
    }

    fn load(&self, chunks: Vec<Chunk>, source: &dyn ByteSource) -> Result<Vec<Entry>, Fault> {
        let whole = u64::try_from(self.chunk_bytes).unwrap_or(u64::MAX);
        let mut stored = 0u64;
        let mut entries = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let Some(index) = self.position(&chunk.offset)? else {
                continue;
            };
            check_range(source, chunk.address, chunk.storage_size)?;
            let bound = self.pipeline.bound(chunk.storage_size);
            if bound < whole || (self.pipeline.is_empty() && chunk.storage_size != whole) {
                return Err(Fault::Corrupt(format!(
                    "a chunk of {:?} takes {whole} bytes, {} stored bytes cannot hold it",
                    self.chunk_shape, chunk.storage_size
                )));
            }
            stored = stored.saturating_add(chunk.storage_size);
            entries.push(Entry {
                index,
                address: chunk.address,
                size: chunk.storage_size,
                mask: chunk.filter_mask,
            });
        }
        if stored > source.len() {
            return Err(Fault::Corrupt(format!(
                "chunks overlap: they hold {stored} bytes, the file {}",
                source.len()
            )));
        }
        if !entries.is_sorted_by_key(|e| e.index) {
            entries.sort_unstable_by_key(|e| e.index);
        }
        if entries
            .windows(2)
            .any(|pair| pair[0].index == pair[1].index)
        {
            return Err(Fault::Corrupt("two chunks stand at one place".into()));
        }
        Ok(entries)
    }

    /// A chunk's place in the grid; [`None`] outside of it (the array was cut and its last chunks
    /// were left).
    fn position(&self, offset: &[u64]) -> Result<Option<u64>, Fault> {
        if offset.len() != self.grid.len() {
            return Err(Fault::Corrupt(format!("a chunk at {offset:?}")));
        }
        let mut index = 0;
        for ((at, chunk), n) in offset.iter().zip(&self.chunk_shape).zip(&self.grid) {
            if at % chunk != 0 {
                return Err(Fault::Corrupt(format!(
                    "a chunk of {:?} at {offset:?}",
                    self.chunk_shape
                )));
            }
            let place = at / chunk;
            if place >= *n {
                return Ok(None);
            }
            // Cannot overflow: the number of places in the grid was checked to fit.
            index = index * n + place;
        }
        Ok(Some(index))
    }

    /// A chunk's place along each axis after the first.
    pub(super) fn inner_place(&self, index: u64) -> Vec<u64> {
        let mut rest = index % self.per_band.max(1);
        let mut place: Vec<u64> = self.grid[1..]
            .iter()
            .rev()
            .map(|n| {
                let at = rest % n;
                rest /= n;
                at
            })
            .collect();
        place.reverse();
        place
    }

    /// Where in a row the first element of a band's chunk stands.
    pub(super) fn first_element(&self, in_band: u64, shape: &[u64]) -> u64 {
        let place = self.inner_place(in_band);
        let chunk = &self.chunk_shape[1..];
        place
            .iter()
            .zip(chunk)
            .zip(&shape[1..])
            .fold(0, |at, ((place, chunk), n)| at * n + place * chunk)
    }
}
