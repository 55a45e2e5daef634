//! Columns that are read once and kept, for whoever comes back to them out of order.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use async_trait::async_trait;
use tokio::sync::OnceCell;

use crate::element::ColumnReader;
use crate::error::Result;
use crate::kernel::gather;
use crate::model::{ElementKey, RowSelection};
use crate::store::ReadMetrics;

/// An element aligned to an axis, all of it in memory after the first read.
#[derive(Debug)]
pub(crate) struct HeldColumn {
    reader: Arc<dyn ColumnReader>,
    values: OnceCell<ArrayRef>,
}

impl HeldColumn {
    /// What `reader` reads, read once.
    pub(crate) fn new(reader: Arc<dyn ColumnReader>) -> Self {
        Self {
            reader,
            values: OnceCell::new(),
        }
    }
}

#[async_trait]
impl ColumnReader for HeldColumn {
    fn field(&self) -> &FieldRef {
        self.reader.field()
    }

    fn key(&self) -> &ElementKey {
        self.reader.key()
    }

    fn len(&self) -> u64 {
        self.reader.len()
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        let all = RowSelection::all(self.len());
        if rows.end() > self.len() {
            // The reader knows how to say it.
            return self.reader.read(rows, metrics).await;
        }
        let read = || self.reader.read(&all, metrics);
        let values = self.values.get_or_try_init(read).await?;
        match *rows == all {
            true => Ok(Arc::clone(values)),
            false => pick(values, rows),
        }
    }

    fn row_bytes(&self) -> u64 {
        self.reader.row_bytes()
    }
}

fn pick(values: &ArrayRef, rows: &RowSelection) -> Result<ArrayRef> {
    let places: Vec<_> = rows
        .iter()
        .map(|row| (0, usize::try_from(row).unwrap_or(usize::MAX)))
        .collect();
    gather(std::slice::from_ref(values), &places)
}
