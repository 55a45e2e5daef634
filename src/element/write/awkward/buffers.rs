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

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float32Type, Int64Type};

    use super::*;
    use crate::element::write::awkward::json::Json;

    #[test]
    fn every_option_becomes_an_index_and_floats_keep_their_bits() {
        let form = r#"{"class": "BitMaskedArray", "mask": "u8", "valid_when": true,
            "lsb_order": true, "form_key": "a", "content": {"class": "NumpyArray",
            "primitive": "float32", "inner_shape": [], "form_key": "b"}}"#;
        let (form, arrays) = written(form, &["1.1754944e-38", "null", "\"NaN\"", "16777217.0"]);
        assert_eq!(form["class"], "IndexedOptionArray");
        assert_eq!(arrays[0].0, "a-index");
        let index = arrays[0].1.as_primitive::<Int64Type>();
        assert_eq!(index.values().to_vec(), [0, -1, 1, 2]);
        let data = arrays[1].1.as_primitive::<Float32Type>();
        assert_eq!(data.value(0).to_bits(), f32::MIN_POSITIVE.to_bits());
        assert!(data.value(1).is_nan());
    }

    #[test]
    fn unions_are_told_apart_by_what_values_look_like() {
        let form = r#"{"class": "UnionArray", "form_key": "u", "contents": [
            {"class": "NumpyArray", "primitive": "float64", "form_key": "f"},
            {"class": "NumpyArray", "primitive": "int64", "form_key": "i"},
            {"class": "ListOffsetArray", "form_key": "l", "parameters": {"__array__": "string"},
             "content": {"class": "NumpyArray", "primitive": "uint8", "form_key": "c"}}]}"#;
        let (_, arrays) = written(form, &["1", "1.5", "\"é\\n\"", "2"]);
        let tags = arrays[0].1.as_primitive::<arrow::datatypes::Int8Type>();
        assert_eq!(tags.values().to_vec(), [1, 0, 2, 1]);
        let offsets = &arrays
            .iter()
            .find(|(name, _)| name == "l-offsets")
            .unwrap()
            .1;
        assert_eq!(
            offsets.as_primitive::<Int64Type>().values().to_vec(),
            [0, 3]
        );
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        let form = r#"{"class": "NumpyArray", "primitive": "int8", "form_key": "n"}"#;
        let mut node = Node::parse(form).unwrap();
        assert!(node.push(&Json::Null).is_err());
        node.push(&Json::Number("300")).unwrap();
        assert!(node.finish(&mut Vec::new()).is_err());
        assert!(Json::parse("[1, 2").is_err() && Json::parse("1 2").is_err());
    }

    fn written(form: &str, rows: &[&str]) -> (Value, Vec<(String, ArrayRef)>) {
        let mut node = Node::parse(form).unwrap();
        for row in rows {
            node.push(&Json::parse(row).unwrap()).unwrap();
        }
        let mut arrays = Vec::new();
        (node.finish(&mut arrays).unwrap(), arrays)
    }
}
