//! Arrays handed to the library chunk by chunk: compressed ones and those that grow.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use hdf5_sys::h5d::{H5Dset_extent, H5Dwrite_chunk};

use super::deflate::Deflate;
use super::grid::Grid;
use super::lzf::Lzf;
use super::raw::{Handle, check, locked};
use crate::store::Compression;
use crate::store::encode::{RawResult, Stored, Twin};

/// Bytes collected before compression starts, so that there is work for all cores.
const BATCH_BYTES: usize = 1 << 20;
/// Chunks compressed before they are handed over: bounds memory on large appends.
const ROUND: usize = 32;

thread_local! {
    static LZF: RefCell<Lzf> = RefCell::new(Lzf::new());
}

/// The rest of a chunked array.
#[derive(Debug)]
pub(super) struct Chunks {
    dataset: Handle,
    grid: Grid,
    compression: Compression,
    twin: Arc<Twin<Filter>>,
    /// How it deflates, once the first chunk has been seen.
    deflate: Option<Deflate>,
    /// Rows at the end where they are known; the extent grows where they are not.
    rows: Option<u64>,
    /// The next chunk.
    next: u64,
    /// Bytes of the next chunks that wait for more.
    pending: Vec<u8>,
}

impl Chunks {
    pub(super) fn new(
        dataset: Handle,
        grid: Grid,
        compression: Compression,
        twin: Arc<Twin<Filter>>,
        rows: Option<u64>,
    ) -> Self {
        Self {
            dataset,
            grid,
            compression,
            twin,
            deflate: None,
            rows,
            next: 0,
            pending: Vec::new(),
        }
    }

    /// Takes the next bytes; whole chunks are compressed on all cores and written.
    pub(super) fn append(&mut self, bytes: &[u8]) -> RawResult<()> {
        let chunk = usize::try_from(self.cell_bytes(self.next))?;
        let enough = match self.compression {
            Compression::None => chunk,
            _ => chunk.max(BATCH_BYTES),
        };
        if self.pending.len() + bytes.len() < enough {
            self.pending.extend_from_slice(bytes);
            return Ok(());
        }
        // The chunk that is partly pending gets the rest of its bytes; the others stay in place.
        let mut pending = std::mem::take(&mut self.pending);
        let (mut end, mut cut) = (0, Vec::new());
        while end < pending.len() {
            let cell = usize::try_from(self.cell_bytes(self.next + u64::try_from(cut.len())?))?;
            if cell == 0 || end + cell > pending.len() + bytes.len() {
                break;
            }
            end += cell;
            cut.push(cell);
        }
        let taken = end.saturating_sub(pending.len());
        let (head, mut rest) = bytes.split_at(taken);
        pending.extend_from_slice(head);
        let mut cells = Vec::new();
        let mut from = pending.as_slice();
        for cell in cut {
            let (cell, later) = from.split_at(cell);
            cells.push(cell);
            from = later;
        }
        let left = from;
        if left.is_empty() {
            loop {
                let next = self.next + u64::try_from(cells.len())?;
                let cell = usize::try_from(self.cell_bytes(next))?;
                if cell == 0 || cell > rest.len() {
                    break;
                }
                let (cell, later) = rest.split_at(cell);
                cells.push(cell);
                rest = later;
            }
        }
        for round in cells.chunks(ROUND) {
            self.put(round)?;
        }
        let mut later = Vec::with_capacity(left.len() + rest.len());
        later.extend_from_slice(left);
        later.extend_from_slice(rest);
        self.pending = later;
        Ok(())
    }

    /// Writes what is pending; a growing array gets the length of what was appended.
    pub(super) fn finish(mut self, rows: u64) -> RawResult<()> {
        // The length is set before the last chunk is there: cutting through a stored chunk makes
        // the library decode it, clear the rest and compress it again.
        if self.rows.is_none() {
            self.extend(rows)?;
            self.rows = Some(rows);
        }
        let pending = std::mem::take(&mut self.pending);
        let (mut cells, mut rest) = (Vec::new(), pending.as_slice());
        while !rest.is_empty() {
            let next = self.next + u64::try_from(cells.len())?;
            let cell = usize::try_from(self.cell_bytes(next))?;
            if cell == 0 || cell > rest.len() {
                return Err(
                    format!("{} bytes are left over after the last chunk", rest.len()).into(),
                );
            }
            let (cell, later) = rest.split_at(cell);
            cells.push(cell);
            rest = later;
        }
        for round in cells.chunks(ROUND) {
            self.put(round)?;
        }
        self.dataset.close()
    }

    /// Bytes of the array in a chunk, 0 past the end; growing arrays have whole chunks only.
    fn cell_bytes(&self, index: u64) -> u64 {
        self.grid.cell(index, self.rows.unwrap_or(u64::MAX)).bytes
    }

    /// Compresses chunks and hands them over, in order.
    fn put<'a>(&mut self, cells: &[&'a [u8]]) -> RawResult<()> {
        let whole = usize::try_from(self.grid.chunk_bytes())?;
        let filter = self.filter(cells)?;
        let plain = |cell: &&'a [u8]| Ok(Some(padded(cell, whole)));
        let stored = match filter {
            // Nothing for other cores to do, which may be busy with what is read.
            Filter::None => cells
                .iter()
                .map(|cell| Some(Stored::Plain(padded(cell, whole))))
                .collect(),
            filter => {
                let compress = |plain: &[u8]| filter.compress(plain);
                self.twin.compress(filter, cells, plain, compress)?
            }
        };
        let rows = self.rows.unwrap_or(u64::MAX);
        if self.rows.is_none() {
            let n_cells = u64::try_from(cells.len())?;
            let last = self
                .grid
                .cell((self.next + n_cells).saturating_sub(1), rows);
            self.extend(last.origin[0] + self.grid.chunk()[0])?;
        }
        for bytes in stored.into_iter().flatten() {
            let cell = self.grid.cell(self.next, rows);
            // Bit 0 says that the filter was left out.
            let mask = match (filter, &bytes) {
                (Filter::None, _) | (_, Stored::Compressed(_)) => 0,
                (_, Stored::Plain(_)) => 1,
            };
            // SAFETY: the origin has the dataset's rank and the pointer as many bytes as it says.
            locked(|| {
                check(unsafe {
                    H5Dwrite_chunk(
                        self.dataset.id(),
                        0,
                        mask,
                        cell.origin.as_ptr(),
                        bytes.len(),
                        bytes.as_ptr().cast(),
                    )
                })
            })?;
            self.next += 1;
        }
        Ok(())
    }

    /// What is done with chunks, of which `cells` are the next ones.
    fn filter(&mut self, cells: &[&[u8]]) -> RawResult<Filter> {
        Ok(match (self.compression, self.deflate, cells.first()) {
            (Compression::None, ..) => Filter::None,
            (Compression::Lzf, ..) => Filter::Lzf,
            (Compression::Gzip(_), Some(deflate), _) => Filter::Deflate(deflate),
            (Compression::Gzip(level), None, first) => {
                let deflate = Deflate::settle(level, first.copied().unwrap_or_default())?;
                self.deflate = Some(deflate);
                Filter::Deflate(deflate)
            }
            (other, ..) => return Err(format!("{other:?} is no filter of h5ad").into()),
        })
    }

    /// Sets the length of a growing array.
    fn extend(&self, rows: u64) -> RawResult<()> {
        let shape = self.grid.shape(rows);
        // SAFETY: the lengths have the dataset's rank.
        locked(|| check(unsafe { H5Dset_extent(self.dataset.id(), shape.as_ptr()) }))
    }
}

/// What is done with the bytes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    None,
    Deflate(Deflate),
    Lzf,
}

impl Filter {
    /// The bytes of a chunk, [`None`] where they stay as they are: that would make them larger.
    fn compress(self, plain: &[u8]) -> RawResult<Option<Vec<u8>>> {
        match self {
            Self::None => Ok(None),
            Self::Deflate(deflate) => deflate.compress(plain),
            Self::Lzf => Ok(LZF.with_borrow_mut(|lzf| lzf.compress(plain))),
        }
    }
}

/// A chunk filled up with zeros.
fn padded(cell: &[u8], whole: usize) -> Cow<'_, [u8]> {
    match cell.len() < whole {
        true => {
            let mut padded = vec![0; whole];
            padded[..cell.len()].copy_from_slice(cell);
            Cow::Owned(padded)
        }
        false => Cow::Borrowed(cell),
    }
}
