//! Dense arrays of two or more axes, as fixed-size lists (nested from the third axis on).

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use async_trait::async_trait;

use crate::element::column::Values;
use crate::element::node::Encoding;
use crate::element::{ColumnReader, EntryParts, MatrixReader, MatrixShape};
use crate::error::{Error, Result};
use crate::model::{DType, ElementKey, FieldMeta, MatrixKind, RowSelection, VarAxis};
use crate::store::{ReadMetrics, Store};

/// A matrix that holds every value.
#[derive(Debug)]
pub(crate) struct DenseMatrix {
    field: FieldRef,
    key: ElementKey,
    url: String,
    shape: MatrixShape,
    axis: Option<Arc<VarAxis>>,
    values: Values,
    /// List field and size of every axis after the first, innermost first.
    lists: Vec<(FieldRef, i32)>,
}

impl DenseMatrix {
    /// A matrix over `values`, which have two axes or more.
    ///
    /// # Errors
    /// [`Error::InvalidElement`] where there is but one axis, a row is longer than 2^31 - 1 values,
    /// or the values have no Arrow type.
    pub(crate) fn try_new(
        store: &dyn Store,
        key: &ElementKey,
        name: &str,
        values: Values,
        axis: Option<Arc<VarAxis>>,
    ) -> Result<Self> {
        let invalid = |reason: String| Error::invalid(store.url(), key, reason);
        let too_wide = || invalid(format!("a row of {:?} values is too long", values.dims()));
        let mut n_cols = 1u64;
        for len in values.dims() {
            n_cols = n_cols.checked_mul(*len).ok_or_else(too_wide)?;
        }
        i32::try_from(n_cols).map_err(|_| too_wide())?;
        if values.dims().is_empty() {
            return Err(invalid(
                "a matrix has two axes, this array has one".to_owned(),
            ));
        }
        let mut data_type = values.data_type(store)?;
        let mut lists = Vec::with_capacity(values.dims().len());
        for len in values.dims().iter().rev() {
            let len = i32::try_from(*len).map_err(|_| too_wide())?;
            let item = Arc::new(Field::new("item", data_type, false));
            data_type = DataType::FixedSizeList(Arc::clone(&item), len);
            lists.push((item, len));
        }
        let encoding = match values.dtype() {
            DType::String => Encoding::StringArray,
            _ => Encoding::Array,
        };
        let meta = FieldMeta {
            axis: axis.as_ref().map(|axis| axis.id().to_owned()),
            encoding: Some(encoding.name().to_owned()),
            width: Some(n_cols),
            ..FieldMeta::default()
        };
        Ok(Self {
            field: Arc::new(meta.apply(Field::new(name, data_type, false))),
            key: key.clone(),
            url: store.url().to_owned(),
            shape: MatrixShape {
                kind: MatrixKind::Dense,
                n_rows: values.len(),
                n_cols,
                nnz: None,
                data: values.dtype().clone(),
                indices: None,
                csc: false,
            },
            axis,
            values,
            lists,
        })
    }

    fn check(&self, rows: &RowSelection) -> Result<()> {
        if rows.end() > self.shape.n_rows {
            return Err(Error::OutOfRange {
                url: self.url.clone(),
                element: self.key.clone(),
                position: i128::from(rows.end()) - 1,
                len: self.shape.n_rows,
            });
        }
        Ok(())
    }
}

#[async_trait]
impl ColumnReader for DenseMatrix {
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
        self.check(rows)?;
        let mut values = self.values.read(rows, metrics).await?;
        let n_rows = usize::try_from(rows.len()).unwrap_or(usize::MAX);
        // Lengths are handed down because a list of size 0 does not tell how many it holds.
        let mut len = n_rows;
        let mut lens = Vec::with_capacity(self.lists.len());
        for (_, size) in self.lists.iter().rev() {
            lens.push(len);
            len = len.saturating_mul(usize::try_from(*size).unwrap_or(0));
        }
        for ((item, size), len) in self.lists.iter().zip(lens.into_iter().rev()) {
            let list = FixedSizeListArray::try_new_with_length(
                Arc::clone(item),
                *size,
                values,
                None,
                len,
            )?;
            values = Arc::new(list);
        }
        Ok(values)
    }

    fn as_matrix(&self) -> Option<&dyn MatrixReader> {
        Some(self)
    }

    fn row_bytes(&self) -> u64 {
        self.values.row_bytes()
    }
}

#[async_trait]
impl MatrixReader for DenseMatrix {
    fn shape(&self) -> &MatrixShape {
        &self.shape
    }

    fn axis(&self) -> Option<&Arc<VarAxis>> {
        self.axis.as_ref()
    }

    async fn offsets(&self, rows: &RowSelection, _metrics: &ReadMetrics) -> Result<Vec<u64>> {
        self.check(rows)?;
        let n_cols = self.shape.n_cols;
        Ok((0..=rows.len())
            .map(|row| row.saturating_mul(n_cols))
            .collect())
    }

    fn is_compressed(&self) -> bool {
        self.values.is_compressed()
    }

    async fn entries(
        &self,
        rows: &RowSelection,
        parts: EntryParts,
        metrics: &ReadMetrics,
    ) -> Result<(Option<ArrayRef>, Option<ArrayRef>)> {
        self.check(rows)?;
        let data = match parts.data {
            true => Some(self.values.read(rows, metrics).await?),
            false => None,
        };
        Ok((None, data))
    }
}
