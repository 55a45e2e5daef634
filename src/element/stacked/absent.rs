//! A column that an object does not have where others have it.

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::FieldRef;
use async_trait::async_trait;

use crate::element::{AnnData, ColumnReader};
use crate::error::{Error, Result};
use crate::model::{ElementKey, RowSelection};
use crate::store::ReadMetrics;

/// A column of nulls.
#[derive(Debug)]
pub(in crate::element) struct AbsentColumn {
    url: String,
    field: FieldRef,
    key: ElementKey,
    len: u64,
    row_bytes: u64,
}

impl AbsentColumn {
    /// For the cells of an object, of the type of a column that another one has.
    pub(in crate::element) fn like(column: &dyn ColumnReader, object: &AnnData) -> Self {
        let field = column.field().as_ref().clone().with_nullable(true);
        Self {
            url: object.store().url().to_owned(),
            field: field.into(),
            key: column.key().clone(),
            len: object.n_obs(),
            row_bytes: column.row_bytes(),
        }
    }
}

#[async_trait]
impl ColumnReader for AbsentColumn {
    fn field(&self) -> &FieldRef {
        &self.field
    }

    fn key(&self) -> &ElementKey {
        &self.key
    }

    fn len(&self) -> u64 {
        self.len
    }

    async fn read(&self, rows: &RowSelection, _: &ReadMetrics) -> Result<ArrayRef> {
        match usize::try_from(rows.len()) {
            Ok(n) if rows.end() <= self.len => Ok(new_null_array(self.field.data_type(), n)),
            _ => Err(Error::OutOfRange {
                url: self.url.clone(),
                element: self.key.clone(),
                position: i128::from(rows.end()) - 1,
                len: self.len,
            }),
        }
    }

    /// Nulls take what values take.
    fn row_bytes(&self) -> u64 {
        self.row_bytes
    }
}
