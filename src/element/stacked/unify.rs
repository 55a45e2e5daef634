//! One field for the same column of several objects, and what becomes of each one's values.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, StructArray};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int32Type};
use arrow::row::{OwnedRow, RowConverter, SortField};

use crate::error::Result;
use crate::model::{CategoryRegistry, FieldMeta};

/// What makes values of a part values of the whole.
#[derive(Debug, Clone)]
pub(super) enum Recoding {
    /// They are already.
    None,
    /// Codes into other categories: the new code by the old one, and the categories.
    Codes(Arc<[i32]>, ArrayRef),
    /// Members of records, each its own way, and what they are then.
    Struct(Vec<Self>, Fields),
}

/// A field for all of them, and a recoding for each.
///
/// # Errors
/// The places of two fields that have nothing in common, and what keeps them apart.
pub(super) fn unify(fields: &[FieldRef]) -> Result<(FieldRef, Vec<Recoding>), Clash> {
    let [first, rest @ ..] = fields else {
        return Err(Clash::new(0, "there is no field".to_owned()));
    };
    // Where some are nullable, the whole is, and is written as those are.
    let model = fields.iter().find(|field| field.is_nullable());
    let model = model.unwrap_or(first);
    match first.data_type() {
        DataType::Dictionary(..) => of_categories(model, fields),
        DataType::Struct(members) => of_members(model, members, fields),
        data_type => {
            let other = rest.iter().position(|other| other.data_type() != data_type);
            match other {
                None => Ok((Arc::clone(model), vec![Recoding::None; fields.len()])),
                Some(at) => Err(Clash::types(first, &fields[at + 1], at + 1)),
            }
        }
    }
}

/// Why fields are not of one column: the place of the one that differs from the first.
#[derive(Debug)]
pub(super) struct Clash {
    pub(super) at: usize,
    pub(super) reason: String,
}

impl Clash {
    fn new(at: usize, reason: String) -> Self {
        Self { at, reason }
    }

    fn types(first: &Field, other: &Field, at: usize) -> Self {
        let (first, other) = (first.data_type(), other.data_type());
        Self::new(at, format!("the one is {first}, the other {other}"))
    }
}

fn of_members(
    model: &FieldRef,
    members: &Fields,
    fields: &[FieldRef],
) -> Result<(FieldRef, Vec<Recoding>), Clash> {
    let mut united = Vec::with_capacity(members.len());
    let mut recodings: Vec<Vec<Recoding>> = vec![Vec::new(); fields.len()];
    for (place, member) in members.iter().enumerate() {
        let mut of_all = Vec::with_capacity(fields.len());
        for (at, field) in fields.iter().enumerate() {
            match field.data_type() {
                DataType::Struct(others)
                    if others.len() == members.len() && others[place].name() == member.name() =>
                {
                    of_all.push(Arc::clone(&others[place]));
                }
                _ => return Err(Clash::types(&fields[0], field, at)),
            }
        }
        let (field, of_member) = unify(&of_all)?;
        united.push(field);
        for (recoding, all) in of_member.into_iter().zip(&mut recodings) {
            all.push(recoding);
        }
    }
    let united = Fields::from(united);
    let data_type = DataType::Struct(united.clone());
    let recodings = recodings.into_iter().zip(fields).map(|(members, field)| {
        let as_they_are = members.iter().all(|r| matches!(r, Recoding::None));
        match as_they_are && *field.data_type() == data_type {
            true => Recoding::None,
            false => Recoding::Struct(members, united.clone()),
        }
    });
    let recodings = recodings.collect();
    let field = model.as_ref().clone().with_data_type(data_type);
    Ok((Arc::new(field), recodings))
}

fn of_categories(
    model: &FieldRef,
    fields: &[FieldRef],
) -> Result<(FieldRef, Vec<Recoding>), Clash> {
    let first = &fields[0];
    let ordered = |field: &Field| FieldMeta::of(field).ordered == Some(true);
    let mut sets: Vec<ArrayRef> = Vec::with_capacity(fields.len());
    for (at, field) in fields.iter().enumerate() {
        let id = FieldMeta::of(field).categories;
        let set = id.and_then(|id| CategoryRegistry::global().get(&id));
        match set {
            Some(set) if field.data_type() == first.data_type() => sets.push(set),
            _ => return Err(Clash::types(first, field, at)),
        }
        if ordered(field) != ordered(first) {
            let reason = "only one of the two is ordered";
            return Err(Clash::new(at, reason.to_owned()));
        }
    }
    let (values, codes) = match ordered(first) {
        true => unite_ordered(&sets)?,
        false => unite(&sets).map_err(|error| Clash::new(0, error.to_string()))?,
    };
    let meta = FieldMeta {
        categories: Some(CategoryRegistry::global().register(&values)),
        ..FieldMeta::of(model)
    };
    let recodings = codes
        .into_iter()
        .map(|codes| Recoding::Codes(codes, Arc::clone(&values)));
    Ok((
        Arc::new(meta.apply(model.as_ref().clone())),
        recodings.collect(),
    ))
}

/// A set of categories, and per set that was given the new code by the old one.
type United = (ArrayRef, Vec<Arc<[i32]>>);

/// The union of sets: the largest one, in its order, and what others have beside it.
fn unite(sets: &[ArrayRef]) -> Result<United> {
    let Some(largest) = largest(sets) else {
        return Ok((arrow::array::new_empty_array(&DataType::Utf8), Vec::new()));
    };
    let converter = RowConverter::new(vec![SortField::new(largest.data_type().clone())])?;
    let mut table: HashMap<OwnedRow, i32> = HashMap::with_capacity(largest.len());
    let mut values: Vec<ArrayRef> = vec![Arc::clone(largest)];
    let mut code_of = |set: &ArrayRef, add: bool| -> Result<Arc<[i32]>> {
        let rows = converter.convert_columns(&[Arc::clone(set)])?;
        let codes = rows.iter().enumerate().map(|(at, row)| {
            let next = i32::try_from(table.len()).unwrap_or(i32::MAX);
            *table.entry(row.owned()).or_insert_with(|| {
                if add {
                    values.push(set.slice(at, 1));
                }
                next
            })
        });
        Ok(codes.collect())
    };
    code_of(largest, false)?;
    let codes = sets.iter().map(|set| code_of(set, true));
    let codes = codes.collect::<Result<Vec<_>>>()?;
    let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
    Ok((concat(&values)?, codes))
}

/// The largest of ordered sets, where all others are parts of it in its order.
fn unite_ordered(sets: &[ArrayRef]) -> Result<United, Clash> {
    let broken = |error: crate::Error| Clash::new(0, error.to_string());
    let (values, codes) = unite(sets).map_err(broken)?;
    let larger = largest(sets).is_none_or(|largest| largest.len() < values.len());
    let unsorted = |codes: &Arc<[i32]>| larger || !codes.is_sorted();
    match codes.iter().position(unsorted) {
        None => Ok((values, codes)),
        Some(at) => {
            let reason = "its ordered categories are not those of the other in the same order";
            Err(Clash::new(at, reason.to_owned()))
        }
    }
}

fn largest(sets: &[ArrayRef]) -> Option<&ArrayRef> {
    // The first of the largest: `max_by_key` gives the last.
    sets.iter().rev().max_by_key(|set| set.len())
}

impl Recoding {
    /// The values as those of the whole.
    ///
    /// # Errors
    /// [`Error::Arrow`](crate::Error::Arrow) for values of another type than the part's field says.
    pub(super) fn apply(&self, values: ArrayRef) -> Result<ArrayRef> {
        match self {
            Self::None => Ok(values),
            Self::Codes(codes, categories) => {
                let Some(dictionary) = values.as_dictionary_opt::<Int32Type>() else {
                    return Ok(values);
                };
                let old = dictionary.keys();
                let new = old.iter().map(|key| {
                    let at = usize::try_from(key?).ok()?;
                    codes.get(at).copied()
                });
                let keys: Int32Array = new.collect();
                let array = DictionaryArray::try_new(keys, Arc::clone(categories))?;
                Ok(Arc::new(array))
            }
            Self::Struct(members, fields) => {
                let Some(records) = values.as_struct_opt() else {
                    return Ok(values);
                };
                let columns = records.columns().iter().zip(members);
                let columns = columns.map(|(column, member)| member.apply(Arc::clone(column)));
                let columns = columns.collect::<Result<Vec<_>>>()?;
                let nulls = records.nulls().cloned();
                let array = StructArray::try_new(fields.clone(), columns, nulls)?;
                Ok(Arc::new(array))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;

    use super::*;

    fn set(names: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(names.to_vec()))
    }

    #[test]
    fn categories_that_a_part_left_out_come_back_in_order() {
        let sets = [set(&["low", "high"]), set(&["low", "mid", "high"])];
        let (values, codes) = unite_ordered(&sets).unwrap();
        assert_eq!(&values, &sets[1]);
        assert_eq!(codes, [Arc::from([0, 2]), Arc::from([0, 1, 2])]);
        assert!(unite_ordered(&[set(&["a", "b"]), set(&["b", "a"])]).is_err());
        assert!(unite_ordered(&[set(&["a", "b"]), set(&["b", "c"])]).is_err());
        let (values, codes) = unite(&[set(&["b", "a"]), set(&["c", "a"])]).unwrap();
        assert_eq!(&values, &set(&["b", "a", "c"]));
        assert_eq!(codes, [Arc::from([0, 1]), Arc::from([2, 1])]);
    }
}
