//! A column that an object does not have where others have it.

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::FieldRef;
use async_trait::async_trait;

use crate::element::ColumnReader;
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
}

impl AbsentColumn {
    /// For the `len` rows of the object at `url`, of the type of a column that another object has.
    pub(in crate::element) fn like(column: &dyn ColumnReader, url: &str, len: u64) -> Self {
        let field = column.field().as_ref().clone().with_nullable(true);
        Self {
            url: url.to_owned(),
            field: field.into(),
            key: column.key().clone(),
            len,
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

    /// Nulls take what values would take.
    fn row_bytes(&self) -> u64 {
        8
    }
}
