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

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::MutableBuffer;

use crate::element::EntryParts;
use crate::element::matrix::compressed::{Compressed, index_type};
use crate::element::matrix::packed::Packed;
use crate::error::{Error, Result};
use crate::model::RowSelection;
use crate::store::ReadMetrics;

/// Bytes of all write buffers together.
const BUFFER_BYTES: usize = 32 << 20;
/// Bytes of a record's row, counted from its bucket's first.
const ROW_WIDTH: usize = 4;

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

#[derive(Debug)]
enum Entries {
    /// Columns and values of the one bucket.
    Memory(Vec<u8>),
    /// An anonymous file of all buckets.
    File(Arc<File>),
}

/// A run of rows and its region of the file: `columns` of all entries, then `values`.
#[derive(Debug, Clone)]
struct Bucket {
    rows: Range<u64>,
    entries: Range<u64>,
    /// First byte of the region.
    start: u64,
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
            let file = tempfile::tempfile().map_err(|e| io_error(matrix, e))?;
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

/// Entries in the order of the disk.
struct Block {
    start: u64,
    rows: Vec<usize>,
    data: ArrayRef,
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

/// Runs of rows whose records fill at most `most` bytes (a longer row is a bucket of its own).
fn cut_buckets(offsets: &[u64], record: usize, most: u64) -> Vec<Bucket> {
    let most = (most / u64_of(record)).max(1);
    let mut buckets: Vec<Bucket> = Vec::new();
    for (row, pair) in (0u64..).zip(offsets.windows(2)) {
        let &[first, last] = pair else { continue };
        match buckets.last_mut() {
            // Rows in a bucket are counted in 32 bits.
            Some(bucket)
                if last - bucket.entries.start <= most
                    && row - bucket.rows.start < u64::from(u32::MAX) =>
            {
                bucket.rows.end = row + 1;
                bucket.entries.end = last;
            }
            _ => buckets.push(Bucket {
                rows: row..row + 1,
                entries: first..last,
                start: first * u64_of(record),
            }),
        }
    }
    buckets
}

/// Why scattering stopped.
enum Stop {
    Io(std::io::Error),
    /// The file changed under us.
    Changed,
}

impl Stop {
    fn into_error(self, matrix: &Compressed) -> Error {
        match self {
            Self::Io(source) => io_error(matrix, source),
            Self::Changed => matrix.invalid("its indices changed while they were read"),
        }
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Second pass: records to the regions of their buckets.
struct Scatter {
    column: Packed,
    value: Packed,
    record: usize,
    buckets: Vec<Bucket>,
    /// Bucket of a row, where there are several.
    bucket_of: Vec<u32>,
    offsets: Vec<u64>,
    buffers: Vec<Vec<u8>>,
    written: Vec<u64>,
    flush_at: usize,
    file: Option<File>,
}

impl Scatter {
    fn try_new(
        matrix: &Compressed,
        offsets: &[u64],
        buckets: Vec<Bucket>,
        file: Option<File>,
        column: Packed,
        value: Packed,
    ) -> Result<Self> {
        let record = ROW_WIDTH + column.width() + value.width();
        let mut bucket_of = Vec::new();
        if file.is_some() {
            for (at, bucket) in (0u32..).zip(&buckets) {
                let rows = usize::try_from(bucket.rows.end - bucket.rows.start).unwrap_or(0);
                bucket_of.resize(bucket_of.len() + rows, at);
            }
        } else if u32::try_from(matrix.n_minor).is_err() {
            return Err(matrix.invalid(format!("{} rows are too many", matrix.n_minor)));
        }
        let per_bucket = (BUFFER_BYTES / buckets.len().max(1)).clamp(4096, 1 << 20);
        let flush_at = match file {
            Some(_) => per_bucket / record * record,
            None => usize::MAX,
        };
        Ok(Self {
            column,
            value,
            record,
            buffers: vec![Vec::new(); buckets.len()],
            written: vec![0; buckets.len()],
            bucket_of,
            offsets: offsets.to_vec(),
            buckets,
            flush_at,
            file,
        })
    }

    /// Adds the entries of a block; `cols` are their columns.
    fn add(&mut self, block: &Block, cols: &[u64]) -> Result<(), Stop> {
        let values = self.value.bytes(&block.data).ok_or(Stop::Changed)?;
        let width = self.value.width();
        let cells = block.rows.iter().zip(cols).zip(values.chunks_exact(width));
        for ((row, col), value) in cells {
            let at = match self.file {
                Some(_) => *self.bucket_of.get(*row).ok_or(Stop::Changed)?,
                None => 0,
            };
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let bucket = self.buckets.get(at).ok_or(Stop::Changed)?;
            let row = u64_of(*row) - bucket.rows.start;
            let buffer = &mut self.buffers[at];
            buffer.extend_from_slice(&u32::try_from(row).unwrap_or(u32::MAX).to_ne_bytes());
            match self.column.width() {
                4 => buffer.extend_from_slice(&u32::try_from(*col).unwrap_or(0).to_ne_bytes()),
                _ => buffer.extend_from_slice(&col.to_ne_bytes()),
            }
            buffer.extend_from_slice(value);
            if buffer.len() >= self.flush_at {
                self.flush(at)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, at: usize) -> Result<(), Stop> {
        let (bucket, buffer) = (&self.buckets[at], &mut self.buffers[at]);
        let room = (bucket.entries.end - bucket.entries.start) * u64_of(self.record);
        let end = self.written[at] + u64_of(buffer.len());
        if end > room {
            return Err(Stop::Changed);
        }
        if let Some(file) = &self.file {
            file.write_all_at(buffer, bucket.start + self.written[at])?;
        }
        self.written[at] = end;
        buffer.clear();
        Ok(())
    }

    /// Sorts every region by row.
    fn finish(mut self) -> Result<(Vec<Bucket>, Entries, Packed, Packed), Stop> {
        let Some(file) = self.file.take() else {
            let records = self.buffers.pop().unwrap_or_default();
            let bucket = self.buckets.first().cloned().ok_or(Stop::Changed)?;
            let sorted = self.sort(&bucket, &records)?;
            return Ok((
                self.buckets,
                Entries::Memory(sorted),
                self.column,
                self.value,
            ));
        };
        self.file = Some(file);
        for at in 0..self.buckets.len() {
            self.flush(at)?;
            self.buffers[at] = Vec::new();
        }
        let Some(file) = self.file.take() else {
            return Err(Stop::Changed);
        };
        let mut records = Vec::new();
        for (bucket, written) in self.buckets.iter().zip(&self.written) {
            records.resize(usize::try_from(*written).map_err(std::io::Error::other)?, 0);
            file.read_exact_at(&mut records, bucket.start)?;
            file.write_all_at(&self.sort(bucket, &records)?, bucket.start)?;
        }
        let entries = Entries::File(Arc::new(file));
        Ok((self.buckets, entries, self.column, self.value))
    }

    /// Records by row: the columns of all, then the values of all.
    fn sort(&self, bucket: &Bucket, records: &[u8]) -> Result<Vec<u8>, Stop> {
        let n = usize::try_from(bucket.entries.end - bucket.entries.start).unwrap_or(usize::MAX);
        if records.len() / self.record != n {
            return Err(Stop::Changed);
        }
        let rows = usize::try_from(bucket.rows.start).unwrap_or(usize::MAX)
            ..usize::try_from(bucket.rows.end).unwrap_or(usize::MAX);
        let starts = self.offsets.get(rows).ok_or(Stop::Changed)?.iter();
        let starts = starts.map(|start| usize::try_from(start - bucket.entries.start).unwrap_or(0));
        let mut next: Vec<usize> = starts.collect();
        let (column, value) = (self.column.width(), self.value.width());
        let mut sorted = vec![0; n * (column + value)];
        let (columns, values) = sorted.split_at_mut(n * column);
        for record in records.chunks_exact(self.record) {
            let (row, rest) = record
                .split_first_chunk::<ROW_WIDTH>()
                .ok_or(Stop::Changed)?;
            let row = usize::try_from(u32::from_ne_bytes(*row)).unwrap_or(usize::MAX);
            let to = next.get_mut(row).ok_or(Stop::Changed)?;
            if *to >= n {
                return Err(Stop::Changed);
            }
            columns[*to * column..][..column].copy_from_slice(&rest[..column]);
            values[*to * value..][..value].copy_from_slice(&rest[column..]);
            *to += 1;
        }
        Ok(sorted)
    }
}

fn io_error(matrix: &Compressed, source: std::io::Error) -> Error {
    let path = format!("the temporary file for {} of {}", matrix.key, matrix.url);
    Error::store("tempfile", path, source)
}

fn u64_of(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, BooleanArray, Float32Array, Int32Array, UInt16Array, UInt32Array};
    use arrow::datatypes::{Float32Type, Int32Type};
    use async_trait::async_trait;

    use crate::model::{DType, ElementKey};
    use crate::store::{ArrayInfo, ArrayReader};

    use super::*;

    /// An array in memory.
    #[derive(Debug)]
    struct Held(ArrayInfo, ArrayRef);

    #[async_trait]
    impl ArrayReader for Held {
        fn info(&self) -> &ArrayInfo {
            &self.0
        }

        async fn read(&self, rows: &RowSelection, _metrics: &ReadMetrics) -> Result<ArrayRef> {
            let rows: UInt32Array = rows.iter().map(|row| u32::try_from(row).unwrap()).collect();
            Ok(arrow::compute::take(&self.1, &rows, None)?)
        }
    }

    fn held(array: ArrayRef) -> Arc<dyn ArrayReader> {
        let info = ArrayInfo {
            key: ElementKey::new("X/array"),
            dtype: DType::from_arrow(array.data_type()).unwrap(),
            shape: vec![u64_of(array.len())],
            null: false,
            chunk_shape: None,
            filters: Vec::new(),
            fixed_text: false,
            stored_bytes: None,
        };
        Arc::new(Held(info, array))
    }

    /// A matrix by column in which (row, column) is stored where the product says so.
    fn matrix(n_rows: i32, n_cols: i32, booleans: bool) -> (Compressed, Vec<(i32, i32)>) {
        let stored = |row: i32, col: i32| (row * 7 + col * 13) % 5 < 2 && row % 4 != 3;
        let (mut indptr, mut indices) = (vec![0], Vec::new());
        for col in 0..n_cols {
            // Rows of a column are stored in descending order: the order on disk is free.
            indices.extend((0..n_rows).rev().filter(|row| stored(*row, col)));
            indptr.push(i32::try_from(indices.len()).unwrap());
        }
        let cells = |row| (0..n_cols).map(move |col| (row, col));
        let cells = (0..n_rows)
            .flat_map(cells)
            .filter(|(r, c)| stored(*r, *c))
            .collect();
        let data: ArrayRef = match booleans {
            true => Arc::new(
                indices
                    .iter()
                    .map(|i| Some(i % 2 == 0))
                    .collect::<BooleanArray>(),
            ),
            false => Arc::new(
                indices
                    .iter()
                    .map(|i| f64::from(*i) as f32)
                    .collect::<Float32Array>(),
            ),
        };
        let indices: UInt16Array = indices.iter().map(|i| u16::try_from(*i).unwrap()).collect();
        let arrays = [
            Arc::new(Int32Array::from(indptr)) as ArrayRef,
            Arc::new(indices),
            data,
        ];
        let shape = [n_rows, n_cols].map(|n| u64::try_from(n).unwrap());
        (Compressed::for_test(shape, arrays.map(held)), cells)
    }

    #[tokio::test]
    async fn rows_come_out_in_order_whatever_is_held_at_once() {
        let in_memory = Limits::default();
        let in_file = Limits {
            in_memory: 0,
            bucket: 600,
            block: 37,
        };
        let both = EntryParts {
            indices: true,
            data: true,
        };
        for limits in [in_memory, in_file] {
            let (matrix, cells) = matrix(50, 20, false);
            let built = Transposed::build(&matrix, &ReadMetrics::default(), limits)
                .await
                .unwrap();
            let rows = RowSelection::from_ranges([3..9, 20..21, 30..50]);
            let (offsets, entries) = built.spans(&rows).unwrap();
            let (columns, values) = built.read(&entries, both).unwrap();
            let expected = cells
                .iter()
                .filter(|(row, _)| (3..9).contains(row) || *row == 20 || *row >= 30);
            let found = columns
                .as_ref()
                .unwrap()
                .as_primitive::<Int32Type>()
                .values()
                .iter();
            let found: Vec<_> = found
                .zip(
                    values
                        .as_ref()
                        .unwrap()
                        .as_primitive::<Float32Type>()
                        .values(),
                )
                .collect();
            assert_eq!(*offsets.last().unwrap(), u64_of(found.len()));
            let expected: Vec<_> = expected.map(|(row, col)| (*col, *row as f32)).collect();
            let found: Vec<_> = found.into_iter().map(|(c, v)| (*c, *v)).collect();
            assert_eq!(found, expected);
        }
    }

    #[tokio::test]
    async fn booleans_are_moved_too() {
        let limits = Limits {
            in_memory: 0,
            bucket: 100,
            block: 11,
        };
        let (matrix, cells) = matrix(12, 9, true);
        let built = Transposed::build(&matrix, &ReadMetrics::default(), limits)
            .await
            .unwrap();
        let (_, entries) = built.spans(&RowSelection::all(12)).unwrap();
        let only = EntryParts {
            indices: false,
            data: true,
        };
        let (_, values) = built.read(&entries, only).unwrap();
        let found: Vec<_> = values.unwrap().as_boolean().values().iter().collect();
        let expected: Vec<_> = cells.iter().map(|(row, _)| row % 2 == 0).collect();
        assert_eq!(found, expected);
    }
}
