//! Groups of cells that are kept together within the datasets of a collection.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Int32Type};
use arrow::row::{RowConverter, SortField};
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt;

use super::options::{CollectionOptions, CollectionOrder};
use crate::error::{Error, Result};
use crate::model::RowGroups;
use crate::ops::rows::no_column;
use crate::plan::merge::{MergeExec, MergeOutline, MergeOutput};
use crate::session::Session;

const OPTION: &str = "groupby";

/// The groups of a merge's cells by the columns asked for, in the order of these columns' values, as
/// `pandas.DataFrame.sort_values` has it: categories in their own order, cells without a value last.
/// [`None`] where no columns are. Reads these columns; holds 4 bytes a cell, and each group's values.
pub(super) async fn groups(
    session: &Session,
    outline: &Arc<MergeOutline>,
    options: &CollectionOptions,
) -> Result<Option<Arc<RowGroups>>> {
    if options.groupby.is_empty() {
        return Ok(None);
    }
    if options.order == CollectionOrder::Exact {
        let reason =
            "cells are grouped within datasets of blocks, not within parts of an exact shuffle";
        return Err(Error::option(OPTION, reason));
    }
    let columns = columns(outline, &options.groupby)?;
    let output = MergeOutput {
        in_one: true,
        ..MergeOutput::columns(columns)
    };
    let plan = Arc::new(MergeExec::try_new(outline, output)?);
    let mut stream = execute_stream(plan, session.context().task_ctx())?;
    let mut numbered = Numbered::default();
    while let Some(batch) = stream.try_next().await? {
        numbered.add(batch.columns())?;
    }
    let keeps = options.order == CollectionOrder::Kept;
    Ok(Some(Arc::new(RowGroups::new(numbered.finish(), keeps))))
}

/// Where the columns are in the merge.
fn columns(outline: &MergeOutline, names: &[String]) -> Result<Vec<usize>> {
    let fields = outline.schema().fields();
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let at = fields.iter().position(|field| field.name() == name);
        match at.filter(|at| !fields[*at].data_type().is_nested()) {
            Some(at) if found.contains(&at) => {
                return Err(Error::option(OPTION, format!("'{name}' is given twice")));
            }
            Some(at) => found.push(at),
            None => {
                let flat = fields.iter().filter(|field| !field.data_type().is_nested());
                let known = flat.map(|field| field.name().as_str());
                return Err(no_column(OPTION, "the inputs", known, name));
            }
        }
    }
    Ok(found)
}

/// The values of rows, numbered as they come, as bytes that compare as they do.
#[derive(Default)]
struct Numbered {
    converter: Option<RowConverter>,
    numbers: HashMap<Box<[u8]>, u32>,
    of_rows: Vec<u32>,
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
            let next = u32::try_from(self.numbers.len())
                .map_err(|_| Error::option(OPTION, "there are more than 2^32 groups"))?;
            let number = match self.numbers.get(row.data()) {
                Some(number) => *number,
                None => *self.numbers.entry(row.data().into()).or_insert(next),
            };
            self.of_rows.push(number);
        }
        Ok(())
    }

    /// The group of each row, numbered in the order of their values.
    fn finish(mut self) -> Vec<u32> {
        let mut sorted: Vec<(Box<[u8]>, u32)> = self.numbers.into_iter().collect();
        sorted.sort_unstable();
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

/// Codes in place of categories, which all batches share.
fn comparable(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Dictionary(key, _) if **key == DataType::Int32 => {
            Arc::new(column.as_dictionary::<Int32Type>().keys().clone())
        }
        _ => Arc::clone(column),
    }
}

fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Float64Array, StringArray};

    use super::*;

    #[test]
    fn groups_come_in_the_order_of_values_and_nothing_last() {
        let names: DictionaryArray<Int32Type> = [Some("b"), None, Some("a"), Some("b"), Some("b")]
            .into_iter()
            .collect();
        let numbers = Float64Array::from(vec![Some(2.0), Some(1.0), Some(0.5), None, Some(-2.0)]);
        let mut numbered = Numbered::default();
        // "b" is the first category.
        numbered.add(&[Arc::new(names), Arc::new(numbers)]).unwrap();
        assert_eq!(numbered.finish(), [1, 4, 3, 2, 0]);
        let mut numbered = Numbered::default();
        for texts in [vec!["y", "x"], vec!["x", "a"]] {
            numbered.add(&[Arc::new(StringArray::from(texts))]).unwrap();
        }
        assert_eq!(numbered.finish(), [2, 1, 1, 0]);
    }
}
