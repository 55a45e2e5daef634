//! Whole chunks: fetched and undone here, without the assembly of parts that `zarrs` does around it.
//!
//! Its reading of text of any length (`vlen-utf8`) trusts the lengths that it finds, and of numbers
//! it clears and copies what a chunk of whole rows has in place.

use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};
use zarrs::array::{Array, ArrayShardedExt, CodecChain};
use zarrs::metadata::v3::MetadataV3;
use zarrs::storage::ReadableStorageTraits;

use super::blosc::BloscChunk;
use super::dtype::{Layout, TEXT_CODECS};
use super::fill::{FREE, RATIO};
use super::open::LARGEST_CHUNK;
use super::shards::Shards;
use super::storage::{Counted, Wanted};
use super::text::{Texts, parse};
use super::undo::Undo;
use crate::store::decode::{Fault, Initialised};

/// How chunks are undone.
#[derive(Debug)]
pub(super) struct ChunkCodec {
    /// Where chunks are in shards.
    shards: Option<Shards>,
    /// In the order of encoding.
    around: Vec<Undo>,
    /// Bytes of a chunk; [`None`] of text.
    size: Option<usize>,
}

impl ChunkCodec {
    /// The codecs of an array whose (inner) chunks have these lengths; [`None`] where elements are
    /// not simply one after the other, in native order.
    pub(super) fn of(
        array: &Array<Counted>,
        document: &Map<String, Value>,
        layout: &Layout,
        chunk: &[u64],
    ) -> Option<Self> {
        let of = |name: &str| document.get(name);
        if of("order").and_then(Value::as_str) == Some("F") && array.dimensionality() > 1 {
            return None;
        }
        let codecs = of("codecs").and_then(Value::as_array);
        let sharding = codecs
            .and_then(|codecs| match codecs.as_slice() {
                [codec] => Some(codec),
                _ => None,
            })
            .filter(|codec| codec.get("name").and_then(Value::as_str) == Some("sharding_indexed"))
            .and_then(|codec| codec.get("configuration"));
        let (shards, inner, chain) = match sharding {
            Some(configuration) => {
                let shard = array.chunk_shape(&vec![0; chunk.len()]).ok()?;
                let shard: Vec<u64> = shard.into_iter().map(NonZeroU64::get).collect();
                let inner = configuration.get("codecs")?;
                let codecs: Vec<MetadataV3> = serde_json::from_value(inner.clone()).ok()?;
                let chain = Arc::new(CodecChain::from_metadata(&codecs).ok()?);
                let shards = Shards::of(configuration, &shard, chunk)?;
                (Some(shards), Some(inner), chain)
            }
            None => (None, None, array.codecs()),
        };
        // Shards in shards, or behind another codec, have subchunks, too.
        let is_nested = shards.is_none() && array.effective_subchunk_shape().is_some();
        if is_nested || !chain.array_to_array_codecs().is_empty() {
            return None;
        }
        let list = inner.and_then(Value::as_array).or(codecs);
        let size = match layout {
            Layout::Unknown => return None,
            Layout::Text => None,
            Layout::Fixed { disk, raw } => {
                let is_plain = match list {
                    Some(codecs) => *raw || is_native(codecs.first()?),
                    None => *raw || is_native_v2(of("dtype")?),
                };
                if !is_plain {
                    return None;
                }
                let len = chunk.iter().try_fold(1u64, |p, n| p.checked_mul(*n))?;
                Some(disk.size().checked_mul(usize::try_from(len).ok()?)?)
            }
        };
        let documents = around(document, list);
        let codecs = chain.bytes_to_bytes_codecs();
        if documents.len() != codecs.len() {
            return None;
        }
        let around = documents.into_iter().zip(codecs);
        let around = around.map(|(document, codec)| Undo::of(document, codec));
        Some(Self {
            shards,
            around: around.collect(),
            size,
        })
    }

    /// What is read of the chunks at these places: keys, and ranges of shards.
    ///
    /// # Errors
    /// Where the index of a shard cannot be read.
    pub(super) fn wanted(
        &self,
        array: &Array<Counted>,
        places: &[Vec<u64>],
    ) -> Result<Wanted, Fault> {
        match &self.shards {
            Some(shards) => shards.ranges(array, places),
            None => {
                let keys = places.iter().map(|place| array.chunk_key(place));
                Ok(keys.map(|key| (key, Vec::new())).collect())
            }
        }
    }

    /// The chunk at `place`, undone as far as its first codec; nothing where there is none.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn open(
        &self,
        array: &Array<Counted>,
        place: &[u64],
    ) -> Result<Option<Encoded<'_>>, Fault> {
        let fetched = self.fetch(array, place)?;
        Ok(fetched.map(
            |Fetched {
                 bytes,
                 stored,
                 limit,
             }| Encoded {
                bytes,
                stored,
                limit,
                codec: self.around.first(),
                size: self.size,
            },
        ))
    }

    /// Bytes of a chunk; [`None`] of text.
    pub(super) fn size(&self) -> Option<usize> {
        self.size
    }

    /// Fills `target`, as long as a chunk, with the chunk at `place`; nothing where there is none.
    ///
    /// # Errors
    /// [`Fault::Corrupt`] where it does not decode to so much.
    pub(super) fn read_into(
        &self,
        array: &Array<Counted>,
        place: &[u64],
        target: &mut [MaybeUninit<u8>],
    ) -> Result<Option<Initialised>, Fault> {
        let Some(Fetched { bytes, stored, .. }) = self.fetch(array, place)? else {
            return Ok(None);
        };
        let done = match self.around.first() {
            Some(codec) => codec.decode_into(&bytes, target),
            None if bytes.len() == target.len() => {
                Ok(Initialised::of(target.write_copy_of_slice(&bytes)))
            }
            None => Err(wrong_size(bytes.len(), target.len())),
        };
        let done = done.map_err(|fault| self.named(array, place, stored, fault));
        done.map(Some)
    }

    /// Bytes of the chunk at `place`, all of them, in `out`; whether there is one.
    ///
    /// # Errors
    /// [`Fault::Corrupt`] where it does not decode to what it should.
    pub(super) fn read(
        &self,
        array: &Array<Counted>,
        place: &[u64],
        out: &mut Vec<u8>,
    ) -> Result<bool, Fault> {
        let Some(chunk) = self.open(array, place)? else {
            return Ok(false);
        };
        let stored = chunk.stored();
        let undone = chunk.undo(out);
        let undone = undone.map_err(|fault| self.named(array, place, stored, fault));
        undone.map(|()| true)
    }

    /// A fault of the chunk at `place`, of which so many bytes are stored, with its name.
    pub(super) fn named(
        &self,
        array: &Array<Counted>,
        place: &[u64],
        stored: usize,
        fault: Fault,
    ) -> Fault {
        let Fault::Corrupt(reason) = fault else {
            return fault;
        };
        let name = match &self.shards {
            Some(shards) => shards.name(array, place),
            None => format!("chunk {}", array.chunk_key(place)),
        };
        let size = match self.size {
            Some(size) => format!(", which is to decode to {size}"),
            None => String::new(),
        };
        Fault::Corrupt(format!("{name} has {stored} bytes{size}: {reason}"))
    }

    /// What the first codec made of the chunk at `place`.
    fn fetch(&self, array: &Array<Counted>, place: &[u64]) -> Result<Option<Fetched>, Fault> {
        let encoded = match &self.shards {
            Some(shards) => shards.read(array, place)?,
            None => array
                .storage()
                .get(&array.chunk_key(place))
                .map_err(|e| Fault::Corrupt(format!("chunk {}: {e}", array.chunk_key(place))))?,
        };
        let Some(mut encoded) = encoded else {
            return Ok(None);
        };
        let stored = encoded.len();
        let limit = RATIO.saturating_mul(stored as u64).min(LARGEST_CHUNK);
        let most = limit.saturating_add(FREE);
        if self.size.is_some_and(|size| size as u64 > most) {
            let reason = "no codec makes so little of so much".to_owned();
            return Err(self.named(array, place, stored, Fault::Corrupt(reason)));
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        for codec in self.around.iter().skip(1).rev() {
            let mut decoded = Vec::new();
            let undone = codec.decode(&encoded, None, limit, &mut decoded);
            undone.map_err(|fault| self.named(array, place, stored, fault))?;
            encoded = decoded.into();
        }
        Ok(Some(Fetched {
            bytes: encoded,
            stored,
            limit,
        }))
    }

    /// Texts of the chunk at `place`, `n` of them if it is not there.
    ///
    /// # Errors
    /// [`Fault::Corrupt`] where it does not decode to texts.
    pub(super) fn texts(
        &self,
        array: &Array<Counted>,
        place: &[u64],
        n: u64,
    ) -> Result<Texts, Fault> {
        let Some(chunk) = self.open(array, place)? else {
            return filled(array.fill_value().as_ne_bytes(), n);
        };
        let (stored, mut bytes) = (chunk.stored(), Vec::new());
        let texts = chunk.undo(&mut bytes).and_then(|()| parse(&bytes));
        texts.map_err(|fault| self.named(array, place, stored, fault))
    }
}

/// A chunk, undone as far as its first codec.
struct Fetched {
    bytes: Bytes,
    /// Bytes that are stored.
    stored: usize,
    /// Bytes that the first codec may have made it of, at most.
    limit: usize,
}

/// What the first codec made of a chunk.
#[derive(Debug)]
pub(super) struct Encoded<'a> {
    bytes: Bytes,
    /// Bytes that are stored.
    stored: usize,
    /// Bytes that it may have made it of, at most.
    limit: usize,
    codec: Option<&'a Undo>,
    size: Option<usize>,
}

impl Encoded<'_> {
    /// Bytes of the chunk as it is stored.
    pub(super) fn stored(&self) -> usize {
        self.stored
    }

    /// Undoes the codec, into `out`.
    ///
    /// # Errors
    /// [`Fault::Corrupt`] where the chunk does not decode to what it should.
    pub(super) fn undo(self, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self.codec {
            Some(codec) => codec.decode(&self.bytes, self.size, self.limit, out)?,
            None => {
                out.clear();
                out.extend_from_slice(&self.bytes);
            }
        }
        match self.size {
            Some(size) if out.len() != size => Err(wrong_size(out.len(), size)),
            _ => Ok(()),
        }
    }

    /// The chunk's bytes, where no codec has to be undone.
    pub(super) fn plain(&self) -> Option<&[u8]> {
        let is_whole = self.size == Some(self.bytes.len());
        (self.codec.is_none() && is_whole).then(|| self.bytes.as_ref())
    }

    /// The chunk as blosc's, where the codec is that and parts can be undone by themselves.
    ///
    /// # Errors
    /// [`Fault::Corrupt`] where it is no chunk of blosc, or of another size.
    pub(super) fn blosc(&self) -> Result<Option<BloscChunk<'_>>, Fault> {
        match (self.codec, self.size) {
            (Some(Undo::Blosc), Some(size)) => BloscChunk::parse(&self.bytes, size),
            _ => Ok(None),
        }
    }
}

fn wrong_size(decoded: usize, size: usize) -> Fault {
    Fault::Corrupt(format!(
        "a chunk decodes to {decoded} bytes where it has {size}"
    ))
}

/// The documents of the codecs from bytes to bytes: of v3 behind the first of the list, of v2 filters
/// and compressor.
fn around<'a>(document: &'a Map<String, Value>, list: Option<&'a Vec<Value>>) -> Vec<&'a Value> {
    if let Some(codecs) = list {
        return codecs.iter().skip(1).collect();
    }
    let filters = document.get("filters").and_then(Value::as_array);
    let compressor = document.get("compressor");
    filters
        .into_iter()
        .flatten()
        .filter(|filter| {
            let id = filter.get("id").and_then(Value::as_str);
            id.is_none_or(|id| !TEXT_CODECS.contains(&id))
        })
        .chain(compressor.filter(|compressor| !compressor.is_null()))
        .collect()
}

/// Whether a v3 codec is `bytes` in this machine's order.
fn is_native(codec: &Value) -> bool {
    let name = codec.get("name").and_then(Value::as_str);
    let endian = codec
        .get("configuration")
        .and_then(|c| c.get("endian"))
        .and_then(Value::as_str);
    let native = if cfg!(target_endian = "big") {
        "big"
    } else {
        "little"
    };
    name == Some("bytes") && endian.is_none_or(|endian| endian == native)
}

/// Whether a v2 type is in this machine's order.
fn is_native_v2(dtype: &Value) -> bool {
    let foreign = if cfg!(target_endian = "big") {
        '<'
    } else {
        '>'
    };
    dtype
        .as_str()
        .is_some_and(|dtype| !dtype.starts_with(foreign))
}

/// Texts of a chunk that is not there.
fn filled(text: &[u8], n: u64) -> Result<Texts, Fault> {
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
