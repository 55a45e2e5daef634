//! Blosc's chunks: a header, then blocks that are compressed by themselves
//! (c-blosc, `README_CHUNK_FORMAT.rst`).

use std::cell::RefCell;
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;

use blosc_src::{blosc_cbuffer_validate, blosc_decompress_ctx};

use super::unshuffle::unshuffle;
use crate::store::decode::{Fault, Initialised};

thread_local! {
    static BLOCK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that a chunk says it decodes to.
///
/// # Errors
/// [`Fault::Corrupt`] where the header contradicts itself or the chunk's length.
pub(super) fn len(encoded: &[u8]) -> Result<usize, Fault> {
    let mut len = 0;
    // SAFETY: the pointer and length are those of a live slice, and the call writes to `len` alone.
    let status =
        unsafe { blosc_cbuffer_validate(encoded.as_ptr().cast(), encoded.len(), &raw mut len) };
    match status {
        0 => Ok(len),
        _ => Err(Fault::Corrupt(format!(
            "blosc: {} bytes are no chunk of it",
            encoded.len()
        ))),
    }
}

/// Fills all of `target` with what a chunk of that [`len`] decodes to, on this thread.
///
/// # Errors
/// [`Fault::Corrupt`] where it does not decode to so much.
pub(super) fn decode(encoded: &[u8], target: &mut [MaybeUninit<u8>]) -> Result<Initialised, Fault> {
    let chunk = BloscChunk::parse(encoded, target.len())?;
    if target.is_empty() {
        return Ok(Initialised::default());
    }
    // What is not shuffled the library undoes straight to its place, too.
    if let Some(chunk) = chunk.filter(|chunk| chunk.is_shuffled || chunk.is_copied) {
        return chunk.pieces(vec![(0, target)]);
    }
    // SAFETY: the header was held against the chunk's length, and the call writes no more than the
    // target's length to it.
    let n = unsafe {
        blosc_decompress_ctx(
            encoded.as_ptr().cast(),
            target.as_mut_ptr().cast(),
            target.len(),
            1,
        )
    };
    match usize::try_from(n) {
        // SAFETY: the call says that it wrote all of the target.
        Ok(n) if n == target.len() => Ok(Initialised::of(unsafe { target.assume_init_mut() })),
        _ => Err(Fault::Corrupt(format!(
            "blosc: a chunk of {} bytes does not decode to {} ({n})",
            encoded.len(),
            target.len()
        ))),
    }
}

/// Parts of a chunk's bytes, by where they begin, and the memory that they go to.
pub(super) type Pieces<'a> = Vec<(usize, &'a mut [MaybeUninit<u8>])>;

/// A chunk that LZ4 compressed, of which parts can be undone by themselves: the blocks that hold them,
/// each as far as it is wanted, straight to where that goes.
///
/// The library undoes a part with `blosc_getitem`, which undoes whole blocks to memory of its own and
/// copies from there; blocks of 64 KiB per byte of a value are most of a chunk of 64 cells. For a whole
/// chunk it reserves memory for its planes anew, and copies those that are stored as they are.
#[derive(Debug)]
pub(super) struct BloscChunk<'a> {
    encoded: &'a [u8],
    len: usize,
    block: usize,
    type_size: usize,
    is_copied: bool,
    is_shuffled: bool,
    is_split: bool,
}

/// Bytes of a block that a thread keeps memory for at most.
const MOST_SCRATCH: usize = 4 << 20;
/// Bytes of a header.
const HEADER: usize = 16;
/// Flags: bytes are shuffled, values are merely copied, bits are shuffled, streams are not split.
const SHUFFLED: u8 = 1;
const COPIED: u8 = 2;
const BITS: u8 = 4;
const WHOLE: u8 = 16;
/// The codec, in the upper three bits of the flags.
const LZ4: u8 = 1;
/// Blocks whose streams may be split: of values of so many bytes at most, so many of them at least
/// (`MAX_SPLITS` and `MIN_BUFFERSIZE` of c-blosc).
const MOST_SPLITS: usize = 16;
const LEAST_SPLIT: usize = 128;

impl<'a> BloscChunk<'a> {
    /// A chunk that decodes to `size` bytes; [`None`] where it has to be undone as a whole.
    ///
    /// # Errors
    /// [`Fault::Corrupt`] where the header contradicts itself, the chunk's length, or `size`.
    pub(super) fn parse(encoded: &'a [u8], size: usize) -> Result<Option<Self>, Fault> {
        let len = len(encoded)?;
        if len != size {
            return Err(Fault::Corrupt(format!(
                "blosc: a chunk claims {len} bytes, and has {size}"
            )));
        }
        let Some(header) = encoded.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let flags = header[2];
        let block = usize::try_from(int(&header[8..12])).unwrap_or(usize::MAX);
        let type_size = usize::from(header[3]);
        let is_copied = flags & COPIED != 0;
        let known = type_size > 0
            && (is_copied || (flags >> 5 == LZ4 && flags & BITS == 0))
            && block > 0
            // Blocks of a few values are no chunk that anybody wrote, and each is a step.
            && (is_copied || block >= len.min(LEAST_SPLIT * type_size))
            && block.is_multiple_of(type_size)
            && len.is_multiple_of(type_size)
            // Split streams are planes, or else stand for parts of a block.
            && (is_copied || flags & (SHUFFLED | WHOLE) != 0 || type_size == 1);
        Ok(known.then_some(Self {
            encoded,
            len,
            block,
            type_size,
            is_copied,
            is_shuffled: flags & SHUFFLED != 0 && type_size > 1,
            is_split: flags & WHOLE == 0
                && type_size <= MOST_SPLITS
                && block / type_size >= LEAST_SPLIT,
        }))
    }

    /// Whether these pieces are of whole values.
    pub(super) fn can_be_cut(&self, pieces: &Pieces<'_>) -> bool {
        let whole = |n: usize| n.is_multiple_of(self.type_size);
        pieces
            .iter()
            .all(|(start, to)| whole(*start) && whole(to.len()))
    }

    /// Fills pieces, which come in their order in the chunk.
    ///
    /// # Errors
    /// [`Fault::Corrupt`] where the chunk does not decode, or ends before a piece does.
    pub(super) fn pieces(&self, pieces: Pieces<'_>) -> Result<Initialised, Fault> {
        let mut done = Initialised::default();
        let mut waiting = pieces;
        BLOCK.with_borrow_mut(|scratch| {
            while !waiting.is_empty() {
                // The pieces of the next block that has some; what goes on behind it waits.
                let first = waiting.iter().map(|(start, _)| *start).min().unwrap_or(0);
                let at = first - first % self.block;
                let end = (at + self.block).min(self.len);
                if first >= end {
                    return Err(self.corrupt(format!("it ends before {first}")));
                }
                let mut here = Vec::new();
                let mut later = Vec::new();
                for (start, to) in waiting.drain(..) {
                    if start >= end {
                        later.push((start, to));
                        continue;
                    }
                    let (to, rest) = to.split_at_mut(to.len().min(end - start));
                    here.push((start - at, to));
                    if !rest.is_empty() {
                        later.push((end, rest));
                    }
                }
                done = done.and(self.block(at, end - at, here, scratch)?);
                waiting = later;
            }
            // Blocks are as large as whoever wrote them wanted.
            if scratch.capacity() > MOST_SCRATCH {
                *scratch = Vec::new();
            }
            Ok(done)
        })
    }

    /// Fills pieces of the block of `len` bytes at `at`.
    fn block(
        &self,
        at: usize,
        len: usize,
        pieces: Pieces<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<Initialised, Fault> {
        let mut done = Initialised::default();
        if self.is_copied {
            for (start, to) in pieces {
                let from = HEADER + at + start;
                let part = self.encoded.get(from..from + to.len());
                let part = part.ok_or_else(|| self.corrupt("it is cut short".to_owned()))?;
                done = done.and(Initialised::of(to.write_copy_of_slice(part)));
            }
            return Ok(done);
        }
        let wanted = pieces.iter().map(|(start, to)| start + to.len()).max();
        let planes = self.planes(at, len, wanted.unwrap_or(0), scratch)?;
        for (start, to) in pieces {
            done = done.and(match self.is_shuffled {
                true => unshuffle(&planes, start / self.type_size, to),
                false => {
                    let part = planes
                        .first()
                        .and_then(|all| all.get(start..start + to.len()));
                    let part = part.ok_or_else(|| self.corrupt("it is cut short".to_owned()))?;
                    Initialised::of(to.write_copy_of_slice(part))
                }
            });
        }
        Ok(done)
    }

    /// The byte planes of a block, or all its bytes where they are not shuffled, as far as the first
    /// `wanted` bytes of the block need them.
    fn planes<'s>(
        &'s self,
        at: usize,
        len: usize,
        wanted: usize,
        scratch: &'s mut Vec<u8>,
    ) -> Result<Vec<&'s [u8]>, Fault> {
        let index = HEADER + 4 * (at / self.block);
        let start = self.encoded.get(index..index + 4).map(int);
        let start = start.and_then(|start| usize::try_from(start).ok());
        let mut from = start.ok_or_else(|| self.corrupt("its index is cut short".to_owned()))?;
        // The last block, where it is short, is one stream (`leftoverblock`).
        let streams = match self.is_split && len == self.block {
            true => self.type_size,
            false => 1,
        };
        let stream_len = len / streams;
        let n_values = len / self.type_size;
        let wanted_values = wanted.div_ceil(self.type_size);
        let needed = match (self.is_shuffled, streams) {
            // The last plane is not wanted to its end.
            (true, 1) => (self.type_size - 1) * n_values + wanted_values,
            (true, _) => wanted_values,
            (false, 1) => wanted,
            (false, _) => len,
        };
        let mut raw: Vec<Option<&[u8]>> = Vec::with_capacity(streams);
        if scratch.len() < len {
            scratch.resize(len, 0);
        }
        for stream in 0..streams {
            let bytes = self.encoded.get(from..).and_then(|rest| {
                let (n, rest) = rest.split_first_chunk::<4>()?;
                rest.get(..usize::try_from(i32::from_le_bytes(*n)).ok()?)
            });
            let bytes = bytes.ok_or_else(|| self.corrupt("a stream is cut short".to_owned()))?;
            from += 4 + bytes.len();
            if bytes.len() == stream_len {
                raw.push(Some(bytes));
                continue;
            }
            let target = &mut scratch[stream * stream_len..(stream + 1) * stream_len];
            let n = lz4(bytes, target, needed);
            if n.is_none_or(|n| n < needed) {
                return Err(self.corrupt(format!("a stream does not decode to {stream_len} bytes")));
            }
            raw.push(None);
        }
        let scratch = &scratch[..len];
        let streams = raw.into_iter().enumerate().map(|(stream, raw)| {
            raw.unwrap_or_else(|| &scratch[stream * stream_len..(stream + 1) * stream_len])
        });
        let streams: Vec<&[u8]> = streams.collect();
        match (self.is_shuffled, streams.as_slice()) {
            (true, [one]) => Ok(one.chunks_exact(n_values).collect()),
            (true, _) | (false, [_]) => Ok(streams),
            (false, _) => Err(self.corrupt("it has parts that are not planes".to_owned())),
        }
    }

    fn corrupt(&self, reason: String) -> Fault {
        Fault::Corrupt(format!(
            "blosc: a chunk of {} bytes does not decode to {}: {reason}",
            self.encoded.len(),
            self.len
        ))
    }
}

unsafe extern "C" {
    /// Of the library that `lz4-sys` builds, which declares its neighbours alone (`lz4.h`).
    fn LZ4_decompress_safe_partial(
        source: *const c_char,
        target: *mut c_char,
        source_len: c_int,
        needed: c_int,
        target_len: c_int,
    ) -> c_int;
}

/// Decompresses the first `needed` bytes of a stream, or some more; how many there are then.
fn lz4(stream: &[u8], target: &mut [u8], needed: usize) -> Option<usize> {
    let [from, to, needed] = [stream.len(), target.len(), needed].map(|n| i32::try_from(n).ok());
    let (from, to, needed) = (from?, to?, needed?);
    // SAFETY: pointers and lengths are those of live slices; the call reads no more than the one and
    // writes no more than the other, whatever the stream holds.
    let n = unsafe {
        match needed < to {
            true => LZ4_decompress_safe_partial(
                stream.as_ptr().cast(),
                target.as_mut_ptr().cast(),
                from,
                needed,
                to,
            ),
            false => lz4_sys::LZ4_decompress_safe(
                stream.as_ptr().cast(),
                target.as_mut_ptr().cast(),
                from,
                to,
            ),
        }
    };
    usize::try_from(n).ok()
}

fn int(bytes: &[u8]) -> i32 {
    bytes
        .first_chunk()
        .map_or(-1, |bytes| i32::from_le_bytes(*bytes))
}
