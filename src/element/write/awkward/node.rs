//! Values in the shape of a form.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::element::write::awkward::json::Json;
use crate::element::write::awkward::numbers::Numbers;

/// Forms nest no deeper than this.
const MAX_DEPTH: usize = 128;

/// A node of the form and the values collected for it.
#[derive(Debug)]
pub(super) struct Node {
    /// First part of the names of its arrays.
    pub(super) key: String,
    pub(super) parameters: Value,
    pub(super) kind: Kind,
    /// Values collected.
    pub(super) len: usize,
}

#[derive(Debug)]
pub(super) enum Kind {
    Empty,
    Numbers {
        primitive: String,
        inner: Vec<usize>,
        values: Numbers,
    },
    /// Lists of any length, or text.
    List {
        text: bool,
        offsets: Vec<i64>,
        content: Box<Node>,
    },
    /// Lists of one length, or text.
    Regular {
        text: bool,
        size: usize,
        content: Box<Node>,
    },
    /// Fields by name, or in order where there are no names.
    Record {
        names: Option<Vec<String>>,
        contents: Vec<Node>,
    },
    /// Positions in the content, -1 for a missing value; equal values are kept once.
    Indexed {
        optional: bool,
        index: Vec<i64>,
        known: HashMap<String, i64>,
        content: Box<Node>,
    },
    Union {
        tags: Vec<i8>,
        index: Vec<i64>,
        contents: Vec<Node>,
    },
}

impl Node {
    /// The empty node of a form, which is JSON text.
    ///
    /// # Errors
    /// What is wrong with the form.
    pub(super) fn parse(form: &str) -> Result<Self, String> {
        let form: Value =
            serde_json::from_str(form).map_err(|error| format!("form is not JSON: {error}"))?;
        let mut nodes = 0;
        Self::of(&form, 0, &mut nodes)
    }

    fn of(form: &Value, depth: usize, nodes: &mut usize) -> Result<Self, String> {
        if depth > MAX_DEPTH {
            return Err(format!("form nests more than {MAX_DEPTH} deep"));
        }
        *nodes += 1;
        let class = form.get("class").and_then(Value::as_str);
        let class = class.ok_or("form has a node without class")?;
        let key = form.get("form_key").and_then(Value::as_str);
        let key = key.map_or_else(|| format!("part{nodes}"), str::to_owned);
        let parameters = form
            .get("parameters")
            .filter(|parameters| parameters.is_object())
            .cloned()
            .unwrap_or_else(|| Value::Object(Map::new()));
        let array = parameters.get("__array__").and_then(Value::as_str);
        let text = matches!(array, Some("string" | "bytestring"));
        let mut content = || match form.get("content") {
            Some(content) => Self::of(content, depth + 1, nodes).map(Box::new),
            None => Err(format!("form has a {class} without content")),
        };
        // awkward 1 puts the width of offsets and index into the name.
        let bare = class.split("Array").next().unwrap_or_default();
        let kind = match bare {
            "Empty" => Kind::Empty,
            "Numpy" => numbers(form)?,
            "ListOffset" | "List" => Kind::List {
                text,
                offsets: vec![0],
                content: content()?,
            },
            "Regular" => Kind::Regular {
                text,
                size: length(form.get("size"))?,
                content: content()?,
            },
            "Indexed" | "IndexedOption" | "ByteMasked" | "BitMasked" | "Unmasked" => {
                Kind::Indexed {
                    optional: bare != "Indexed",
                    index: Vec::new(),
                    known: HashMap::new(),
                    content: content()?,
                }
            }
            "Record" => {
                let (names, forms) = fields(form)?;
                let contents = forms
                    .into_iter()
                    .map(|content| Self::of(content, depth + 1, nodes));
                Kind::Record {
                    contents: contents.collect::<Result<_, _>>()?,
                    names,
                }
            }
            "Union" => {
                let contents = form.get("contents").and_then(Value::as_array);
                let contents = contents.ok_or("form has a UnionArray without contents")?;
                let contents = contents
                    .iter()
                    .map(|content| Self::of(content, depth + 1, nodes));
                Kind::Union {
                    tags: Vec::new(),
                    index: Vec::new(),
                    contents: contents.collect::<Result<_, _>>()?,
                }
            }
            _ => return Err(format!("form has a node of class {class:?}")),
        };
        Ok(Self {
            key,
            parameters,
            kind,
            len: 0,
        })
    }

    /// Whether only equal values tell categories apart.
    fn is_categorical(&self) -> bool {
        self.parameters.get("__array__").and_then(Value::as_str) == Some("categorical")
    }

    /// Whether a value is of this node's shape: what tells the members of a union apart.
    fn fits(&self, value: &Json<'_>) -> bool {
        match (&self.kind, value) {
            (Kind::Numbers { inner, values, .. }, value) => fits_inner(values, inner, value),
            (Kind::List { text, .. } | Kind::Regular { text, .. }, Json::Text(_)) => *text,
            (Kind::List { text, content, .. }, Json::List(items)) => {
                !text && items.iter().all(|item| content.fits(item))
            }
            (
                Kind::Regular {
                    text,
                    size,
                    content,
                },
                Json::List(items),
            ) => !text && items.len() == *size && items.iter().all(|item| content.fits(item)),
            (Kind::Record { names, contents }, Json::Map(members)) => {
                names.as_ref().is_some_and(|names| {
                    names.len() == members.len()
                        && names.iter().zip(contents).all(|(name, content)| {
                            member(members, name).is_some_and(|value| content.fits(value))
                        })
                })
            }
            (Kind::Record { names, contents }, Json::List(items)) => {
                names.is_none()
                    && items.len() == contents.len()
                    && items.iter().zip(contents).all(|(item, c)| c.fits(item))
            }
            (Kind::Indexed { optional, .. }, Json::Null) => *optional,
            (Kind::Indexed { content, .. }, value) => content.fits(value),
            (Kind::Union { contents, .. }, value) => contents.iter().any(|c| c.fits(value)),
            _ => false,
        }
    }

    /// Appends a value.
    ///
    /// # Errors
    /// Which value stands where another belongs.
    pub(super) fn push(&mut self, value: &Json<'_>) -> Result<(), String> {
        let categorical = self.is_categorical();
        let wrong = |wanted: &str| Err(format!("{} where {wanted} belongs", value.kind()));
        match (&mut self.kind, value) {
            (Kind::Empty, _) => return wrong("nothing"),
            (Kind::Numbers { inner, values, .. }, value) => push_inner(values, inner, value)?,
            (
                Kind::List {
                    text,
                    offsets,
                    content,
                },
                value,
            ) => {
                match value {
                    Json::Text(value) if *text => content.push_bytes(value.as_bytes())?,
                    Json::List(items) if !*text => {
                        items.iter().try_for_each(|item| content.push(item))?;
                    }
                    _ => return wrong(if *text { "text" } else { "a list" }),
                }
                offsets.push(position(content.len)?);
            }
            (
                Kind::Regular {
                    text,
                    size,
                    content,
                },
                value,
            ) => match value {
                Json::Text(value) if *text && value.len() == *size => {
                    content.push_bytes(value.as_bytes())?;
                }
                Json::List(items) if !*text && items.len() == *size => {
                    items.iter().try_for_each(|item| content.push(item))?;
                }
                _ => return wrong(&format!("a list of {size}")),
            },
            (Kind::Record { names, contents }, value) => match (names, value) {
                (Some(names), Json::Map(members)) => {
                    for (name, content) in names.iter().zip(contents) {
                        let value = member(members, name);
                        content.push(value.ok_or_else(|| format!("no field {name:?}"))?)?;
                    }
                }
                (None, Json::List(items)) if items.len() == contents.len() => {
                    for (item, content) in items.iter().zip(contents) {
                        content.push(item)?;
                    }
                }
                _ => return wrong("a record"),
            },
            (
                Kind::Indexed {
                    optional, index, ..
                },
                Json::Null,
            ) if *optional => index.push(-1),
            (
                Kind::Indexed {
                    index,
                    known,
                    content,
                    ..
                },
                value,
            ) => {
                let text = categorical.then(|| format!("{value:?}"));
                let at = match text.as_ref().and_then(|text| known.get(text)) {
                    Some(at) => *at,
                    None => {
                        let at = position(content.len)?;
                        content.push(value)?;
                        if let Some(text) = text {
                            known.insert(text, at);
                        }
                        at
                    }
                };
                index.push(at);
            }
            (
                Kind::Union {
                    tags,
                    index,
                    contents,
                },
                value,
            ) => {
                let found = contents.iter_mut().zip(0..).find(|(c, _)| c.fits(value));
                let Some((content, tag)) = found else {
                    return wrong("one of a union's");
                };
                index.push(position(content.len)?);
                tags.push(tag);
                content.push(value)?;
            }
        }
        self.len += 1;
        Ok(())
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        match &mut self.kind {
            Kind::Numbers { inner, values, .. } if inner.is_empty() => values.push_bytes(bytes)?,
            Kind::Empty if bytes.is_empty() => {}
            _ => return Err("text whose content is no NumpyArray".to_owned()),
        }
        self.len += bytes.len();
        Ok(())
    }
}

fn numbers(form: &Value) -> Result<Kind, String> {
    let primitive = form.get("primitive").and_then(Value::as_str);
    let primitive = primitive.ok_or("form has a NumpyArray without primitive")?;
    let inner = match form.get("inner_shape").and_then(Value::as_array) {
        Some(lengths) => lengths.iter().map(|n| length(Some(n))).collect(),
        None => Ok(Vec::new()),
    };
    Ok(Kind::Numbers {
        primitive: primitive.to_owned(),
        inner: inner?,
        values: Numbers::of(primitive)?,
    })
}

/// Names and forms of a record: awkward 2 lists `fields` beside `contents`, awkward 1 maps names.
fn fields(form: &Value) -> Result<(Option<Vec<String>>, Vec<&Value>), String> {
    match form.get("contents") {
        Some(Value::Object(contents)) => Ok((
            Some(contents.keys().cloned().collect()),
            contents.values().collect(),
        )),
        Some(Value::Array(contents)) => {
            let names: Option<Vec<String>> =
                form.get("fields").and_then(Value::as_array).map(|names| {
                    let names = names.iter().filter_map(Value::as_str);
                    names.map(str::to_owned).collect()
                });
            match &names {
                Some(names) if names.len() != contents.len() => {
                    Err("form has a record with other numbers of fields and contents".to_owned())
                }
                _ => Ok((names, contents.iter().collect())),
            }
        }
        _ => Err("form has a RecordArray without contents".to_owned()),
    }
}

fn length(value: Option<&Value>) -> Result<usize, String> {
    value
        .and_then(Value::as_u64)
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| "form has a node without its size".to_owned())
}

fn position(len: usize) -> Result<i64, String> {
    i64::try_from(len).map_err(|_| "more than 2^63 values".to_owned())
}

fn member<'a, 'b>(members: &'a [(String, Json<'b>)], name: &str) -> Option<&'a Json<'b>> {
    members
        .iter()
        .find(|(other, _)| other == name)
        .map(|(_, value)| value)
}

fn fits_inner(values: &Numbers, inner: &[usize], value: &Json<'_>) -> bool {
    match (inner, value) {
        ([], value) => values.fits(value),
        ([len, rest @ ..], Json::List(items)) => {
            items.len() == *len && items.iter().all(|item| fits_inner(values, rest, item))
        }
        _ => false,
    }
}

fn push_inner(values: &mut Numbers, inner: &[usize], value: &Json<'_>) -> Result<(), String> {
    match (inner, value) {
        ([], value) => values.push(value),
        ([len, rest @ ..], Json::List(items)) if items.len() == *len => items
            .iter()
            .try_for_each(|item| push_inner(values, rest, item)),
        ([len, ..], other) => Err(format!("{} where a list of {len} belongs", other.kind())),
    }
}
