//! The numbers of rows, by which they are ordered.

use std::collections::HashMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, Schema};

use super::spec::ShuffleSpec;
use crate::error::{Error, Result};
use crate::kernel::OrderCut;
use crate::model::{OBJECT_COLUMN, ROW_COLUMN, RowOrder};

/// Tells the number of each row of a stream.
#[derive(Debug)]
pub(super) struct Numbering {
    order: RowOrder,
    /// The numbers of objects' first rows; none where rows are counted.
    bases: HashMap<String, u64>,
    /// The columns that say object and row.
    columns: Option<(usize, usize)>,
    /// Rows counted so far.
    counted: u64,
}

impl Numbering {
    pub(super) fn of(spec: &ShuffleSpec, schema: &Schema) -> Result<Self> {
        let columns = match spec.objects.is_empty() {
            true => None,
            false => Some((
                schema.index_of(OBJECT_COLUMN)?,
                schema.index_of(ROW_COLUMN)?,
            )),
        };
        Ok(Self {
            order: spec.order.clone(),
            bases: spec.objects.iter().cloned().collect(),
            columns,
            counted: 0,
        })
    }

    /// The places of a batch's rows in the order; batches come in the order of the input where rows
    /// are counted.
    pub(super) fn places(&mut self, batch: &RecordBatch) -> Result<Vec<OrderCut>> {
        let numbers = match self.columns {
            None => {
                let first = self.counted;
                self.counted += batch.num_rows() as u64;
                (first..self.counted).collect()
            }
            Some(columns) => self.of_objects(batch, columns)?,
        };
        Ok(places(&self.order, numbers))
    }

    fn of_objects(&self, batch: &RecordBatch, (object, row): (usize, usize)) -> Result<Vec<u64>> {
        let lost = |what: String| Error::IncompatibleSchemas(format!("a shuffle: {what}"));
        let objects = batch.column(object).as_dictionary_opt::<Int32Type>();
        let objects = objects.ok_or_else(|| lost(format!("{OBJECT_COLUMN} is no dictionary")))?;
        let names = cast(objects.values(), &DataType::Utf8)?;
        let bases: Vec<Option<u64>> = names
            .as_string::<i32>()
            .iter()
            .map(|name| self.bases.get(name?).copied())
            .collect();
        let rows = batch.column(row).as_primitive_opt::<Int64Type>();
        let rows = rows.ok_or_else(|| lost(format!("{ROW_COLUMN} is no Int64")))?;
        let numbers = objects.keys().iter().zip(rows.iter()).map(|(object, row)| {
            let base = object.and_then(|at| *bases.get(usize::try_from(at).ok()?)?);
            let number = base
                .zip(row)
                .and_then(|(base, row)| base.checked_add(u64::try_from(row).ok()?));
            number.ok_or_else(|| lost("a row does not say where it comes from".to_owned()))
        });
        numbers.collect()
    }
}

/// The places of numbered rows.
pub(super) fn places(order: &RowOrder, numbers: Vec<u64>) -> Vec<OrderCut> {
    let keys = order.keys_of(numbers.iter().copied());
    let keyed = numbers.iter().zip(keys);
    keyed
        .map(|(row, key)| OrderCut { key, row: *row })
        .collect()
}
