//! Runs of an array straight to where they are wanted, chunk by chunk.

use rayon::prelude::*;

use super::array::Core;
use super::blosc::Pieces;
use super::chunk::{ChunkCodec, Encoded};
use super::dtype::Layout;
use super::storage::Counted;
use crate::error::Error;
use crate::model::RowSelection;
use crate::store::decode::{Disk, Fault, Initialised, Room, bands};
use crate::store::scatter::{Filled, Scatter, Target, by_chunk};
use zarrs::array::Array;

impl Core {
    /// Whether values lie in memory as they lie in chunks, which hold whole rows.
    pub(super) fn is_scattered(&self) -> bool {
        let native = matches!(
            self.layout,
            Layout::Fixed {
                disk: Disk::Number { swap: false, .. },
                ..
            }
        );
        native && self.whole.is_some() && self.cut.has_whole_rows() && self.row_bytes > 0
    }

    /// Fills targets with rows of a band's one chunk.
    pub(super) fn fill_chunk(
        &self,
        array: &Array<Counted>,
        codec: &ChunkCodec,
        (band, targets): (u64, Vec<Target<'_>>),
    ) -> Result<Initialised, Fault> {
        let place = self.place(band);
        let Some(chunk) = codec.open(array, &place)? else {
            let fill = self.array.fill_value().as_ne_bytes();
            return Ok(filled(targets, fill));
        };
        let wanted = targets.into_iter().map(|target| {
            let start = usize::try_from(target.start.saturating_mul(self.row_bytes));
            (start.unwrap_or(usize::MAX), target.bytes)
        });
        let stored = chunk.stored();
        let filled = fill_from(chunk, wanted.collect(), codec.size());
        filled.map_err(|fault| codec.named(array, &place, stored, fault))
    }
}

/// Fills pieces with parts of a chunk that decodes to so many bytes.
fn fill_from(
    chunk: Encoded<'_>,
    wanted: Pieces<'_>,
    size: Option<usize>,
) -> Result<Initialised, Fault> {
    if let Some(bytes) = chunk.plain() {
        return copied(bytes, wanted);
    }
    match chunk.blosc()? {
        Some(blosc) if blosc.can_be_cut(&wanted) => blosc.pieces(wanted),
        _ => {
            let mut bytes = Room::with_capacity(size.unwrap_or(0));
            chunk.undo(&mut bytes)?;
            copied(&bytes, wanted)
        }
    }
}

impl Scatter for Core {
    fn fill(&self, targets: Vec<Target<'_>>) -> Result<Filled, Fault> {
        let Some(codec) = &self.whole else {
            return Err(Fault::Unsupported("parts of chunks".into()));
        };
        let mut chunks = by_chunk(targets, self.height, self.row_bytes);
        let mut filled = Filled {
            chunks: chunks.len() as u64,
            ..Filled::default()
        };
        while !chunks.is_empty() {
            let rest = chunks.split_off(self.wave(chunks.len()).min(chunks.len()));
            let wave = std::mem::replace(&mut chunks, rest);
            let bands = wave.iter().map(|(band, _)| *band);
            let ahead = self.fetched(codec, bands)?;
            let array = ahead.as_ref().unwrap_or(&self.array);
            let done = wave.into_par_iter();
            let done = done.map(|chunk| self.fill_chunk(array, codec, chunk));
            let done = done.try_reduce(Initialised::default, |a, b| Ok(a.and(b)))?;
            filled.written = filled.written.and(done);
        }
        filled.bytes = self.storage.take();
        Ok(filled)
    }

    fn check(&self, bytes: u64, rows: &RowSelection) -> Result<(), Fault> {
        self.check_fill(bytes, &bands(rows, self.height))
    }

    fn is_remote(&self) -> bool {
        self.files.is_remote()
    }

    fn row_bytes(&self) -> u64 {
        self.row_bytes
    }

    fn at(&self, fault: Fault) -> Error {
        fault.at(&self.url, &self.info.key)
    }
}

/// Pieces of a chunk's bytes.
fn copied(bytes: &[u8], wanted: Pieces<'_>) -> Result<Initialised, Fault> {
    let mut done = Initialised::default();
    for (start, target) in wanted {
        let part = start
            .checked_add(target.len())
            .and_then(|end| bytes.get(start..end));
        let part = part
            .ok_or_else(|| Fault::Corrupt(format!("a chunk decodes to {} bytes", bytes.len())))?;
        done = done.and(Initialised::of(target.write_copy_of_slice(part)));
    }
    Ok(done)
}

/// Targets of nothing but fill values.
fn filled(targets: Vec<Target<'_>>, fill: &[u8]) -> Initialised {
    let mut done = Initialised::default();
    for target in targets {
        for (at, byte) in target.bytes.iter_mut().enumerate() {
            byte.write(fill[at % fill.len().max(1)]);
        }
        // SAFETY: the loop above wrote every byte.
        done = done.and(Initialised::of(unsafe { target.bytes.assume_init_mut() }));
    }
    done
}
