//! The form of an awkward array: a tree of node classes as awkward's `Form.to_json` gives it.

use serde_json::Value;

/// What the bytes of a list mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListKind {
    List,
    /// UTF-8 text (`__array__` is `string` or `bytestring`).
    Text,
}

/// A node of the form; `key` is its `form_key`, the first part of its arrays' names.
#[derive(Debug, Clone)]
pub(super) enum Form {
    Empty,
    Numpy {
        key: String,
        inner: Vec<u64>,
    },
    ListOffset {
        key: String,
        kind: ListKind,
        content: Box<Self>,
    },
    List {
        key: String,
        kind: ListKind,
        content: Box<Self>,
    },
    Regular {
        size: u64,
        kind: ListKind,
        content: Box<Self>,
    },
    Record {
        /// Names of the fields; a tuple has none.
        names: Option<Vec<String>>,
        contents: Vec<Self>,
    },
    Indexed {
        key: String,
        optional: bool,
        content: Box<Self>,
    },
    ByteMasked {
        key: String,
        valid_when: bool,
        content: Box<Self>,
    },
    BitMasked {
        key: String,
        valid_when: bool,
        lsb_order: bool,
        content: Box<Self>,
    },
    Unmasked(Box<Self>),
    Union {
        key: String,
        contents: Vec<Self>,
    },
}

impl Form {
    /// Parses the attribute's text.
    ///
    /// # Errors
    /// What is wrong with it, without a subject.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| format!("form is not JSON: {e}"))?;
        Self::of(&value)
    }

    fn of(value: &Value) -> Result<Self, String> {
        let class = value.get("class").and_then(Value::as_str);
        let class = class.ok_or_else(|| format!("form {value} has no class"))?;
        let key = || {
            let key = value.get("form_key").and_then(Value::as_str);
            key.map(str::to_owned)
                .ok_or_else(|| format!("form of class {class} has no form_key"))
        };
        let content = || match value.get("content") {
            Some(content) => Self::of(content).map(Box::new),
            None => Err(format!("form of class {class} has no content")),
        };
        let flag = |name: &str| {
            let flag = value.get(name).and_then(Value::as_bool);
            flag.ok_or_else(|| format!("form of class {class} has no {name}"))
        };
        let kind = match value
            .pointer("/parameters/__array__")
            .and_then(Value::as_str)
        {
            Some("string" | "bytestring") => ListKind::Text,
            _ => ListKind::List,
        };
        Ok(match class {
            "EmptyArray" => Self::Empty,
            "NumpyArray" => {
                let inner = match value.get("inner_shape").and_then(Value::as_array) {
                    Some(lengths) => lengths.iter().map(Value::as_u64).collect(),
                    None => Some(Vec::new()),
                };
                let inner = inner.ok_or("inner_shape of a NumpyArray is not a list of lengths")?;
                Self::Numpy { key: key()?, inner }
            }
            "ListOffsetArray" | "ListOffsetArray32" | "ListOffsetArray64"
            | "ListOffsetArrayU32" => Self::ListOffset {
                key: key()?,
                kind,
                content: content()?,
            },
            "ListArray" | "ListArray32" | "ListArray64" | "ListArrayU32" => Self::List {
                key: key()?,
                kind,
                content: content()?,
            },
            "RegularArray" => {
                let size = value.get("size").and_then(Value::as_u64);
                Self::Regular {
                    size: size.ok_or("form of class RegularArray has no size")?,
                    kind,
                    content: content()?,
                }
            }
            "RecordArray" => record(value)?,
            "IndexedArray" | "IndexedArray32" | "IndexedArray64" | "IndexedArrayU32" => {
                Self::Indexed {
                    key: key()?,
                    optional: false,
                    content: content()?,
                }
            }
            "IndexedOptionArray" | "IndexedOptionArray32" | "IndexedOptionArray64" => {
                Self::Indexed {
                    key: key()?,
                    optional: true,
                    content: content()?,
                }
            }
            "ByteMaskedArray" => Self::ByteMasked {
                key: key()?,
                valid_when: flag("valid_when")?,
                content: content()?,
            },
            "BitMaskedArray" => Self::BitMasked {
                key: key()?,
                valid_when: flag("valid_when")?,
                lsb_order: flag("lsb_order")?,
                content: content()?,
            },
            "UnmaskedArray" => Self::Unmasked(content()?),
            "UnionArray" | "UnionArray8_32" | "UnionArray8_64" | "UnionArray8_U32" => {
                let contents = value.get("contents").and_then(Value::as_array);
                let contents = contents.ok_or("form of class UnionArray has no contents")?;
                Self::Union {
                    key: key()?,
                    contents: contents.iter().map(Self::of).collect::<Result<_, _>>()?,
                }
            }
            other => {
                return Err(format!(
                    "form has a node of class {other:?}, which is unknown"
                ));
            }
        })
    }
}

/// A record: awkward 2 lists `fields` beside `contents`, awkward 1 maps names to contents.
fn record(value: &Value) -> Result<Form, String> {
    match value.get("contents") {
        Some(Value::Object(contents)) => Ok(Form::Record {
            names: Some(contents.keys().cloned().collect()),
            contents: contents.values().map(Form::of).collect::<Result<_, _>>()?,
        }),
        Some(Value::Array(contents)) => {
            let names: Option<Vec<String>> = match value.get("fields").and_then(Value::as_array) {
                Some(names) => {
                    let names = names.iter().map(|name| name.as_str().map(str::to_owned));
                    Some(names.collect::<Option<_>>().ok_or("fields are not names")?)
                }
                None => None,
            };
            if names
                .as_ref()
                .is_some_and(|names| names.len() != contents.len())
            {
                return Err("a record has other numbers of fields and contents".to_owned());
            }
            Ok(Form::Record {
                names,
                contents: contents.iter().map(Form::of).collect::<Result<_, _>>()?,
            })
        }
        _ => Err("form of class RecordArray has no contents".to_owned()),
    }
}
