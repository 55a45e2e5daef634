//! Matrices of several objects beside each other: a row is the rows of all of them, one after another.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Int32Array, ListArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, interleave};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type};
use async_trait::async_trait;

use super::aligned::Placed;
use super::matrices::MergedMatrix;
use crate::element::{ColumnReader, EntryParts, MatrixReader, MatrixShape, entries, offsets};
use crate::error::{Error, Result};
use crate::kernel::form::sparsify;
use crate::kernel::list;
use crate::kernel::numbers::promote;
use crate::model::{DType, ElementKey, FieldMeta, MatrixKind, RowSelection, VarAxis, matrix_type};
use crate::store::ReadMetrics;

/// A matrix whose columns are those of several, whose rows are a merged axis.
#[derive(Debug)]
pub(super) struct SideBySide {
    field: FieldRef,
    key: ElementKey,
    shape: MatrixShape,
    item: DataType,
    /// What stands where an object has no row, or no matrix; nothing, of a sparse one.
    fill: Option<ArrayRef>,
    parts: Vec<Part>,
}

/// One object's columns.
#[derive(Debug)]
pub(super) struct Part {
    /// [`None`] where the object does not have the matrix.
    pub(super) reader: Option<Arc<dyn MatrixReader>>,
    /// Where its rows stand.
    pub(super) place: Placed,
    pub(super) n_cols: usize,
}

impl SideBySide {
    /// The column `name` of cells, of the kind, type and fill of `like`, over the genes of `axis`.
    ///
    /// # Errors
    /// [`Error::NotImplemented`] from 2^31 columns on.
    pub(super) fn try_new(
        name: &str,
        like: &MergedMatrix,
        parts: Vec<Part>,
        n_rows: usize,
        axis: &VarAxis,
    ) -> Result<Self> {
        let (kind, item, fill) = like.values();
        let n_cols: usize = parts.iter().map(|part| part.n_cols).sum();
        let too_wide = |_| Error::NotImplemented(format!("{name}: {n_cols} columns"));
        let width = i32::try_from(n_cols).map_err(too_wide)?;
        let (data_type, encoding) = match kind {
            MatrixKind::Sparse => (matrix_type(item.clone(), DataType::Int32), "csr_matrix"),
            MatrixKind::Dense => {
                let encoding = if item.is_string() {
                    "string-array"
                } else {
                    "array"
                };
                let item = Arc::new(Field::new("item", item.clone(), false));
                (DataType::FixedSizeList(item, width), encoding)
            }
        };
        let meta = FieldMeta {
            axis: Some(axis.id().to_owned()),
            encoding: Some(encoding.to_owned()),
            width: Some(n_cols as u64),
            ..FieldMeta::default()
        };
        let shape = MatrixShape {
            kind,
            n_rows: n_rows as u64,
            n_cols: n_cols as u64,
            nnz: None,
            data: DType::from_arrow(item).unwrap_or(DType::Float64),
            indices: None,
            csc: false,
        };
        Ok(Self {
            field: Arc::new(meta.apply(Field::new(name, data_type, false))),
            key: ElementKey::new(name),
            shape,
            item: item.clone(),
            fill: fill.cloned(),
            parts,
        })
    }

    async fn rows(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        let mut read = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            read.push(match &part.reader {
                Some(reader) => Some(part.place.read(reader.as_ref(), rows, metrics).await?),
                None => None,
            });
        }
        let n_rows = usize::try_from(rows.len()).unwrap_or_default();
        match self.shape.kind {
            MatrixKind::Sparse => Ok(Arc::new(self.sparse(&read, n_rows)?)),
            MatrixKind::Dense => Ok(Arc::new(self.dense(&read, n_rows)?)),
        }
    }

    fn sparse(&self, read: &[Option<Read>], n_rows: usize) -> Result<ListArray> {
        let mut rows = Vec::with_capacity(read.len());
        for part in read {
            rows.push(match part {
                Some((values, _)) => match values.as_fixed_size_list_opt() {
                    Some(dense) => Some(sparsify(dense)?),
                    None => Some(values.as_list::<i32>().clone()),
                },
                None => None,
            });
        }
        let mut sources: Vec<ArrayRef> = Vec::with_capacity(rows.len() + 1);
        let mut columns: Vec<Int32Array> = Vec::with_capacity(rows.len());
        for part in &rows {
            let Some(part) = part else {
                sources.push(arrow::array::new_empty_array(&self.item));
                columns.push(Int32Array::from(Vec::<i32>::new()));
                continue;
            };
            let entries = part.values().as_struct();
            sources.push(promote(entries.column(1), &self.item)?);
            let indices = cast(entries.column(0), &DataType::Int32)?;
            columns.push(indices.as_primitive::<Int32Type>().clone());
        }
        let empty = arrow::array::new_empty_array(&self.item);
        sources.push(self.fill.clone().unwrap_or(empty));
        let filled = sources.len() - 1;
        let (mut order, mut indices, mut ends) = (Vec::new(), Vec::new(), vec![0i32]);
        for row in 0..n_rows {
            let mut first = 0usize;
            for (at, part) in self.parts.iter().enumerate() {
                let offset = i32::try_from(first).map_err(|_| self.too_many())?;
                let own = read[at]
                    .as_ref()
                    .and_then(|(_, places)| places.get(row).copied()?);
                match (own, &rows[at]) {
                    (Some(own), Some(values)) => {
                        let ends = values.value_offsets();
                        for entry in ends[own]..ends[own + 1] {
                            let entry = usize::try_from(entry).map_err(|_| self.too_many())?;
                            indices.push(offset + columns[at].value(entry));
                            order.push((at, entry));
                        }
                    }
                    _ if self.fill.is_some() => {
                        let width = i32::try_from(part.n_cols).map_err(|_| self.too_many())?;
                        indices.extend((0..width).map(|column| offset + column));
                        order.extend((0..part.n_cols).map(|_| (filled, 0)));
                    }
                    _ => {}
                }
                first += part.n_cols;
            }
            ends.push(i32::try_from(indices.len()).map_err(|_| self.too_many())?);
        }
        let sources: Vec<&dyn Array> = sources.iter().map(AsRef::as_ref).collect();
        let values = interleave(&sources, &order)?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        list(offsets, Arc::new(Int32Array::from(indices)), values)
    }

    fn dense(&self, read: &[Option<Read>], n_rows: usize) -> Result<FixedSizeListArray> {
        let mut sources: Vec<ArrayRef> = Vec::with_capacity(read.len() + 1);
        for part in read {
            sources.push(match part {
                Some((values, _)) => promote(values.as_fixed_size_list().values(), &self.item)?,
                None => arrow::array::new_empty_array(&self.item),
            });
        }
        let empty = arrow::array::new_empty_array(&self.item);
        sources.push(self.fill.clone().unwrap_or(empty));
        let filled = sources.len() - 1;
        let mut order = Vec::new();
        for row in 0..n_rows {
            for (at, part) in self.parts.iter().enumerate() {
                let own = read[at]
                    .as_ref()
                    .and_then(|(_, places)| places.get(row).copied()?);
                order.extend((0..part.n_cols).map(|column| match own {
                    Some(own) => (at, own * part.n_cols + column),
                    None => (filled, 0),
                }));
            }
        }
        let sources: Vec<&dyn Array> = sources.iter().map(AsRef::as_ref).collect();
        let values = interleave(&sources, &order)?;
        let item = Arc::new(Field::new("item", self.item.clone(), false));
        let width = i32::try_from(self.shape.n_cols).map_err(|_| self.too_many())?;
        let rows = FixedSizeListArray::try_new_with_length(item, width, values, None, n_rows)?;
        Ok(rows)
    }

    fn too_many(&self) -> Error {
        Error::IncompatibleSchemas(format!("{}: a batch of rows is too large", self.key))
    }
}

/// Rows of an object, and where among them each merged row's is.
type Read = (ArrayRef, Vec<Option<usize>>);

#[async_trait]
impl ColumnReader for SideBySide {
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
        self.rows(rows, metrics).await
    }

    fn as_matrix(&self) -> Option<&dyn MatrixReader> {
        Some(self)
    }

    fn row_bytes(&self) -> u64 {
        let value = self.shape.data.size().unwrap_or(16);
        let parts = self.parts.iter().map(|part| match &part.reader {
            Some(reader) if self.shape.kind == MatrixKind::Sparse => reader.row_bytes(),
            _ if self.shape.kind == MatrixKind::Sparse && self.fill.is_none() => 0,
            _ => value.saturating_mul(part.n_cols as u64),
        });
        parts.fold(0, u64::saturating_add)
    }
}

#[async_trait]
impl MatrixReader for SideBySide {
    fn shape(&self) -> &MatrixShape {
        &self.shape
    }

    fn axis(&self) -> Option<&Arc<VarAxis>> {
        None
    }

    async fn offsets(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<Vec<u64>> {
        Ok(offsets(&self.rows(rows, metrics).await?, self.shape.n_cols))
    }

    async fn entries(
        &self,
        rows: &RowSelection,
        parts: EntryParts,
        metrics: &ReadMetrics,
    ) -> Result<(Option<ArrayRef>, Option<ArrayRef>)> {
        Ok(entries(&self.rows(rows, metrics).await?, parts))
    }
}
