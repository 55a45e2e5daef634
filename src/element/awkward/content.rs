//! The arrays of an awkward array in the shape of its form, lengths checked; rows as JSON text.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, Int64Array, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, UInt8Type, UInt64Type};

use crate::element::awkward::form::{Form, ListKind};

/// Lists may share their items, so a few arrays can spell out without end: a row stops here.
const MAX_ROW_BYTES: usize = 64 << 20;

/// A node with its arrays, which hold at least as many items as its parent refers to.
#[derive(Debug)]
pub(super) enum Content {
    Empty,
    Numbers(Numbers, Vec<usize>),
    List {
        starts: Vec<usize>,
        stops: Vec<usize>,
        items: Items,
    },
    Regular {
        size: usize,
        items: Items,
    },
    Record {
        names: Option<Vec<String>>,
        contents: Vec<Self>,
    },
    /// Positions in the content; [`None`] is missing.
    Indexed(Vec<Option<usize>>, Box<Self>),
    Union {
        tags: Vec<usize>,
        index: Vec<usize>,
        contents: Vec<Self>,
    },
}

/// What a list holds.
#[derive(Debug)]
pub(super) enum Items {
    Values(Box<Content>),
    Text(Vec<u8>),
}

/// Numbers by the way they are spelt.
#[derive(Debug)]
pub(super) enum Numbers {
    Bool(BooleanArray),
    Int(Int64Array),
    UInt(UInt64Array),
    Single(Float32Array),
    Double(Float64Array),
    Complex(Box<Self>, Box<Self>),
}

/// The arrays of the group by name, flattened.
pub(super) type Arrays = HashMap<String, ArrayRef>;

impl Content {
    /// The content of a form that must hold `len` items.
    ///
    /// # Errors
    /// Which array is missing or too short, or leads beyond its content.
    pub(super) fn of(form: &Form, len: usize, arrays: &Arrays) -> Result<Self, String> {
        match form {
            Form::Empty if len == 0 => Ok(Self::Empty),
            Form::Empty => Err(format!("an EmptyArray is to hold {len} items")),
            Form::Numpy { key, inner } => {
                let inner: Option<Vec<usize>> =
                    inner.iter().map(|n| usize::try_from(*n).ok()).collect();
                let inner = inner.ok_or("inner_shape is too large")?;
                let width = inner
                    .iter()
                    .try_fold(1usize, |product, n| product.checked_mul(*n));
                let wanted = width.and_then(|width| width.checked_mul(len));
                let name = format!("{key}-data");
                let array = part(arrays, &name, wanted.ok_or("inner_shape is too large")?)?;
                Ok(Self::Numbers(Numbers::of(&name, array)?, inner))
            }
            Form::ListOffset { key, kind, content } => {
                let name = format!("{key}-offsets");
                let offsets = positions(arrays, &name, len.saturating_add(1))?;
                let offsets = offsets.get(..=len).unwrap_or_default();
                if offsets.is_sorted() {
                    Ok(Self::List {
                        starts: offsets[..len].to_vec(),
                        stops: offsets.get(1..).unwrap_or_default().to_vec(),
                        items: Items::of(
                            *kind,
                            content,
                            offsets.last().copied().unwrap_or(0),
                            arrays,
                        )?,
                    })
                } else {
                    Err(format!("{name} decreases"))
                }
            }
            Form::List { key, kind, content } => {
                let starts = positions(arrays, &format!("{key}-starts"), len)?;
                let stops = positions(arrays, &format!("{key}-stops"), len)?;
                if starts.iter().zip(&stops).any(|(start, stop)| start > stop) {
                    return Err(format!("{key}-starts lies after {key}-stops"));
                }
                let held = stops.iter().take(len).copied().max().unwrap_or(0);
                Ok(Self::List {
                    items: Items::of(*kind, content, held, arrays)?,
                    starts,
                    stops,
                })
            }
            Form::Regular {
                size,
                kind,
                content,
            } => {
                let size = usize::try_from(*size).map_err(|_| "size is too large")?;
                let held = size.checked_mul(len).ok_or("size is too large")?;
                Ok(Self::Regular {
                    size,
                    items: Items::of(*kind, content, held, arrays)?,
                })
            }
            Form::Record { names, contents } => Ok(Self::Record {
                names: names.clone(),
                contents: contents
                    .iter()
                    .map(|content| Self::of(content, len, arrays))
                    .collect::<Result<_, _>>()?,
            }),
            Form::Indexed {
                key,
                optional,
                content,
            } => {
                let name = format!("{key}-index");
                let index = integers(arrays, &name, len)?;
                let index = index.iter().take(len).map(|i| match usize::try_from(*i) {
                    Ok(i) => Ok(Some(i)),
                    Err(_) if *optional => Ok(None),
                    Err(_) => Err(format!("{name} holds {i}")),
                });
                Self::indexed(index.collect::<Result<_, _>>()?, content, arrays)
            }
            Form::ByteMasked {
                key,
                valid_when,
                content,
            } => {
                let mask = integers(arrays, &format!("{key}-mask"), len)?;
                let valid = mask
                    .iter()
                    .take(len)
                    .map(|byte| (*byte != 0) == *valid_when);
                Self::masked(valid, content, len, arrays)
            }
            Form::BitMasked {
                key,
                valid_when,
                lsb_order,
                content,
            } => {
                let bytes = integers(arrays, &format!("{key}-mask"), len.div_ceil(8))?;
                let valid = (0..len).map(|i| {
                    let shift = if *lsb_order { i % 8 } else { 7 - i % 8 };
                    (((bytes[i / 8] >> shift) & 1) == 1) == *valid_when
                });
                Self::masked(valid, content, len, arrays)
            }
            Form::Unmasked(content) => Self::of(content, len, arrays),
            Form::Union { key, contents } => {
                let tags = positions(arrays, &format!("{key}-tags"), len)?;
                let index = positions(arrays, &format!("{key}-index"), len)?;
                let contents = contents.iter().enumerate().map(|(tag, content)| {
                    let own = tags
                        .iter()
                        .zip(&index)
                        .take(len)
                        .filter(|(t, _)| **t == tag);
                    let held = own.map(|(_, i)| i + 1).max().unwrap_or(0);
                    Self::of(content, held, arrays)
                });
                let contents: Vec<Self> = contents.collect::<Result<_, _>>()?;
                match tags.iter().find(|tag| **tag >= contents.len()) {
                    Some(tag) => Err(format!(
                        "{key}-tags holds {tag} of {} contents",
                        contents.len()
                    )),
                    None => Ok(Self::Union {
                        tags,
                        index,
                        contents,
                    }),
                }
            }
        }
    }

    fn indexed(index: Vec<Option<usize>>, content: &Form, arrays: &Arrays) -> Result<Self, String> {
        let held = index
            .iter()
            .flatten()
            .max()
            .map_or(0, |last| last.saturating_add(1));
        let content = Self::of(content, held, arrays)?;
        Ok(Self::Indexed(index, Box::new(content)))
    }

    fn masked(
        valid: impl Iterator<Item = bool>,
        content: &Form,
        len: usize,
        arrays: &Arrays,
    ) -> Result<Self, String> {
        let content = Self::of(content, len, arrays)?;
        let index = valid
            .enumerate()
            .map(|(i, valid)| valid.then_some(i))
            .collect();
        Ok(Self::Indexed(index, Box::new(content)))
    }

    /// Whether the item at the top is missing.
    pub(super) fn is_missing(&self, at: usize) -> bool {
        match self {
            Self::Indexed(index, content) => match index.get(at) {
                Some(Some(at)) => content.is_missing(*at),
                _ => true,
            },
            _ => false,
        }
    }

    /// Appends an item as JSON to the text of its row.
    ///
    /// # Errors
    /// Where a row would take more than 64 MiB, or text is not UTF-8.
    pub(super) fn write(&self, at: usize, out: &mut String) -> Result<(), String> {
        check_row(out)?;
        match self {
            Self::Empty => out.push_str("null"),
            Self::Numbers(numbers, inner) => write_numbers(numbers, inner, at, out)?,
            Self::List {
                starts,
                stops,
                items,
            } => items.write(starts[at]..stops[at], out)?,
            Self::Regular { size, items } => items.write(at * size..(at + 1) * size, out)?,
            Self::Record { names, contents } => {
                out.push(if names.is_some() { '{' } else { '[' });
                for (i, content) in contents.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    if let Some(name) = names.as_ref().and_then(|names| names.get(i)) {
                        write_text(name, out);
                        out.push(':');
                    }
                    content.write(at, out)?;
                }
                out.push(if names.is_some() { '}' } else { ']' });
            }
            Self::Indexed(index, content) => match index[at] {
                Some(at) => content.write(at, out)?,
                None => out.push_str("null"),
            },
            Self::Union {
                tags,
                index,
                contents,
            } => contents[tags[at]].write(index[at], out)?,
        }
        Ok(())
    }
}

impl Items {
    fn of(kind: ListKind, content: &Form, held: usize, arrays: &Arrays) -> Result<Self, String> {
        if kind == ListKind::List {
            return Ok(Self::Values(Box::new(Content::of(content, held, arrays)?)));
        }
        let Form::Numpy { key, .. } = content else {
            return Err("text whose content is no NumpyArray".to_owned());
        };
        let name = format!("{key}-data");
        let bytes = part(arrays, &name, held)?;
        let bytes = cast(bytes, &DataType::UInt8).map_err(|e| format!("{name}: {e}"))?;
        Ok(Self::Text(
            bytes.as_primitive::<UInt8Type>().values().to_vec(),
        ))
    }

    fn write(&self, range: Range<usize>, out: &mut String) -> Result<(), String> {
        match self {
            Self::Text(bytes) => {
                let text = std::str::from_utf8(&bytes[range.clone()]);
                let text = text.map_err(|e| format!("text at {}: {e}", range.start))?;
                write_text(text, out);
            }
            Self::Values(content) => {
                out.push('[');
                for at in range.clone() {
                    if at > range.start {
                        out.push(',');
                    }
                    content.write(at, out)?;
                }
                out.push(']');
            }
        }
        Ok(())
    }
}

impl Numbers {
    fn of(name: &str, array: &ArrayRef) -> Result<Self, String> {
        let to = |data_type| cast(array, data_type).map_err(|e| format!("{name}: {e}"));
        Ok(match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::UInt64 => Self::UInt(array.as_primitive::<UInt64Type>().clone()),
            DataType::Float16 | DataType::Float32 => Self::Single(
                to(&DataType::Float32)?
                    .as_primitive::<Float32Type>()
                    .clone(),
            ),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>().clone()),
            DataType::Struct(fields) if fields.len() == 2 => {
                let parts = array.as_struct();
                let part = |at| Self::of(name, parts.column(at)).map(Box::new);
                Self::Complex(part(0)?, part(1)?)
            }
            other if other.is_integer() => {
                Self::Int(to(&DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            other => return Err(format!("{name} holds {other}")),
        })
    }

    fn write(&self, at: usize, out: &mut String) {
        match self {
            Self::Bool(values) => out.push_str(if values.value(at) { "true" } else { "false" }),
            Self::Int(values) => out.push_str(&values.value(at).to_string()),
            Self::UInt(values) => out.push_str(&values.value(at).to_string()),
            Self::Single(values) => write_float(&format!("{:?}", values.value(at)), out),
            Self::Double(values) => write_float(&format!("{:?}", values.value(at)), out),
            Self::Complex(re, im) => {
                out.push_str("{\"re\":");
                re.write(at, out);
                out.push_str(",\"im\":");
                im.write(at, out);
                out.push('}');
            }
        }
    }
}

fn check_row(out: &str) -> Result<(), String> {
    match out.len() > MAX_ROW_BYTES {
        true => Err("a row takes more than 64 MiB as text".to_owned()),
        false => Ok(()),
    }
}

fn write_numbers(
    numbers: &Numbers,
    inner: &[usize],
    at: usize,
    out: &mut String,
) -> Result<(), String> {
    let [len, rest @ ..] = inner else {
        numbers.write(at, out);
        return Ok(());
    };
    out.push('[');
    for i in 0..*len {
        // Lengths before one of 0 are as large as one likes: no value stands behind them.
        check_row(out)?;
        if i > 0 {
            out.push(',');
        }
        let at = at.saturating_mul(*len).saturating_add(i);
        write_numbers(numbers, rest, at, out)?;
    }
    out.push(']');
    Ok(())
}

/// The shortest text that names the float; JSON has no word for those that are no numbers.
fn write_float(text: &str, out: &mut String) {
    out.push_str(match text {
        "NaN" => "\"NaN\"",
        "inf" => "\"Infinity\"",
        "-inf" => "\"-Infinity\"",
        number => number,
    });
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// An array of the group that holds at least `len` values.
fn part<'a>(arrays: &'a Arrays, name: &str, len: usize) -> Result<&'a ArrayRef, String> {
    let array = arrays
        .get(name)
        .ok_or_else(|| format!("array {name} is missing"))?;
    if array.len() < len {
        return Err(format!(
            "{name} holds {} values, {len} are referred to",
            array.len()
        ));
    }
    Ok(array)
}

fn integers(arrays: &Arrays, name: &str, len: usize) -> Result<Vec<i64>, String> {
    let array = part(arrays, name, len)?;
    let wide = cast(array, &DataType::Int64).map_err(|e| format!("{name}: {e}"))?;
    let wide = wide.as_primitive::<Int64Type>();
    Ok(wide.iter().map(|value| value.unwrap_or(i64::MAX)).collect())
}

fn positions(arrays: &Arrays, name: &str, len: usize) -> Result<Vec<usize>, String> {
    let values = integers(arrays, name, len)?;
    let position =
        |value: &i64| usize::try_from(*value).map_err(|_| format!("{name} holds {value}"));
    values.iter().map(position).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int8Array, UInt8Array};

    use super::*;

    fn rows(form: &str, len: usize, arrays: Vec<(&str, ArrayRef)>) -> Result<Vec<String>, String> {
        let arrays = arrays
            .into_iter()
            .map(|(name, array)| (name.to_owned(), array))
            .collect();
        let content = Content::of(&Form::parse(form)?, len, &arrays)?;
        let row = |at| {
            let mut text = String::new();
            content.write(at, &mut text).map(|()| text)
        };
        (0..len).map(row).collect()
    }

    fn ints(values: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    #[test]
    fn lengths_before_one_of_zero_are_bounded_by_the_text() {
        let form = r#"{"class": "NumpyArray", "primitive": "int64", "form_key": "node0",
            "inner_shape": [1099511627776, 0]}"#;
        let error = rows(form, 1, vec![("node0-data", ints(&[]))]).unwrap_err();
        assert_eq!(error, "a row takes more than 64 MiB as text");
    }

    #[test]
    fn lists_of_optional_records_are_spelt_out() {
        let form = r#"{"class": "ListOffsetArray", "offsets": "i64", "form_key": "node0", "content":
            {"class": "IndexedOptionArray", "index": "i64", "form_key": "node1", "content":
            {"class": "RecordArray", "fields": ["x", "s"], "form_key": "node2", "contents": [
                {"class": "NumpyArray", "primitive": "float64", "inner_shape": [], "form_key": "node3"},
                {"class": "ListOffsetArray", "parameters": {"__array__": "string"}, "form_key": "node4",
                 "content": {"class": "NumpyArray", "primitive": "uint8", "parameters":
                    {"__array__": "char"}, "form_key": "node5"}}]}}}"#;
        let arrays = vec![
            ("node0-offsets", ints(&[0, 2, 2, 3])),
            ("node1-index", ints(&[1, -1, 0])),
            (
                "node3-data",
                Arc::new(Float64Array::from(vec![0.1, f64::NAN])) as ArrayRef,
            ),
            ("node4-offsets", ints(&[0, 2, 3])),
            ("node5-data", Arc::new(UInt8Array::from(b"a\"b".to_vec()))),
        ];
        let found = rows(form, 3, arrays).unwrap();
        assert_eq!(
            found,
            [
                r#"[{"x":"NaN","s":"b"},null]"#,
                "[]",
                r#"[{"x":0.1,"s":"a\""}]"#
            ]
        );
    }

    #[test]
    fn masks_unions_and_regular_lists_are_spelt_out() {
        let form = r#"{"class": "ByteMaskedArray", "mask": "i8", "valid_when": true, "form_key": "node0",
            "content": {"class": "UnionArray", "form_key": "node1", "contents": [
                {"class": "NumpyArray", "primitive": "int64", "inner_shape": [], "form_key": "node2"},
                {"class": "RegularArray", "size": 2, "form_key": "node3", "content":
                    {"class": "NumpyArray", "primitive": "int64", "form_key": "node4"}}]}}"#;
        let bytes = |values: &[i8]| Arc::new(Int8Array::from(values.to_vec())) as ArrayRef;
        let arrays = vec![
            ("node0-mask", bytes(&[1, 0, 1])),
            ("node1-tags", bytes(&[0, 0, 1])),
            ("node1-index", ints(&[1, 0, 0])),
            ("node2-data", ints(&[7, 8])),
            ("node4-data", ints(&[1, 2])),
        ];
        assert_eq!(rows(form, 3, arrays).unwrap(), ["8", "null", "[1,2]"]);
    }

    #[test]
    fn what_leads_beyond_its_content_is_refused() {
        let form = r#"{"class": "ListOffsetArray", "form_key": "node0", "content":
            {"class": "NumpyArray", "primitive": "int64", "form_key": "node1"}}"#;
        let arrays = vec![
            ("node0-offsets", ints(&[0, 5])),
            ("node1-data", ints(&[1, 2])),
        ];
        let message = rows(form, 1, arrays).unwrap_err();
        assert_eq!(message, "node1-data holds 2 values, 5 are referred to");
    }
}
