//! The second pass of a transposition: records go to buckets of rows, buckets are sorted.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow::array::ArrayRef;

use crate::element::matrix::compressed::Compressed;
use crate::element::matrix::packed::Packed;
use crate::error::{Error, Result};

/// Bytes of all write buffers together.
const BUFFER_BYTES: usize = 32 << 20;
/// Bytes of a record's row, counted from its bucket's first.
pub(super) const ROW_WIDTH: usize = 4;

#[derive(Debug)]
pub(super) enum Entries {
    /// Columns and values of the one bucket.
    Memory(Vec<u8>),
    /// An anonymous file of all buckets.
    File(Arc<File>),
}

/// A run of rows and its region of the file: `columns` of all entries, then `values`.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pub(super) rows: Range<u64>,
    pub(super) entries: Range<u64>,
    /// First byte of the region.
    pub(super) start: u64,
}

/// Entries in the order of the disk.
pub(super) struct Block {
    pub(super) start: u64,
    pub(super) rows: Vec<usize>,
    pub(super) data: ArrayRef,
}

/// Runs of rows whose records fill at most `most` bytes (a longer row is a bucket of its own).
pub(super) fn cut_buckets(offsets: &[u64], record: usize, most: u64) -> Vec<Bucket> {
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
pub(super) enum Stop {
    Io(std::io::Error),
    /// The file changed under us.
    Changed,
}

impl Stop {
    pub(super) fn into_error(self, matrix: &Compressed) -> Error {
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
pub(super) struct Scatter {
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
    pub(super) fn try_new(
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
    pub(super) fn add(&mut self, block: &Block, cols: &[u64]) -> Result<(), Stop> {
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
    pub(super) fn finish(mut self) -> Result<(Vec<Bucket>, Entries, Packed, Packed), Stop> {
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

pub(super) fn io_error(matrix: &Compressed, source: std::io::Error) -> Error {
    let path = format!("the temporary file for {} of {}", matrix.key, matrix.url);
    Error::store("tempfile", path, source)
}

pub(super) fn u64_of(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
