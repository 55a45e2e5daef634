//! Runs of an array straight to where they are wanted.

use std::ops::Range;

use rayon::prelude::*;

use super::array::Core;
use super::fetch::{check_fill, check_size, cut, fill, slice, with_chunk};
use super::storage::{Chunked, Entry, Storage};
use crate::error::Error;
use crate::model::RowSelection;
use crate::store::decode::{Disk, Fault, Initialised};
use crate::store::scatter::{Filled, Scatter, Target, by_chunk};
use crate::store::source::{ByteSource, check_range};

/// Runs of a contiguous array that a core reads before another may.
const AT_A_TIME: usize = 64;

impl Core {
    /// Whether values lie in memory as they lie in the file, in one run or in chunks of whole rows. Of
    /// what is far away, ranges are fetched together by a plain read.
    pub(super) fn is_scattered(&self) -> bool {
        let native = matches!(self.disk, Disk::Number { swap: false, .. });
        let stored = match &self.storage {
            Storage::Contiguous { .. } => true,
            Storage::Chunked(chunked) => chunked.whole_rows,
            _ => false,
        };
        native && stored && self.row_bytes > 0 && !self.source.is_remote()
    }

    fn contiguous(
        &self,
        (address, size): (u64, u64),
        targets: Vec<Target<'_>>,
    ) -> Result<Filled, Fault> {
        let source = self.source.as_ref();
        check_range(source, address, size)?;
        let mut groups: Vec<Vec<Target<'_>>> = Vec::new();
        for target in targets {
            match groups.last_mut() {
                Some(group) if group.len() < AT_A_TIME => group.push(target),
                _ => groups.push(vec![target]),
            }
        }
        let read = groups.into_par_iter().map(|group| {
            let mut filled = Filled::default();
            for target in group {
                let at = target.start.checked_mul(self.row_bytes);
                let end = at.and_then(|at| at.checked_add(target.bytes.len() as u64));
                let (Some(at), Some(end)) = (at, end) else {
                    return Err(Fault::Corrupt("a run overflows".into()));
                };
                if end > size {
                    return Err(Fault::Corrupt(format!(
                        "bytes {at} to {end} of {size} bytes"
                    )));
                }
                let written = Initialised::of(source.read_uninit(address + at, target.bytes)?);
                filled = filled.and(Filled {
                    written,
                    bytes: end - at,
                    chunks: 1,
                });
            }
            Ok(filled)
        });
        read.try_reduce(Filled::default, |a, b| Ok(a.and(b)))
    }

    fn chunked(&self, chunked: &Chunked, targets: Vec<Target<'_>>) -> Result<Filled, Fault> {
        let source = self.source.as_ref();
        let table = chunked.table(&self.dataset, source)?;
        let height = chunked.chunk_shape.first().copied().unwrap_or(1);
        let chunks = by_chunk(targets, height, self.row_bytes);
        let read = chunks.into_par_iter().map(|(band, targets)| {
            match table.binary_search_by_key(&band, |entry| entry.index) {
                Ok(at) => self.chunk(source, chunked, table[at], targets),
                Err(_) => {
                    let value = self.fill(band, 0)?;
                    let mut filled = Filled::default();
                    for target in targets {
                        filled.written = filled
                            .written
                            .and(Initialised::of(fill(target.bytes, value)));
                    }
                    Ok(filled)
                }
            }
        });
        read.try_reduce(Filled::default, |a, b| Ok(a.and(b)))
    }

    fn chunk(
        &self,
        source: &dyn ByteSource,
        chunked: &Chunked,
        entry: Entry,
        targets: Vec<Target<'_>>,
    ) -> Result<Filled, Fault> {
        let range = |target: &Target<'_>| -> Range<u64> {
            let start = target.start.saturating_mul(self.row_bytes);
            start..start.saturating_add(target.bytes.len() as u64)
        };
        let mut filled = Filled::default();
        if chunked.pipeline.is_empty() {
            for target in targets {
                let range = range(&target);
                if range.end > chunked.chunk_bytes as u64 {
                    return Err(Fault::Corrupt(format!(
                        "a chunk of {} bytes",
                        chunked.chunk_bytes
                    )));
                }
                let at = entry.address.checked_add(range.start);
                let at = at.ok_or_else(|| Fault::Corrupt("an address overflows".into()))?;
                let written = Initialised::of(source.read_uninit(at, target.bytes)?);
                filled.written = filled.written.and(written);
                filled.bytes += range.end - range.start;
            }
            filled.chunks = 1;
            return Ok(filled);
        }
        let ranges: Vec<Range<u64>> = targets.iter().map(range).collect();
        let mut written = Initialised::default();
        let took = with_chunk(source, chunked, entry, &ranges, |bytes| {
            for (target, range) in targets.into_iter().zip(&ranges) {
                let mut to = target.bytes;
                let to = cut(&mut to, range.end - range.start)?;
                written = written.and(Initialised::of(
                    to.write_copy_of_slice(slice(bytes, range)?),
                ));
            }
            Ok(())
        })?;
        Ok(Filled {
            written,
            bytes: took.bytes,
            chunks: took.chunks,
        })
    }
}

impl Scatter for Core {
    fn fill(&self, targets: Vec<Target<'_>>) -> Result<Filled, Fault> {
        match &self.storage {
            Storage::Contiguous { address, size } => self.contiguous((*address, *size), targets),
            Storage::Chunked(chunked) => self.chunked(chunked, targets),
            _ => Err(Fault::Unsupported("runs of such an array".into())),
        }
    }

    fn check(&self, bytes: u64, _: &RowSelection) -> Result<(), Fault> {
        let source = self.source.as_ref();
        match &self.storage {
            Storage::Chunked(chunked) => {
                let n = chunked.table(&self.dataset, source)?.len();
                let stored = u64::try_from(n.saturating_mul(chunked.chunk_bytes));
                check_fill(bytes, stored.unwrap_or(u64::MAX))
            }
            _ => check_size(source, bytes),
        }
    }

    fn is_remote(&self) -> bool {
        self.source.is_remote()
    }

    fn row_bytes(&self) -> u64 {
        self.row_bytes
    }

    fn at(&self, fault: Fault) -> Error {
        fault.at(&self.file.url, &self.info.key)
    }
}
