//! Entries of a matrix stored by column, put in row order in bounded memory.
//!
//! ```text
//!  indices ──► count per row ──► offsets ──► buckets: runs of rows of at most 16 MiB
//!  indices, data ──► (row, column, value) ──► write buffer per bucket ──► file, a region per bucket
//!  each region ──► counting sort by row ──► the region again: columns, then values
//! ```
//!
//! Columns are met in ascending order and both steps keep the order of what they move, so each
//! row's columns ascend. A matrix below 64 MiB is sorted in memory, as one bucket.

use std::ops::Range;
use std::os::unix::fs::FileExt;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::MutableBuffer;

use crate::element::matrix::compressed::{Compressed, index_type};
use crate::element::matrix::packed::Packed;
use crate::element::matrix::scatter::{
    Block, Bucket, Entries, ROW_WIDTH, Scatter, cut_buckets, io_error, u64_of,
};
use crate::element::{EntryParts, scratch};
use crate::error::Result;
use crate::model::RowSelection;
use crate::store::ReadMetrics;

/// How much is held at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Matrices up to this size are transposed in memory.
    in_memory: u64,
    /// Bytes of records per bucket, which is what one sort holds.
    bucket: u64,
    /// Entries read at once.
    block: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_memory: 64 << 20,
            bucket: 16 << 20,
            block: 1 << 20,
        }
    }
}

/// The transposed matrix: where each row's entries start, and the entries.
#[derive(Debug)]
pub(crate) struct Transposed {
    offsets: Vec<u64>,
    columns: Packed,
    values: Packed,
    buckets: Vec<Bucket>,
    entries: Entries,
}

impl Transposed {
    /// Transposes the matrix. Reads its indices twice and its data once.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a row index beyond the axis; [`Error::Store`] where the temporary
    /// file cannot be written.
    pub(crate) async fn build(
        matrix: &Compressed,
        metrics: &ReadMetrics,
        limits: Limits,
    ) -> Result<Self> {
        let columns = matrix
            .spans(&RowSelection::all(matrix.n_major), metrics)
            .await?;
        let offsets = count(matrix, metrics, limits.block).await?;
        let packed = (
            Packed::of_type(&index_type(matrix.n_major)),
            Packed::of_type(&matrix.data_type()?),
        );
        let (Some(column), Some(value)) = packed else {
            return Err(matrix.invalid("values without a fixed width cannot be transposed"));
        };
        let record = ROW_WIDTH + column.width() + value.width();
        let (buckets, file) = if matrix.nnz.saturating_mul(u64_of(record)) <= limits.in_memory {
            let whole = Bucket {
                rows: 0..matrix.n_minor,
                entries: 0..matrix.nnz,
                start: 0,
            };
            (vec![whole], None)
        } else {
            let file = scratch::scratch_file().map_err(|e| io_error(matrix, e))?;
            (cut_buckets(&offsets, record, limits.bucket), Some(file))
        };
        let mut scatter = Scatter::try_new(matrix, &offsets, buckets, file, column, value)?;
        let mut ends = columns.offsets.into_iter().skip(1).zip(0..).peekable();
        let mut next = read_block(matrix, 0..limits.block, metrics).await?;
        while let Some(block) = next {
            let end = block.start + u64_of(block.rows.len());
            let mut cols = Vec::with_capacity(block.rows.len());
            for entry in block.start..end {
                while ends
                    .next_if(|(column_end, _)| *column_end <= entry)
                    .is_some()
                {}
                cols.push(ends.peek().map_or(0, |(_, column)| *column));
            }
            // The next block is read while this one is scattered.
            let work = tokio::task::spawn_blocking(move || {
                let result = scatter.add(&block, &cols);
                (scatter, result)
            });
            let (done, read) =
                futures::join!(work, read_block(matrix, end..end + limits.block, metrics));
            let result;
            (scatter, result) = done.map_err(|e| io_error(matrix, std::io::Error::other(e)))?;
            result.map_err(|reason| reason.into_error(matrix))?;
            next = read?;
        }
        let sorted = tokio::task::spawn_blocking(move || scatter.finish()).await;
        let sorted = sorted.map_err(|e| io_error(matrix, std::io::Error::other(e)))?;
        let (buckets, entries, columns, values) =
            sorted.map_err(|reason| reason.into_error(matrix))?;
        Ok(Self {
            offsets,
            columns,
            values,
            buckets,
            entries,
        })
    }

    /// Running sums of the selected rows' lengths, and their entries.
    pub(crate) fn spans(&self, rows: &RowSelection) -> Option<(Vec<u64>, RowSelection)> {
        let mut offsets = vec![0];
        let mut entries = Vec::with_capacity(rows.ranges().len());
        let mut total = 0;
        for range in rows.ranges() {
            let (lo, hi) = (
                usize::try_from(range.start).ok()?,
                usize::try_from(range.end).ok()?,
            );
            let [first, rest @ ..] = self.offsets.get(lo..=hi)? else {
                return None;
            };
            offsets.extend(rest.iter().map(|end| total + (end - first)));
            let last = rest.last().unwrap_or(first);
            total += last - first;
            entries.push(*first..*last);
        }
        Some((offsets, RowSelection::from_ranges(entries)))
    }

    /// Reads the wanted parts of entries, into owned arrays.
    ///
    /// # Errors
    /// The system's, where the temporary file cannot be read.
    pub(crate) fn read(
        &self,
        entries: &RowSelection,
        parts: EntryParts,
    ) -> std::io::Result<(Option<ArrayRef>, Option<ArrayRef>)> {
        let columns = match parts.indices {
            true => Some(self.read_part(entries, &self.columns, 0)?),
            false => None,
        };
        let values = match parts.data {
            true => Some(self.read_part(entries, &self.values, self.columns.width())?),
            false => None,
        };
        Ok((columns, values))
    }

    /// One part of entries; `before` is the width of what stands before it in a region.
    fn read_part(
        &self,
        entries: &RowSelection,
        part: &Packed,
        before: usize,
    ) -> std::io::Result<ArrayRef> {
        let len = usize::try_from(entries.len()).map_err(std::io::Error::other)?;
        let bytes = len
            .checked_mul(part.width())
            .ok_or_else(|| std::io::Error::other("too long"))?;
        let mut buffer = MutableBuffer::from_len_zeroed(bytes);
        let mut rest = buffer.as_slice_mut();
        for range in entries.ranges() {
            let first = self
                .buckets
                .partition_point(|b| b.entries.end <= range.start);
            for bucket in &self.buckets[first..] {
                if bucket.entries.start >= range.end {
                    break;
                }
                let lo = range.start.max(bucket.entries.start);
                let hi = range.end.min(bucket.entries.end);
                let n = bucket.entries.end - bucket.entries.start;
                let at = bucket.start
                    + n * u64_of(before)
                    + (lo - bucket.entries.start) * u64_of(part.width());
                let bytes = usize::try_from(hi - lo).map_err(std::io::Error::other)? * part.width();
                let (target, after) = rest.split_at_mut(bytes);
                match &self.entries {
                    Entries::File(file) => file.read_exact_at(target, at)?,
                    Entries::Memory(all) => {
                        let at = usize::try_from(at).map_err(std::io::Error::other)?;
                        target.copy_from_slice(&all[at..at + bytes]);
                    }
                }
                rest = after;
            }
        }
        part.array(buffer, len).map_err(std::io::Error::other)
    }
}

/// Running sums of the entries per row.
async fn count(matrix: &Compressed, metrics: &ReadMetrics, block: u64) -> Result<Vec<u64>> {
    let n_rows = usize::try_from(matrix.n_minor).unwrap_or(usize::MAX);
    let mut offsets: Vec<u64> = Vec::new();
    offsets
        .try_reserve_exact(n_rows.saturating_add(1))
        .map_err(|_| matrix.invalid(format!("{n_rows} rows are more than memory can hold")))?;
    offsets.resize(n_rows + 1, 0);
    let mut start = 0;
    while start < matrix.nnz {
        let end = matrix.nnz.min(start + block);
        let range = RowSelection::range(start..end);
        let only = EntryParts {
            indices: true,
            data: false,
        };
        let (indices, _) = matrix.entries(&range, only, metrics).await?;
        // Checked against the axis on reading.
        for row in rows_of(indices.as_ref()) {
            offsets[row + 1] += 1;
        }
        start = end;
    }
    let mut total = 0;
    for offset in &mut offsets {
        total += *offset;
        *offset = total;
    }
    Ok(offsets)
}

async fn read_block(
    matrix: &Compressed,
    entries: Range<u64>,
    metrics: &ReadMetrics,
) -> Result<Option<Block>> {
    let start = entries.start;
    let range = RowSelection::range(start..matrix.nnz.min(entries.end));
    if range.is_empty() {
        return Ok(None);
    }
    let both = EntryParts {
        indices: true,
        data: true,
    };
    let (indices, data) = matrix.entries(&range, both, metrics).await?;
    let Some(data) = data else {
        return Err(matrix.invalid("data were asked for and not read"));
    };
    let rows: Vec<usize> = rows_of(indices.as_ref()).collect();
    if u64_of(rows.len()) != range.len() || rows.len() != data.len() {
        let reason = format!("{} of {} entries were read", rows.len(), range.len());
        return Err(matrix.invalid(reason));
    }
    Ok(Some(Block { start, rows, data }))
}

/// Row indices (Int32 or Int64, checked before) as positions.
fn rows_of(indices: Option<&ArrayRef>) -> Box<dyn Iterator<Item = usize> + '_> {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int32Type, Int64Type};
    let Some(indices) = indices else {
        return Box::new(std::iter::empty());
    };
    if let Some(narrow) = indices.as_primitive_opt::<Int32Type>() {
        let rows = narrow.values().iter();
        return Box::new(rows.map(|row| usize::try_from(*row).unwrap_or(0)));
    }
    match indices.as_primitive_opt::<Int64Type>() {
        Some(wide) => {
            let rows = wide.values().iter();
            Box::new(rows.map(|row| usize::try_from(*row).unwrap_or(0)))
        }
        None => Box::new(std::iter::empty()),
    }
}

#[cfg(test)]
mod tests;
