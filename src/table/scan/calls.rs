//! Matrix functions computed from the parts of a matrix, without making lists.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;

use crate::element::{EntryParts, MatrixReader};
use crate::error::{Error, Result};
use crate::functions::MatrixCall;
use crate::kernel::sums;
use crate::model::{MatrixKind, RowSelection};
use crate::store::ReadMetrics;

/// Entries read at a time: a few MB per part, and many chunks, so that few are decoded twice.
const RUN_ENTRIES: u64 = 1 << 20;

/// A function whose gene, if any, has been found.
#[derive(Debug, Clone, Copy)]
enum Resolved {
    Gene(usize),
    NGenes,
    TotalCounts,
}

/// The values of `calls` for the selected rows of a matrix. Entries are read once for all of them,
/// and only their parts that are needed; of a gene that few rows have, only those rows' data.
pub(super) async fn compute(
    matrix: &dyn MatrixReader,
    calls: &[MatrixCall],
    rows: &RowSelection,
    metrics: &ReadMetrics,
) -> Result<Vec<ArrayRef>> {
    let calls = calls
        .iter()
        .map(|call| resolve(matrix, call))
        .collect::<Result<Vec<_>>>()?;
    let offsets = matrix.offsets(rows, metrics).await?;
    let mut results: Vec<Vec<ArrayRef>> = vec![Vec::new(); calls.len()];
    for run in runs(&offsets) {
        let run_offsets = offsets_of(&offsets, &run)?;
        let run_rows = rows.slice(run.start as u64..run.end as u64);
        let values = compute_run(matrix, &calls, &run_rows, &run_offsets, metrics).await?;
        for (result, value) in results.iter_mut().zip(values) {
            result.push(value);
        }
    }
    results.into_iter().map(|parts| join(&parts)).collect()
}

fn join(parts: &[ArrayRef]) -> Result<ArrayRef> {
    match parts {
        [only] => Ok(Arc::clone(only)),
        _ => {
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            Ok(concat(&parts)?)
        }
    }
}

/// Runs of rows with about [`RUN_ENTRIES`] entries; one empty run where there are no rows.
pub(super) fn runs(offsets: &[u64]) -> Vec<Range<usize>> {
    let n_rows = offsets.len().saturating_sub(1);
    let mut runs = Vec::new();
    let mut start = 0;
    while start < n_rows {
        let limit = offsets[start].saturating_add(RUN_ENTRIES);
        let end = offsets.partition_point(|o| *o <= limit).saturating_sub(1);
        let end = end.clamp(start + 1, n_rows);
        runs.push(start..end);
        start = end;
    }
    if runs.is_empty() {
        runs.push(0..0);
    }
    runs
}

/// The offsets of a run's rows, from zero.
pub(super) fn offsets_of(offsets: &[u64], run: &Range<usize>) -> Result<Vec<usize>> {
    let Some(run) = offsets.get(run.start..=run.end) else {
        return Ok(vec![0]);
    };
    let first = run.first().copied().unwrap_or(0);
    run.iter()
        .map(|o| o.checked_sub(first).and_then(|o| usize::try_from(o).ok()))
        .collect::<Option<_>>()
        .ok_or_else(|| Error::IncompatibleSchemas("row offsets decrease".to_owned()))
}

async fn compute_run(
    matrix: &dyn MatrixReader,
    calls: &[Resolved],
    rows: &RowSelection,
    offsets: &[usize],
    metrics: &ReadMetrics,
) -> Result<Vec<ArrayRef>> {
    let dense = matrix.shape().kind == MatrixKind::Dense;
    let all_data = dense || calls.iter().any(|call| !matches!(call, Resolved::Gene(_)));
    let any_gene = calls.iter().any(|call| matches!(call, Resolved::Gene(_)));
    let parts = EntryParts {
        indices: any_gene && !dense,
        data: all_data,
    };
    let (indices, data) = matrix.entries(rows, parts, metrics).await?;
    let missing = || {
        let key = matrix.key().clone();
        Error::invalid("", key, "a part of the entries is missing")
    };
    let mut values = Vec::with_capacity(calls.len());
    for call in calls {
        values.push(match *call {
            Resolved::NGenes => Arc::new(sums::count_nonzero(
                data.as_ref().ok_or_else(missing)?,
                offsets,
            )?) as ArrayRef,
            Resolved::TotalCounts => {
                Arc::new(sums::sum(data.as_ref().ok_or_else(missing)?, offsets)?)
            }
            Resolved::Gene(gene) => {
                let places = match &indices {
                    Some(indices) => sums::places_of(indices, gene)?,
                    None => offsets
                        .iter()
                        .take(offsets.len() - 1)
                        .map(|o| o + gene)
                        .collect(),
                };
                match &data {
                    Some(data) => sums::pick(data, &places, offsets)?,
                    None => {
                        let hits = Hits::read(matrix, rows, &places, offsets, metrics).await?;
                        sums::pick(&hits.data, &hits.places, &hits.offsets)?
                    }
                }
            }
        });
    }
    Ok(values)
}

/// Data of the rows that have an entry wanted.
pub(super) struct Hits {
    /// The data.
    pub(super) data: ArrayRef,
    /// Where the wanted entries are in it.
    pub(super) places: Vec<usize>,
    /// Where rows begin in it; rows without a hit may be empty.
    pub(super) offsets: Vec<usize>,
}

impl Hits {
    /// Reads the data of the rows that `places` are in, and no other where these are few.
    pub(super) async fn read(
        matrix: &dyn MatrixReader,
        rows: &RowSelection,
        places: &[usize],
        offsets: &[usize],
        metrics: &ReadMetrics,
    ) -> Result<Self> {
        let parts = EntryParts {
            indices: false,
            data: true,
        };
        let missing = || Error::invalid("", matrix.key().clone(), "the data is missing");
        let mut hits: Vec<usize> = Vec::new();
        sums::for_rows(places, offsets, |row, _| {
            if hits.last() != Some(&row) {
                hits.push(row);
            }
        });
        // A read per row costs about as much as the data of a few rows.
        if hits.len() * 4 > offsets.len() {
            let (_, data) = matrix.entries(rows, parts, metrics).await?;
            return Ok(Self {
                data: data.ok_or_else(missing)?,
                places: places.to_vec(),
                offsets: offsets.to_vec(),
            });
        }
        let positions: Vec<u64> = rows.iter().collect();
        let hit_rows = hits.iter().filter_map(|row| positions.get(*row).copied());
        let hit_rows = RowSelection::from_sorted(hit_rows).unwrap_or_default();
        let (_, data) = matrix.entries(&hit_rows, parts, metrics).await?;
        let mut hit_offsets = Vec::with_capacity(offsets.len());
        hit_offsets.push(0);
        let mut next = hits.iter().peekable();
        let mut end = 0;
        for (row, pair) in offsets.windows(2).enumerate() {
            if next.next_if_eq(&&row).is_some() {
                end += pair[1] - pair[0];
            }
            hit_offsets.push(end);
        }
        let mut moved = Vec::with_capacity(places.len());
        sums::for_rows(places, offsets, |row, place| {
            moved.push(place - offsets[row] + hit_offsets[row]);
        });
        Ok(Self {
            data: data.ok_or_else(missing)?,
            places: moved,
            offsets: hit_offsets,
        })
    }
}

fn resolve(matrix: &dyn MatrixReader, call: &MatrixCall) -> Result<Resolved> {
    match call {
        MatrixCall::NGenes => Ok(Resolved::NGenes),
        MatrixCall::TotalCounts => Ok(Resolved::TotalCounts),
        MatrixCall::Gene(name) => {
            let no_axis = || "the matrix is over no genes".to_owned();
            let position = matrix
                .axis()
                .ok_or_else(no_axis)
                .and_then(|axis| axis.position(name));
            let position = position.map_err(|reason| Error::option("gene", reason))?;
            if u64::try_from(position).is_ok_and(|p| p < matrix.shape().n_cols) {
                Ok(Resolved::Gene(position))
            } else {
                Err(Error::option(
                    "gene",
                    format!("'{name}' lies off the matrix"),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_hold_whole_rows() {
        let big = RUN_ENTRIES + 5;
        assert_eq!(runs(&[0]), vec![0..0]);
        assert_eq!(runs(&[0, 3, 3, 3 + big, 3 + big]), vec![0..2, 2..3, 3..4]);
        assert_eq!(offsets_of(&[0, 3, 3, 9], &(1..3)).unwrap(), vec![0, 0, 6]);
    }
}
