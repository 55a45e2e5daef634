//! `csr_matrix`: one range of `indptr`, then one of `indices` and one of `data`, read together.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use async_trait::async_trait;

use crate::element::matrix::compressed::{Compressed, CsrArrays, list_of_rows};
use crate::element::node::{Encoding, Node};
use crate::element::{ColumnReader, EntryParts, MatrixReader, MatrixShape};
use crate::error::Result;
use crate::model::{ElementKey, RowSelection, VarAxis};
use crate::store::ReadMetrics;

/// A matrix stored by row.
#[derive(Debug, Clone)]
pub(crate) struct CsrMatrix {
    field: FieldRef,
    shape: MatrixShape,
    axis: Option<Arc<VarAxis>>,
    arrays: Compressed,
}

impl CsrMatrix {
    /// Opens the group at `node`; reads no entries.
    pub(crate) async fn open(node: &Node, name: &str, axis: Option<Arc<VarAxis>>) -> Result<Self> {
        let arrays = Compressed::open(node, false).await?;
        let shape = arrays.shape(false);
        let field = arrays.field(name, Encoding::Csr.name(), axis.as_ref(), shape.n_cols)?;
        Ok(Self {
            field,
            shape,
            axis,
            arrays,
        })
    }
}

#[async_trait]
impl ColumnReader for CsrMatrix {
    fn field(&self) -> &FieldRef {
        &self.field
    }

    fn key(&self) -> &ElementKey {
        &self.arrays.key
    }

    fn len(&self) -> u64 {
        self.shape.n_rows
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        let spans = self.arrays.spans(rows, metrics).await?;
        let both = EntryParts {
            indices: true,
            data: true,
        };
        let (indices, data) = self.arrays.entries(&spans.entries, both, metrics).await?;
        let (Some(indices), Some(data)) = (indices, data) else {
            return Err(self.arrays.invalid("entries were asked for and not read"));
        };
        let (url, key) = (&self.arrays.url, &self.arrays.key);
        list_of_rows(&self.field, url, key, &spans.offsets, indices, data)
    }

    fn as_matrix(&self) -> Option<&dyn MatrixReader> {
        Some(self)
    }

    fn row_bytes(&self) -> u64 {
        self.arrays.row_bytes(self.shape.n_rows, self.shape.n_cols)
    }
}

#[async_trait]
impl MatrixReader for CsrMatrix {
    fn shape(&self) -> &MatrixShape {
        &self.shape
    }

    fn axis(&self) -> Option<&Arc<VarAxis>> {
        self.axis.as_ref()
    }

    async fn offsets(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<Vec<u64>> {
        Ok(self.arrays.spans(rows, metrics).await?.offsets)
    }

    fn csr(&self) -> Option<Vec<CsrArrays>> {
        Some(vec![CsrArrays::new(&self.arrays)])
    }

    fn is_compressed(&self) -> bool {
        self.arrays.is_compressed()
    }

    async fn entries(
        &self,
        rows: &RowSelection,
        parts: EntryParts,
        metrics: &ReadMetrics,
    ) -> Result<(Option<ArrayRef>, Option<ArrayRef>)> {
        let spans = self.arrays.spans(rows, metrics).await?;
        self.arrays.entries(&spans.entries, parts, metrics).await
    }
}
