//! Uncompressed arrays of known length: bytes go where the library has reserved room for them.

use std::collections::VecDeque;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use hdf5_sys::h5::{haddr_t, hsize_t};
use hdf5_sys::h5d::{H5Dchunk_iter, H5Dget_offset};

use super::bulk::{self, Bulk};
use super::descriptor::Descriptor;
use super::grid::Grid;
use super::raw::{Handle, check, locked};
use crate::store::encode::RawResult;

/// Zeros that fill up a chunk.
const ZEROS: [u8; 4096] = [0; 4096];

/// A run of the file that is next to be filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    at: u64,
    bytes: u64,
    /// Bytes after it that belong to a chunk but to no element.
    padding: u64,
}

/// The places of an array's bytes, in order.
#[derive(Debug)]
pub(super) struct Direct {
    file: Arc<Descriptor>,
    runs: VecDeque<Run>,
    /// Bytes of the first run that go through the page cache before its fullness is asked for anew.
    until_asked: u64,
    /// Where the run that is being filled is bulk.
    bulk: Option<Bulk>,
}

impl Direct {
    /// The place of a contiguous dataset of `bytes` bytes whose room is reserved.
    pub(super) fn contiguous(
        file: Arc<Descriptor>,
        dataset: &Handle,
        bytes: u64,
    ) -> RawResult<Self> {
        let mut runs = VecDeque::new();
        if bytes > 0 {
            // SAFETY: the identifier is an open dataset.
            let at = locked(|| unsafe { H5Dget_offset(dataset.id()) });
            if at == haddr_t::MAX {
                return Err("the library reserved no room for the array".into());
            }
            runs.push_back(Run {
                at,
                bytes,
                padding: 0,
            });
        }
        Ok(Self {
            file,
            runs,
            until_asked: 0,
            bulk: None,
        })
    }

    /// The places of the chunks of a dataset of `rows` rows whose room is reserved.
    pub(super) fn chunked(
        file: Arc<Descriptor>,
        dataset: &Handle,
        grid: &Grid,
        rows: u64,
    ) -> RawResult<Self> {
        let expected = grid.len(rows);
        let mut found = Found {
            rank: grid.chunk().len(),
            chunks: Vec::new(),
        };
        // SAFETY: the callback gets the pointer that is passed with it, for this call alone.
        locked(|| {
            check(unsafe {
                H5Dchunk_iter(
                    dataset.id(),
                    0,
                    Some(note),
                    (&raw mut found).cast::<c_void>(),
                )
            })
        })?;
        found.chunks.sort_unstable();
        let n_found = u64::try_from(found.chunks.len())?;
        if n_found != expected {
            return Err(format!("the library reserved {n_found} chunks of {expected}").into());
        }
        let whole = grid.chunk_bytes();
        let mut runs: VecDeque<Run> = VecDeque::new();
        for (index, (origin, at, size)) in (0..).zip(found.chunks) {
            let cell = grid.cell(index, rows);
            if cell.origin != origin || size != whole || cell.bytes > whole {
                return Err(format!("the library placed chunk {index} at {origin:?}").into());
            }
            let run = Run {
                at,
                bytes: cell.bytes,
                padding: whole - cell.bytes,
            };
            match runs.back_mut() {
                Some(last) if last.padding == 0 && last.at + last.bytes == at => {
                    last.bytes += run.bytes;
                    last.padding = run.padding;
                }
                _ => runs.push_back(run),
            }
        }
        Ok(Self {
            file,
            runs,
            until_asked: 0,
            bulk: None,
        })
    }

    /// Whether the device is waited for while so many bytes are taken, because their run ends.
    pub(super) fn waits_with(&self, bytes: u64) -> bool {
        let ends = self.runs.front().is_none_or(|run| bytes >= run.bytes);
        ends && self.bulk.is_some()
    }

    /// Of so many bytes those that are taken before the device has to be waited for by
    /// [`Self::make_room`]; all where [`Self::waits_with`] says that it is in any case.
    pub(super) fn until_wait(&self, bytes: u64) -> u64 {
        match &self.bulk {
            Some(bulk) if !self.waits_with(bytes) => bulk.room().min(bytes),
            _ => bytes,
        }
    }

    /// Writes what waits, for the next bytes.
    pub(super) fn make_room(&mut self) -> RawResult<()> {
        match &mut self.bulk {
            Some(bulk) => Ok(bulk.make_room(&self.file)?),
            None => Ok(()),
        }
    }

    /// Writes the next bytes. One system call per run of chunks that lie side by side.
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> RawResult<()> {
        while !bytes.is_empty() {
            let run = self
                .runs
                .front_mut()
                .ok_or("more bytes than the array has room for")?;
            let len = bytes
                .len()
                .min(usize::try_from(run.bytes).unwrap_or(usize::MAX));
            let (now, later) = bytes.split_at(len);
            if self.bulk.is_none()
                && self.until_asked == 0
                && run.bytes >= bulk::LEAST
                && self.file.is_direct()
            {
                self.bulk = bulk::is_cache_full().then(Bulk::try_new).flatten();
                self.until_asked = bulk::ASK;
            }
            match &mut self.bulk {
                Some(bulk) => bulk.write(&self.file, now, run.at)?,
                None => self.file.write_all_at(now, run.at)?,
            }
            bytes = later;
            let written = u64::try_from(len)?;
            run.at += written;
            run.bytes -= written;
            self.until_asked = self.until_asked.saturating_sub(written);
            if run.bytes == 0 {
                self.until_asked = 0;
                if let Some(mut bulk) = self.bulk.take() {
                    bulk.flush(&self.file)?;
                }
                let (mut at, mut padding) = (run.at, run.padding);
                self.runs.pop_front();
                while padding > 0 {
                    let len = padding.min(4096);
                    self.file
                        .write_all_at(&ZEROS[..usize::try_from(len)?], at)?;
                    at += len;
                    padding -= len;
                }
            }
        }
        Ok(())
    }
}

/// Chunks as the library lists them: origin, address, size.
struct Found {
    rank: usize,
    chunks: Vec<(Vec<u64>, u64, u64)>,
}

extern "C" fn note(
    offset: *const hsize_t,
    _filter_mask: c_uint,
    addr: haddr_t,
    size: hsize_t,
    found: *mut c_void,
) -> c_int {
    // SAFETY: `found` is the pointer given to `H5Dchunk_iter`; `offset` has the dataset's rank.
    unsafe {
        let found = &mut *found.cast::<Found>();
        let origin = std::slice::from_raw_parts(offset, found.rank).to_vec();
        found.chunks.push((origin, addr, size));
    }
    0
}
