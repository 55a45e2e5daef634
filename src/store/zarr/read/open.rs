//! Arrays from their documents.

use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::{Map, Value};
use zarrs::array::{Array, ArrayMetadata, ArrayShardedExt, ArrayShardedReadableExtCache};

use super::array::{Core, ZarrArray};
use super::chunk::ChunkCodec;
use super::dtype::{Element, Layout};
use super::files::Files;
use super::storage::Counted;
use super::tree::{Version, prefix};
use crate::error::{Error, Result};
use crate::model::ElementKey;
use crate::store::ArrayInfo;
use crate::store::decode::{Disk, Recent, panicked};
use crate::store::zarr::cut::Cut;

/// Bytes of decoded chunks kept per array.
const KEEP_BYTES: u64 = 32 << 20;
/// The same where a band of chunks side by side is larger: it would be decoded for every batch.
const KEEP_BAND_BYTES: u64 = 256 << 20;
/// Decoded bytes of a chunk at most: it is decoded whole.
pub(super) const LARGEST_CHUNK: u64 = 4 << 30;

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
        let element = match version {
            Version::V2 => Element::v2(of(document, "dtype"), of(document, "filters")),
            Version::V3 => Element::v3(of(document, "data_type")),
        };
        let metadata = metadata(version, document, &element)
            .map_err(|e| invalid(format!("its metadata: {e}")))?;
        let shape: Vec<u64> = of(document, "shape")
            .as_array()
            .and_then(|shape| shape.iter().map(Value::as_u64).collect())
            .ok_or_else(|| invalid(format!("a shape of {}", of(document, "shape"))))?;
        let storage = Arc::new(Counted::new(Arc::clone(files), prefix(key)));
        let opened = catch_unwind(AssertUnwindSafe(|| {
            Array::new_with_metadata(Arc::clone(&storage), "/", metadata)
        }));
        let array = match opened {
            Ok(Ok(array)) => array,
            Ok(Err(e)) => return Err(Error::NotImplemented(format!("{url}: element {key}: {e}"))),
            Err(panic) => return Err(panicked(panic.as_ref()).at(url, key)),
        };
        let inner = match array.effective_subchunk_shape() {
            Some(inner) => inner,
            None => array
                .chunk_shape(&vec![0; shape.len()])
                .map_err(|e| invalid(e.to_string()))?,
        };
        let inner: Vec<u64> = inner.into_iter().map(NonZeroU64::get).collect();
        let size = element.layout.size();
        let row_bytes = row_bytes(&shape, size)
            .ok_or_else(|| invalid(format!("a shape of {shape:?} elements of {size} bytes")))?;
        let chunk_bytes = inner.iter().try_fold(size.max(1), |p, n| p.checked_mul(*n));
        if chunk_bytes.is_none_or(|bytes| bytes > LARGEST_CHUNK) {
            return Err(invalid(format!(
                "chunks of {inner:?} elements of {size} bytes; the most that is read at once is \
                 {LARGEST_CHUNK} bytes"
            )));
        }
        let filters = filters(version, document);
        let mut axes = inner.iter().zip(&shape).skip(1);
        let whole_rows = axes.all(|(chunk, n)| chunk == n);
        // Of what is not encoded, parts are read; of text, chunks are not put together here.
        // From far away a chunk comes whole, too, since many of them then come together.
        let encoded = !filters.is_empty() || size == 0 || files.is_remote();
        let whole = (encoded && (whole_rows || size > 0))
            .then(|| ChunkCodec::of(&array, document, &element.layout, &inner))
            .flatten();
        let text_of_one_width = matches!(
            &element.layout,
            Layout::Fixed {
                raw: true,
                disk: Disk::Text { .. }
            }
        );
        let height = inner.first().copied().unwrap_or(1).max(1);
        let band_bytes = height.saturating_mul(row_bytes);
        let room = KEEP_BYTES.max(band_bytes.min(KEEP_BAND_BYTES));
        Ok(Self(Arc::new(Core {
            url: url.to_owned(),
            files: Arc::clone(files),
            layout: element.layout,
            shards: ArrayShardedReadableExtCache::new(&array),
            array,
            storage,
            whole,
            cut: Cut::new(shape.iter().skip(1).copied().collect(), inner.clone()),
            height,
            row_bytes,
            encoded,
            room,
            recent: Recent::new(usize::try_from(room).unwrap_or(usize::MAX)),
            info: ArrayInfo {
                key: key.clone(),
                dtype: element.dtype,
                shape,
                null: false,
                chunk_shape: Some(inner).filter(|inner| !inner.is_empty()),
                filters,
                fixed_text: text_of_one_width,
                stored_bytes: None,
            },
        })))
    }
}

/// A member of a document; null where there is none.
fn of<'a>(document: &'a Map<String, Value>, name: &str) -> &'a Value {
    document.get(name).unwrap_or(&Value::Null)
}

/// The document as `zarrs` takes it.
fn metadata(
    version: Version,
    document: &Map<String, Value>,
    element: &Element,
) -> serde_json::Result<ArrayMetadata> {
    let mut told = document.clone();
    match version {
        Version::V2 => {
            element.rewrite_v2(&mut told);
            let shape = of(document, "shape").as_array();
            if shape.is_some_and(|shape| shape.len() < 2) {
                // Of one axis or none both orders are the same, and zarrs 0.23 makes a
                // transposition of no axes without a check.
                told.insert("order".to_owned(), Value::from("C"));
            }
            serde_json::from_value(Value::Object(told)).map(ArrayMetadata::V2)
        }
        Version::V3 => {
            element.rewrite_v3(&mut told);
            serde_json::from_value(Value::Object(told)).map(ArrayMetadata::V3)
        }
    }
}

/// Bytes of a row; [`None`] where those of all rows overflow.
fn row_bytes(shape: &[u64], size: u64) -> Option<u64> {
    let mut others = shape.iter().skip(1);
    let row = others.try_fold(size, |p, n| p.checked_mul(*n))?;
    row.checked_mul(shape.first().copied().unwrap_or(1))?;
    Some(row)
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
            ("bytes" | "vlen-utf8" | "vlen-bytes" | "crc32c" | "sharding_indexed", ..) => return,
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
