//! The traits of a store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::ArrayRef;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::decode::largest;
use super::references::Located;
use super::scatter::Scattered;
use crate::error::{Error, Result};
use crate::model::{DType, ElementKey, RowSelection, is_url};

/// Attributes of a node as JSON, in name order of the file. HDF5 booleans (h5py's enum) are JSON
/// booleans, one-dimensional arrays are JSON lists, object references are their target's path.
pub type Attributes = serde_json::Map<String, serde_json::Value>;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A group.
    Group,
    /// An array (an HDF5 dataset).
    Array,
}

/// A hierarchy of groups and arrays, open for reading.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// What messages call the store: its path or URL.
    fn url(&self) -> &str;

    /// The backend's name, `h5ad`.
    fn format(&self) -> &'static str;

    /// Bytes of the whole store where that is known without a walk.
    fn bytes(&self) -> Option<u64>;

    /// What tells the content that was opened from a later one, where a server says so.
    fn version(&self) -> Option<&str> {
        None
    }

    /// What stands at `key`, [`None`] where there is nothing.
    async fn node(&self, key: &ElementKey) -> Result<Option<NodeKind>>;

    /// Names of a group's children, in name order.
    async fn children(&self, key: &ElementKey) -> Result<Vec<String>>;

    /// Attributes of the node at `key`.
    async fn attributes(&self, key: &ElementKey) -> Result<Arc<Attributes>>;

    /// What the store tells twice of nodes below a group, and differently, and links that are not
    /// followed.
    async fn contradictions(&self, _below: &ElementKey) -> Result<Vec<Contradiction>> {
        Ok(Vec::new())
    }

    /// Values whose bytes are not what checksums of the whole store say, each by its key and what is
    /// wrong; none where there are no such checksums. Reads everything.
    async fn garbled(&self) -> Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    /// The array at `key`.
    ///
    /// # Errors
    /// [`Error::ElementNotFound`](crate::Error::ElementNotFound) where there is no array.
    async fn array(&self, key: &ElementKey) -> Result<Arc<dyn ArrayReader>>;
}

/// A node that a store does not have, or not so, although something in it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The node.
    pub key: ElementKey,
    /// What is said, and what there is.
    pub reason: String,
    /// Whether the node is not there, so that reading passes over it.
    pub lost: bool,
}

/// What is known of an array without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayInfo {
    /// The array's path in its store.
    pub key: ElementKey,
    /// Type of an element.
    pub dtype: DType,
    /// Length per axis; empty for a scalar.
    pub shape: Vec<u64>,
    /// Whether the array is a null dataspace: no value at all.
    pub null: bool,
    /// Length per axis of a chunk, [`None`] where the array is one run of bytes.
    pub chunk_shape: Option<Vec<u64>>,
    /// Filters in the order of encoding, as users write them: `shuffle`, `gzip-4`, `lzf`.
    pub filters: Vec<String>,
    /// Whether it is text of one width for all (numpy's `S`), as files before 0.7 have it.
    pub fixed_text: bool,
    /// Bytes on disk, text on a heap aside; [`None`] where that takes a walk.
    pub stored_bytes: Option<u64>,
}

impl ArrayInfo {
    /// Length of the first axis; 1 for a scalar, 0 for a null.
    pub fn len(&self) -> u64 {
        if self.null {
            0
        } else {
            self.shape.first().copied().unwrap_or(1)
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether these rows can be read.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a row is not below [`len`](Self::len), [`Error::NotImplemented`]
    /// where elements have a type without a meaning here.
    pub(in crate::store) fn check(&self, url: &str, rows: &RowSelection) -> Result<()> {
        let len = self.len();
        if rows.end() > len {
            return Err(Error::OutOfRange {
                url: url.to_owned(),
                element: self.key.clone(),
                position: i128::from(rows.end()) - 1,
                len,
            });
        }
        match &self.dtype {
            DType::Other(what) => Err(Error::NotImplemented(format!(
                "{url}: element {}: values of type {what}",
                self.key
            ))),
            _ => Ok(()),
        }
    }

    /// Elements per row: the product of the lengths after the first axis. [`None`] on overflow.
    pub fn row_len(&self) -> Option<u64> {
        self.shape
            .iter()
            .skip(1)
            .try_fold(1u64, |product, n| product.checked_mul(*n))
    }
}

/// Counts of a reader's work, shared by all readers of a scan.
#[derive(Debug, Default)]
pub struct ReadMetrics {
    bytes: AtomicU64,
    chunks: AtomicU64,
}

impl ReadMetrics {
    /// Adds bytes fetched from the store (encoded size).
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds chunks decoded; a run of a contiguous array counts as one.
    pub fn add_chunks(&self, chunks: u64) {
        self.chunks.fetch_add(chunks, Ordering::Relaxed);
    }

    /// Bytes fetched so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Chunks decoded so far.
    pub fn chunks(&self) -> u64 {
        self.chunks.load(Ordering::Relaxed)
    }
}

/// Chunks that an array does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingChunks {
    /// How many are not there.
    pub missing: u64,
    /// How many its shape asks for.
    pub of: u64,
}

impl fmt::Display for MissingChunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missing, of } = self;
        write!(
            f,
            "{missing} of {of} chunks are not stored, so their values are the fill value"
        )
    }
}

/// An array, open for reading. Holds descriptions and a shared file handle, no data.
#[async_trait]
pub trait ArrayReader: fmt::Debug + Send + Sync {
    /// What is known of it.
    fn info(&self) -> &ArrayInfo;

    /// Bytes on disk, text on a heap aside; [`None`] where the store cannot tell. Reads the chunk
    /// table of an array with filters, once.
    async fn stored_bytes(&self) -> Result<Option<u64>> {
        Ok(self.info().stored_bytes)
    }

    /// Chunks, or shards of them, that are not stored and of how many; their values are the fill
    /// value. [`None`] where the store does not know chunks.
    async fn missing_chunks(&self) -> Result<Option<MissingChunks>> {
        Ok(None)
    }

    /// Reads the selected rows of the first axis (all of the others), flattened row-major into one
    /// owned, right-sized array of `info().dtype.arrow()` without nulls. A scalar has one row.
    ///
    /// Only chunks that hold selected rows are fetched, each once; they are decoded on all cores.
    ///
    /// # Errors
    /// [`Error::OutOfRange`](crate::Error::OutOfRange) if a row is not below `info().len()`;
    /// [`Error::InvalidElement`](crate::Error::InvalidElement) or
    /// [`Error::Store`](crate::Error::Store) where bytes are missing or do not decode.
    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef>;

    /// As [`read`](Self::read), of positions: with the largest of them, [`None`] where there are none
    /// or they are no integers. What is below 0 counts as beyond all.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    async fn read_positions(
        &self,
        rows: &RowSelection,
        metrics: &ReadMetrics,
    ) -> Result<(ArrayRef, Option<u64>)> {
        let positions = self.read(rows, metrics).await?;
        let largest = largest(&positions);
        Ok((positions, largest))
    }

    /// What reads runs of rows straight to where they are wanted ([`gather_runs`](super::gather_runs));
    /// [`None`] where values have to be converted, or chunks hold parts of rows.
    fn scattered(&self) -> Option<Scattered> {
        None
    }

    /// Where its chunks lie in the store's file. Reads the chunk table, not the chunks.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    async fn references(&self) -> Result<Located> {
        Ok(Located::Nowhere("its store is not one file".to_owned()))
    }
}

/// The kind of a store that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Format {
    /// An HDF5 file.
    #[default]
    H5ad,
    /// A folder of chunks.
    Zarr {
        /// The version of the specification.
        version: ZarrVersion,
        /// Whether chunks are kept together in shards; version 3 only.
        sharded: bool,
    },
}

/// A version of zarr's specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ZarrVersion {
    /// `.zarray`, `.zgroup`, `.zattrs`.
    V2,
    /// `zarr.json`.
    V3,
}

impl Format {
    /// Zarr as anndata writes it by default: version 3, sharded.
    pub const ZARR: Self = Self::Zarr {
        version: ZarrVersion::V3,
        sharded: true,
    };

    /// What names of its stores end in, without the dot.
    pub fn ending(self) -> &'static str {
        match self {
            Self::H5ad => "h5ad",
            Self::Zarr { .. } => "zarr",
        }
    }

    /// The format, at its defaults, that a name asks for.
    pub fn of_name(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "h5ad" => Some(Self::H5ad),
            "zarr" => Some(Self::ZARR),
            _ => None,
        }
    }
}

/// How chunks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Deflate with a level from 1 to 9 at most (HDF5 filter 1, zarr's `gzip`): a store may search
    /// less where that makes values no larger, by half a percent.
    Gzip(u8),
    /// LZF (HDF5 filter 32000, as h5py registers it).
    Lzf,
    /// Zstandard with a level from 0 (the library's default) to 22; zarr only. As of gzip, a store may
    /// search less where that makes values no larger, by half a percent.
    Zstd(u8),
    /// LZ4 in blosc with shuffled bytes and a level from 0 to 9; zarr only.
    BloscLz4(u8),
    /// Zstandard in blosc with shuffled bytes and a level from 0 to 9; zarr only.
    BloscZstd(u8),
}

impl Compression {
    /// Its name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip(_) => "gzip",
            Self::Lzf => "lzf",
            Self::Zstd(_) => "zstd",
            Self::BloscLz4(_) => "blosc-lz4",
            Self::BloscZstd(_) => "blosc-zstd",
        }
    }
}

/// How an array is cut along its first axis; its other axes are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pieces {
    /// Rows of a chunk, 1 at least.
    pub chunk: u64,
    /// Rows of a shard, a multiple of a chunk's, where the store has shards.
    pub shard: u64,
}

impl Pieces {
    /// Pieces of so many rows; a shard is cut to whole chunks, and is one at least.
    pub fn new(chunk: u64, shard: u64) -> Self {
        let chunk = chunk.max(1);
        let shard = (shard - shard % chunk).max(chunk);
        Self { chunk, shard }
    }
}

/// Lengths of an array to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// One value.
    Scalar,
    /// A null dataspace (`null` 0.1.0); nothing may be appended.
    Null,
    /// These lengths, the first of which the appended rows must add up to.
    Fixed(Vec<u64>),
    /// A first axis as long as what is appended; these lengths after it.
    Growing(Vec<u64>),
}

/// An array to be written.
#[derive(Debug, Clone)]
pub struct ArraySpec {
    /// Type of an element; any that [`DType::arrow`] maps, `Reference` and nested text aside.
    pub dtype: DType,
    /// Its lengths.
    pub extent: Extent,
    /// Whether anybody may append later (`maxshape` unlimited, so chunked): CSR members. Chunks that
    /// such arrays of a store have in common may be compressed once.
    pub appendable: bool,
    /// Compression, where the store compresses such arrays.
    pub compression: Compression,
    /// How it is cut, where the store can do so; [`None`] leaves it to the store.
    pub pieces: Option<Pieces>,
    /// Attributes of the array.
    pub attributes: Attributes,
}

/// Where a store is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteTarget {
    /// The final name; of a zarr store it may be a URL.
    pub path: PathBuf,
    /// The kind of store.
    pub format: Format,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// Whether the file is flushed to the device before it gets its name.
    pub fsync: bool,
    /// Bytes that the run writes to all of its stores, as far as that is known before; 0 where it
    /// is not. A store may go past the page cache where they do not fit there.
    pub run_bytes: u64,
    /// Whether the root of a zarr store repeats the documents of all nodes (consolidated metadata).
    pub consolidated: bool,
}

impl WriteTarget {
    /// Whether it is in an object store.
    pub(in crate::store) fn is_url(&self) -> bool {
        is_url(&self.path.to_string_lossy())
    }
}

/// A hierarchy of groups and arrays being written, beside its final name.
///
/// Dropping it without [`commit`](Self::commit) removes what was written.
#[async_trait]
pub trait StoreWriter: fmt::Debug + Send + Sync {
    /// The final name, for messages.
    fn url(&self) -> &str;

    /// Creates a group (not the root, which exists) whose parent exists.
    async fn create_group(&self, key: &ElementKey, attributes: &Attributes) -> Result<()>;

    /// Sets attributes of the root or of a group made before.
    async fn set_attributes(&self, key: &ElementKey, attributes: &Attributes) -> Result<()>;

    /// Creates an array whose parent exists.
    async fn create_array(&self, key: &ElementKey, spec: ArraySpec)
    -> Result<Box<dyn ArrayWriter>>;

    /// Creates an array whose chunks are those of `source`, where they lie, instead of copies.
    /// `false` where this store holds no references or wants the values of this array.
    ///
    /// # Errors
    /// [`Error::NotImplemented`](crate::Error::NotImplemented) where the array can neither be
    /// referred to nor is small enough to be written by value.
    async fn link(
        &self,
        _key: &ElementKey,
        _source: &dyn ArrayReader,
        _attributes: &Attributes,
    ) -> Result<bool> {
        Ok(false)
    }

    /// Closes the store; it is complete now, under its temporary name. All array writers must be
    /// finished. Several outputs of one job are all closed before the first is committed.
    async fn close(&self) -> Result<()>;

    /// Gives the closed store its final name.
    async fn commit(&self) -> Result<()>;
}

/// An array being written, row after row.
#[async_trait]
pub trait ArrayWriter: fmt::Debug + Send {
    /// Appends rows, flattened row-major, as an array of the spec's `dtype.arrow()` (text may be
    /// of any Arrow string type) without nulls. Whole rows only. Compresses on all cores.
    async fn append(&mut self, values: ArrayRef) -> Result<()>;

    /// Writes what is buffered and fixes the length of a growing array.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`](crate::Error::LengthMismatch) where a fixed extent was not filled.
    async fn finish(self: Box<Self>) -> Result<()>;
}
