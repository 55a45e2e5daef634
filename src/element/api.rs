//! The traits of the module.

use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use async_trait::async_trait;

use crate::element::CsrArrays;
use crate::error::Result;
use crate::model::{DType, ElementKey, MatrixKind, RowSelection, VarAxis};
use crate::store::ReadMetrics;

/// An element aligned to an axis: one Arrow value per cell (or gene).
#[async_trait]
pub trait ColumnReader: fmt::Debug + Send + Sync {
    /// Name, Arrow type, nullability and [`FieldMeta`](crate::model::FieldMeta) of the column.
    fn field(&self) -> &FieldRef;

    /// The element it is read from.
    fn key(&self) -> &ElementKey;

    /// Length of the axis.
    fn len(&self) -> u64;

    /// Whether the axis is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the selected rows as one owned array of `field().data_type()`.
    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef>;

    /// The column as a matrix, where it is one.
    fn as_matrix(&self) -> Option<&dyn MatrixReader> {
        None
    }

    /// Bytes one row takes in memory on the average, to size batches of columns that are not
    /// matrices.
    fn row_bytes(&self) -> u64;
}

/// Shape and kind of a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixShape {
    /// Sparse or dense.
    pub kind: MatrixKind,
    /// Rows.
    pub n_rows: u64,
    /// Columns (the product of all axes after the first, where a dense array has more than two).
    pub n_cols: u64,
    /// Stored entries of a sparse matrix.
    pub nnz: Option<u64>,
    /// Type of a value on disk.
    pub data: DType,
    /// Type of the indices on disk, of a sparse matrix.
    pub indices: Option<DType>,
    /// Whether it is stored by column.
    pub csc: bool,
}

/// Which parts of sparse rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryParts {
    /// Column indices.
    pub indices: bool,
    /// Values.
    pub data: bool,
}

/// A matrix aligned to an axis, read by rows whatever its layout on disk.
#[async_trait]
pub trait MatrixReader: ColumnReader {
    /// Shape and kind.
    fn shape(&self) -> &MatrixShape;

    /// The genes it is over, where its columns are genes.
    fn axis(&self) -> Option<&Arc<VarAxis>>;

    /// Running sums of the selected rows' lengths: `rows.len() + 1` values from 0, so that rows
    /// `a..b` of the selection hold entries `offsets[a]..offsets[b]`. For dense rows the length is
    /// `n_cols`. Reads only `indptr`.
    async fn offsets(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<Vec<u64>>;

    /// Whether reading a row decodes what stands around it, because values are compressed on disk.
    fn is_compressed(&self) -> bool {
        false
    }

    /// The arrays of a matrix by row, of each of its parts where they lie below each other; [`None`]
    /// where rows are not stored so.
    fn csr(&self) -> Option<Vec<CsrArrays>> {
        None
    }

    /// Reads the wanted parts of the selected sparse rows' entries, concatenated: indices as Int32
    /// (Int64 from 2^31 columns on), data in its type. A dense matrix gives its values as data.
    async fn entries(
        &self,
        rows: &RowSelection,
        parts: EntryParts,
        metrics: &ReadMetrics,
    ) -> Result<(Option<ArrayRef>, Option<ArrayRef>)>;
}

/// One element as `inspect` and the `elements` table show it.
#[derive(Debug, Clone)]
pub struct ElementInfo {
    /// Its path.
    pub key: ElementKey,
    /// `encoding-type`, empty for a node that has none.
    pub encoding_type: String,
    /// `encoding-version`.
    pub encoding_version: String,
    /// Logical shape: of the matrix, the column, the frame (rows × columns); empty for scalars and
    /// dicts.
    pub shape: Vec<u64>,
    /// Type of the values as numpy names it; empty for dicts.
    pub dtype: String,
    /// Stored entries of a sparse matrix.
    pub nnz: Option<u64>,
    /// Chunk shape of its largest array.
    pub chunk_shape: Option<Vec<u64>>,
    /// Filters of its largest array, joined by `+`: `shuffle+gzip-4`.
    pub compression: String,
    /// Bytes on disk of all its arrays.
    pub stored_bytes: u64,
}
