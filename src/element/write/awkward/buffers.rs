//! The arrays of collected values and the form that describes them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array, Int64Array};
use serde_json::{Value, json};

use crate::element::write::awkward::node::{Kind, Node};

impl Node {
    /// Gives the form; arrays are added by the names that awkward gives them.
    pub(super) fn finish(self, arrays: &mut Vec<(String, ArrayRef)>) -> Result<Value, String> {
        let Self {
            key,
            parameters,
            kind,
            ..
        } = self;
        let mut form = match kind {
            Kind::Empty => json!({"class": "EmptyArray"}),
            Kind::Numbers {
                primitive,
                inner,
                values,
            } => {
                arrays.push((format!("{key}-data"), values.finish()?));
                json!({"class": "NumpyArray", "primitive": primitive, "inner_shape": inner})
            }
            Kind::List {
                offsets, content, ..
            } => {
                add(arrays, &key, "offsets", offsets);
                let content = content.finish(arrays)?;
                json!({"class": "ListOffsetArray", "offsets": "i64", "content": content})
            }
            Kind::Regular { size, content, .. } => {
                let content = content.finish(arrays)?;
                json!({"class": "RegularArray", "size": size, "content": content})
            }
            Kind::Record { names, contents } => {
                let contents = finish_all(contents, arrays)?;
                json!({"class": "RecordArray", "fields": names, "contents": contents})
            }
            Kind::Indexed {
                optional,
                index,
                content,
                ..
            } => {
                add(arrays, &key, "index", index);
                let class = if optional {
                    "IndexedOptionArray"
                } else {
                    "IndexedArray"
                };
                let content = content.finish(arrays)?;
                json!({"class": class, "index": "i64", "content": content})
            }
            Kind::Union {
                tags,
                index,
                contents,
            } => {
                let tags: ArrayRef = Arc::new(Int8Array::from(tags));
                arrays.push((format!("{key}-tags"), tags));
                add(arrays, &key, "index", index);
                let contents = finish_all(contents, arrays)?;
                json!({"class": "UnionArray", "tags": "i8", "index": "i64", "contents": contents})
            }
        };
        form["parameters"] = parameters;
        form["form_key"] = key.into();
        Ok(form)
    }
}

fn finish_all(
    nodes: Vec<Node>,
    arrays: &mut Vec<(String, ArrayRef)>,
) -> Result<Vec<Value>, String> {
    nodes.into_iter().map(|node| node.finish(arrays)).collect()
}

fn add(arrays: &mut Vec<(String, ArrayRef)>, key: &str, part: &str, values: Vec<i64>) {
    arrays.push((format!("{key}-{part}"), Arc::new(Int64Array::from(values))));
}
