//! A store as one document: what is small stands in it, the rest is said where it lies.
//!
//! The document is version 1 of kerchunk's reference specification, which fsspec's
//! `ReferenceFileSystem` opens: a JSON object of a store's keys. A value of text is a file's content
//! (`base64:` before what is no text), a list is a path, an offset and a length. The path is spelt
//! out each time: for a template fsspec wants jinja2, which nothing else here needs.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value as Json, json};

use super::document::{self, DataType};
use super::files::chunk_key;
use super::store::{STORE, Shared};
use super::values::{Value, Values};
use crate::error::{Error, Result};
use crate::model::{DType, ElementKey};
use crate::store::encode::RawResult;
use crate::store::temporary::{Kind, Names};
use crate::store::zarr::DOCUMENTS;
use crate::store::{
    ArrayReader, Attributes, ChunkBytes, ChunkFilter, Located, References, WriteTarget,
    ZarrVersion, place_of,
};

/// Bytes that the document holds by value: whoever opens it keeps it in memory.
const HELD: u64 = 1 << 30;
/// Bytes of an array, decoded, that is held by value because it cannot be referred to.
const HELD_ARRAY: u64 = 64 << 20;

/// The document, written as keys come.
#[derive(Debug)]
pub(super) struct ReferenceFile {
    names: Names,
    overwrite: bool,
    fsync: bool,
    /// The file that is referred to, as JSON.
    source: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    file: BufWriter<File>,
    is_empty: bool,
    /// Bytes by value so far.
    held: u64,
}

impl ReferenceFile {
    /// Begins the document of references to `source`, a path or a URL, beside `target.path`.
    ///
    /// # Errors
    /// [`Error::OutputRefused`] where the output exists and may not be replaced, or has no
    /// directory; [`Error::Store`] where the file cannot be made.
    pub(super) fn create(target: &WriteTarget, source: &str) -> Result<Self> {
        let names = Names::try_new(target, Kind::File)?;
        let failure = |e: io::Error| Error::store(STORE, &names.url, e);
        let source = match source.contains("://") {
            true => source.to_owned(),
            false => {
                let path = Path::new(source);
                let path = path.canonicalize().unwrap_or_else(|_| place_of(path));
                let path = path.into_os_string().into_string();
                let no_text = |path: std::ffi::OsString| {
                    failure(io::Error::other(format!("{} is no text", path.display())))
                };
                path.map_err(no_text)?
            }
        };
        let mut file = BufWriter::new(File::create_new(&names.temporary).map_err(failure)?);
        file.write_all(b"{\"version\":1,\"refs\":{")
            .map_err(failure)?;
        Ok(Self {
            overwrite: target.overwrite,
            fsync: target.fsync,
            source: json!(source).to_string(),
            state: Arc::new(Mutex::new(State {
                file,
                is_empty: true,
                held: 0,
            })),
            names,
        })
    }

    /// The content of a key, by value.
    fn hold(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        lock(&self.state).hold(key, bytes)
    }

    /// Where the content of a key lies.
    fn point(&self, key: &str, offset: u64, len: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.key(key)?;
        write!(state.file, "[{},{offset},{len}]", self.source)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Values for ReferenceFile {
    fn url(&self) -> &str {
        &self.names.url
    }

    fn create(&self, key: &str) -> io::Result<Box<dyn Value>> {
        Ok(Box::new(HeldValue {
            state: Arc::clone(&self.state),
            key: key.to_owned(),
            bytes: Vec::new(),
        }))
    }

    fn close(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.file.write_all(b"}}\n")?;
        state.file.flush()?;
        match self.fsync {
            true => state.file.get_ref().sync_all(),
            false => Ok(()),
        }
    }

    fn publish(&self) -> Result<()> {
        self.names.publish(self.overwrite, self.fsync)
    }

    fn discard(&self) {
        self.names.remove();
    }

    fn references(&self) -> Option<&ReferenceFile> {
        Some(self)
    }
}

impl State {
    fn hold(&mut self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.held = self.held.saturating_add(bytes.len() as u64);
        if self.held > HELD {
            return Err(io::Error::other(format!(
                "text and values that cannot be referred to come to more than {HELD} bytes, too \
                 many for a document that readers keep in memory"
            )));
        }
        self.key(key)?;
        let name = key.rsplit('/').next().unwrap_or(key);
        match std::str::from_utf8(bytes) {
            Ok(text) if DOCUMENTS.contains(&name) => write!(self.file, "{}", json!(text)),
            _ => write!(self.file, "\"base64:{}\"", BASE64_STANDARD.encode(bytes)),
        }
    }

    fn key(&mut self, key: &str) -> io::Result<()> {
        if !std::mem::take(&mut self.is_empty) {
            self.file.write_all(b",\n")?;
        }
        write!(self.file, "{}:", json!(key))
    }
}

/// A value that stands in the document.
#[derive(Debug)]
struct HeldValue {
    state: Arc<Mutex<State>>,
    key: String,
    bytes: Vec<u8>,
}

impl Value for HeldValue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        lock(&self.state).hold(&self.key, &self.bytes)
    }
}

/// Refers to the chunks of an array; `false` where its values are wanted.
///
/// # Errors
/// Why it can neither be referred to nor held.
pub(super) fn link(
    shared: &Shared,
    file: &ReferenceFile,
    key: &ElementKey,
    source: &dyn ArrayReader,
    located: &Located,
    attributes: &Attributes,
) -> RawResult<bool> {
    let info = source.info();
    let references = match located {
        Located::Chunks(references) => references,
        Located::Nowhere(reason) => {
            let elements = info
                .row_len()
                .unwrap_or(u64::MAX)
                .saturating_mul(info.len());
            let bytes = info.dtype.size().map(|size| size.saturating_mul(elements));
            return match bytes.filter(|bytes| *bytes > HELD_ARRAY) {
                Some(bytes) => Err(format!(
                    "{reason}, so it cannot be referred to, and its {bytes} bytes are more than \
                     the {HELD_ARRAY} that are held by value: convert it to gzip or no compression \
                     first"
                )
                .into()),
                None => Ok(false),
            };
        }
    };
    let data_type = DataType::of(&info.dtype, None)?;
    let data_type = match references.big_endian {
        true => data_type.into_big_endian(),
        false => data_type,
    };
    let fill = fill_value(&info.dtype, references)?;
    let data_type = data_type.with_fill(fill);
    let document = document::linked(
        &info.shape,
        &references.chunk_shape,
        &data_type,
        filters(references),
    );
    let grid: Vec<u64> = info
        .shape
        .iter()
        .zip(&references.chunk_shape)
        .map(|(n, chunk)| n.div_ceil((*chunk).max(1)))
        .collect();
    for chunk in &references.chunks {
        let mut place = vec![0; grid.len()];
        let mut rest = chunk.index;
        for (at, n) in place.iter_mut().zip(&grid).rev() {
            *at = rest % (*n).max(1);
            rest /= (*n).max(1);
        }
        let chunk_key = chunk_key(key.as_str(), ZarrVersion::V2, &place);
        match &chunk.bytes {
            ChunkBytes::At { offset, len } => file.point(&chunk_key, *offset, *len)?,
            ChunkBytes::Held(bytes) => file.hold(&chunk_key, bytes)?,
        }
    }
    shared.add_array(key, attributes.clone(), document);
    Ok(true)
}

/// Filters as numcodecs has them.
fn filters(references: &References) -> Json {
    let all = references.filters.iter().map(|filter| match filter {
        ChunkFilter::Shuffle(size) => json!({"id": "shuffle", "elementsize": size}),
        ChunkFilter::Zlib => json!({"id": "zlib", "level": 1}),
        ChunkFilter::Fletcher32 => json!({"id": "fletcher32"}),
    });
    let all: Vec<Json> = all.collect();
    match all.is_empty() {
        true => Json::Null,
        false => Json::Array(all),
    }
}

/// A fill value as documents of version 2 have it.
fn fill_value(dtype: &DType, references: &References) -> RawResult<Json> {
    let wrong = || format!("a fill value of {} bytes", references.fill.len());
    let mut bytes = references.fill.clone();
    let width = match dtype {
        DType::Complex64 | DType::Complex128 => bytes.len() / 2,
        _ => bytes.len(),
    };
    if references.big_endian {
        bytes.chunks_mut(width.max(1)).for_each(<[u8]>::reverse);
    }
    let parts: Vec<Json> = bytes
        .chunks(width.max(1))
        .map(|part| number(dtype, part))
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    match (dtype, &parts[..]) {
        (DType::Complex64 | DType::Complex128, [_, _]) => Ok(Json::Array(parts)),
        (_, [one]) => Ok(one.clone()),
        _ => Err(wrong().into()),
    }
}

/// A number in little-endian bytes.
fn number(dtype: &DType, bytes: &[u8]) -> Option<Json> {
    let float = |value: f64| match value {
        v if v.is_nan() => json!("NaN"),
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        v => json!(v),
    };
    Some(match dtype {
        DType::Bool => json!(*bytes.first()? != 0),
        DType::Int8 => json!(i8::from_le_bytes(bytes.try_into().ok()?)),
        DType::Int16 => json!(i16::from_le_bytes(bytes.try_into().ok()?)),
        DType::Int32 => json!(i32::from_le_bytes(bytes.try_into().ok()?)),
        DType::Int64 => json!(i64::from_le_bytes(bytes.try_into().ok()?)),
        DType::UInt8 => json!(u8::from_le_bytes(bytes.try_into().ok()?)),
        DType::UInt16 => json!(u16::from_le_bytes(bytes.try_into().ok()?)),
        DType::UInt32 => json!(u32::from_le_bytes(bytes.try_into().ok()?)),
        DType::UInt64 => json!(u64::from_le_bytes(bytes.try_into().ok()?)),
        DType::Float16 => float(half::f16::from_le_bytes(bytes.try_into().ok()?).to_f64()),
        DType::Float32 | DType::Complex64 => {
            float(f64::from(f32::from_le_bytes(bytes.try_into().ok()?)))
        }
        DType::Float64 | DType::Complex128 => float(f64::from_le_bytes(bytes.try_into().ok()?)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dtype: &DType, big_endian: bool, fill: &[u8]) -> Json {
        let references = References {
            chunk_shape: vec![1],
            big_endian,
            filters: Vec::new(),
            fill: fill.to_vec(),
            chunks: Vec::new(),
        };
        fill_value(dtype, &references).unwrap()
    }

    #[test]
    fn fill_values_are_those_of_the_file() {
        assert_eq!(of(&DType::Int16, false, &[1, 2]), json!(0x201));
        assert_eq!(of(&DType::Int16, true, &[1, 2]), json!(0x102));
        assert_eq!(
            of(&DType::Float32, false, &f32::NAN.to_le_bytes()),
            json!("NaN")
        );
        let complex = [1f32.to_be_bytes(), (-2f32).to_be_bytes()].concat();
        assert_eq!(of(&DType::Complex64, true, &complex), json!([1.0, -2.0]));
        assert_eq!(of(&DType::Bool, false, &[1]), json!(true));
    }
}
