//! The bytes of chunks.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::Buffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use serde_json::{Value, json};
use zarrs::array::codec::api::BytesToBytesCodecTraits;
use zarrs::array::{CodecChain, CodecOptions};
use zarrs::metadata::v3::MetadataV3;
use zstd::bulk::Compressor;
use zstd::zstd_safe::compress_bound;

use crate::model::DType;
use crate::store::Compression;
use crate::store::decode::Room;
use crate::store::encode::{RawResult, encode, mismatch};
use crate::store::zarr::cut::Run;

/// Elements one after the other, as a chunk takes them.
#[derive(Debug)]
pub(super) enum Elements {
    /// In bytes of a fixed number.
    Fixed { bytes: Buffer, size: usize },
    /// As text.
    Text(StringArray),
}

impl Elements {
    /// The elements of values of a type.
    ///
    /// # Errors
    /// Where the values are not of the type's Arrow form.
    pub(super) fn of(dtype: &DType, values: &ArrayRef) -> RawResult<Self> {
        if *dtype == DType::String {
            return Ok(Self::Text(texts(values)?.clone()));
        }
        let bytes = encode(dtype, values, &wide)?;
        let size = bytes.len() / values.len().max(1);
        Ok(Self::Fixed { bytes, size })
    }

    /// The bytes of a chunk of `len` elements that has these runs, filled up with zeros and empty
    /// texts; [`None`] where it holds nothing else.
    ///
    /// # Errors
    /// Where a text is longer than 4 GiB.
    pub(super) fn chunk(&self, runs: &[Run], len: usize) -> RawResult<Option<Cow<'_, [u8]>>> {
        match self {
            Self::Fixed { bytes, size } => {
                if let [run] = runs
                    && run.len == len
                {
                    let chunk = &bytes[run.from * size..(run.from + len) * size];
                    return Ok((!is_zero(chunk)).then_some(Cow::Borrowed(chunk)));
                }
                let mut chunk = vec![0; len * size];
                for run in runs {
                    chunk[run.to * size..(run.to + run.len) * size]
                        .copy_from_slice(&bytes[run.from * size..(run.from + run.len) * size]);
                }
                Ok((!is_zero(&chunk)).then_some(Cow::Owned(chunk)))
            }
            Self::Text(texts) => {
                let mut chunk = vec![""; len];
                for run in runs {
                    for i in 0..run.len {
                        chunk[run.to + i] = texts.value(run.from + i);
                    }
                }
                if chunk.iter().all(|text| text.is_empty()) {
                    return Ok(None);
                }
                Ok(Some(Cow::Owned(vlen(&chunk)?)))
            }
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    rest.iter().all(|byte| *byte == 0) && words.iter().all(|word| *word == [0; 16])
}

/// `vlen-utf8`: their number, then each after its length, in words of four bytes.
fn vlen(texts: &[&str]) -> RawResult<Vec<u8>> {
    let len: usize = texts.iter().map(|text| text.len() + 4).sum();
    let mut bytes = Vec::with_capacity(len + 4);
    bytes.extend(u32::try_from(texts.len())?.to_le_bytes());
    for text in texts {
        bytes.extend(u32::try_from(text.len())?.to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    Ok(bytes)
}

/// Texts as an array of one of Arrow's types for it.
fn texts(values: &ArrayRef) -> RawResult<StringArray> {
    let texts = match values.data_type() {
        DataType::Utf8 => Arc::clone(values),
        DataType::LargeUtf8 | DataType::Utf8View => cast(values, &DataType::Utf8)?,
        other => return Err(mismatch(&DType::String, other)),
    };
    match texts.null_count() {
        0 => Ok(texts.as_string::<i32>().clone()),
        // The mask beside them says so.
        _ => Ok(texts
            .as_string::<i32>()
            .iter()
            .map(|t| Some(t.unwrap_or("")))
            .collect()),
    }
}

/// The characters of the longest of the texts, 1 at least: the width of numpy's `U`.
pub(super) fn width(values: &ArrayRef) -> RawResult<usize> {
    let texts = texts(values)?;
    let widths = texts.iter().flatten().map(|text| text.chars().count());
    Ok(widths.max().unwrap_or(0).max(1))
}

/// Texts of a record's member: UTF-32, as many characters as the longest has.
fn wide(values: &ArrayRef) -> RawResult<Buffer> {
    let width = width(values)?;
    let texts = texts(values)?;
    let mut words = Vec::with_capacity(width * texts.len());
    for (i, text) in texts.iter().enumerate() {
        words.extend(text.unwrap_or("").chars().map(u32::from));
        words.resize((i + 1) * width, 0);
    }
    Ok(Buffer::from_vec(words))
}

/// What is done with a chunk's bytes.
#[derive(Debug, Clone)]
pub(super) struct Codecs {
    /// As v3 documents have it.
    pub(super) v3: Option<Value>,
    /// As v2 documents have it.
    pub(super) v2: Value,
    step: Option<Step>,
}

/// A codec from bytes to bytes.
#[derive(Debug, Clone)]
enum Step {
    /// Done here: what `zarrs` does makes a context of some megabytes for every chunk, which costs as much as
    /// to compress it.
    Zstd(i32),
    Zarrs(Arc<dyn BytesToBytesCodecTraits>),
}

thread_local! {
    static ZSTD: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// A chunk as one frame of zstd that says its length.
fn frame(chunk: &[u8], level: i32) -> RawResult<Room> {
    ZSTD.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(level)?),
        };
        compressor.set_compression_level(level)?;
        let bound = compress_bound(chunk.len());
        let mut room = Room::with_capacity(bound);
        room.reserve(bound);
        compressor.compress_to_buffer(chunk, &mut *room)?;
        Ok(room)
    })
}

/// The bytes of a chunk as they are stored.
#[derive(Debug)]
pub(super) enum Encoded<'a> {
    /// As they are, or as `zarrs` encodes them.
    Chunk(Cow<'a, [u8]>),
    /// In memory that is used again, rather than as much as a chunk may become for each of them.
    Room(Room),
}

impl Deref for Encoded<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Chunk(bytes) => bytes,
            Self::Room(bytes) => bytes,
        }
    }
}

impl Codecs {
    /// The codec of a compression, for elements of `size` bytes, or text.
    ///
    /// # Errors
    /// Where zarr has no such compression.
    pub(super) fn of(compression: Compression, size: Option<u64>) -> RawResult<Self> {
        let blosc = |cname: &str, level: u8| {
            let shuffled = size.is_some();
            let size = size.unwrap_or(1).clamp(1, 255);
            let v3 = json!({"name": "blosc", "configuration": {
                "typesize": size, "cname": cname, "clevel": level,
                "shuffle": if shuffled { "shuffle" } else { "noshuffle" }, "blocksize": 0}});
            let v2 = json!({"id": "blosc", "cname": cname, "clevel": level,
                "shuffle": u8::from(shuffled), "blocksize": 0});
            (v3, v2)
        };
        let (v3, v2) = match compression {
            Compression::None => {
                return Ok(Self {
                    v3: None,
                    v2: Value::Null,
                    step: None,
                });
            }
            Compression::Zstd(level) => (
                json!({"name": "zstd", "configuration": {"level": level, "checksum": false}}),
                json!({"id": "zstd", "level": level}),
            ),
            Compression::Gzip(level) => (
                json!({"name": "gzip", "configuration": {"level": level}}),
                json!({"id": "gzip", "level": level}),
            ),
            Compression::BloscLz4(level) => blosc("lz4", level),
            Compression::BloscZstd(level) => blosc("zstd", level),
            Compression::Lzf => return Err("zarr has no lzf".into()),
        };
        let bytes = json!({"name": "bytes", "configuration": {"endian": "little"}});
        let metadata: Vec<MetadataV3> = serde_json::from_value(json!([bytes, v3]))?;
        let step = match compression {
            Compression::Zstd(level) => Step::Zstd(level.into()),
            _ => {
                let chain = CodecChain::from_metadata(&metadata)?;
                match chain.bytes_to_bytes_codecs() {
                    [codec] => Step::Zarrs(Arc::clone(codec)),
                    codecs => return Err(format!("{} codecs for one", codecs.len()).into()),
                }
            }
        };
        Ok(Self {
            v3: Some(v3),
            v2,
            step: Some(step),
        })
    }

    /// The chunk as it is stored.
    ///
    /// # Errors
    /// Those of the codec.
    pub(super) fn encode<'a>(&self, chunk: Cow<'a, [u8]>) -> RawResult<Encoded<'a>> {
        let options = CodecOptions::default().with_concurrent_target(1);
        Ok(match &self.step {
            None => Encoded::Chunk(chunk),
            Some(Step::Zstd(level)) => Encoded::Room(frame(&chunk, *level)?),
            Some(Step::Zarrs(codec)) => Encoded::Chunk(codec.encode(chunk, &options)?),
        })
    }
}
