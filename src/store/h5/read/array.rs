//! An array, open for reading.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arrow::array::ArrayRef;
use async_trait::async_trait;
use hdf5_pure::Dataset;

use super::dtype::translate;
use super::fetch::{COPY, Fetched, SMALL, check_size, fetch};
use super::heap::Heap;
use super::storage::{Placed, Storage};
use crate::error::Result;
use crate::model::{ElementKey, RowSelection};
use crate::store::decode::{Disk, Fault, guard, in_background, to_arrow};
use crate::store::remote;
use crate::store::source::ByteSource;
use crate::store::{ArrayInfo, ArrayReader, Located, MissingChunks, ReadMetrics, Scattered};

/// What is the same for all arrays of a file.
#[derive(Debug)]
pub(super) struct FileInfo {
    /// What messages call the file.
    pub(super) url: String,
    /// Where the reference library finds it; it opens no object of a store.
    pub(super) path: Option<PathBuf>,
    pub(super) source: Arc<dyn ByteSource>,
    /// What addresses in the file count from.
    pub(super) base: u64,
    /// Bytes of an address and of a length.
    pub(super) offset_size: u8,
    pub(super) length_size: u8,
}

/// A description of an array; its bytes stay in the file.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) info: ArrayInfo,
    pub(super) file: Arc<FileInfo>,
    pub(super) source: Arc<dyn ByteSource>,
    pub(super) dataset: Dataset,
    pub(super) disk: Disk,
    pub(super) storage: Storage,
    /// Bytes of an element and of a row on disk.
    pub(super) element: usize,
    pub(super) row_bytes: u64,
    fill: OnceLock<Vec<u8>>,
}

/// A reader; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct H5Array(Arc<Core>);

impl H5Array {
    /// Reads the header of a dataset, and no chunk table.
    pub(super) fn open(file: &Arc<FileInfo>, key: &ElementKey, dataset: Dataset) -> Result<Self> {
        guard(|| Core::open(file, key, dataset))
            .map(|core| Self(Arc::new(core)))
            .map_err(|fault| fault.at(&file.url, key))
    }
}

impl Core {
    fn open(file: &Arc<FileInfo>, key: &ElementKey, dataset: Dataset) -> Result<Self, Fault> {
        let shape = dataset.shape()?;
        let (dtype, disk) = translate(&dataset.datatype()?);
        let element = disk.size();
        if disk.has_heap_text() && file.offset_size != 8 {
            return Err(Fault::Unsupported(format!(
                "text in a file with {}-byte addresses",
                file.offset_size
            )));
        }
        let row_bytes = shape
            .iter()
            .skip(1)
            .try_fold(element as u64, |product, n| product.checked_mul(*n))
            .filter(|row| {
                row.checked_mul(shape.first().copied().unwrap_or(1))
                    .is_some()
            })
            .ok_or_else(|| {
                Fault::Corrupt(format!("a shape of {shape:?} elements of {element} bytes"))
            })?;
        let placed = Placed::of(&dataset, &shape, element)?;
        let filters = dataset.filter_pipeline().iter().map(name).collect();
        Ok(Self {
            info: ArrayInfo {
                key: key.clone(),
                dtype,
                shape,
                null: placed.null,
                chunk_shape: placed.chunk_shape,
                filters,
                fixed_text: matches!(disk, Disk::Text { .. }),
                stored_bytes: placed.stored_bytes,
            },
            source: Arc::clone(&file.source),
            file: Arc::clone(file),
            dataset,
            disk,
            storage: placed.storage,
            element,
            row_bytes,
            fill: OnceLock::new(),
        })
    }

    /// The bytes of an array that lies in its object's header.
    pub(super) fn compact(&self) -> Result<Vec<u8>, Fault> {
        guard(|| Ok(self.dataset.read_raw()?))
    }

    /// The element that stands where nothing was written, as found in `band` at the chunk
    /// `in_band`, which must be missing. The parser does not show the fill value itself, so one row
    /// without storage is read through it.
    ///
    /// # Errors
    /// [`Fault::Format`] where the parser refuses: an array in external files looks unwritten.
    pub(super) fn fill(&self, band: u64, in_band: u64) -> Result<&[u8], Fault> {
        /// A row longer than this is not read for the sake of one element.
        const LONGEST: u64 = 64 << 20;
        if let Some(fill) = self.fill.get() {
            return Ok(fill);
        }
        if self.row_bytes > LONGEST {
            return Err(Fault::Unsupported(format!(
                "rows of {} bytes of which some were never written",
                self.row_bytes
            )));
        }
        let (height, column) = match &self.storage {
            Storage::Chunked(c) => (c.chunk_shape[0], c.first_element(in_band, &self.info.shape)),
            _ => (1, 0),
        };
        let row = guard(|| {
            let first = band.saturating_mul(height);
            Ok(self.dataset.read_raw_rows(first, 1)?)
        })?;
        let fill = usize::try_from(column)
            .ok()
            .and_then(|column| column.checked_mul(self.element))
            .and_then(|at| row.get(at..at.checked_add(self.element)?))
            .ok_or_else(|| Fault::Corrupt(format!("a row of {} bytes", row.len())))?;
        Ok(self.fill.get_or_init(|| fill.to_vec()))
    }

    fn read(&self, rows: &RowSelection) -> Result<(ArrayRef, Fetched), Fault> {
        self.decode(rows).map_err(|fault| match &self.storage {
            Storage::Library(reason) => {
                Fault::Unsupported(format!("{fault}; only the HDF5 library reads {reason}"))
            }
            _ => fault,
        })
    }

    fn decode(&self, rows: &RowSelection) -> Result<(ArrayRef, Fetched), Fault> {
        if self.disk == Disk::HeapText && matches!(self.storage, Storage::Library(_)) {
            check_size(
                self.source.as_ref(),
                rows.len().saturating_mul(self.row_bytes),
            )?;
            let text = super::library::read_text(self, rows)?;
            let fetched = Fetched {
                bytes: text.values().len() as u64,
                chunks: 1,
            };
            return Ok((Arc::new(text), fetched));
        }
        let (bytes, mut fetched) = fetch(self, rows)?;
        let heap = Heap::new(&self.file);
        let array = to_arrow(&self.disk, bytes, &heap)?;
        fetched.bytes += heap.fetched();
        Ok((array, fetched))
    }
}

#[async_trait]
impl ArrayReader for H5Array {
    fn info(&self) -> &ArrayInfo {
        &self.0.info
    }

    async fn stored_bytes(&self) -> Result<Option<u64>> {
        let core = &self.0;
        let Storage::Chunked(_) = &core.storage else {
            return Ok(core.info.stored_bytes);
        };
        let bytes = if core.source.is_remote() {
            let core = Arc::clone(core);
            let waited = remote::in_background(move || core.chunk_bytes()).await;
            waited.map_err(Fault::Io).flatten()
        } else {
            core.chunk_bytes()
        };
        bytes.map_err(|fault| fault.at(&core.file.url, &core.info.key))
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        let core = &self.0;
        core.info.check(&core.file.url, rows)?;
        let size = rows.len().saturating_mul(core.row_bytes);
        // Text and library reads may be long however few bytes the array itself takes.
        let plain = !core.disk.has_heap_text()
            && !matches!(core.disk, Disk::Reference { .. })
            && !matches!(core.storage, Storage::Library(_));
        let result = if core.source.is_remote() {
            let (core, rows) = (Arc::clone(core), rows.clone());
            let waited = remote::in_background(move || guard(|| core.read(&rows))).await;
            waited.map_err(Fault::Io).flatten()
        } else if plain && size < core.alone_bytes() && core.cheap() {
            guard(|| core.read(rows))
        } else {
            let (core, rows) = (Arc::clone(core), rows.clone());
            in_background(move || core.read(&rows)).await
        };
        let (array, fetched) = result.map_err(|fault| fault.at(&core.file.url, &core.info.key))?;
        metrics.add_bytes(fetched.bytes);
        metrics.add_chunks(fetched.chunks);
        Ok(array)
    }

    fn scattered(&self) -> Option<Scattered> {
        let core = &self.0;
        let scatter = || Scattered::new(Arc::clone(core) as _);
        core.is_scattered().then(scatter)
    }

    async fn missing_chunks(&self) -> Result<Option<MissingChunks>> {
        let core = &self.0;
        let Storage::Chunked(chunked) = &core.storage else {
            return Ok(None);
        };
        let of = chunked.n_chunks();
        let present = match core.source.is_remote() {
            true => {
                let core = Arc::clone(core);
                let waited = remote::in_background(move || guard(|| core.n_present())).await;
                waited.map_err(Fault::Io).flatten()
            }
            false => core.n_present(),
        };
        let present = present.map_err(|fault| fault.at(&core.file.url, &core.info.key))?;
        Ok(Some(MissingChunks {
            missing: of.saturating_sub(present),
            of,
        }))
    }

    async fn references(&self) -> Result<Located> {
        let core = Arc::clone(&self.0);
        let located = match core.source.is_remote() {
            true => {
                let waited = remote::in_background(move || guard(|| core.references())).await;
                waited.map_err(Fault::Io).flatten()
            }
            false => in_background(move || core.references()).await,
        };
        located.map_err(|fault| fault.at(&self.0.file.url, &self.0.info.key))
    }
}

impl Core {
    /// Chunks that have a place in the file, of an array that has chunks.
    fn n_present(&self) -> Result<u64, Fault> {
        match &self.storage {
            Storage::Chunked(chunked) => {
                let table = chunked.table(&self.dataset, self.source.as_ref())?;
                Ok(table.len() as u64)
            }
            _ => Ok(0),
        }
    }

    /// Bytes of all chunks, of an array that has them.
    fn chunk_bytes(&self) -> Result<Option<u64>, Fault> {
        match &self.storage {
            Storage::Chunked(chunked) => chunked
                .stored_bytes(&self.dataset, self.source.as_ref())
                .map(Some),
            _ => Ok(self.info.stored_bytes),
        }
    }

    /// Bytes below which a read stays on one core, the one that asks for it: a copy out of the page
    /// cache costs less than a second core's reaching for its bytes (a third of a slice's time).
    pub(super) fn alone_bytes(&self) -> u64 {
        match &self.storage {
            Storage::Chunked(c) if !c.pipeline.is_empty() => SMALL,
            _ => COPY,
        }
    }

    /// Whether a small read decodes little: a chunk may be a thousand times what is asked for.
    fn cheap(&self) -> bool {
        match &self.storage {
            Storage::Chunked(c) => c.pipeline.is_empty() || c.chunk_bytes as u64 <= SMALL,
            _ => true,
        }
    }
}

/// A filter as users write it.
fn name(filter: &hdf5_pure::Filter) -> String {
    match (filter.id, filter.client_data.first()) {
        (1, Some(level)) => format!("gzip-{level}"),
        (1, None) => "gzip".to_owned(),
        (2, _) => "shuffle".to_owned(),
        (3, _) => "fletcher32".to_owned(),
        (32000, _) => "lzf".to_owned(),
        _ => filter.to_string(),
    }
}
