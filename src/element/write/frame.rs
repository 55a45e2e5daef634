//! `dataframe`: an index and columns, each an element of its own.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use async_trait::async_trait;
use futures::future::try_join_all;

use crate::element::write::column::{ColumnWriter, Encoder, is_text};
use crate::element::write::place::{Place, encoding, with};
use crate::error::{Error, Result};
use crate::model::FieldMeta;

/// Writes a data frame by batches of rows.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    place: Place,
    index: ColumnWriter,
    index_name: String,
    /// One per column; [`None`] for a column that is the index again, which is stored once.
    columns: Vec<Option<ColumnWriter>>,
}

impl FrameWriter {
    /// Creates the group. Columns are called as their metadata says where a reader renamed them.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] for a name that is repeated, reserved or holds a slash, and
    /// for a type without an encoding.
    pub(crate) async fn create(place: Place, index: &Field, columns: &[FieldRef]) -> Result<Self> {
        let index_name = FieldMeta::of(index)
            .index_name
            .unwrap_or_else(|| "_index".to_owned());
        let names: Vec<String> = columns.iter().map(|field| stored_name(field)).collect();
        for (i, name) in names.iter().enumerate() {
            check_name(&place, name)?;
            if names[..i].contains(name) {
                return Err(Error::IncompatibleSchemas(format!(
                    "{}: {} would have two columns called '{name}': give one another name with AS",
                    place.writer.url(),
                    place.key
                )));
            }
        }
        let attributes = with(
            encoding("dataframe", "0.2.0"),
            "_index",
            index_name.as_str(),
        );
        let attributes = with(attributes, "column-order", names.clone());
        place.group(&attributes).await?;
        let index_field = text_field(index);
        let index = ColumnWriter::at(place.child(&index_name), &index_field).await?;
        let mut writers = Vec::with_capacity(columns.len());
        for (name, field) in names.iter().zip(columns) {
            writers.push(if *name == index_name {
                None
            } else {
                Some(ColumnWriter::at(place.child(name), field).await?)
            });
        }
        Ok(Self {
            place,
            index,
            index_name,
            columns: writers,
        })
    }

    /// As [`create`](Self::create), for a struct whose first field is the index.
    pub(super) async fn of_struct(place: Place, fields: &Fields) -> Result<Self> {
        match fields.split_first() {
            Some((index, columns)) if is_text(index.data_type()) => {
                Self::create(place, index, columns).await
            }
            _ => Err(Error::IncompatibleSchemas(format!(
                "{}: {} is a struct whose first field is not text: only data frames, which start with their index, can be written",
                place.writer.url(),
                place.key
            ))),
        }
    }

    /// Appends rows: their index and one array per column.
    ///
    /// # Errors
    /// Those of [`ColumnWriter::append`]; [`Error::InvalidElement`] where a column is called as
    /// the index is, but is not equal to it.
    pub(crate) async fn append(&mut self, index: &ArrayRef, columns: &[ArrayRef]) -> Result<()> {
        let index = if is_text(index.data_type()) {
            Arc::clone(index)
        } else {
            cast(index, &DataType::Utf8)?
        };
        let mut jobs = vec![self.index.append(&index)];
        for (writer, values) in self.columns.iter_mut().zip(columns) {
            match writer {
                Some(writer) => jobs.push(writer.append(values)),
                None if same_text(&index, values)? => {}
                None => {
                    return Err(self.place.invalid(format!(
                        "column '{}' has the index's name but other values: give it another name with AS",
                        self.index_name
                    )));
                }
            }
        }
        try_join_all(jobs.into_iter().map(Box::pin)).await?;
        Ok(())
    }

    /// Completes the index and the columns.
    pub(crate) async fn finish(self) -> Result<()> {
        self.index.finish().await?;
        for column in self.columns.into_iter().flatten() {
            column.finish().await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Encoder for FrameWriter {
    async fn append(&mut self, values: &ArrayRef) -> Result<()> {
        let frame = values.as_struct();
        if frame.null_count() > 0 {
            return Err(self.place.invalid("rows of a data frame are null"));
        }
        match frame.columns().split_first() {
            Some((index, columns)) => Self::append(self, index, columns).await,
            None => Err(self.place.invalid("a data frame without an index")),
        }
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Self::finish(*self).await
    }
}

/// The name of a column's element. The reader's new name must still stand: an alias in a query
/// keeps the metadata but means its own name.
pub(crate) fn stored_name(field: &Field) -> String {
    match FieldMeta::of(field).name {
        Some(name) if is_renamed(field.name(), &name) => name,
        _ => field.name().clone(),
    }
}

/// Whether a column is called as readers call an element whose own name is taken: `obs.X`, with
/// underscores behind where that is taken too.
fn is_renamed(column: &str, name: &str) -> bool {
    let own = column
        .split_once('.')
        .and_then(|(_, own)| own.strip_prefix(name));
    own.is_some_and(|rest| rest.chars().all(|c| c == '_'))
}

fn check_name(place: &Place, name: &str) -> Result<()> {
    let reason = if name.is_empty() || name == "." {
        "is not a name that HDF5 can store"
    } else if name.contains('/') {
        "holds a slash, which AnnData reserves"
    } else if name == "_index" {
        "is reserved for the index"
    } else {
        return Ok(());
    };
    Err(Error::IncompatibleSchemas(format!(
        "{}: {}: column name '{name}' {reason}: give it another name with AS",
        place.writer.url(),
        place.key
    )))
}

/// The index is text whatever the query made of it.
fn text_field(field: &Field) -> Field {
    if is_text(field.data_type()) {
        field.clone()
    } else {
        Field::new(field.name(), DataType::Utf8, field.is_nullable())
    }
}

fn same_text(index: &ArrayRef, column: &ArrayRef) -> Result<bool> {
    let index = cast(index, &DataType::Utf8)?;
    let column = cast(column, &DataType::Utf8)?;
    let (index, column): (&StringArray, &StringArray) = (index.as_string(), column.as_string());
    Ok(index == column)
}
