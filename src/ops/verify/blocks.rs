//! Blocks of rows small enough to hold.

use std::ops::Range;

use crate::element::ColumnReader;
use crate::error::Result;
use crate::model::RowSelection;
use crate::store::ReadMetrics;

/// Bytes of a block, about.
const BLOCK_BYTES: u64 = 8 << 20;
/// Rows whose lengths are looked up at a time.
const LOOK_UP: u64 = 1 << 16;

/// Cuts a column into blocks of adjacent rows. For a matrix this reads row lengths, of two matrices
/// those of both, and a block is small enough for either.
pub(super) async fn blocks(columns: &[&dyn ColumnReader]) -> Result<Vec<Range<u64>>> {
    let len = columns.iter().map(|column| column.len()).min().unwrap_or(0);
    let mut cut: Vec<Range<u64>> = Vec::new();
    let mut start = 0;
    while start < len {
        let end = (start + LOOK_UP).min(len);
        let mut sizes = vec![0u64; usize::try_from(end - start).unwrap_or(0)];
        for column in columns {
            add_sizes(*column, start..end, &mut sizes).await?;
        }
        let (mut from, mut bytes) = (start, 0u64);
        for (row, size) in (start..end).zip(sizes) {
            if bytes > 0 && bytes.saturating_add(size) > BLOCK_BYTES {
                cut.push(from..row);
                (from, bytes) = (row, 0);
            }
            bytes = bytes.saturating_add(size);
        }
        cut.push(from..end);
        start = end;
    }
    Ok(cut)
}

/// Adds the bytes of each row.
async fn add_sizes(column: &dyn ColumnReader, rows: Range<u64>, sizes: &mut [u64]) -> Result<()> {
    let Some(matrix) = column.as_matrix() else {
        let bytes = column.row_bytes().max(1);
        sizes
            .iter_mut()
            .for_each(|size| *size = size.saturating_add(bytes));
        return Ok(());
    };
    let metrics = ReadMetrics::default();
    let offsets = matrix.offsets(&RowSelection::range(rows), &metrics).await?;
    for (size, pair) in sizes.iter_mut().zip(offsets.windows(2)) {
        if let [from, to] = pair {
            *size = size.saturating_add(to.saturating_sub(*from).saturating_mul(12).max(1));
        }
    }
    Ok(())
}
