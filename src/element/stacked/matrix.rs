//! Matrices one below another.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use async_trait::async_trait;
use futures::future::try_join_all;

use super::column::{Part, StackedColumn, in_a_row};
use crate::element::{ColumnReader, CsrArrays, EntryParts, MatrixReader, MatrixShape};
use crate::error::{Error, Result};
use crate::model::{ElementKey, Location, RowSelection, VarAxis};
use crate::store::ReadMetrics;

/// A matrix in parts.
#[derive(Debug, Clone)]
pub(in crate::element) struct StackedMatrix {
    column: StackedColumn,
    shape: MatrixShape,
    axis: Option<Arc<VarAxis>>,
}

impl StackedMatrix {
    /// The same matrix of each of the members, one below another.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where a member's is of another type than the first's.
    pub(in crate::element) fn try_new(
        members: &[&Location],
        parts: &[Arc<dyn MatrixReader>],
    ) -> Result<Self> {
        let shapes: Vec<MatrixShape> = parts.iter().map(|part| part.shape().clone()).collect();
        let axis = parts.first().and_then(|part| part.axis().cloned());
        let columns = parts
            .iter()
            .map(|part| Arc::clone(part) as Arc<dyn ColumnReader>);
        let column = StackedColumn::try_new(members, columns.collect())?;
        Ok(Self::of(column, &shapes, axis))
    }

    /// A column whose parts are matrices of these shapes. Their types are the same, so they are of
    /// one kind and width.
    pub(super) fn of(
        column: StackedColumn,
        shapes: &[MatrixShape],
        axis: Option<Arc<VarAxis>>,
    ) -> Self {
        let first = &shapes[0];
        let nnz = shapes.iter().map(|shape| shape.nnz);
        let shape = MatrixShape {
            n_rows: column.len(),
            nnz: nnz.sum(),
            csc: shapes.iter().any(|shape| shape.csc),
            ..first.clone()
        };
        Self {
            column,
            shape,
            axis,
        }
    }

    fn matrix<'a>(&self, part: &'a Part) -> Result<&'a dyn MatrixReader> {
        part.reader.as_matrix().ok_or_else(|| {
            Error::IncompatibleSchemas(format!("a part of {} is no matrix", self.column.key()))
        })
    }
}

#[async_trait]
impl ColumnReader for StackedMatrix {
    fn field(&self) -> &FieldRef {
        self.column.field()
    }

    fn key(&self) -> &ElementKey {
        self.column.key()
    }

    fn len(&self) -> u64 {
        self.column.len()
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        self.column.read(rows, metrics).await
    }

    fn as_matrix(&self) -> Option<&dyn MatrixReader> {
        Some(self)
    }

    fn row_bytes(&self) -> u64 {
        self.column.row_bytes()
    }
}

#[async_trait]
impl MatrixReader for StackedMatrix {
    fn shape(&self) -> &MatrixShape {
        &self.shape
    }

    fn axis(&self) -> Option<&Arc<VarAxis>> {
        self.axis.as_ref()
    }

    async fn offsets(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<Vec<u64>> {
        let reads = self.column.split(rows).into_iter();
        let reads = reads
            .map(|(part, rows)| async move { self.matrix(part)?.offsets(&rows, metrics).await });
        let mut all = vec![0];
        for offsets in try_join_all(reads).await? {
            let before = all.last().copied().unwrap_or_default();
            all.extend(offsets.iter().skip(1).map(|offset| before + offset));
        }
        Ok(all)
    }

    fn csr(&self) -> Option<Vec<CsrArrays>> {
        let parts = self.column.parts.iter();
        let parts = parts.map(|part| part.reader.as_matrix()?.csr());
        let parts: Vec<Vec<CsrArrays>> = parts.collect::<Option<_>>()?;
        Some(parts.into_iter().flatten().collect())
    }

    fn is_compressed(&self) -> bool {
        let mut parts = self.column.parts.iter();
        parts.any(|part| part.reader.as_matrix().is_some_and(|m| m.is_compressed()))
    }

    async fn entries(
        &self,
        rows: &RowSelection,
        parts: EntryParts,
        metrics: &ReadMetrics,
    ) -> Result<(Option<ArrayRef>, Option<ArrayRef>)> {
        let reads = self.column.split(rows).into_iter();
        let reads = reads.map(|(part, rows)| async move {
            self.matrix(part)?.entries(&rows, parts, metrics).await
        });
        let (indices, data): (Vec<_>, Vec<_>) = try_join_all(reads).await?.into_iter().unzip();
        let whole =
            |parts: Vec<Option<ArrayRef>>| match parts.into_iter().collect::<Option<Vec<_>>>() {
                Some(parts) => in_a_row(&parts).map(Some),
                None => Ok(None),
            };
        Ok((whole(indices)?, whole(data)?))
    }
}
