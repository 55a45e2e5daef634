//! Where an array's chunks lie, for those who read the file without us.

use std::collections::HashMap;

use super::array::Core;
use super::filter::with_scratch;
use super::storage::{Chunked, Entry, Storage};
use crate::store::decode::{Disk, Fault, guard};
use crate::store::source::{check_range, read_vec};
use crate::store::{ChunkBytes, ChunkReference, Located, References};

/// Bytes up to which a run is one chunk.
const WHOLE: u64 = 16 << 20;
/// Bytes of the chunks that longer runs are cut into.
const PIECE: u64 = 1 << 20;
/// Bytes of chunks of an array that are given by value.
const HELD: u64 = 256 << 20;

impl Core {
    /// Where the chunks lie. Reads the chunk table, and the bytes of chunks that are given by value.
    pub(super) fn references(&self) -> Result<Located, Fault> {
        let nowhere = |reason: String| Ok(Located::Nowhere(reason));
        if self.info.shape.is_empty() {
            return nowhere("it is one value".to_owned());
        }
        let swap = match &self.disk {
            Disk::Number { swap, .. } | Disk::Complex { swap, .. } => *swap,
            Disk::Bool => false,
            _ => return nowhere(format!("its elements are of type {}", self.info.dtype)),
        };
        let new = |chunk_shape| References {
            chunk_shape,
            big_endian: swap != cfg!(target_endian = "big"),
            filters: Vec::new(),
            fill: vec![0; self.element],
            chunks: Vec::new(),
        };
        if let Storage::Library(reason) = &self.storage {
            return nowhere(format!("only the HDF5 library reads {reason}"));
        }
        if self.info.shape.contains(&0) {
            return Ok(Located::Chunks(new(self.cut(self.info.len()))));
        }
        Ok(match &self.storage {
            Storage::Library(reason) => Located::Nowhere(reason.clone()),
            Storage::Unallocated => {
                let mut references = new(self.cut(self.piece()));
                references.fill = self.fill(0, 0)?.to_vec();
                Located::Chunks(references)
            }
            Storage::Compact => {
                let bytes = self.compact()?;
                self.check_run(bytes.len() as u64)?;
                let mut references = new(self.cut(self.info.len()));
                references.chunks = vec![held(0, bytes)];
                Located::Chunks(references)
            }
            Storage::Contiguous { address, size } => {
                self.check_run(*size)?;
                check_range(self.source.as_ref(), *address, *size)?;
                let rows = self.piece();
                let mut references = new(self.cut(rows));
                references.chunks = self.pieces(*address, rows)?;
                Located::Chunks(references)
            }
            Storage::Chunked(chunked) => {
                let table = chunked.table(&self.dataset, self.source.as_ref())?;
                let mask = usual_mask(table);
                let Some(filters) = chunked.pipeline.shared(mask) else {
                    return nowhere(format!(
                        "no other reader has its filters {}",
                        self.info.filters.join(", ")
                    ));
                };
                let mut references = new(chunked.chunk_shape.clone());
                references.filters = filters;
                references.chunks = self.chunks(chunked, table, mask)?;
                if let Some(missing) = chunked.first_missing(table) {
                    let band = chunked.per_band.max(1);
                    references.fill = self.fill(missing / band, missing % band)?.to_vec();
                }
                Located::Chunks(references)
            }
        })
    }

    /// A run of bytes that holds the array.
    fn check_run(&self, size: u64) -> Result<(), Fault> {
        match self.info.len().checked_mul(self.row_bytes) {
            Some(needed) if needed <= size => Ok(()),
            _ => Err(Fault::Corrupt(format!(
                "an array of {:?} does not fit in the {size} bytes stored",
                self.info.shape
            ))),
        }
    }

    /// Chunks of so many whole rows.
    fn cut(&self, rows: u64) -> Vec<u64> {
        let tail = self.info.shape.iter().skip(1).copied();
        std::iter::once(rows)
            .chain(tail)
            .map(|n| n.max(1))
            .collect()
    }

    /// Rows of a chunk of a run: all of a short one; of a longer one so many that the chunks have
    /// the same number of rows, if there is such a number.
    fn piece(&self) -> u64 {
        let (rows, row_bytes) = (self.info.len(), self.row_bytes.max(1));
        if rows.saturating_mul(row_bytes) <= WHOLE {
            return rows;
        }
        let most = (PIECE / row_bytes).max(1);
        let even = (most / 2 + 1..=most).rev().find(|n| rows % n == 0);
        even.unwrap_or(most)
    }

    /// The chunks of a run that is cut every so many rows.
    fn pieces(&self, address: u64, rows: u64) -> Result<Vec<ChunkReference>, Fault> {
        let len = rows.saturating_mul(self.row_bytes);
        let whole = self.info.len() / rows.max(1);
        let mut chunks: Vec<ChunkReference> = (0..whole)
            .map(|index| ChunkReference {
                index,
                bytes: ChunkBytes::At {
                    offset: address + index * len,
                    len,
                },
            })
            .collect();
        let rest = (self.info.len() % rows.max(1)) * self.row_bytes;
        if rest > 0 {
            let mut bytes = read_vec(self.source.as_ref(), address + whole * len, rest)?;
            bytes.resize(usize::try_from(len).unwrap_or(bytes.len()), 0);
            chunks.push(held(whole, bytes));
        }
        Ok(chunks)
    }

    /// The chunks of a table; those that skipped other filters than `mask` says are encoded anew.
    fn chunks(
        &self,
        chunked: &Chunked,
        table: &[Entry],
        mask: u32,
    ) -> Result<Vec<ChunkReference>, Fault> {
        let mut bytes_held = 0u64;
        let mut chunks = Vec::with_capacity(table.len());
        for entry in table {
            if chunked.pipeline.skips_alike(entry.mask, mask) {
                chunks.push(ChunkReference {
                    index: entry.index,
                    bytes: ChunkBytes::At {
                        offset: entry.address,
                        len: entry.size,
                    },
                });
                continue;
            }
            let stored = read_vec(self.source.as_ref(), entry.address, entry.size)?;
            let plain = guard(|| {
                with_scratch(|scratch| {
                    scratch.input = stored;
                    let len = chunked.chunk_bytes;
                    let plain = chunked.pipeline.decode(scratch, entry.mask, len)?;
                    Ok(plain.to_vec())
                })
            })?;
            let encoded = chunked.pipeline.encode(plain, mask)?;
            bytes_held = bytes_held.saturating_add(encoded.len() as u64);
            if bytes_held > HELD {
                return Err(Fault::Unsupported(format!(
                    "more than {HELD} bytes of its chunks skip a filter that others do not"
                )));
            }
            chunks.push(held(entry.index, encoded));
        }
        Ok(chunks)
    }
}

fn held(index: u64, bytes: Vec<u8>) -> ChunkReference {
    ChunkReference {
        index,
        bytes: ChunkBytes::Held(bytes),
    }
}

/// The filters that most chunks skipped: values that do not shrink are stored as they are, and then
/// mostly all of an array.
fn usual_mask(table: &[Entry]) -> u32 {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for entry in table {
        *counts.entry(entry.mask).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(mask, n)| (*n, !*mask));
    most.map_or(0, |(mask, _)| mask)
}
