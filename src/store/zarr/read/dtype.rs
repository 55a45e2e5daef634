//! Zarr's data types: the type users see, the layout that is decoded, and what the codecs are told.
//!
//! Records, and text of fixed width, are raw bytes to the codecs, and cut up here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::model::{DType, StructField};
use crate::store::decode::{Disk, Member, Padding, complex};

/// The codecs of text of any length. Bytes of any length lie as text does, and are read as it.
pub(super) const TEXT_CODECS: [&str; 2] = ["vlen-utf8", "vlen-bytes"];

/// How deep records may nest.
const MAX_DEPTH: usize = 16;

/// A data type, understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Element {
    pub(super) dtype: DType,
    pub(super) layout: Layout,
}

/// How elements come out of the codecs.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Layout {
    /// In bytes of a fixed number; `raw` where the codecs shall not know more than that.
    Fixed { disk: Disk, raw: bool },
    /// As text of any length.
    Text,
    /// Not at all.
    Unknown,
}

impl Layout {
    /// Bytes of an element; 0 where they differ.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Fixed { disk, .. } => disk.size() as u64,
            Self::Text | Self::Unknown => 0,
        }
    }
}

impl Element {
    /// Reads a v2 `dtype`: numpy's, or a list of a record's members.
    pub(super) fn v2(dtype: &Value, filters: &Value) -> Self {
        let has_text = filters.as_array().is_some_and(|filters| {
            let ids = filters.iter().filter_map(|f| f.get("id")?.as_str());
            ids.into_iter().any(|id| TEXT_CODECS.contains(&id))
        });
        if dtype.as_str() == Some("|O") && has_text {
            return Self::text();
        }
        let mut element = Self::fixed(numpy(dtype, 0), dtype);
        if let Layout::Fixed {
            disk: Disk::Complex { .. },
            raw,
        } = &mut element.layout
        {
            *raw = true;
        }
        element
    }

    /// Reads a v3 `data_type`: a name, or a name and its configuration.
    pub(super) fn v3(data_type: &Value) -> Self {
        let name = data_type
            .as_str()
            .or_else(|| data_type.get("name")?.as_str());
        match name {
            Some("string" | "numpy.string" | "vlen-utf8") => return Self::text(),
            Some("variable_length_bytes" | "bytes") => return Self::text(),
            _ => {}
        }
        Self::fixed(named(data_type, 0), data_type)
    }

    fn text() -> Self {
        Self {
            dtype: DType::String,
            layout: Layout::Text,
        }
    }

    fn fixed(known: Option<(DType, Disk)>, described: &Value) -> Self {
        match known {
            Some((dtype, disk)) => {
                let raw = matches!(
                    disk,
                    Disk::Text { .. }
                        | Disk::Wide { .. }
                        | Disk::Record { .. }
                        | Disk::Array { .. }
                );
                Self {
                    dtype,
                    layout: Layout::Fixed { disk, raw },
                }
            }
            None => Self {
                dtype: DType::Other(match described.as_str() {
                    Some(name) => name.to_owned(),
                    None => described.to_string(),
                }),
                layout: Layout::Unknown,
            },
        }
    }

    /// What the codecs are told in a v2 document instead of `dtype` and `fill_value`.
    pub(super) fn rewrite_v2(&self, document: &mut Map<String, Value>) {
        match &self.layout {
            Layout::Fixed { disk, raw: true } => {
                let size = disk.size();
                document.insert("dtype".to_owned(), json!(format!("|V{size}")));
                document.insert("fill_value".to_owned(), json!(vec![0u8; size]));
            }
            Layout::Text => {
                let filters = document.get_mut("filters").and_then(Value::as_array_mut);
                let has_bytes = as_text(filters.into_iter().flatten(), "id");
                fill_text(document, has_bytes);
            }
            _ => {}
        }
    }

    /// What the codecs are told in a v3 document instead of `data_type` and `fill_value`.
    pub(super) fn rewrite_v3(&self, document: &mut Map<String, Value>) {
        match &self.layout {
            Layout::Fixed { disk, raw: true } => {
                let size = disk.size();
                document.insert("data_type".to_owned(), json!(format!("r{}", size * 8)));
                document.insert("fill_value".to_owned(), json!(vec![0u8; size]));
            }
            Layout::Text => {
                document.insert("data_type".to_owned(), json!("string"));
                let codecs = document.get_mut("codecs").and_then(Value::as_array_mut);
                let mut has_bytes = false;
                for codec in codecs.into_iter().flatten() {
                    let inner = codec.pointer_mut("/configuration/codecs");
                    let inner = inner.and_then(Value::as_array_mut);
                    has_bytes |= as_text(inner.into_iter().flatten(), "name");
                    has_bytes |= as_text([codec], "name");
                }
                fill_text(document, has_bytes);
            }
            _ => {}
        }
    }
}

/// Makes codecs of bytes those of text; whether there was one.
fn as_text<'a>(codecs: impl IntoIterator<Item = &'a mut Value>, name: &str) -> bool {
    let mut found = false;
    for codec in codecs {
        if let Some(name) = codec.get_mut(name).filter(|name| **name == "vlen-bytes") {
            *name = json!("vlen-utf8");
            found = true;
        }
    }
    found
}

/// Makes the fill value text: that of bytes is in base64, and older stores have 0 or nothing.
fn fill_text(document: &mut Map<String, Value>, is_bytes: bool) {
    let fill = document.get("fill_value").and_then(Value::as_str);
    let text = match fill {
        Some(fill) if is_bytes => STANDARD
            .decode(fill)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok()),
        fill => fill.map(str::to_owned),
    };
    document.insert("fill_value".to_owned(), json!(text.unwrap_or_default()));
}

/// Numbers, which the codecs give in native order where they know what they are.
fn number(dtype: DType, swap: bool) -> (DType, Disk) {
    let disk = match &dtype {
        DType::Bool => Disk::Bool,
        DType::Complex64 => Disk::Complex {
            part: DType::Float32,
            swap,
        },
        DType::Complex128 => Disk::Complex {
            part: DType::Float64,
            swap,
        },
        _ => Disk::Number {
            dtype: dtype.clone(),
            swap: swap && dtype.size() != Some(1),
        },
    };
    (dtype, disk)
}

/// numpy's array protocol: `<f4`, `|S10`, or a list of members.
fn numpy(dtype: &Value, depth: usize) -> Option<(DType, Disk)> {
    if depth > MAX_DEPTH {
        return None;
    }
    if let Some(members) = dtype.as_array() {
        let members = members.iter().map(|member| {
            let member = member.as_array()?;
            let [name, dtype, shape @ ..] = member.as_slice() else {
                return None;
            };
            let mut inner = numpy(dtype, depth + 1)?;
            for len in shape
                .first()
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .rev()
            {
                inner = fixed_array(inner, len.as_u64()?)?;
            }
            Some((name.as_str()?.to_owned(), inner))
        });
        return record(members.collect::<Option<_>>()?);
    }
    let text = dtype.as_str()?;
    let (order, kind) = (text.get(..1)?, text.get(1..)?);
    // In a record, and of complex numbers, the codecs see raw bytes and leave their order as it is.
    let raw = depth > 0 || kind.starts_with('c');
    let swap = raw && order != "|" && (order == ">") != cfg!(target_endian = "big");
    let width = |text: &str| text.parse::<usize>().ok().filter(|n| *n > 0);
    let dtype = match kind {
        "b1" => DType::Bool,
        "i1" => DType::Int8,
        "i2" => DType::Int16,
        "i4" => DType::Int32,
        "i8" => DType::Int64,
        "u1" => DType::UInt8,
        "u2" => DType::UInt16,
        "u4" => DType::UInt32,
        "u8" => DType::UInt64,
        "f2" => DType::Float16,
        "f4" => DType::Float32,
        "f8" => DType::Float64,
        "c8" => DType::Complex64,
        "c16" => DType::Complex128,
        _ if kind.starts_with('S') => {
            let size = width(&kind[1..])?;
            let padding = Padding::Zeros;
            return Some((DType::String, Disk::Text { size, padding }));
        }
        _ if kind.starts_with('U') => {
            let size = width(&kind[1..])?.checked_mul(4)?;
            let swap = (order == ">") != cfg!(target_endian = "big");
            return Some((DType::String, Disk::Wide { size, swap }));
        }
        _ => return None,
    };
    Some(number(dtype, swap))
}

/// A v3 data type by its name.
fn named(data_type: &Value, depth: usize) -> Option<(DType, Disk)> {
    if depth > MAX_DEPTH {
        return None;
    }
    let name = data_type
        .as_str()
        .or_else(|| data_type.get("name")?.as_str())?;
    let name = name.strip_prefix("numpy.").unwrap_or(name);
    let length = || {
        let length = data_type.get("configuration")?.get("length_bytes")?;
        usize::try_from(length.as_u64()?).ok().filter(|n| *n > 0)
    };
    let big = cfg!(target_endian = "big");
    // Members of records are little-endian, as the `bytes` codec around them says.
    let swap = depth > 0 && big;
    let dtype = match name {
        "bool" => DType::Bool,
        "int8" => DType::Int8,
        "int16" => DType::Int16,
        "int32" => DType::Int32,
        "int64" => DType::Int64,
        "uint8" => DType::UInt8,
        "uint16" => DType::UInt16,
        "uint32" => DType::UInt32,
        "uint64" => DType::UInt64,
        "float16" => DType::Float16,
        "float32" => DType::Float32,
        "float64" => DType::Float64,
        "complex64" => DType::Complex64,
        "complex128" => DType::Complex128,
        "fixed_length_utf32" => {
            let size = length().filter(|n| n.is_multiple_of(4))?;
            return Some((DType::String, Disk::Wide { size, swap: big }));
        }
        "null_terminated_bytes" | "fixed_length_ascii" => {
            let (size, padding) = (length()?, Padding::Zeros);
            return Some((DType::String, Disk::Text { size, padding }));
        }
        "struct" | "structured" => {
            let fields = data_type.get("configuration")?.get("fields")?.as_array()?;
            let members = fields.iter().map(|field| {
                let (name, data_type) = match field.as_array().map(Vec::as_slice) {
                    Some([name, data_type]) => (name, data_type),
                    _ => (field.get("name")?, field.get("data_type")?),
                };
                Some((name.as_str()?.to_owned(), named(data_type, depth + 1)?))
            });
            return record(members.collect::<Option<_>>()?);
        }
        _ => return None,
    };
    Some(number(dtype, swap))
}

fn fixed_array((dtype, disk): (DType, Disk), len: u64) -> Option<(DType, Disk)> {
    let item = Box::new(disk);
    let disk = Disk::Array {
        len: usize::try_from(len).ok()?,
        item,
    };
    Some((DType::FixedArray(Box::new(dtype), len), disk))
}

/// A record of members without padding.
fn record(members: Vec<(String, (DType, Disk))>) -> Option<(DType, Disk)> {
    let mut fields = Vec::with_capacity(members.len());
    let mut layout = Vec::with_capacity(members.len());
    let mut size = 0usize;
    for (name, (dtype, disk)) in members {
        let offset = size;
        size = size.checked_add(disk.size())?;
        fields.push(StructField {
            name: name.clone(),
            dtype,
        });
        layout.push(Member { name, offset, disk });
    }
    if size == 0 {
        return None;
    }
    Some(complex(&layout, size).unwrap_or((
        DType::Struct(fields),
        Disk::Record {
            size,
            members: layout,
        },
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cut_up_here() {
        let element = Element::v2(
            &json!([["n", ">i8"], ["s", "<U2"], ["v", "<f4", [3]]]),
            &Value::Null,
        );
        let Layout::Fixed { disk, raw: true } = &element.layout else {
            panic!("{element:?}")
        };
        assert_eq!(disk.size(), 8 + 8 + 12);
        let mut document = serde_json::Map::new();
        element.rewrite_v2(&mut document);
        assert_eq!(document["dtype"], json!("|V28"));
    }

    #[test]
    fn bytes_of_any_length_are_text() {
        let mut document = json!({
            "data_type": "variable_length_bytes", "fill_value": "YWI=",
            "codecs": [{"name": "sharding_indexed", "configuration": {"codecs": [
                {"name": "vlen-bytes"}, {"name": "zstd"}]}}],
        });
        let document = document.as_object_mut().unwrap();
        let element = Element::v3(&document["data_type"]);
        assert_eq!(element, Element::text());
        element.rewrite_v3(document);
        assert_eq!(document["fill_value"], json!("ab"));
        let inner = &document["codecs"][0]["configuration"]["codecs"][0]["name"];
        assert_eq!(inner, &json!("vlen-utf8"));
        let filters = json!([{"id": "vlen-bytes"}]);
        assert_eq!(Element::v2(&json!("|O"), &filters), Element::text());
    }

    #[test]
    fn types_without_meaning_say_what_they_are() {
        assert_eq!(
            Element::v2(&json!("<M8[ns]"), &Value::Null).dtype,
            DType::Other("<M8[ns]".to_owned())
        );
        assert_eq!(
            Element::v2(&json!("|S0"), &Value::Null).layout,
            Layout::Unknown
        );
        assert_eq!(
            Element::v2(&json!("é"), &Value::Null).layout,
            Layout::Unknown
        );
    }
}
