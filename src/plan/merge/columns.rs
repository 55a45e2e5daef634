//! Columns of data frames (`obs`, frames in `obsm`) that are stacked: their types, and what each
//! object's column must be turned into.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type};

use super::categories::{Categories, shown, unite};
use super::promote::result_type;
use super::spec::{Join, MergeSpec};
use crate::element::as_text;
use crate::error::{Error, Result};
use crate::kernel::numbers::{missing, promote};
use crate::model::{CategoryRegistry, FieldMeta};

/// A column of the merged data frame.
#[derive(Debug, Clone)]
pub(super) struct MergedColumn {
    pub(super) field: FieldRef,
    /// Per object, where it has the column: which of its columns, and how its values change.
    pub(super) parts: Vec<Option<(usize, ColumnCast)>>,
}

/// How the values of an object's column become those of the merged one.
#[derive(Debug, Clone)]
pub(super) enum ColumnCast {
    /// They are.
    Keep,
    /// Numbers, or categories that are, as numbers of a wider type.
    Number(DataType),
    /// Anything as text.
    Text,
    /// Categories at other codes.
    Codes {
        /// New code by old one.
        codes: Arc<[i32]>,
        /// The categories.
        values: ArrayRef,
    },
}

impl ColumnCast {
    /// Casts values.
    pub(super) fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        match self {
            Self::Keep => Ok(Arc::clone(values)),
            Self::Number(to) => match values.data_type() {
                DataType::Dictionary(_, inner) => promote(&cast(values, inner)?, to),
                _ => promote(values, to),
            },
            Self::Text => Ok(Arc::new(as_text(values)?)),
            Self::Codes {
                codes,
                values: categories,
            } => {
                let keys = values.as_dictionary_opt::<Int32Type>().ok_or_else(|| {
                    Error::IncompatibleSchemas("categories came without codes".to_owned())
                })?;
                let code = |key: i32| {
                    let key = usize::try_from(key).ok();
                    key.and_then(|key| codes.get(key)).copied()
                };
                let keys: Int32Array = keys.keys().iter().map(|key| key.and_then(code)).collect();
                let values = DictionaryArray::try_new(keys, Arc::clone(categories))?;
                Ok(Arc::new(values))
            }
        }
    }
}

/// `n` rows of a merged column that an object does not have.
pub(super) fn missing_rows(field: &Field, n: usize) -> Result<ArrayRef> {
    let set = FieldMeta::of(field).categories;
    let set = set.and_then(|id| CategoryRegistry::global().get(&id));
    match (field.data_type(), set) {
        (DataType::Dictionary(_, _), Some(values)) => {
            let keys = Int32Array::new_null(n);
            Ok(Arc::new(DictionaryArray::try_new(keys, values)?))
        }
        (data_type, _) => Ok(missing(data_type, n)),
    }
}

/// The field of a categorical whose categories are registered under `id`.
pub(super) fn categorical_field(name: &str, values: &DataType, id: &str, ordered: bool) -> Field {
    let keys = Box::new(DataType::Int32);
    let data_type = DataType::Dictionary(keys, Box::new(values.clone()));
    let meta = FieldMeta {
        encoding: Some("categorical".to_owned()),
        ordered: Some(ordered),
        categories: Some(id.to_owned()),
        ..FieldMeta::default()
    };
    meta.apply(Field::new(name, data_type, true))
}

/// The columns of stacked frames, and what there is to say of them.
#[derive(Debug, Default)]
pub(super) struct MergedFrame {
    pub(super) columns: Vec<MergedColumn>,
    /// Columns that the join drops, with the objects that do not have them.
    pub(super) dropped: Vec<(String, Vec<usize>)>,
    /// Columns whose types have nothing in common but text; what was made of what.
    pub(super) conflicts: Vec<String>,
}

/// Stacks frames of these columns, but for those that are dropped. Fields are called as they are
/// stored.
///
/// # Errors
/// [`Error::IncompatibleSchemas`] for a type that has no place in a data frame.
pub(super) fn stack(
    frames: &[Vec<FieldRef>],
    spec: &MergeSpec,
    element: &str,
    label: &dyn Fn(usize) -> String,
) -> Result<MergedFrame> {
    let mut merged = MergedFrame::default();
    let mut names: Vec<&str> = Vec::new();
    for field in frames.iter().flatten() {
        if !names.contains(&field.name().as_str()) {
            names.push(field.name());
        }
    }
    names.retain(|name| !spec.is_dropped(&format!("{element}/{name}")));
    for name in names {
        let places: Vec<Option<usize>> = frames
            .iter()
            .map(|frame| frame.iter().position(|field| field.name() == name))
            .collect();
        let lack: Vec<usize> = (0..)
            .zip(&places)
            .filter(|(_, at)| at.is_none())
            .map(|(i, _)| i)
            .collect();
        if spec.join == Join::Inner && !lack.is_empty() {
            merged.dropped.push((name.to_owned(), lack));
            continue;
        }
        let kinds = places.iter().zip(frames).map(|(at, frame)| match at {
            Some(at) => kind_of(&frame[*at]).map(Some),
            None => Ok(None),
        });
        let kinds: Vec<Option<Kind>> = kinds.collect::<Result<_>>()?;
        let target = unify(name, &kinds)?;
        if target.conflict {
            let found = (0..)
                .zip(&kinds)
                .filter_map(|(at, kind)| Some(format!("{} in {}", kind.as_ref()?, label(at))));
            let found: Vec<String> = found.collect();
            merged.conflicts.push(format!(
                "{element}/{name}: {} have no type in common, so the column is written as {}",
                found.join(" and "),
                match target.field.data_type() {
                    DataType::Dictionary(_, _) => "categories of text".to_owned(),
                    DataType::Utf8 => "text".to_owned(),
                    other => other.to_string().to_lowercase(),
                }
            ));
        }
        let casts = target.casts.into_iter().zip(places);
        let parts = casts.map(|(cast, at)| Some((at?, cast?)));
        merged.columns.push(MergedColumn {
            field: Arc::new(target.field),
            parts: parts.collect(),
        });
    }
    Ok(merged)
}

/// What a column holds, as pandas sees it.
#[derive(Debug, Clone)]
enum Kind {
    Number {
        data_type: DataType,
        nullable: bool,
    },
    /// Text, with the `na-value` where it may be missing.
    Text {
        na_value: Option<String>,
    },
    Categories(Categories),
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number {
                data_type,
                nullable,
            } => {
                let word = if *nullable { "nullable " } else { "" };
                write!(f, "{word}{}", data_type.to_string().to_lowercase())
            }
            Self::Text { .. } => f.write_str("text"),
            Self::Categories(set) if set.ordered => {
                write!(f, "ordered categories {}", shown(&set.values))
            }
            Self::Categories(set) => write!(f, "categories {}", shown(&set.values)),
        }
    }
}

fn kind_of(field: &FieldRef) -> Result<Kind> {
    let meta = FieldMeta::of(field);
    let strange = || {
        Error::IncompatibleSchemas(format!(
            "column '{}' of type {} cannot be merged",
            field.name(),
            field.data_type()
        ))
    };
    match field.data_type() {
        DataType::Dictionary(_, _) => {
            let id = meta.categories.as_deref().ok_or_else(strange)?;
            let values = CategoryRegistry::global().get(id).ok_or_else(strange)?;
            let ordered = meta.ordered.unwrap_or(false);
            Ok(Kind::Categories(Categories { values, ordered }))
        }
        data_type if data_type.is_string() => {
            let nullable = is_nullable(&meta);
            let na_value = nullable.then(|| meta.na_value.unwrap_or_else(|| "NA".to_owned()));
            Ok(Kind::Text { na_value })
        }
        data_type => {
            result_type([data_type]).ok_or_else(strange)?;
            Ok(Kind::Number {
                data_type: data_type.clone(),
                nullable: is_nullable(&meta),
            })
        }
    }
}

fn is_nullable(meta: &FieldMeta) -> bool {
    meta.encoding
        .as_deref()
        .is_some_and(|encoding| encoding.starts_with("nullable-"))
}

/// A column that holds several.
struct Target {
    field: Field,
    casts: Vec<Option<ColumnCast>>,
    conflict: bool,
}

fn unify(name: &str, kinds: &[Option<Kind>]) -> Result<Target> {
    let missing = kinds.iter().any(Option::is_none);
    let sets: Vec<Categories> = kinds
        .iter()
        .flatten()
        .filter_map(|kind| match kind {
            Kind::Categories(set) => Some(set.clone()),
            _ => None,
        })
        .collect();
    if sets.len() == kinds.iter().flatten().count() {
        if let Some(target) = categorical(name, kinds, &sets)? {
            return Ok(target);
        }
        // Ordered sets that differ: their values are left, which is worth a word.
        let target = values(name, kinds, missing)?;
        return Ok(Target {
            conflict: true,
            ..target
        });
    }
    values(name, kinds, missing)
}

fn categorical(name: &str, kinds: &[Option<Kind>], sets: &[Categories]) -> Result<Option<Target>> {
    let Some(united) = unite(sets)? else {
        return Ok(None);
    };
    let field = categorical_field(name, united.values.data_type(), &united.id, united.ordered);
    let mut codes = united.codes.into_iter();
    let casts = kinds.iter().map(|kind| {
        kind.as_ref()?;
        Some(ColumnCast::Codes {
            codes: codes.next()?,
            values: Arc::clone(&united.values),
        })
    });
    Ok(Some(Target {
        field,
        casts: casts.collect(),
        conflict: united.as_text,
    }))
}

/// A column of values, whether or not some were categories.
fn values(name: &str, kinds: &[Option<Kind>], missing: bool) -> Result<Target> {
    let present = || kinds.iter().flatten();
    // A code may be missing; whether one is nobody has looked.
    let categories = present().any(|kind| matches!(kind, Kind::Categories(_)));
    let types: Vec<DataType> = present().map(value_type).collect();
    let texts = types
        .iter()
        .filter(|data_type| data_type.is_string())
        .count();
    let common = (texts == 0).then(|| result_type(&types)).flatten();
    let Some(number) = common else {
        return Ok(text(
            name,
            kinds,
            missing || categories,
            texts < types.len(),
        ));
    };
    let nullable = present().any(|kind| matches!(kind, Kind::Number { nullable: true, .. }));
    let whole = number.is_integer() || number == DataType::Boolean;
    let (number, encoding) = match (whole, nullable || categories, missing) {
        (true, true, _) if number == DataType::Boolean => (number, "nullable-boolean"),
        (true, false, true) if number == DataType::Boolean => (number, "nullable-boolean"),
        (true, true, _) => (number, "nullable-integer"),
        (true, false, true) => (DataType::Float64, "array"),
        _ => (number, "array"),
    };
    let meta = FieldMeta {
        encoding: Some(encoding.to_owned()),
        ..FieldMeta::default()
    };
    // A float column that all objects have may hold NaN, which is read as a null.
    let may_miss = nullable || categories || missing || number.is_floating();
    let field = Field::new(name, number.clone(), may_miss);
    let cast = |kind: &Option<Kind>| {
        Some(match kind.as_ref()? {
            Kind::Number { data_type, .. } if *data_type == number => ColumnCast::Keep,
            _ => ColumnCast::Number(number.clone()),
        })
    };
    Ok(Target {
        field: meta.apply(field),
        casts: kinds.iter().map(cast).collect(),
        conflict: false,
    })
}

fn text(name: &str, kinds: &[Option<Kind>], may_miss: bool, conflict: bool) -> Target {
    let present = || kinds.iter().flatten();
    let na_values = || {
        present().filter_map(|kind| match kind {
            Kind::Text { na_value } => na_value.as_deref(),
            _ => None,
        })
    };
    let nullable_number = present().any(|kind| matches!(kind, Kind::Number { nullable: true, .. }));
    let nullable = may_miss || nullable_number || na_values().next().is_some();
    // pandas' text with NA wins over that with NaN.
    let na_value = match na_values().any(|na| na == "NA") {
        true => "NA",
        false => "NaN",
    };
    let (encoding, na_value) = match nullable {
        true => ("nullable-string-array", Some(na_value.to_owned())),
        false => ("string-array", None),
    };
    let meta = FieldMeta {
        encoding: Some(encoding.to_owned()),
        na_value,
        ..FieldMeta::default()
    };
    let cast = |kind: &Option<Kind>| {
        Some(match kind.as_ref()? {
            Kind::Text { .. } => ColumnCast::Keep,
            _ => ColumnCast::Text,
        })
    };
    Target {
        field: meta.apply(Field::new(name, DataType::Utf8, nullable)),
        casts: kinds.iter().map(cast).collect(),
        conflict,
    }
}

fn value_type(kind: &Kind) -> DataType {
    match kind {
        Kind::Number { data_type, .. } => data_type.clone(),
        Kind::Text { .. } => DataType::Utf8,
        Kind::Categories(set) => set.values.data_type().clone(),
    }
}

#[cfg(test)]
mod tests;
