//! Columns one after another.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use arrow::datatypes::FieldRef;
use async_trait::async_trait;
use futures::future::try_join_all;

use super::matrix::StackedMatrix;
use super::unify::{Recoding, unify};
use crate::element::ColumnReader;
use crate::error::{Error, Result};
use crate::model::{ElementKey, Location, RowSelection};
use crate::store::ReadMetrics;

/// The same column of each of the members, one after another; a matrix where they are.
///
/// # Errors
/// [`Error::IncompatibleSchemas`] where a member's is of another type than the first's.
pub(in crate::element) fn stacked(
    members: &[&Location],
    parts: Vec<Arc<dyn ColumnReader>>,
) -> Result<Arc<dyn ColumnReader>> {
    let column = StackedColumn::try_new(members, parts)?;
    let matrices = column.parts.iter().map(|part| part.reader.as_matrix());
    Ok(match matrices.collect::<Option<Vec<_>>>() {
        Some(matrices) if !matrices.is_empty() => {
            let shapes = matrices.iter().map(|matrix| matrix.shape().clone());
            let shapes: Vec<_> = shapes.collect();
            let axis = matrices[0].axis().cloned();
            Arc::new(StackedMatrix::of(column, &shapes, axis))
        }
        _ => Arc::new(column),
    })
}

/// A column in parts.
#[derive(Debug, Clone)]
pub(super) struct StackedColumn {
    field: FieldRef,
    key: ElementKey,
    pub(super) parts: Vec<Part>,
    len: u64,
}

/// A member's rows.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) reader: Arc<dyn ColumnReader>,
    /// The row of the whole that its first one is.
    start: u64,
    recoding: Recoding,
}

impl StackedColumn {
    pub(super) fn try_new(
        members: &[&Location],
        readers: Vec<Arc<dyn ColumnReader>>,
    ) -> Result<Self> {
        let fields: Vec<FieldRef> = readers.iter().map(|r| Arc::clone(r.field())).collect();
        let key = readers.first().map(|reader| reader.key().clone());
        let key = key.unwrap_or_default();
        let (field, recodings) = unify(&fields).map_err(|clash| {
            let name = |at: usize| members.get(at).map(ToString::to_string).unwrap_or_default();
            Error::IncompatibleSchemas(format!(
                "element {key} of {} and of {} is not one column: {}; merge makes one of them",
                name(0),
                name(clash.at),
                clash.reason
            ))
        })?;
        let mut len = 0;
        let parts = readers
            .into_iter()
            .zip(recodings)
            .map(|(reader, recoding)| {
                let start = len;
                len += reader.len();
                Part {
                    reader,
                    start,
                    recoding,
                }
            });
        Ok(Self {
            field,
            key,
            parts: parts.collect(),
            len,
        })
    }

    /// The parts that have some of the rows, with their own numbers of those. Rows behind the last
    /// are given to the last part, which refuses them; at least one part is given something.
    pub(super) fn split(&self, rows: &RowSelection) -> Vec<(&Part, RowSelection)> {
        let mut split: Vec<(&Part, RowSelection)> = Vec::new();
        let ends = self.parts.iter().skip(1).map(|part| part.start);
        let ends = ends.chain([u64::MAX]);
        let mut ranges = rows.ranges().iter().cloned();
        let mut next = ranges.next();
        for (part, end) in self.parts.iter().zip(ends) {
            let mut own = Vec::new();
            while let Some(range) = next.take_if(|range| range.start < end) {
                own.push(range.start - part.start..range.end.min(end) - part.start);
                next = match range.end > end {
                    true => Some(end..range.end),
                    false => ranges.next(),
                };
            }
            if !own.is_empty() {
                split.push((part, RowSelection::from_ranges(own)));
            }
        }
        if split.is_empty()
            && let Some(first) = self.parts.first()
        {
            split.push((first, RowSelection::default()));
        }
        split
    }
}

/// Values of parts, one after another.
pub(super) fn in_a_row(parts: &[ArrayRef]) -> Result<ArrayRef> {
    match parts {
        [one] => Ok(Arc::clone(one)),
        parts => {
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            Ok(concat(&parts)?)
        }
    }
}

#[async_trait]
impl ColumnReader for StackedColumn {
    fn field(&self) -> &FieldRef {
        &self.field
    }

    fn key(&self) -> &ElementKey {
        &self.key
    }

    fn len(&self) -> u64 {
        self.len
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        let reads = self.split(rows).into_iter().map(|(part, rows)| async move {
            let values = part.reader.read(&rows, metrics).await?;
            part.recoding.apply(values)
        });
        in_a_row(&try_join_all(reads).await?)
    }

    fn row_bytes(&self) -> u64 {
        let parts = self.parts.iter();
        let bytes = parts.map(|part| part.reader.row_bytes().saturating_mul(part.reader.len()));
        bytes.fold(0, u64::saturating_add) / self.len.max(1)
    }
}
