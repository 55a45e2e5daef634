//! Groups of cells that are kept together within the datasets of a collection.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type, Int32Type,
};
use arrow::row::{RowConverter, SortField};
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt;

use super::create::SOURCE_COLUMN;
use super::options::{CollectionOptions, CollectionOrder};
use crate::error::{Error, Result};
use crate::model::RowGroups;
use crate::ops::order;
use crate::ops::rows::no_column;
use crate::plan::merge::{MergeExec, MergeOutline, MergeOutput};
use crate::session::Session;
use crate::table::cells_name;

const OPTION: &str = "groupby";
/// What the values of a group take beside their bytes.
const GROUP_BYTES: usize = 80;

/// Refuses groups of parts of an exact shuffle.
pub(super) fn check(options: &CollectionOptions) -> Result<()> {
    if options.order == CollectionOrder::Exact && !options.groupby.is_empty() {
        let reason =
            "cells are grouped within datasets of blocks, not within parts of an exact shuffle";
        return Err(Error::option(OPTION, reason));
    }
    Ok(())
}

/// The groups of a merge's cells by the columns asked for, in the order of these columns' values, as
/// `pandas.DataFrame.sort_values` has it: categories in their own order, cells without a value last.
/// [`None`] where no columns are; and what is to be said of them. Reads these columns; holds 4 bytes a
/// cell, and each group's values.
pub(super) async fn groups(
    session: &Session,
    outline: &Arc<MergeOutline>,
    options: &CollectionOptions,
) -> Result<(Option<Arc<RowGroups>>, Vec<String>)> {
    if options.groupby.is_empty() {
        return Ok((None, Vec::new()));
    }
    let columns = columns(outline, &options.groupby)?;
    let n_obs = usize::try_from(outline.n_obs()).unwrap_or(usize::MAX);
    let mut numbered = Numbered {
        room: room(options, outline.n_obs())?,
        of_rows: Vec::with_capacity(n_obs),
        ..Numbered::default()
    };
    let output = MergeOutput {
        in_one: true,
        ..MergeOutput::columns(columns)
    };
    let plan = Arc::new(MergeExec::try_new(outline, output)?);
    let mut stream = execute_stream(plan, session.context().task_ctx())?;
    while let Some(batch) = stream.try_next().await? {
        numbered.add(batch.columns())?;
    }
    let of_rows = numbered.finish();
    if of_rows.len() != n_obs {
        return Err(Error::IncompatibleSchemas(format!(
            "the inputs had {n_obs} cells, and now have {}",
            of_rows.len()
        )));
    }
    let mut groups = RowGroups::new(of_rows)?;
    if options.order == CollectionOrder::Kept {
        groups = groups.keeping_order();
    }
    Ok((Some(Arc::new(groups)), without(outline, &options.groupby)))
}

/// What values of groups may take, beside the group of each cell.
fn room(options: &CollectionOptions, n_obs: u64) -> Result<usize> {
    let bytes = order::memory(&options.run, 1).bytes / 2;
    let cells = n_obs.saturating_mul(size_of::<u32>() as u64);
    if options.run.memory_limit.is_some() && cells > bytes / 2 {
        return Err(Error::option(
            OPTION,
            format!(
                "the groups of {n_obs} cells take {cells} bytes, and {bytes} are left for them and their values by the memory limit"
            ),
        ));
    }
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Where the columns are in the merge.
fn columns(outline: &MergeOutline, names: &[String]) -> Result<Vec<usize>> {
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let of_objects = outline
            .objects()
            .iter()
            .flat_map(|object| object.obs().columns());
        let known = of_objects.map(|column| column.field().name().as_str());
        let mut known = known.chain([SOURCE_COLUMN]);
        if !known.clone().any(|known| known == name) {
            return Err(no_column(OPTION, "the inputs", &mut known, name));
        }
        let refused = |reason: &str| Err(Error::option(OPTION, format!("'{name}' {reason}")));
        let fields = outline.schema().fields();
        let column = cells_name(name);
        match fields.iter().position(|field| *field.name() == column) {
            None => return refused("is a column of obs that is left out"),
            Some(at) if fields[at].data_type().is_nested() => {
                return refused("has values that nothing can be sorted by");
            }
            Some(at) if found.contains(&at) => return refused("is given twice"),
            Some(at) => found.push(at),
        }
    }
    Ok(found)
}

/// What is to be said of inputs that lack a column.
fn without(outline: &MergeOutline, names: &[String]) -> Vec<String> {
    let said = outline.objects().iter().flat_map(|object| {
        let has = |name: &str| {
            let columns = object.obs().columns();
            name == SOURCE_COLUMN || columns.iter().any(|column| column.field().name() == name)
        };
        let lacks = names.iter().filter(move |name| !has(name));
        lacks.map(|name| {
            format!(
                "{}: obs has no column '{name}', so its cells come last in their group",
                object.location()
            )
        })
    });
    said.collect()
}

/// The values of rows, numbered as they come, as bytes that compare as they do.
#[derive(Default)]
struct Numbered {
    converter: Option<RowConverter>,
    numbers: HashMap<Box<[u8]>, u32>,
    of_rows: Vec<u32>,
    /// Bytes that values may still take.
    room: usize,
}

impl Numbered {
    fn add(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let columns: Vec<ArrayRef> = columns.iter().map(comparable).collect();
        let converter = match &mut self.converter {
            Some(converter) => converter,
            none => {
                let last = SortOptions {
                    descending: false,
                    nulls_first: false,
                };
                let fields = columns
                    .iter()
                    .map(|column| SortField::new_with_options(column.data_type().clone(), last));
                none.insert(RowConverter::new(fields.collect())?)
            }
        };
        for row in &converter.convert_columns(&columns)? {
            let number = match self.numbers.get(row.data()) {
                Some(number) => *number,
                None => {
                    let number = u32::try_from(self.numbers.len()).ok();
                    let room = self.room.checked_sub(row.data().len() + GROUP_BYTES);
                    let (Some(number), Some(room)) = (number, room) else {
                        let n = self.numbers.len();
                        let reason =
                            format!("there are more than {n} groups, for which there is no memory");
                        return Err(Error::option(OPTION, reason));
                    };
                    self.room = room;
                    self.numbers.insert(row.data().into(), number);
                    number
                }
            };
            self.of_rows.push(number);
        }
        Ok(())
    }

    /// The group of each row, numbered in the order of their values.
    fn finish(mut self) -> Vec<u32> {
        let mut sorted: Vec<(Box<[u8]>, u32)> = self.numbers.into_iter().collect();
        sorted.sort_unstable();
        let place = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let mut ranks = vec![0; sorted.len()];
        for (rank, (_, number)) in (0..).zip(sorted) {
            ranks[place(number)] = rank;
        }
        for group in &mut self.of_rows {
            *group = ranks[place(*group)];
        }
        self.of_rows
    }
}

/// A column as pandas compares it: codes in place of categories, which all batches share, both zeros
/// equal, and no value in place of NaN.
fn comparable(column: &ArrayRef) -> ArrayRef {
    fn numbers<T: ArrowPrimitiveType>(
        column: &ArrayRef,
        number: fn(T::Native) -> Option<T::Native>,
    ) -> ArrayRef {
        Arc::new(column.as_primitive::<T>().unary_opt::<_, T>(number))
    }
    match column.data_type() {
        DataType::Dictionary(key, _) if **key == DataType::Int32 => {
            Arc::new(column.as_dictionary::<Int32Type>().keys().clone())
        }
        DataType::Float16 => {
            numbers::<Float16Type>(column, |v| (!v.is_nan()).then_some(v + half::f16::ZERO))
        }
        DataType::Float32 => numbers::<Float32Type>(column, |v| (!v.is_nan()).then_some(v + 0.0)),
        DataType::Float64 => numbers::<Float64Type>(column, |v| (!v.is_nan()).then_some(v + 0.0)),
        _ => Arc::clone(column),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Float64Array, StringArray};

    use super::*;

    fn numbered() -> Numbered {
        Numbered {
            room: 10_000,
            ..Numbered::default()
        }
    }

    #[test]
    fn groups_come_in_the_order_of_values_and_nothing_last() {
        let names: DictionaryArray<Int32Type> = [Some("b"), None, Some("a"), Some("b"), Some("b")]
            .into_iter()
            .collect();
        let numbers = Float64Array::from(vec![Some(2.0), Some(1.0), Some(0.5), None, Some(-2.0)]);
        let mut by_two = numbered();
        // "b" is the first category.
        by_two.add(&[Arc::new(names), Arc::new(numbers)]).unwrap();
        assert_eq!(by_two.finish(), [1, 4, 3, 2, 0]);
        let mut by_text = numbered();
        for texts in [vec!["y", "x"], vec!["x", "a"]] {
            by_text.add(&[Arc::new(StringArray::from(texts))]).unwrap();
        }
        assert_eq!(by_text.finish(), [2, 1, 1, 0]);
        let mut by_number = numbered();
        let numbers = vec![Some(-f64::NAN), Some(0.0), Some(-0.0), Some(-1.0), None];
        by_number
            .add(&[Arc::new(Float64Array::from(numbers))])
            .unwrap();
        assert_eq!(by_number.finish(), [2, 1, 1, 0, 2]);
    }

    #[test]
    fn more_groups_than_there_is_memory_for_are_refused() {
        let numbers: ArrayRef = Arc::new(Float64Array::from_iter_values((0..1000).map(f64::from)));
        let refused = numbered().add(&[numbers]).unwrap_err().to_string();
        assert!(refused.contains("more than 112 groups"), "{refused}");
    }
}
