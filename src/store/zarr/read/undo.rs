//! Codecs of whole chunks, undone within bounds.
//!
//! zstd, deflate and blosc are undone here: what `zarrs` does with them reserves what a chunk
//! claims, in memory of its own.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::Read;
use std::mem::MaybeUninit;
use std::sync::Arc;

use libdeflater::{DecompressionError, Decompressor};
use serde_json::Value;
use zarrs::array::CodecOptions;
use zarrs::array::codec::api::{BytesRepresentation, BytesToBytesCodecTraits};
use zstd::zstd_safe::{WriteBuf, get_frame_content_size};

use super::blosc;
use crate::store::decode::{Fault, Initialised, zeroed};

thread_local! {
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// A codec from bytes to bytes.
#[derive(Debug, Clone)]
pub(super) enum Undo {
    Zstd,
    Blosc,
    Gzip,
    Zlib,
    Zarrs(Arc<dyn BytesToBytesCodecTraits>),
}

impl Undo {
    /// The codec that `zarrs` made of a document's.
    pub(super) fn of(document: &Value, codec: &Arc<dyn BytesToBytesCodecTraits>) -> Self {
        let name = document.get("name").or_else(|| document.get("id"));
        match name.and_then(Value::as_str) {
            Some("zstd") => Self::Zstd,
            Some("blosc" | "numcodecs.blosc") => Self::Blosc,
            Some("gzip") => Self::Gzip,
            Some("zlib" | "numcodecs.zlib") => Self::Zlib,
            _ => Self::Zarrs(Arc::clone(codec)),
        }
    }

    /// Puts what `encoded` decodes to into `out`: `size` bytes where that is known, else `limit` at
    /// most.
    ///
    /// # Errors
    /// [`Fault::Corrupt`] where it does not decode, or not to so much.
    pub(super) fn decode(
        &self,
        encoded: &[u8],
        size: Option<usize>,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        match self {
            Self::Zstd => unzstd(encoded, size, limit, out),
            Self::Blosc => {
                let len = blosc::len(encoded)?;
                if size.is_some_and(|size| size != len) || len > limit {
                    return Err(Fault::Corrupt(format!(
                        "blosc: a chunk of {} bytes claims {len} bytes, and has {} at most",
                        encoded.len(),
                        size.unwrap_or(limit)
                    )));
                }
                out.clear();
                out.reserve_exact(len);
                let target = &mut out.spare_capacity_mut()[..len];
                blosc::decode(encoded, target)?;
                // SAFETY: decoding filled all of the target, the first `len` bytes.
                unsafe { out.set_len(len) };
                Ok(())
            }
            Self::Gzip => inflate(size, limit, out, |decompressor, out| {
                decompressor.gzip_decompress(encoded, out)
            }),
            Self::Zlib => inflate(size, limit, out, |decompressor, out| {
                decompressor.zlib_decompress(encoded, out)
            }),
            Self::Zarrs(codec) => {
                *out = by_zarrs(codec, encoded, size, limit)?;
                Ok(())
            }
        }
    }

    /// Fills all of `target` with what `encoded` decodes to.
    ///
    /// # Errors
    /// [`Fault::Corrupt`] where it does not decode, or not to so much.
    pub(super) fn decode_into(
        &self,
        encoded: &[u8],
        target: &mut [MaybeUninit<u8>],
    ) -> Result<Initialised, Fault> {
        let size = target.len();
        let wrong =
            |n: usize| Fault::Corrupt(format!("a chunk decodes to {n} bytes where it has {size}"));
        let deflated = |result: Result<usize, DecompressionError>| match result {
            Ok(n) if n == size => Ok(()),
            Ok(n) => Err(wrong(n)),
            Err(e) => Err(Fault::Corrupt(e.to_string())),
        };
        match self {
            Self::Zstd => {
                let mut target = Target { target, filled: 0 };
                decompress(encoded, &mut target)?;
                match target.filled {
                    n if n == size => Ok(Initialised::of(target.into_filled())),
                    n => Err(wrong(n)),
                }
            }
            Self::Blosc => match blosc::len(encoded)? {
                n if n == size => blosc::decode(encoded, target),
                n => Err(wrong(n)),
            },
            Self::Gzip => {
                let target = zeroed(target);
                deflated(Decompressor::new().gzip_decompress(encoded, target))?;
                Ok(Initialised::of(target))
            }
            Self::Zlib => {
                let target = zeroed(target);
                deflated(Decompressor::new().zlib_decompress(encoded, target))?;
                Ok(Initialised::of(target))
            }
            Self::Zarrs(codec) => {
                let decoded = by_zarrs(codec, encoded, Some(size), size)?;
                match decoded.len() {
                    n if n == size => Ok(Initialised::of(target.write_copy_of_slice(&decoded))),
                    n => Err(wrong(n)),
                }
            }
        }
    }
}

fn by_zarrs(
    codec: &Arc<dyn BytesToBytesCodecTraits>,
    encoded: &[u8],
    size: Option<usize>,
    limit: usize,
) -> Result<Vec<u8>, Fault> {
    let bytes = size.unwrap_or(limit) as u64;
    let size = match size {
        Some(_) => BytesRepresentation::FixedSize(bytes),
        None => BytesRepresentation::BoundedSize(bytes),
    };
    let options = CodecOptions::default().with_concurrent_target(1);
    let decoded = codec.decode(Cow::Borrowed(encoded), &size, &options);
    let decoded = decoded.map_err(|e| Fault::Corrupt(e.to_string()))?;
    Ok(decoded.into_owned())
}

fn unzstd(
    encoded: &[u8],
    size: Option<usize>,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    out.clear();
    let claimed = get_frame_content_size(encoded).ok().flatten();
    let claimed = claimed.and_then(|n| usize::try_from(n).ok());
    let Some(size) = size.or(claimed.filter(|n| *n <= limit)) else {
        let mut decoder = zstd::Decoder::new(encoded)?.take(limit as u64);
        decoder.read_to_end(out)?;
        return Ok(());
    };
    out.reserve_exact(size);
    decompress(encoded, out)
}

/// Decompresses zstd into a buffer with room for it.
fn decompress(encoded: &[u8], out: &mut impl WriteBuf) -> Result<(), Fault> {
    ZSTD.with_borrow_mut(|decompressor| {
        let decompressor = match decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor
            .decompress_to_buffer(encoded, out)
            .map_err(|e| Fault::Corrupt(format!("zstd: {e}")))?;
        Ok(())
    })
}

/// Memory that was never written, as zstd fills it.
struct Target<'a> {
    target: &'a mut [MaybeUninit<u8>],
    /// Bytes at the beginning that have been written.
    filled: usize,
}

impl<'a> Target<'a> {
    fn into_filled(self) -> &'a mut [u8] {
        // SAFETY: `filled_until` says how many bytes at the beginning are initialised.
        unsafe { self.target[..self.filled].assume_init_mut() }
    }
}

// SAFETY: pointer and capacity are those of one live exclusive slice, of which no more than what
// was said to be filled is shown.
unsafe impl WriteBuf for Target<'_> {
    fn as_slice(&self) -> &[u8] {
        // SAFETY: `filled_until` says how many bytes at the beginning are initialised.
        unsafe { self.target[..self.filled].assume_init_ref() }
    }

    fn capacity(&self) -> usize {
        self.target.len()
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.target.as_mut_ptr().cast()
    }

    unsafe fn filled_until(&mut self, n: usize) {
        self.filled = n;
    }
}

fn inflate(
    size: Option<usize>,
    limit: usize,
    out: &mut Vec<u8>,
    decode: impl Fn(&mut Decompressor, &mut [u8]) -> Result<usize, DecompressionError>,
) -> Result<(), Fault> {
    /// Bytes that are tried first where nobody knows how many there are.
    const FIRST: usize = 1 << 16;
    let mut decompressor = Decompressor::new();
    let mut room = size.unwrap_or(FIRST.min(limit));
    loop {
        // What an earlier chunk left there is written over, and need not be cleared.
        out.resize(room, 0);
        match decode(&mut decompressor, out) {
            Ok(n) => {
                out.truncate(n);
                return Ok(());
            }
            Err(DecompressionError::InsufficientSpace) if size.is_none() && room < limit => {
                room = room.saturating_mul(2).min(limit);
            }
            Err(e) => return Err(Fault::Corrupt(e.to_string())),
        }
    }
}
