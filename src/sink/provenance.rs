//! Which rows of which object were written.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};

use crate::error::{Error, Result};
use crate::kernel::Positions;
use crate::model::{RowSelection, shown};

/// Collects the hidden columns. Rows in ascending order take 16 bytes per run, others 8 per row.
#[derive(Debug, Default)]
pub(super) struct Provenance {
    object: Option<String>,
    rows: Rows,
    /// Whether some row had none.
    incomplete: bool,
}

#[derive(Debug)]
enum Rows {
    Ascending(Vec<Range<u64>>),
    Any(Vec<u64>),
}

impl Default for Rows {
    fn default() -> Self {
        Self::Ascending(Vec::new())
    }
}

impl Provenance {
    /// Takes a batch's hidden columns.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where rows come from a second object.
    pub(super) fn push(&mut self, objects: &ArrayRef, rows: &ArrayRef) -> Result<()> {
        if objects.null_count() + rows.null_count() > 0 {
            self.incomplete = true;
            return Ok(());
        }
        self.objects(objects)?;
        let rows = cast(rows, &DataType::Int64)?;
        for row in rows.as_primitive::<Int64Type>().values() {
            match u64::try_from(*row) {
                Ok(row) => self.rows.push(row),
                Err(_) => self.incomplete = true,
            }
        }
        Ok(())
    }

    fn objects(&mut self, objects: &ArrayRef) -> Result<()> {
        match objects.as_dictionary_opt::<Int32Type>() {
            Some(dictionary) => {
                let names = cast(dictionary.values(), &DataType::Utf8)?;
                let names: &StringArray = names.as_string();
                let mut last = None;
                for key in dictionary.keys().values() {
                    if last != Some(*key) {
                        last = Some(*key);
                        self.object(names.value(usize::try_from(*key).unwrap_or_default()))?;
                    }
                }
            }
            None => {
                let names = cast(objects, &DataType::Utf8)?;
                for name in names.as_string::<i32>().iter().flatten() {
                    self.object(name)?;
                }
            }
        }
        Ok(())
    }

    fn object(&mut self, name: &str) -> Result<()> {
        match &self.object {
            Some(object) if object == name => Ok(()),
            Some(object) => Err(Error::IncompatibleSchemas(format!(
                "rows come from two objects, {} and {}: use merge(...) to write them as one",
                shown(object),
                shown(name)
            ))),
            None => {
                self.object = Some(name.to_owned());
                Ok(())
            }
        }
    }

    /// The object and the rows of it, where every row said.
    pub(super) fn finish(self) -> Option<(String, Positions)> {
        let object = self.object.filter(|_| !self.incomplete)?;
        Some((
            object,
            match self.rows {
                Rows::Ascending(ranges) => Positions::Sorted(RowSelection::from_ranges(ranges)),
                Rows::Any(rows) => Positions::Any(rows),
            },
        ))
    }
}

impl Rows {
    fn push(&mut self, row: u64) {
        match self {
            Self::Any(rows) => rows.push(row),
            Self::Ascending(ranges) => match ranges.last_mut() {
                Some(last) if row == last.end => last.end += 1,
                Some(last) if row < last.end => {
                    let mut rows: Vec<u64> = std::mem::take(ranges).into_iter().flatten().collect();
                    rows.push(row);
                    *self = Self::Any(rows);
                }
                _ => ranges.push(row..row.saturating_add(1)),
            },
        }
    }
}
