//! Text of any length (`vlen-utf8`): a count, then each text after its length, all of them as
//! little-endian words of four bytes (numcodecs, `vlen.pyx`).
//!
//! `zarrs` fetches chunks and undoes what lies around the text; its own reading of the text trusts
//! the lengths that it finds.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;
use zarrs::array::codec::api::{BytesRepresentation, BytesToBytesCodecTraits};
use zarrs::array::{Array, ArrayShardedReadableExt, ArrayShardedReadableExtCache};
use zarrs::array::{CodecChain, CodecOptions};
use zarrs::metadata::v3::MetadataV3;

use super::fill::{FREE, RATIO};
use super::storage::Counted;
use crate::store::decode::Fault;

/// Texts one after the other, and where each begins and ends.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) bytes: Vec<u8>,
    /// One more than there are texts.
    pub(super) offsets: Vec<usize>,
}

/// How chunks of text are undone.
#[derive(Debug)]
pub(super) struct TextCodec {
    sharded: bool,
    around: Vec<Arc<dyn BytesToBytesCodecTraits>>,
}

impl TextCodec {
    /// The codecs of an array whose (inner) chunks hold whole rows; [`None`] where elements are
    /// not simply one after the other.
    pub(super) fn of(
        array: &Array<Counted>,
        codecs: Option<&Value>,
        order: &Value,
    ) -> Option<Self> {
        if order.as_str() == Some("F") && array.dimensionality() > 1 {
            return None;
        }
        let shards = codecs.and_then(Value::as_array).into_iter().flatten();
        let inner = shards
            .filter(|codec| codec.get("name").and_then(Value::as_str) == Some("sharding_indexed"))
            .find_map(|codec| codec.get("configuration")?.get("codecs"));
        let chain = match inner {
            Some(inner) => {
                let inner: Vec<MetadataV3> = serde_json::from_value(inner.clone()).ok()?;
                Arc::new(CodecChain::from_metadata(&inner).ok()?)
            }
            None => array.codecs(),
        };
        let is_shuffled = !chain.array_to_array_codecs().is_empty()
            || (inner.is_some() && !array.codecs().array_to_array_codecs().is_empty());
        (!is_shuffled).then(|| Self {
            sharded: inner.is_some(),
            around: chain.bytes_to_bytes_codecs().to_vec(),
        })
    }

    /// The `n` texts of the chunk at `place`.
    pub(super) fn read(
        &self,
        array: &Array<Counted>,
        shards: &ArrayShardedReadableExtCache,
        place: &[u64],
        n: u64,
    ) -> Result<Texts, Fault> {
        let corrupt = |e: &dyn std::fmt::Display| Fault::Corrupt(e.to_string());
        let encoded = match self.sharded {
            true => array
                .retrieve_encoded_subchunk(shards, place)
                .map_err(|e| corrupt(&e))?,
            false => array
                .retrieve_encoded_chunk(place)
                .map_err(|e| corrupt(&e))?,
        };
        let Some(encoded) = encoded else {
            return fill(array.fill_value().as_ne_bytes(), n);
        };
        let limit = u64::try_from(encoded.len())
            .unwrap_or(u64::MAX)
            .saturating_mul(RATIO);
        let size = BytesRepresentation::BoundedSize(limit);
        let options = CodecOptions::default().with_concurrent_target(1);
        let mut bytes = Cow::Owned(encoded);
        for codec in self.around.iter().rev() {
            bytes = codec
                .decode(bytes, &size, &options)
                .map_err(|e| corrupt(&e))?;
        }
        parse(&bytes)
    }
}

/// A chunk that is not there.
fn fill(text: &[u8], n: u64) -> Result<Texts, Fault> {
    let size = u64::try_from(text.len()).unwrap_or(u64::MAX).max(8);
    let is_small = n.checked_mul(size).is_some_and(|bytes| bytes <= FREE);
    let Some(n) = usize::try_from(n).ok().filter(|_| is_small) else {
        return Err(Fault::Corrupt(format!("a chunk of {n} texts is missing")));
    };
    Ok(Texts {
        bytes: text.repeat(n),
        offsets: (0..=n).map(|i| i * text.len()).collect(),
    })
}

fn parse(chunk: &[u8]) -> Result<Texts, Fault> {
    let short = || {
        Fault::Corrupt(format!(
            "texts are cut short in a chunk of {} bytes",
            chunk.len()
        ))
    };
    let word = |at: &[u8]| -> Option<(usize, usize)> {
        let (word, rest) = at.split_first_chunk::<4>()?;
        let word = usize::try_from(u32::from_le_bytes(*word)).ok()?;
        Some((word, rest.len()))
    };
    let (n, mut left) = word(chunk).ok_or_else(short)?;
    // Each has a length, at least.
    if n > left / 4 {
        return Err(short());
    }
    let mut texts = Texts {
        bytes: Vec::with_capacity(left - 4 * n),
        offsets: Vec::with_capacity(n + 1),
    };
    texts.offsets.push(0);
    for _ in 0..n {
        let (len, rest) = word(&chunk[chunk.len() - left..]).ok_or_else(short)?;
        let start = chunk.len() - rest;
        let text = chunk[start..].get(..len).ok_or_else(short)?;
        texts.bytes.extend_from_slice(text);
        texts.offsets.push(texts.bytes.len());
        left = rest - len;
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_held_to_what_is_there() {
        let chunk = b"\x02\0\0\0\x01\0\0\0a\x03\0\0\0bcd";
        let texts = parse(chunk).unwrap();
        assert_eq!(
            (texts.bytes.as_slice(), texts.offsets),
            (&b"abcd"[..], vec![0, 1, 4])
        );
        for len in 0..chunk.len() {
            assert!(parse(&chunk[..len]).is_err(), "{len}");
        }
        assert!(parse(b"\xff\xff\xff\xff\x01\0\0\0a").is_err());
        assert!(parse(b"\x01\0\0\0\xff\xff\xff\xffa").is_err());
    }
}
