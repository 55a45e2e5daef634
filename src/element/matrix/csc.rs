//! `csc_matrix` by rows: transposed on first use, once for all who hold the reader.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use async_trait::async_trait;
use tokio::sync::OnceCell;

use crate::element::matrix::compressed::{Compressed, list_of_rows};
use crate::element::matrix::transpose::{Limits, Transposed};
use crate::element::node::{Encoding, Node};
use crate::element::{ColumnReader, EntryParts, MatrixReader, MatrixShape};
use crate::error::{Error, Result};
use crate::model::{ElementKey, RowSelection, VarAxis};
use crate::store::ReadMetrics;

/// A matrix stored by column. Reading any row costs reading all of it, the first time.
#[derive(Debug)]
pub(crate) struct CscMatrix {
    field: FieldRef,
    shape: MatrixShape,
    axis: Option<Arc<VarAxis>>,
    arrays: Compressed,
    rows: OnceCell<Arc<Transposed>>,
}

impl CscMatrix {
    /// Opens the group at `node`; reads no entries.
    pub(crate) async fn open(node: &Node, name: &str, axis: Option<Arc<VarAxis>>) -> Result<Self> {
        let arrays = Compressed::open(node, true).await?;
        let shape = arrays.shape(true);
        let field = arrays.field(name, Encoding::Csc.name(), axis.as_ref(), shape.n_cols)?;
        Ok(Self {
            field,
            shape,
            axis,
            arrays,
            rows: OnceCell::new(),
        })
    }

    async fn spans(
        &self,
        rows: &RowSelection,
        metrics: &ReadMetrics,
    ) -> Result<(&Arc<Transposed>, Vec<u64>, RowSelection)> {
        let n_rows = self.shape.n_rows;
        let beyond = || self.arrays.out_of_range(i128::from(rows.end()) - 1, n_rows);
        if rows.end() > n_rows {
            return Err(beyond());
        }
        let build = || async {
            Transposed::build(&self.arrays, metrics, Limits::default())
                .await
                .map(Arc::new)
        };
        let transposed = self.rows.get_or_try_init(build).await?;
        let (offsets, entries) = transposed.spans(rows).ok_or_else(beyond)?;
        Ok((transposed, offsets, entries))
    }

    async fn fetch(
        &self,
        transposed: &Arc<Transposed>,
        entries: RowSelection,
        parts: EntryParts,
    ) -> Result<(Option<ArrayRef>, Option<ArrayRef>)> {
        let transposed = Arc::clone(transposed);
        let read = move || transposed.read(&entries, parts);
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(std::io::Error::other)
            .flatten()
            .map_err(|source| {
                let path = format!(
                    "the temporary file for {} of {}",
                    self.arrays.key, self.arrays.url
                );
                Error::store("tempfile", path, source)
            })
    }
}

#[async_trait]
impl ColumnReader for CscMatrix {
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
        let (transposed, offsets, entries) = self.spans(rows, metrics).await?;
        let both = EntryParts {
            indices: true,
            data: true,
        };
        let (indices, data) = self.fetch(transposed, entries, both).await?;
        let (Some(indices), Some(data)) = (indices, data) else {
            return Err(self.arrays.invalid("entries were asked for and not read"));
        };
        let (url, key) = (&self.arrays.url, &self.arrays.key);
        list_of_rows(&self.field, url, key, &offsets, indices, data)
    }

    fn as_matrix(&self) -> Option<&dyn MatrixReader> {
        Some(self)
    }

    fn row_bytes(&self) -> u64 {
        self.arrays.row_bytes(self.shape.n_rows, self.shape.n_cols)
    }
}

#[async_trait]
impl MatrixReader for CscMatrix {
    fn shape(&self) -> &MatrixShape {
        &self.shape
    }

    fn axis(&self) -> Option<&Arc<VarAxis>> {
        self.axis.as_ref()
    }

    async fn offsets(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<Vec<u64>> {
        Ok(self.spans(rows, metrics).await?.1)
    }

    async fn entries(
        &self,
        rows: &RowSelection,
        parts: EntryParts,
        metrics: &ReadMetrics,
    ) -> Result<(Option<ArrayRef>, Option<ArrayRef>)> {
        let (transposed, _, entries) = self.spans(rows, metrics).await?;
        self.fetch(transposed, entries, parts).await
    }
}
