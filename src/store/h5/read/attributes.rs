//! Attributes as JSON.

use std::collections::{BTreeMap, HashMap};

use hdf5_pure::{AttrValue, Datatype};
use serde_json::{Number, Value};

use super::dtype::translate;
use crate::store::Attributes;
use crate::store::decode::Disk;

/// Attributes in name order. Those whose type has no JSON form come from `references` (object
/// references, by name) or are left out.
pub(super) fn to_json(
    values: HashMap<String, AttrValue>,
    types: &HashMap<String, Datatype>,
    mut references: HashMap<String, Value>,
) -> Attributes {
    let values: BTreeMap<_, _> = values.into_iter().collect();
    let mut pairs: BTreeMap<String, Value> = values
        .into_iter()
        .map(|(name, value)| {
            let is_bool = types
                .get(&name)
                .is_some_and(|datatype| translate(datatype).1 == Disk::Bool);
            (name, json(value, is_bool))
        })
        .collect();
    pairs.extend(references.drain());
    pairs.into_iter().collect()
}

/// Names of the attributes that are object references.
pub(super) fn reference_names(types: &HashMap<String, Datatype>) -> Vec<&str> {
    types
        .iter()
        .filter(|(_, datatype)| matches!(translate(datatype).1, Disk::Reference { .. }))
        .map(|(name, _)| name.as_str())
        .collect()
}

fn json(value: AttrValue, is_bool: bool) -> Value {
    use AttrValue as A;
    let value = match value {
        A::F32(v) => float(f64::from(v)),
        A::F64(v) => float(v),
        A::F32Array(v) => v.into_iter().map(|v| float(f64::from(v))).collect(),
        A::F64Array(v) => v.into_iter().map(float).collect(),
        A::I8(v) => Value::from(v),
        A::I16(v) => Value::from(v),
        A::I32(v) => Value::from(v),
        A::I64(v) => Value::from(v),
        A::U8(v) => Value::from(v),
        A::U16(v) => Value::from(v),
        A::U32(v) => Value::from(v),
        A::U64(v) => Value::from(v),
        A::I8Array(v) => Value::from(v),
        A::I16Array(v) => Value::from(v),
        A::I32Array(v) => Value::from(v),
        A::I64Array(v) => Value::from(v),
        // Not `Value::from`, which the bytes of a `Vec<u8>` would suit as well.
        A::U8Array(v) => v.into_iter().map(Value::from).collect(),
        A::U16Array(v) => Value::from(v),
        A::U32Array(v) => Value::from(v),
        A::U64Array(v) => Value::from(v),
        A::String(v) | A::AsciiString(v) | A::VarLenString(v) | A::VarLenAsciiString(v) => {
            Value::from(v)
        }
        A::StringSized { value, .. } | A::AsciiStringSized { value, .. } => Value::from(value),
        A::StringArray(v)
        | A::AsciiStringArray(v)
        | A::VarLenAsciiCharArray(v)
        | A::VarLenStringArray(v)
        | A::VarLenAsciiStringArray(v) => Value::from(v),
        A::StringArraySized { values, .. } | A::AsciiStringArraySized { values, .. } => {
            Value::from(values)
        }
        _ => Value::Null,
    };
    if is_bool { truth(value) } else { value }
}

/// JSON has no NaN and no infinities; they are given as the words numpy prints.
fn float(value: f64) -> Value {
    Number::from_f64(value).map_or_else(
        || Value::from(format!("{value}").to_lowercase()),
        Value::Number,
    )
}

fn truth(value: Value) -> Value {
    match value {
        Value::Number(n) => Value::Bool(n.as_f64() != Some(0.0)),
        Value::Array(items) => items.into_iter().map(truth).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_that_json_lacks_are_words() {
        assert_eq!(float(f64::NAN), Value::from("nan"));
        assert_eq!(float(f64::INFINITY), Value::from("inf"));
        assert_eq!(float(f64::NEG_INFINITY), Value::from("-inf"));
        assert_eq!(float(1.5), serde_json::json!(1.5));
    }

    #[test]
    fn enum_values_become_booleans() {
        assert_eq!(json(AttrValue::I8(1), true), Value::Bool(true));
        assert_eq!(
            json(AttrValue::I8Array(vec![0, 1]), true),
            serde_json::json!([false, true])
        );
    }
}
