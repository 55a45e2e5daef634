//! How an array is cut into chunks.

/// Decoded bytes of a chunk that is stored as it is: large, so that tables of chunks are short.
const PLAIN_BYTES: u64 = 1 << 20;
/// Decoded bytes of a compressed chunk: small, so that reading a few rows is cheap and many
/// arrays can be written at once.
const COMPRESSED_BYTES: u64 = 1 << 18;
/// Bytes of a row from which on chunks hold parts of rows.
const LONG_ROW_BYTES: u64 = 1 << 22;

/// How large chunks shall be.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkTarget {
    bytes: u64,
}

impl ChunkTarget {
    pub(super) fn plain() -> Self {
        Self { bytes: PLAIN_BYTES }
    }

    pub(super) fn compressed() -> Self {
        Self {
            bytes: COMPRESSED_BYTES,
        }
    }

    pub(super) fn bytes(self) -> u64 {
        self.bytes
    }
}

/// Chunks of an array, numbered in row-major order.
///
/// A chunk's elements are one run of the array's row-major elements: it holds whole rows, or a
/// part of one. So an array that is written in order is cut into chunks without gathering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grid {
    /// Lengths after the first axis.
    tail: Vec<u64>,
    /// Lengths of a chunk on all axes.
    chunk: Vec<u64>,
    /// Bytes of an element.
    size: u64,
}

/// One chunk's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    /// Position of its first element on all axes.
    pub(super) origin: Vec<u64>,
    /// Bytes of the array in it; the chunk on disk may be longer.
    pub(super) bytes: u64,
}

impl Grid {
    /// Cuts an array of `rows` rows (unknown while it grows) of lengths `tail`, none of them 0.
    pub(super) fn new(rows: Option<u64>, tail: &[u64], size: u64, target: ChunkTarget) -> Self {
        let row = tail
            .iter()
            .fold(size, |product, n| product.saturating_mul(*n))
            .max(1);
        let mut chunk = vec![1];
        if row <= LONG_ROW_BYTES || tail.is_empty() {
            let most = (target.bytes / row).max(1);
            chunk[0] = match rows {
                // Equal chunks, so that the last one is not mostly padding.
                Some(rows) if rows > 0 => rows.div_ceil(rows.div_ceil(most)),
                // Nothing to store yet, but somebody may append.
                _ => most,
            };
            chunk.extend_from_slice(tail);
        } else {
            chunk.resize(tail.len() + 1, 1);
            let mut run = size.max(1);
            for axis in (0..tail.len()).rev() {
                let fits = (target.bytes / run).max(1);
                let n = tail[axis];
                chunk[axis + 1] = n.div_ceil(n.div_ceil(fits));
                run = run.saturating_mul(n);
                if fits < n {
                    break;
                }
            }
        }
        Self {
            tail: tail.to_vec(),
            chunk,
            size,
        }
    }

    /// Lengths of a chunk.
    pub(super) fn chunk(&self) -> &[u64] {
        &self.chunk
    }

    /// Bytes of a whole chunk.
    pub(super) fn chunk_bytes(&self) -> u64 {
        self.chunk
            .iter()
            .fold(self.size, |product, n| product.saturating_mul(*n))
    }

    /// Lengths of an array of `rows` rows.
    pub(super) fn shape(&self, rows: u64) -> Vec<u64> {
        [&[rows], self.tail.as_slice()].concat()
    }

    /// Chunks of an array of `rows` rows.
    pub(super) fn len(&self, rows: u64) -> u64 {
        rows.div_ceil(self.chunk[0]).saturating_mul(self.per_band())
    }

    /// Chunk number `index` of an array of `rows` rows.
    pub(super) fn cell(&self, index: u64, rows: u64) -> Cell {
        let first = index / self.per_band() * self.chunk[0];
        let mut origin = vec![0; self.chunk.len()];
        let mut bytes = self.chunk[0].min(rows.saturating_sub(first)) * self.size;
        let mut rest = index % self.per_band();
        for axis in (0..self.tail.len()).rev() {
            let (n, step) = (self.tail[axis], self.chunk[axis + 1]);
            let count = n.div_ceil(step);
            origin[axis + 1] = rest % count * step;
            bytes *= step.min(n - origin[axis + 1]);
            rest /= count;
        }
        origin[0] = first;
        Cell { origin, bytes }
    }

    /// Chunks side by side that share their rows.
    fn per_band(&self) -> u64 {
        self.tail
            .iter()
            .zip(&self.chunk[1..])
            .map(|(n, step)| n.div_ceil(*step))
            .product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_arrays_are_one_chunk() {
        let grid = Grid::new(Some(10), &[], 4, ChunkTarget::plain());
        assert_eq!((grid.chunk(), grid.len(10)), (&[10][..], 1));
    }

    #[test]
    fn chunks_share_the_rows_evenly() {
        let rows = (1 << 20) / 4 + 2;
        let grid = Grid::new(Some(rows), &[], 4, ChunkTarget::plain());
        assert_eq!(grid.chunk(), [rows / 2]);
        assert_eq!(grid.len(rows), 2);
    }

    #[test]
    fn long_rows_are_cut_and_cover_every_byte_in_order() {
        let tail = [3, 2_000_000];
        let grid = Grid::new(Some(2), &tail, 8, ChunkTarget::plain());
        assert_eq!(grid.chunk()[..2], [1, 1]);
        assert!(grid.chunk_bytes() <= 1 << 20);
        let mut at = 0;
        for index in 0..grid.len(2) {
            let cell = grid.cell(index, 2);
            let flat = (cell.origin[0] * 3 + cell.origin[1]) * 2_000_000 + cell.origin[2];
            assert_eq!(flat * 8, at);
            at += cell.bytes;
        }
        assert_eq!(at, 2 * 3 * 2_000_000 * 8);
    }

    #[test]
    fn the_last_chunk_is_short() {
        let grid = Grid::new(None, &[10], 4, ChunkTarget::compressed());
        let rows = grid.chunk()[0];
        assert_eq!(
            grid.cell(1, rows + 5),
            Cell {
                origin: vec![rows, 0],
                bytes: 200
            }
        );
    }
}
