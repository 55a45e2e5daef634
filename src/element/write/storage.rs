//! How elements are stored.

use serde::{Deserialize, Serialize};

use crate::model::{DType, parse_size};
use crate::store::{Compression, Format, Pieces};

/// How an object and its elements are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Storage {
    /// The kind of store.
    pub format: Format,
    /// Compression of arrays, as far as the format compresses them: HDF5 does not compress text.
    pub compression: Compression,
    /// Into how large pieces matrices are cut.
    pub cells: CellCut,
    /// Whether details are those of annbatch's `write_sharded`: indices of sparse matrices as narrow
    /// as their number of columns allows (`uint8` to `uint64`) rather than as they were, and a null
    /// `raw` where there is none.
    pub like_annbatch: bool,
}

impl Default for Storage {
    fn default() -> Self {
        Self::of(Format::default())
    }
}

impl Storage {
    /// A format's defaults: h5ad is not compressed and chunked as its writer sees fit, zarr has
    /// zstd and chunks of a mebibyte of cells.
    pub fn of(format: Format) -> Self {
        let (compression, cells) = match format {
            Format::H5ad => (Compression::None, CellCut::default()),
            Format::Zarr { .. } => (Compression::Zstd(0), CellCut::of_zarr()),
        };
        Self {
            format,
            compression,
            cells,
            like_annbatch: false,
        }
    }
}

impl Storage {
    /// What annbatch's `write_sharded` writes by default: 64 cells a chunk, 1 GiB a shard, blosc with
    /// LZ4 at level 3, indices as narrow as can be.
    pub fn annbatch() -> Self {
        Self {
            compression: Compression::BloscLz4(3),
            cells: CellCut {
                chunk: Some(Amount::Cells(64)),
                shard: Some(Amount::Bytes(1 << 30)),
            },
            like_annbatch: true,
            ..Self::of(Format::ZARR)
        }
    }
}

/// How many cells go into a chunk, and into a shard.
///
/// The cut holds for sparse matrices, and for dense ones whose rows are cells. Where one amount is
/// not given, the store's own rule decides on all arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct CellCut {
    /// Cells of a chunk.
    pub chunk: Option<Amount>,
    /// Cells of a shard, rounded down to whole chunks.
    pub shard: Option<Amount>,
}

/// A number of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Amount {
    /// So many.
    Cells(u64),
    /// As many as take so many bytes, decoded: of a sparse matrix with all its members.
    Bytes(u64),
}

/// Chunks of a shard of a matrix whose entries are not all known.
const MOST_CHUNKS: u64 = 4096;

/// What is known of a sparse matrix when it is cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entries {
    pub(super) rows: u64,
    pub(super) nnz: u64,
    /// Whether these are all of them, and not the beginning.
    pub(super) all: bool,
    /// Bytes of its members.
    pub(super) bytes: u64,
}

impl CellCut {
    /// Whether the store's own rule decides.
    pub(super) fn is_auto(&self) -> bool {
        self.chunk.is_none() || self.shard.is_none()
    }

    fn of_zarr() -> Self {
        Self {
            chunk: Some(Amount::Bytes(1 << 20)),
            shard: Some(Amount::Bytes(1 << 30)),
        }
    }

    /// How the members of a sparse matrix are cut, all alike (annbatch's rule, `write_sharded`).
    ///
    /// [`None`] where too few entries were seen to tell the average.
    pub(super) fn sparse(&self, entries: Entries) -> Option<Pieces> {
        const ENOUGH: u64 = 1 << 12;
        let (chunk, shard) = (self.chunk?, self.shard?);
        if !entries.all && entries.nnz < ENOUGH {
            return None;
        }
        let most = |n: u64| match entries.all && entries.nnz > 0 {
            true => n.min(entries.nnz),
            false => n,
        };
        let of = |cells: u64| {
            let n = u128::from(cells) * u128::from(entries.nnz) / u128::from(entries.rows.max(1));
            most(u64::try_from(n).unwrap_or(u64::MAX).max(1))
        };
        let cells = |amount: Amount| amount.cells(entries.bytes, entries.rows);
        let (chunk, shard) = (of(cells(chunk)), of(cells(shard)));
        // A shard has an entry for each chunk that it might have, and few may come.
        let shard = match entries.all {
            true => shard,
            false => shard.min(chunk.saturating_mul(MOST_CHUNKS)),
        };
        Some(Pieces::new(chunk, shard))
    }

    /// How a dense matrix is cut whose `rows` rows (where that is known) take `row_bytes` each.
    pub(super) fn dense(&self, rows: Option<u64>, row_bytes: u64) -> Option<Pieces> {
        let (chunk, shard) = (self.chunk?, self.shard?);
        let most = rows.unwrap_or(u64::MAX).max(1);
        let cells = |amount: Amount| amount.cells(row_bytes, 1).min(most);
        Some(Pieces::new(cells(chunk), cells(shard)))
    }
}

impl Amount {
    /// A number of cells (`4096`), or bytes with their unit (`1GB`, `64MiB`).
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_count = text.chars().all(|c| c.is_ascii_digit() || c == '_');
        match parse_size(text)? {
            0 => Err(format!("{text:?} is nothing")),
            n if is_count => Ok(Self::Cells(n)),
            n => Ok(Self::Bytes(n)),
        }
    }

    /// The cells, of which `rows` take `bytes`.
    fn cells(self, bytes: u64, rows: u64) -> u64 {
        match self {
            Self::Cells(n) => n.max(1),
            Self::Bytes(_) if bytes == 0 => 1,
            Self::Bytes(n) => {
                let cells = u128::from(n) * u128::from(rows) / u128::from(bytes);
                u64::try_from(cells).unwrap_or(u64::MAX).max(1)
            }
        }
    }
}

/// The narrowest unsigned type for indices of so many columns (anndata's
/// `write_csr_csc_indices_with_min_possible_dtype`: the number itself must fit).
pub(super) fn narrowest(n_cols: u64) -> DType {
    match n_cols {
        0..=0xff => DType::UInt8,
        0x100..=0xffff => DType::UInt16,
        0x1_0000..=0xffff_ffff => DType::UInt32,
        _ => DType::UInt64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_become_entries_by_the_average() {
        let cut = CellCut {
            chunk: Some(Amount::Cells(64)),
            shard: Some(Amount::Cells(1000)),
        };
        let entries = Entries {
            rows: 4000,
            nnz: 118_854,
            all: true,
            bytes: 118_854 * 8 + 4001 * 4,
        };
        // 64 * 29.7 = 1901.6; 1000 * 29.7 = 29 713, of which 15 chunks are 28 515.
        assert_eq!(cut.sparse(entries), Some(Pieces::new(1901, 29_713)));
        assert_eq!(cut.sparse(entries).map(|p| p.shard), Some(28_515));
        assert_eq!(cut.dense(Some(10), 80), Some(Pieces::new(10, 10)));
    }

    #[test]
    fn bytes_become_cells() {
        let cut = CellCut {
            chunk: Some(Amount::Bytes(1024)),
            shard: Some(Amount::Bytes(4096)),
        };
        assert_eq!(cut.dense(None, 100), Some(Pieces::new(10, 40)));
        assert_eq!(cut.dense(Some(4), 5000), Some(Pieces::new(1, 1)));
    }
}
