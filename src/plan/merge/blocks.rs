//! Square matrices of several objects as the blocks of one, on its diagonal.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat, kernels::numeric::add};
use arrow::datatypes::{DataType, Field, FieldRef};
use async_trait::async_trait;

use super::promote::result_type;
use crate::element::{ColumnReader, EntryParts, MatrixReader, MatrixShape, entries, offsets};
use crate::error::{Error, Result};
use crate::kernel::form::sparsify;
use crate::kernel::list;
use crate::kernel::numbers::promote;
use crate::model::{DType, ElementKey, FieldMeta, MatrixKind, RowSelection, VarAxis, matrix_type};
use crate::store::ReadMetrics;

/// A block-diagonal matrix: rows are read from the object that has them.
#[derive(Debug)]
pub(super) struct BlockDiagonal {
    field: FieldRef,
    key: ElementKey,
    shape: MatrixShape,
    data: DataType,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    /// First row and column.
    start: u64,
    end: u64,
    /// [`None`] where the object has no such matrix: its rows are empty.
    reader: Option<Arc<dyn MatrixReader>>,
}

impl BlockDiagonal {
    /// The matrix `key` of blocks as long as the objects are, whose first rows are `starts`; the
    /// last start is the number of all rows.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where values have no type in common;
    /// [`Error::NotImplemented`] from 2^31 rows on.
    pub(super) fn try_new(
        key: ElementKey,
        starts: &[u64],
        readers: Vec<Option<Arc<dyn MatrixReader>>>,
    ) -> Result<Self> {
        let n = starts.last().copied().unwrap_or_default();
        i32::try_from(n)
            .map_err(|_| Error::NotImplemented(format!("{key}: a matrix over {n} positions")))?;
        let types = readers.iter().map(|reader| match reader {
            Some(reader) => reader.shape().data.arrow(),
            None => Some(DataType::Boolean),
        });
        let types: Option<Vec<DataType>> = types.collect();
        let data = types.as_ref().and_then(result_type).ok_or_else(|| {
            Error::IncompatibleSchemas(format!("{key}: its values have no type in common"))
        })?;
        let known = |reader: &Option<Arc<dyn MatrixReader>>| match reader {
            Some(reader) => reader.shape().nnz,
            None => Some(0),
        };
        let shape = MatrixShape {
            kind: MatrixKind::Sparse,
            n_rows: n,
            n_cols: n,
            nnz: readers.iter().map(known).sum(),
            data: DType::from_arrow(&data).unwrap_or(DType::Float64),
            indices: Some(DType::Int32),
            csc: false,
        };
        let meta = FieldMeta {
            encoding: Some("csr_matrix".to_owned()),
            width: Some(n),
            ..FieldMeta::default()
        };
        let field = Field::new(
            key.name(),
            matrix_type(data.clone(), DataType::Int32),
            false,
        );
        let ranges = starts.windows(2).zip(readers);
        let blocks = ranges.map(|(range, reader)| Block {
            start: range[0],
            end: range[1],
            reader,
        });
        Ok(Self {
            field: Arc::new(meta.apply(field)),
            key,
            shape,
            data,
            blocks: blocks.collect(),
        })
    }

    async fn rows(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ListArray> {
        let mut parts: Vec<ListArray> = Vec::new();
        for block in &self.blocks {
            let here = rows.clip(block.start..block.end);
            if here.is_empty() {
                continue;
            }
            let own = here
                .ranges()
                .iter()
                .map(|r| r.start - block.start..r.end - block.start);
            let own = RowSelection::from_ranges(own);
            parts.push(match &block.reader {
                Some(reader) => {
                    let values = reader.read(&own, metrics).await?;
                    self.moved(block, &values)?
                }
                None => self.empty(usize::try_from(own.len()).unwrap_or_default())?,
            });
        }
        let arrays: Vec<&dyn Array> = parts.iter().map(|part| part as &dyn Array).collect();
        match arrays.as_slice() {
            [] => self.empty(0),
            [_] => Ok(parts.swap_remove(0)),
            arrays => Ok(concat(arrays)?.as_list().clone()),
        }
    }

    /// A block's rows, its columns counted from the first of all.
    fn moved(&self, block: &Block, values: &ArrayRef) -> Result<ListArray> {
        let own;
        let rows = match values.as_fixed_size_list_opt() {
            Some(dense) => {
                own = sparsify(dense)?;
                &own
            }
            None => values.as_list(),
        };
        let first = i32::try_from(block.start)
            .map_err(|_| Error::NotImplemented(format!("{}: 2^31 rows", self.key)))?;
        let parts = rows.values().as_struct();
        let indices = arrow::compute::cast(parts.column(0), &DataType::Int32)?;
        let indices = add(&indices, &Int32Array::new_scalar(first))?;
        list(
            rows.offsets().clone(),
            indices,
            promote(parts.column(1), &self.data)?,
        )
    }

    fn empty(&self, n: usize) -> Result<ListArray> {
        let indices = Arc::new(Int32Array::from(Vec::<i32>::new()));
        let values = arrow::array::new_empty_array(&self.data);
        list(OffsetBuffer::new_zeroed(n), indices, values)
    }
}

#[async_trait]
impl ColumnReader for BlockDiagonal {
    fn field(&self) -> &FieldRef {
        &self.field
    }

    fn key(&self) -> &ElementKey {
        &self.key
    }

    fn len(&self) -> u64 {
        self.shape.n_rows
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        Ok(Arc::new(self.rows(rows, metrics).await?))
    }

    fn as_matrix(&self) -> Option<&dyn MatrixReader> {
        Some(self)
    }

    fn row_bytes(&self) -> u64 {
        let readers = self.blocks.iter().filter_map(|block| block.reader.as_ref());
        readers.map(|reader| reader.row_bytes()).max().unwrap_or(4)
    }
}

#[async_trait]
impl MatrixReader for BlockDiagonal {
    fn shape(&self) -> &MatrixShape {
        &self.shape
    }

    fn axis(&self) -> Option<&Arc<VarAxis>> {
        None
    }

    async fn offsets(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<Vec<u64>> {
        let rows: ArrayRef = Arc::new(self.rows(rows, metrics).await?);
        Ok(offsets(&rows, self.shape.n_cols))
    }

    async fn entries(
        &self,
        rows: &RowSelection,
        parts: EntryParts,
        metrics: &ReadMetrics,
    ) -> Result<(Option<ArrayRef>, Option<ArrayRef>)> {
        let rows: ArrayRef = Arc::new(self.rows(rows, metrics).await?);
        Ok(entries(&rows, parts))
    }
}
