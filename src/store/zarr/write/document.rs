//! What an array says of itself.

use arrow::array::{ArrayRef, AsArray};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::encode::{Codecs, width};
use super::grid::Grid;
use crate::model::DType;
use crate::store::ZarrVersion;
use crate::store::encode::RawResult;

/// A data type as documents have it.
#[derive(Debug, Clone)]
pub(super) struct DataType {
    /// Of version 3.
    v3: Value,
    /// Of version 2.
    v2: Value,
    fill: Value,
    /// Bytes of an element; [`None`] of text.
    size: Option<u64>,
    /// Whether it is a record, whose fill value version 2 has as bytes.
    record: bool,
}

impl DataType {
    /// The type of an array; of a record with text, whose width they give, its values.
    ///
    /// # Errors
    /// Where zarr has no such type.
    pub(super) fn of(dtype: &DType, values: Option<&ArrayRef>) -> RawResult<Self> {
        let number = |v3: &str, v2: &str, fill: Value| Self {
            v3: json!(v3),
            v2: json!(v2),
            fill,
            size: dtype.size(),
            record: false,
        };
        Ok(match dtype {
            DType::Bool => number("bool", "|b1", json!(false)),
            DType::Int8 => number("int8", "|i1", json!(0)),
            DType::Int16 => number("int16", "<i2", json!(0)),
            DType::Int32 => number("int32", "<i4", json!(0)),
            DType::Int64 => number("int64", "<i8", json!(0)),
            DType::UInt8 => number("uint8", "|u1", json!(0)),
            DType::UInt16 => number("uint16", "<u2", json!(0)),
            DType::UInt32 => number("uint32", "<u4", json!(0)),
            DType::UInt64 => number("uint64", "<u8", json!(0)),
            DType::Float16 => number("float16", "<f2", json!(0.0)),
            DType::Float32 => number("float32", "<f4", json!(0.0)),
            DType::Float64 => number("float64", "<f8", json!(0.0)),
            DType::Complex64 => number("complex64", "<c8", json!([0.0, 0.0])),
            DType::Complex128 => number("complex128", "<c16", json!([0.0, 0.0])),
            DType::String => Self {
                v3: json!("string"),
                v2: json!("|O"),
                fill: json!(""),
                size: None,
                record: false,
            },
            DType::Struct(members) => {
                let columns = values.map(|values| values.as_struct().columns());
                let mut fields = Vec::with_capacity(members.len());
                for (i, member) in members.iter().enumerate() {
                    let values = columns.and_then(|columns| columns.get(i));
                    fields.push((member.name.as_str(), Self::member(&member.dtype, values)?));
                }
                Self::record(&fields)
            }
            DType::FixedArray(..) | DType::Reference | DType::Other(_) => {
                return Err(format!("zarr has no elements of type {dtype}").into());
            }
        })
    }

    fn member(dtype: &DType, values: Option<&ArrayRef>) -> RawResult<Self> {
        match dtype {
            DType::String => {
                let width = values.map_or(Ok(1), width)?;
                let bytes = width * 4;
                Ok(Self {
                    v3: json!({"name": "fixed_length_utf32",
                        "configuration": {"length_bytes": bytes}}),
                    v2: json!(format!("<U{width}")),
                    fill: json!(""),
                    size: u64::try_from(bytes).ok(),
                    record: false,
                })
            }
            dtype => Self::of(dtype, values),
        }
    }

    fn record(fields: &[(&str, Self)]) -> Self {
        let of = |part: fn(&Self) -> &Value| -> Vec<Value> {
            let parts = fields.iter();
            parts
                .map(|(name, field)| json!([name, part(field)]))
                .collect()
        };
        let named = fields
            .iter()
            .map(|(name, field)| json!({"name": name, "data_type": field.v3}));
        let fill = fields
            .iter()
            .map(|(name, field)| ((*name).to_owned(), field.fill.clone()));
        Self {
            v3: json!({"name": "struct",
                "configuration": {"fields": named.collect::<Vec<_>>()}}),
            v2: Value::Array(of(|field| &field.v2)),
            fill: Value::Object(fill.collect()),
            size: fields.iter().map(|(_, field)| field.size).sum(),
            record: true,
        }
    }

    /// The same with the most significant byte of a number first; version 2 only.
    pub(super) fn into_big_endian(mut self) -> Self {
        if let Some(name) = self.v2.as_str() {
            self.v2 = json!(name.replacen('<', ">", 1));
        }
        self
    }

    /// The same with another fill value.
    pub(super) fn with_fill(self, fill: Value) -> Self {
        Self { fill, ..self }
    }

    /// Bytes of an element; [`None`] of text.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Whether shards hold it: zarr-python does not read records out of them (its issue 3546).
    pub(super) fn may_be_sharded(&self) -> bool {
        !self.record
    }
}

/// The document of an array of these lengths; attributes are not in it.
pub(super) fn array(
    version: ZarrVersion,
    shape: &[u64],
    grid: &Grid,
    data_type: &DataType,
    codecs: &Codecs,
) -> Map<String, Value> {
    let document = match version {
        ZarrVersion::V2 => v2(shape, grid, data_type, codecs),
        ZarrVersion::V3 => v3(shape, grid, data_type, codecs),
    };
    object(document)
}

/// The document of an array of version 2 whose chunks another file has: `filters` were applied to
/// them in this order.
pub(super) fn linked(
    shape: &[u64],
    chunk: &[u64],
    data_type: &DataType,
    filters: Value,
) -> Map<String, Value> {
    let fill = data_type.fill.clone();
    object(array_v2(
        shape,
        chunk,
        data_type,
        fill,
        filters,
        Value::Null,
    ))
}

fn object(document: Value) -> Map<String, Value> {
    match document {
        Value::Object(document) => document,
        _ => Map::new(),
    }
}

fn v3(shape: &[u64], grid: &Grid, data_type: &DataType, codecs: &Codecs) -> Value {
    let little = json!({"name": "bytes", "configuration": {"endian": "little"}});
    let first = match data_type.size {
        None => json!({"name": "vlen-utf8", "configuration": {}}),
        Some(1) if !data_type.record => json!({"name": "bytes"}),
        Some(_) => little.clone(),
    };
    let inner: Vec<Value> = std::iter::once(first).chain(codecs.v3.clone()).collect();
    let (chunk, codecs) = match grid.shard() {
        None => (grid.cut().chunk().to_vec(), inner),
        Some(shard) => {
            let sharding = json!({"name": "sharding_indexed", "configuration": {
                "chunk_shape": grid.cut().chunk(),
                "codecs": inner,
                "index_codecs": [little, {"name": "crc32c"}],
                "index_location": "end"}});
            (shard, vec![sharding])
        }
    };
    json!({
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": data_type.v3,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": data_type.fill,
        "codecs": codecs,
        "storage_transformers": [],
    })
}

fn v2(shape: &[u64], grid: &Grid, data_type: &DataType, codecs: &Codecs) -> Value {
    let fill = match data_type.size.filter(|_| data_type.record) {
        Some(size) => {
            let size = usize::try_from(size).unwrap_or_default();
            json!(BASE64_STANDARD.encode(vec![0u8; size]))
        }
        None => data_type.fill.clone(),
    };
    let filters = match data_type.size {
        None => json!([{"id": "vlen-utf8"}]),
        Some(_) => Value::Null,
    };
    let compressor = codecs.v2.clone();
    array_v2(
        shape,
        grid.cut().chunk(),
        data_type,
        fill,
        filters,
        compressor,
    )
}

fn array_v2(
    shape: &[u64],
    chunk: &[u64],
    data_type: &DataType,
    fill: Value,
    filters: Value,
    compressor: Value,
) -> Value {
    json!({
        "zarr_format": 2,
        "shape": shape,
        "chunks": chunk,
        "dtype": data_type.v2,
        "fill_value": fill,
        "order": "C",
        "filters": filters,
        "dimension_separator": ".",
        "compressor": compressor,
    })
}
