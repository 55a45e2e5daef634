//! The bytes of chunks.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::Buffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use serde_json::{Value, json};
use zarrs::array::codec::api::BytesToBytesCodecTraits;
use zarrs::array::{CodecChain, CodecOptions};
use zarrs::metadata::v3::MetadataV3;

use super::zstd::Zstd;
use crate::model::DType;
use crate::store::Compression;
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

/// How chunks are compressed, where that is settled array by array.
pub(super) type Way = Option<Zstd>;

/// What is done with a chunk's bytes.
#[derive(Debug, Clone)]
pub(super) struct Codecs {
    /// As v3 documents have it.
    pub(super) v3: Option<Value>,
    /// As v2 documents have it.
    pub(super) v2: Value,
    chain: Vec<Arc<dyn BytesToBytesCodecTraits>>,
    /// Zstandard instead of the chain, and whether its way was settled.
    zstd: Option<(Zstd, bool)>,
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
                    chain: Vec::new(),
                    zstd: None,
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
        let chain = CodecChain::from_metadata(&metadata)?;
        Ok(Self {
            v3: Some(v3),
            v2,
            chain: chain.bytes_to_bytes_codecs().to_vec(),
            zstd: match compression {
                Compression::Zstd(level) => Some((Zstd::Level(level), false)),
                _ => None,
            },
        })
    }

    /// Whether a chunk has to say how those after it are compressed.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.zstd, Some((_, false)))
    }

    /// Settles how the chunks of an array are compressed, by one of them.
    ///
    /// # Errors
    /// Those of the codec.
    pub(super) fn settle(&mut self, chunk: &[u8]) -> RawResult<()> {
        if let Some((Zstd::Level(level), false)) = self.zstd {
            self.zstd = Some((Zstd::settle(level, chunk)?, true));
        }
        Ok(())
    }

    /// What was settled for the array.
    pub(super) fn way(&self) -> Way {
        self.zstd.map(|(zstd, _)| zstd)
    }

    /// The chunk compressed, [`None`] where it is stored as it is.
    ///
    /// # Errors
    /// Those of the codec.
    pub(super) fn compress(&self, chunk: &[u8]) -> RawResult<Option<Vec<u8>>> {
        if let Some((zstd, _)) = self.zstd {
            return Ok(Some(zstd.compress(chunk)?));
        }
        let options = CodecOptions::default().with_concurrent_target(1);
        let mut bytes = Cow::Borrowed(chunk);
        for codec in &self.chain {
            bytes = codec.encode(bytes, &options)?;
        }
        Ok((!self.chain.is_empty()).then(|| bytes.into_owned()))
    }
}
