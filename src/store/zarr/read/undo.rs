//! Codecs of whole chunks, undone within bounds.
//!
//! zstd and deflate are undone here: what `zarrs` does with them reserves what a chunk claims.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::Read;
use std::sync::Arc;

use libdeflater::{DecompressionError, Decompressor};
use serde_json::Value;
use zarrs::array::CodecOptions;
use zarrs::array::codec::api::{BytesRepresentation, BytesToBytesCodecTraits};
use zstd::zstd_safe::get_frame_content_size;

use crate::store::decode::Fault;

thread_local! {
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// A codec from bytes to bytes.
#[derive(Debug, Clone)]
pub(super) enum Undo {
    Zstd,
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
        encoded: Cow<'_, [u8]>,
        size: Option<usize>,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        out.clear();
        match self {
            Self::Zstd => unzstd(&encoded, size, limit, out),
            Self::Gzip => inflate(size, limit, out, |decompressor, out| {
                decompressor.gzip_decompress(&encoded, out)
            }),
            Self::Zlib => inflate(size, limit, out, |decompressor, out| {
                decompressor.zlib_decompress(&encoded, out)
            }),
            Self::Zarrs(codec) => {
                let bytes = size.unwrap_or(limit) as u64;
                let size = match size {
                    Some(_) => BytesRepresentation::FixedSize(bytes),
                    None => BytesRepresentation::BoundedSize(bytes),
                };
                let options = CodecOptions::default().with_concurrent_target(1);
                let decoded = codec
                    .decode(encoded, &size, &options)
                    .map_err(|e| Fault::Corrupt(e.to_string()))?;
                *out = decoded.into_owned();
                Ok(())
            }
        }
    }
}

fn unzstd(
    encoded: &[u8],
    size: Option<usize>,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let claimed = get_frame_content_size(encoded).ok().flatten();
    let claimed = claimed.and_then(|n| usize::try_from(n).ok());
    let Some(size) = size.or(claimed.filter(|n| *n <= limit)) else {
        let mut decoder = zstd::Decoder::new(encoded)?.take(limit as u64);
        decoder.read_to_end(out)?;
        return Ok(());
    };
    out.reserve_exact(size);
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
