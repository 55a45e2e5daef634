//! Category sets of several columns as one.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::concat;
use arrow::datatypes::DataType;
use arrow::row::{OwnedRow, RowConverter, SortField};

use super::natsort;
use super::promote::result_type;
use crate::element::as_text;
use crate::error::{Error, Result};
use crate::kernel::numbers::promote;
use crate::model::CategoryRegistry;

/// The categories of a column.
#[derive(Debug, Clone)]
pub(super) struct Categories {
    pub(super) values: ArrayRef,
    pub(super) ordered: bool,
}

/// One set for several columns, and where each column's own categories stand in it.
#[derive(Debug)]
pub(super) struct UnitedCategories {
    pub(super) values: ArrayRef,
    pub(super) ordered: bool,
    /// New code by old one, per set that was given.
    pub(super) codes: Vec<Arc<[i32]>>,
    /// The id under which the set is registered.
    pub(super) id: String,
    /// Whether sets were of types without a common one, so that all are text now.
    pub(super) as_text: bool,
}

/// Unites the sets, in the order of their columns. [`None`] where some are ordered and the others
/// are not the same in the same order: there is no set then, only values.
///
/// If the first column's set holds all, its order stays; else the union has natsort's.
pub(super) fn unite(sets: &[Categories]) -> Result<Option<UnitedCategories>> {
    let (sets_of_type, as_text) = one_type(sets)?;
    if sets.iter().any(|set| set.ordered) {
        return unite_ordered(sets, &sets_of_type);
    }
    let converter = RowConverter::new(vec![SortField::new(type_of(&sets_of_type))])?;
    let mut table: HashMap<OwnedRow, i32> = HashMap::new();
    let mut new: Vec<ArrayRef> = Vec::new();
    for values in &sets_of_type {
        let rows = converter.convert_columns(&[Arc::clone(values)])?;
        for (at, row) in rows.iter().enumerate() {
            let next = code(table.len())?;
            table.entry(row.owned()).or_insert_with(|| {
                new.push(values.slice(at, 1));
                next
            });
        }
    }
    let values = match sets_of_type.first() {
        Some(first) if first.len() == table.len() => Arc::clone(first),
        _ => {
            let new: Vec<&dyn Array> = new.iter().map(AsRef::as_ref).collect();
            natsort::sorted(&concat(&new)?)?
        }
    };
    let rows = converter.convert_columns(&[Arc::clone(&values)])?;
    for (at, row) in rows.iter().enumerate() {
        table.insert(row.owned(), code(at)?);
    }
    let codes = sets_of_type.iter().map(|values| {
        let rows = converter.convert_columns(&[Arc::clone(values)])?;
        let code = |row: arrow::row::Row<'_>| table.get(&row.owned()).copied().unwrap_or(-1);
        Ok(rows.iter().map(code).collect())
    });
    let codes = codes.collect::<Result<Vec<Arc<[i32]>>>>()?;
    Ok(Some(UnitedCategories::new(values, false, codes, as_text)))
}

fn unite_ordered(sets: &[Categories], values: &[ArrayRef]) -> Result<Option<UnitedCategories>> {
    let mut filled = sets
        .iter()
        .zip(values)
        .filter(|(_, values)| !values.is_empty());
    let first = match filled.next() {
        Some((set, values)) if set.ordered => values,
        Some(_) => return Ok(None),
        // Sets without categories: any order will do.
        None => match values.first() {
            Some(values) => values,
            None => return Ok(None),
        },
    };
    if !filled.all(|(set, values)| set.ordered && values == first) {
        return Ok(None);
    }
    let codes = values
        .iter()
        .map(|values| (0..).take(values.len()).collect());
    let codes = codes.collect();
    let first = Arc::clone(first);
    Ok(Some(UnitedCategories::new(first, true, codes, false)))
}

impl UnitedCategories {
    fn new(values: ArrayRef, ordered: bool, codes: Vec<Arc<[i32]>>, as_text: bool) -> Self {
        let id = CategoryRegistry::global().register(&values);
        // The registry's own array: writers know it by its address.
        let values = CategoryRegistry::global().get(&id).unwrap_or(values);
        Self {
            values,
            ordered,
            codes,
            id,
            as_text,
        }
    }
}

/// The sets' values in one type, and whether that had to be text. Sets without categories have
/// none of their own.
fn one_type(sets: &[Categories]) -> Result<(Vec<ArrayRef>, bool)> {
    let filled = || sets.iter().filter(|set| !set.values.is_empty());
    let types: Vec<&DataType> = filled().map(|set| set.values.data_type()).collect();
    let texts = types
        .iter()
        .filter(|data_type| data_type.is_string())
        .count();
    let common = match texts {
        0 => result_type(types.iter().copied()),
        n if n == types.len() => Some(DataType::Utf8),
        _ => None,
    };
    let first = sets
        .first()
        .map_or(DataType::Utf8, |set| set.values.data_type().clone());
    let (to, forced) = match common {
        Some(common) => (common, false),
        None if types.is_empty() => (first, false),
        None => (DataType::Utf8, true),
    };
    let values = sets.iter().map(|set| match set.values.is_empty() {
        true => Ok(arrow::array::new_empty_array(&to)),
        false if to == DataType::Utf8 => Ok(Arc::new(as_text(&set.values)?) as ArrayRef),
        false => promote(&set.values, &to),
    });
    Ok((values.collect::<Result<_>>()?, forced))
}

fn type_of(values: &[ArrayRef]) -> DataType {
    values
        .first()
        .map_or(DataType::Utf8, |values| values.data_type().clone())
}

fn code(at: usize) -> Result<i32> {
    i32::try_from(at)
        .map_err(|_| Error::IncompatibleSchemas("more than 2^31 categories".to_owned()))
}

/// The values of text categories, for messages.
pub(super) fn shown(values: &ArrayRef) -> String {
    let Some(texts) = values.as_string_opt::<i32>() else {
        return format!("{} of type {}", values.len(), values.data_type());
    };
    let mut names: Vec<&str> = texts.iter().flatten().take(5).collect();
    if values.len() > names.len() {
        names.push("…");
    }
    format!("[{}]", names.join(", "))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn set(names: &[&str], ordered: bool) -> Categories {
        Categories {
            values: Arc::new(StringArray::from(names.to_vec())),
            ordered,
        }
    }

    fn united(sets: &[Categories]) -> Option<Vec<String>> {
        let united = unite(sets).unwrap()?;
        let texts = as_text(&united.values).unwrap();
        Some(texts.iter().flatten().map(str::to_owned).collect())
    }

    #[test]
    fn the_first_set_keeps_its_order_where_it_holds_all() {
        let sets = [set(&["z", "a"], false), set(&["a", "z"], false)];
        assert_eq!(united(&sets).unwrap(), ["z", "a"]);
        assert_eq!(unite(&sets).unwrap().unwrap().codes[1][..], [1, 0]);
        let sets = [set(&["z", "a", "m"], false), set(&["a"], false)];
        assert_eq!(united(&sets).unwrap(), ["z", "a", "m"]);
        let sets = [set(&["a"], false), set(&["z", "a", "m"], false)];
        assert_eq!(united(&sets).unwrap(), ["a", "m", "z"]);
        let sets = [set(&[], false), set(&["s10", "s9"], false)];
        assert_eq!(united(&sets).unwrap(), ["s9", "s10"]);
    }

    #[test]
    fn ordered_sets_are_kept_if_they_are_the_same() {
        let sets = [
            set(&["lo", "hi"], true),
            set(&["lo", "hi"], true),
            set(&[], true),
        ];
        let united_sets = unite(&sets).unwrap().unwrap();
        assert!(united_sets.ordered);
        assert_eq!(
            united(&[set(&["lo"], true), set(&["lo", "hi"], true)]),
            None
        );
        assert_eq!(
            united(&[set(&["lo", "hi"], true), set(&["hi", "lo"], true)]),
            None
        );
        assert_eq!(united(&[set(&["lo"], true), set(&["lo"], false)]), None);
    }

    #[test]
    fn numbers_among_texts_become_text() {
        let numbers = Categories {
            values: Arc::new(Int64Array::from(vec![10, 9])),
            ordered: false,
        };
        let sets = [numbers, set(&["a"], false)];
        assert!(unite(&sets).unwrap().unwrap().as_text);
        assert_eq!(united(&sets).unwrap(), ["9", "10", "a"]);
    }
}
