//! An array: selected rows, through the codecs of `zarrs`.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::ArrayRef;
use async_trait::async_trait;
use rayon::prelude::*;
use serde_json::{Map, Value};
use zarrs::array::{
    Array, ArrayBytes, ArrayMetadata, ArrayShardedExt, ArrayShardedReadableExt,
    ArrayShardedReadableExtCache, ArraySubset, CodecOptions,
};
use zarrs::storage::{ReadableStorageTraits, StoreKey};

use super::dtype::{Element, Layout};
use super::files::{Counted, Files};
use super::text::{TextCodec, Texts};
use super::tree::{Version, prefix};
use crate::error::{Error, Result};
use crate::model::{DType, ElementKey, RowSelection};
use crate::store::decode::{
    Bytes, Fault, Initialised, Nowhere, Recent, TextBuilder, bands, panicked, to_arrow,
};
use crate::store::{ArrayInfo, ArrayReader, ReadMetrics};

/// Decoded chunks kept per array.
const KEEP_BYTES: usize = 32 << 20;
/// Decoded bytes of a chunk at most: it is decoded whole.
const LARGEST_CHUNK: u64 = 4 << 30;
/// What a codec can make of a byte at most; zstd packs zeros this far and further, but not data.
pub(super) const RATIO: u64 = 1 << 17;
/// What a read may give without a byte stored for it: fill values.
pub(super) const FREE: u64 = 64 << 20;

/// A reader; cheap to clone.
#[derive(Clone)]
pub(super) struct ZarrArray(Arc<Core>);

struct Core {
    info: ArrayInfo,
    url: String,
    files: Arc<dyn Files>,
    layout: Layout,
    array: Array<Counted>,
    storage: Arc<Counted>,
    /// Where the texts of a chunk are read here.
    text: Option<TextCodec>,
    /// Shard indexes, and where inner chunks are.
    shards: ArrayShardedReadableExtCache,
    /// Rows of the smallest piece that is decoded at once.
    height: u64,
    /// Bytes of a row; of text, of nothing.
    row_bytes: u64,
    /// Whether decoding a part of a chunk costs as much as all of it.
    encoded: bool,
    recent: Recent<Band>,
}

/// Decoded rows, all columns.
enum Band {
    Fixed(Vec<u8>),
    Text(Texts),
}

impl fmt::Debug for ZarrArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZarrArray")
            .field("info", &self.0.info)
            .finish_non_exhaustive()
    }
}

impl ZarrArray {
    /// Understands an array's document; reads no chunk.
    ///
    /// # Errors
    /// [`Error::NotImplemented`] for a codec or grid that `zarrs` does not know,
    /// [`Error::InvalidElement`] where the document contradicts itself.
    pub(super) fn open(
        url: &str,
        files: &Arc<dyn Files>,
        key: &ElementKey,
        version: Version,
        document: &Map<String, Value>,
    ) -> Result<Self> {
        let invalid = |reason: String| Error::invalid(url, key, reason);
        let null = Value::Null;
        let of = |name: &str| document.get(name).unwrap_or(&null);
        let element = match version {
            Version::V2 => Element::v2(of("dtype"), of("filters")),
            Version::V3 => Element::v3(of("data_type")),
        };
        let mut told = document.clone();
        match version {
            Version::V2 => element.rewrite_v2(&mut told),
            Version::V3 => element.rewrite_v3(&mut told),
        }
        if version == Version::V2 && of("shape").as_array().is_some_and(|shape| shape.len() < 2) {
            // Of one axis or none both orders are the same, and zarrs 0.23 makes a transposition of
            // no axes without a check.
            told.insert("order".to_owned(), Value::from("C"));
        }
        let told = Value::Object(told);
        let metadata = match version {
            Version::V2 => serde_json::from_value(told).map(ArrayMetadata::V2),
            Version::V3 => serde_json::from_value(told).map(ArrayMetadata::V3),
        };
        let metadata = metadata.map_err(|e| invalid(format!("its metadata: {e}")))?;
        let shape: Vec<u64> = of("shape")
            .as_array()
            .and_then(|shape| shape.iter().map(Value::as_u64).collect())
            .ok_or_else(|| invalid(format!("a shape of {}", of("shape"))))?;
        let storage = Arc::new(Counted::new(Arc::clone(files), prefix(key)));
        let opened = catch_unwind(AssertUnwindSafe(|| {
            Array::new_with_metadata(Arc::clone(&storage), "/", metadata)
        }));
        let array = match opened {
            Ok(Ok(array)) => array,
            Ok(Err(e)) => return Err(Error::NotImplemented(format!("{url}: element {key}: {e}"))),
            Err(panic) => return Err(panicked(panic.as_ref()).at(url, key)),
        };
        let origin = vec![0; shape.len()];
        let chunk = array
            .chunk_shape(&origin)
            .map_err(|e| invalid(e.to_string()))?;
        let outer: Vec<u64> = chunk.iter().map(|n| n.get()).collect();
        let inner = array.effective_subchunk_shape();
        let inner: Vec<u64> = inner.map_or(outer, |inner| inner.iter().map(|n| n.get()).collect());
        let row_len = shape
            .iter()
            .skip(1)
            .try_fold(1u64, |p, n| p.checked_mul(*n));
        let size = match &element.layout {
            Layout::Fixed { disk, .. } => disk.size() as u64,
            Layout::Text | Layout::Unknown => 0,
        };
        let row_bytes = row_len
            .and_then(|n| n.checked_mul(size))
            .filter(|row| {
                row.checked_mul(shape.first().copied().unwrap_or(1))
                    .is_some()
            })
            .ok_or_else(|| invalid(format!("a shape of {shape:?} elements of {size} bytes")))?;
        let chunk_bytes = inner.iter().try_fold(size.max(1), |p, n| p.checked_mul(*n));
        if chunk_bytes.is_none_or(|bytes| bytes > LARGEST_CHUNK) {
            return Err(invalid(format!(
                "chunks of {inner:?} elements of {size} bytes; the most that is read at once is \
                 {LARGEST_CHUNK} bytes"
            )));
        }
        let filters = filters(version, document);
        let whole_rows = inner
            .iter()
            .zip(&shape)
            .skip(1)
            .all(|(chunk, n)| chunk == n);
        let text = (whole_rows && matches!(element.layout, Layout::Text))
            .then(|| TextCodec::of(&array, document.get("codecs"), of("order")))
            .flatten();
        Ok(Self(Arc::new(Core {
            info: ArrayInfo {
                key: key.clone(),
                dtype: element.dtype,
                shape,
                null: false,
                chunk_shape: Some(inner.clone()).filter(|inner| !inner.is_empty()),
                filters: filters.clone(),
                fixed_text: matches!(
                    &element.layout,
                    Layout::Fixed { raw: true, disk } if matches!(disk, crate::store::decode::Disk::Text { .. })
                ),
                stored_bytes: None,
            },
            url: url.to_owned(),
            files: Arc::clone(files),
            layout: element.layout,
            shards: ArrayShardedReadableExtCache::new(&array),
            array,
            storage,
            text,
            height: inner.first().copied().unwrap_or(1).max(1),
            row_bytes,
            encoded: !filters.is_empty() || size == 0,
            recent: Recent::new(KEEP_BYTES),
        })))
    }
}

/// Codecs in the order of encoding, as users write them.
fn filters(version: Version, document: &Map<String, Value>) -> Vec<String> {
    let mut names = Vec::new();
    let mut push = |codec: &Value| {
        let name = codec
            .get("id")
            .or_else(|| codec.get("name"))
            .unwrap_or(codec);
        let Some(name) = name.as_str() else { return };
        let config = codec.get("configuration").unwrap_or(codec);
        let level = config
            .get("level")
            .or_else(|| config.get("clevel"))
            .and_then(Value::as_i64);
        let name = match (name, config.get("cname").and_then(Value::as_str), level) {
            ("bytes" | "vlen-utf8" | "crc32c" | "sharding_indexed", ..) => return,
            (name, Some(cname), Some(level)) => format!("{name}-{cname}-{level}"),
            (name, _, Some(level)) => format!("{name}-{level}"),
            (name, ..) => name.to_owned(),
        };
        names.push(name);
    };
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    match version {
        Version::V2 => {
            list(document.get("filters")).iter().for_each(&mut push);
            document.get("compressor").into_iter().for_each(&mut push);
        }
        Version::V3 => {
            for codec in list(document.get("codecs")) {
                let inner = codec.get("configuration").and_then(|c| c.get("codecs"));
                list(inner).iter().for_each(&mut push);
                push(&codec);
            }
        }
    }
    names
}

impl Core {
    fn read(&self, rows: &RowSelection) -> std::result::Result<(ArrayRef, u64), Fault> {
        let parts = bands(rows, self.height);
        let n_parts = parts.len() as u64;
        let array = match &self.layout {
            Layout::Fixed { disk, .. } => {
                let total = rows
                    .len()
                    .checked_mul(self.row_bytes)
                    .ok_or_else(|| Fault::Corrupt("the selected rows overflow 64 bits".into()))?;
                self.check_fill(total, &parts)?;
                let len = usize::try_from(total)
                    .map_err(|_| Fault::Corrupt(format!("{total} bytes in one array")))?;
                let bytes = Bytes::try_fill(len, |out| self.fill(parts, out))?;
                to_arrow(disk, bytes, &Nowhere)?
            }
            Layout::Text => {
                let texts = parts
                    .into_par_iter()
                    .map(|(band, ranges)| self.texts(band, &ranges))
                    .collect::<std::result::Result<Vec<_>, Fault>>()?;
                Arc::new(TextBuilder::join(texts)?.finish()?)
            }
            Layout::Unknown => {
                return Err(Fault::Unsupported(format!(
                    "values of type {}",
                    self.info.dtype
                )));
            }
        };
        Ok((array, n_parts))
    }

    fn fill(
        &self,
        parts: Vec<(u64, Vec<Range<u64>>)>,
        out: &mut [std::mem::MaybeUninit<u8>],
    ) -> std::result::Result<Initialised, Fault> {
        let overflow = || Fault::Corrupt("the selected rows overflow the result".into());
        let mut rest = out;
        let mut tasks = Vec::with_capacity(parts.len());
        for (band, ranges) in parts {
            let rows: u64 = ranges.iter().map(|r| r.end - r.start).sum();
            let len = usize::try_from(rows * self.row_bytes).map_err(|_| overflow())?;
            let target = rest.split_off_mut(..len).ok_or_else(overflow)?;
            tasks.push((band, ranges, target));
        }
        let done = tasks.into_par_iter().map(|(band, ranges, mut target)| {
            let (decoded, first) = self.band(band, &ranges)?;
            let Band::Fixed(bytes) = decoded.as_ref() else {
                return Err(Fault::Corrupt("text where numbers were expected".into()));
            };
            let mut done = Initialised::default();
            for range in &ranges {
                let at = |row: u64| usize::try_from((row - first) * self.row_bytes);
                let (Ok(from), Ok(to)) = (at(range.start), at(range.end)) else {
                    return Err(overflow());
                };
                let source = bytes.get(from..to).ok_or_else(|| {
                    Fault::Corrupt(format!("a chunk decodes to {} bytes", bytes.len()))
                })?;
                let part = target.split_off_mut(..source.len()).ok_or_else(overflow)?;
                done = done.and(Initialised::of(part.write_copy_of_slice(source)));
            }
            Ok(done)
        });
        done.try_reduce(Initialised::default, |a, b| Ok(a.and(b)))
    }

    fn texts(&self, band: u64, ranges: &[Range<u64>]) -> std::result::Result<TextBuilder, Fault> {
        let (decoded, first) = self.band(band, ranges)?;
        let Band::Text(Texts { bytes, offsets }) = decoded.as_ref() else {
            return Err(Fault::Corrupt("numbers where text was expected".into()));
        };
        let row_len = self.info.row_len().unwrap_or(0);
        let mut texts = TextBuilder::with_capacity(offsets.len(), bytes.len());
        for range in ranges {
            for i in (range.start - first) * row_len..(range.end - first) * row_len {
                let i = usize::try_from(i).unwrap_or(usize::MAX);
                let text = offsets
                    .get(i)
                    .zip(offsets.get(i.saturating_add(1)))
                    .and_then(|(from, to)| bytes.get(*from..*to));
                let text = text.ok_or_else(|| {
                    Fault::Corrupt(format!("a chunk holds {} texts", offsets.len()))
                })?;
                texts.push(text)?;
            }
        }
        Ok(texts)
    }

    /// The wanted rows of a band, decoded, and which row of the band is the first.
    fn band(
        &self,
        band: u64,
        ranges: &[Range<u64>],
    ) -> std::result::Result<(Arc<Band>, u64), Fault> {
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
            return Err(Fault::Corrupt("no rows are wanted".into()));
        };
        let origin = band * self.height;
        let rows = self.info.shape.first().copied().unwrap_or(1);
        let whole = self.height.min(rows.saturating_sub(origin));
        let to_the_end = last.end >= whole;
        if let Some(kept) = self.recent.recall(band) {
            if to_the_end {
                self.recent.forget(band);
            }
            return Ok((kept, 0));
        }
        // Of what is not encoded a part is as cheap as it is small.
        let wanted = match self.encoded {
            true => 0..whole,
            false => first.start..last.end,
        };
        let decoded = Arc::new(match &self.text {
            Some(codec) => {
                let mut place = vec![0; self.info.shape.len()];
                if let Some(first) = place.first_mut() {
                    *first = band;
                }
                let n = whole
                    .max(1)
                    .saturating_mul(self.info.row_len().unwrap_or(0));
                Band::Text(codec.read(&self.array, &self.shards, &place, n)?)
            }
            None => self.subset(origin, &wanted)?,
        });
        if self.encoded && !to_the_end {
            let len = match decoded.as_ref() {
                Band::Fixed(bytes) => bytes.len(),
                Band::Text(Texts { bytes, offsets }) => {
                    bytes.len() + offsets.len() * size_of::<usize>()
                }
            };
            self.recent.remember(band, len, || Arc::clone(&decoded));
        }
        Ok((decoded, wanted.start))
    }

    /// Rows of the array as `zarrs` gives them.
    fn subset(&self, origin: u64, wanted: &Range<u64>) -> std::result::Result<Band, Fault> {
        let mut subset: Vec<Range<u64>> = self.info.shape.iter().map(|n| 0..*n).collect();
        if let Some(axis) = subset.first_mut() {
            *axis = origin + wanted.start..origin + wanted.end;
        }
        let subset = ArraySubset::new_with_ranges(&subset);
        let options = CodecOptions::default().with_concurrent_target(1);
        let decoded: ArrayBytes<'static> = self
            .array
            .retrieve_array_subset_sharded_opt(&self.shards, &subset, &options)
            .map_err(|e| Fault::Corrupt(e.to_string()))?;
        Ok(match decoded {
            ArrayBytes::Fixed(bytes) => Band::Fixed(bytes.into_owned()),
            ArrayBytes::Variable(texts) => {
                let (bytes, offsets) = texts.into_parts();
                Band::Text(Texts {
                    bytes: bytes.into_owned(),
                    offsets: offsets.to_vec(),
                })
            }
            ArrayBytes::Optional(_) => {
                return Err(Fault::Unsupported("values that may be missing".into()));
            }
        })
    }

    /// Refuses a large result for which little is stored: chunks that are missing are fill values,
    /// and a shape is only a claim.
    fn check_fill(
        &self,
        total: u64,
        parts: &[(u64, Vec<Range<u64>>)],
    ) -> std::result::Result<(), Fault> {
        if total <= FREE {
            return Ok(());
        }
        let shard = self
            .array
            .chunk_shape(&vec![0; self.info.shape.len()])
            .map_err(|e| Fault::Corrupt(e.to_string()))?;
        let height = shard.first().map_or(1, |n| n.get());
        let mut stored = 0u64;
        let mut last = None;
        for (band, _) in parts {
            let row = band * self.height / height;
            if last.replace(row) == Some(row) {
                continue;
            }
            // The first of the chunks side by side stands for the others.
            let mut place = vec![0; shard.len()];
            if let Some(first) = place.first_mut() {
                *first = row;
            }
            let key: StoreKey = self.array.chunk_key(&place);
            let across: u64 = shard
                .iter()
                .zip(&self.info.shape)
                .skip(1)
                .map(|(chunk, n)| n.div_ceil(chunk.get()))
                .product();
            let size = self
                .storage
                .size_key(&key)
                .map_err(|e| Fault::Corrupt(e.to_string()))?;
            let size = size
                .unwrap_or(0)
                .saturating_mul(across)
                .saturating_mul(RATIO);
            stored = stored.saturating_add(size);
            if stored >= total {
                return Ok(());
            }
        }
        match total <= stored.saturating_add(FREE) {
            true => Ok(()),
            false => Err(Fault::Corrupt(format!(
                "{total} bytes are asked for, and the chunks that are stored cannot hold them"
            ))),
        }
    }
}

#[async_trait]
impl ArrayReader for ZarrArray {
    fn info(&self) -> &ArrayInfo {
        &self.0.info
    }

    async fn stored_bytes(&self) -> Result<Option<u64>> {
        let core = &self.0;
        let total = core.files.total(&prefix(&core.info.key));
        let total = total.map_err(|e| Fault::Io(e).at(&core.url, &core.info.key))?;
        Ok(Some(total))
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        let core = &self.0;
        let len = core.info.len();
        if rows.end() > len {
            return Err(Error::OutOfRange {
                url: core.url.clone(),
                element: core.info.key.clone(),
                position: i128::from(rows.end()) - 1,
                len,
            });
        }
        if let DType::Other(what) = &core.info.dtype {
            return Err(Error::NotImplemented(format!(
                "{}: element {}: values of type {what}",
                core.url, core.info.key
            )));
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (job, rows) = (Arc::clone(core), rows.clone());
        rayon::spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| job.read(&rows)))
                .unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
            // The reader may have been dropped meanwhile, which is its right.
            let _ = sender.send(result);
        });
        let result = receiver
            .await
            .unwrap_or_else(|_| Err(Fault::Corrupt("the read was abandoned".into())));
        let (array, chunks) = result.map_err(|fault| fault.at(&core.url, &core.info.key))?;
        metrics.add_bytes(core.storage.take());
        metrics.add_chunks(chunks);
        Ok(array)
    }
}
