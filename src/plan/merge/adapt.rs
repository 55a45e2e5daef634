//! From an object's batches of cells to the merged object's.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, RecordBatch,
    RecordBatchOptions, StringArray, StringBuilder, StructArray,
};
use arrow::compute::kernels::numeric::add;
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};

use super::columns::{ColumnCast, missing_rows};
use super::matrices::MergedMatrix;
use crate::error::{Error, Result};
use crate::kernel::reindex::ColumnMap;

/// The column of a scan that holds positions, and the one of names.
pub(super) const POSITION: &str = "obs_idx";
pub(super) const NAMES: &str = "obs_names";

/// A column of the merged cells, and where each object's rows have it from.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) field: FieldRef,
    /// One per object.
    pub(super) sources: Vec<Source>,
}

/// How a column of the merged cells comes from the columns of an object's cells.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// The row's position, counted on from the objects before.
    Position { first: i64 },
    /// The row's name, and what is put behind it.
    Names { suffix: Option<Arc<str>> },
    /// A column.
    Column { name: String, cast: ColumnCast },
    /// The same category in every row.
    Label { code: i32, values: ArrayRef },
    /// Nothing: the object does not have the column.
    Missing,
    /// Rows of a matrix.
    Matrix {
        name: String,
        map: Arc<ColumnMap>,
        matrix: Arc<MergedMatrix>,
    },
    /// Rows of a matrix that the object does not have.
    MissingMatrix { matrix: Arc<MergedMatrix> },
    /// Rows of a data frame, whose names are the cells'; without a name the object has none.
    Frame {
        name: Option<String>,
        columns: Vec<Option<(usize, ColumnCast)>>,
        suffix: Option<Arc<str>>,
    },
}

impl Source {
    /// Whether rows of a matrix are made anew, entry by entry.
    pub(super) fn moves_entries(&self) -> bool {
        matches!(self, Self::Matrix { map, .. } if !map.is_identity())
    }

    /// The columns of the object's cells that it needs.
    pub(super) fn reads(&self) -> Vec<&str> {
        match self {
            Self::Position { .. } => vec![POSITION],
            Self::Names { .. } => vec![NAMES],
            Self::Column { name, .. } | Self::Matrix { name, .. } => vec![name],
            Self::Frame { name, .. } => name.iter().map(String::as_str).chain([NAMES]).collect(),
            Self::Label { .. } | Self::Missing | Self::MissingMatrix { .. } => Vec::new(),
        }
    }

    /// Whether the column's values are the object's own, so that a condition on it may be asked of
    /// the object.
    pub(super) fn keeps_values(&self) -> bool {
        match self {
            Self::Names { suffix } => suffix.is_none(),
            Self::Column { cast, .. } => {
                matches!(cast, ColumnCast::Keep | ColumnCast::Codes { .. })
            }
            _ => false,
        }
    }

    /// The merged matrix whose rows come of it.
    pub(super) fn matrix(&self) -> Option<&MergedMatrix> {
        match self {
            Self::Matrix { matrix, .. } | Self::MissingMatrix { matrix } => Some(matrix),
            _ => None,
        }
    }

    /// The column's values for a batch of the object's cells.
    fn values(&self, field: &Field, batch: &RecordBatch) -> Result<ArrayRef> {
        let n = batch.num_rows();
        match self {
            Self::Position { first } => {
                let first = Int64Array::new_scalar(*first);
                Ok(add(column(batch, POSITION)?, &first)?)
            }
            Self::Names { suffix } => names(batch, suffix.as_deref()),
            Self::Column { name, cast } => cast.apply(column(batch, name)?),
            Self::Label { code, values } => {
                let keys = Int32Array::from_value(*code, n);
                Ok(Arc::new(DictionaryArray::try_new(
                    keys,
                    Arc::clone(values),
                )?))
            }
            Self::Missing => missing_rows(field, n),
            Self::Matrix { name, map, matrix } => matrix.rows(map, column(batch, name)?),
            Self::MissingMatrix { matrix } => matrix.missing(n),
            Self::Frame {
                name,
                columns,
                suffix,
            } => {
                let DataType::Struct(fields) = field.data_type() else {
                    return Err(lost(field.name()));
                };
                let rows = name
                    .as_deref()
                    .map(|name| column(batch, name))
                    .transpose()?;
                let rows = rows.and_then(|rows| rows.as_struct_opt());
                let mut arrays = vec![names(batch, suffix.as_deref())?];
                for (field, part) in fields.iter().skip(1).zip(columns) {
                    // A frame's own index stands before its columns.
                    let own = part.as_ref().zip(rows);
                    arrays.push(match own {
                        Some(((at, cast), rows)) => {
                            let own = rows.columns().get(at + 1);
                            cast.apply(own.ok_or_else(|| lost(field.name()))?)?
                        }
                        None => missing_rows(field, n)?,
                    });
                }
                Ok(Arc::new(StructArray::try_new(
                    fields.clone(),
                    arrays,
                    None,
                )?))
            }
        }
    }
}

/// A batch of the merged cells from a batch of an object's.
///
/// # Errors
/// [`Error::IncompatibleSchemas`] where the batch lacks a column that the plan names.
pub(super) fn adapt<'a>(
    batch: &RecordBatch,
    schema: &SchemaRef,
    sources: impl Iterator<Item = &'a Source>,
) -> Result<RecordBatch> {
    let columns = schema.fields().iter().zip(sources);
    let columns = columns.map(|(field, source)| source.values(field, batch));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = columns.collect::<Result<_>>()?;
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}

fn names(batch: &RecordBatch, suffix: Option<&str>) -> Result<ArrayRef> {
    let names = column(batch, NAMES)?;
    let Some(suffix) = suffix else {
        return Ok(Arc::clone(names));
    };
    let texts: &StringArray = names.as_string_opt().ok_or_else(|| lost(NAMES))?;
    let bytes = texts.value_data().len() + texts.len() * suffix.len();
    let mut out = StringBuilder::with_capacity(texts.len(), bytes);
    for name in texts {
        out.append_value(format!("{}{suffix}", name.unwrap_or_default()));
    }
    Ok(Arc::new(out.finish()))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| lost(name))
}

fn lost(name: &str) -> Error {
    Error::IncompatibleSchemas(format!(
        "an object's cells came without the column '{name}'"
    ))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;

    use super::*;

    #[test]
    fn rows_are_counted_on_and_named_by_their_object() {
        let fields = vec![
            Field::new(POSITION, DataType::Int64, false),
            Field::new(NAMES, DataType::Utf8, false),
        ];
        let schema = Arc::new(Schema::new(fields));
        let rows = Arc::new(Int64Array::from(vec![0, 1]));
        let texts = Arc::new(StringArray::from(vec!["a", "b"]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![rows, texts]).unwrap();
        let sources = [
            Source::Position { first: 7 },
            Source::Names {
                suffix: Some("-x".into()),
            },
        ];
        let adapted = adapt(&batch, &schema, sources.iter()).unwrap();
        let rows = adapted
            .column(0)
            .as_primitive::<arrow::datatypes::Int64Type>();
        assert_eq!(rows.values().to_vec(), [7, 8]);
        let names: Vec<_> = adapted
            .column(1)
            .as_string::<i32>()
            .iter()
            .flatten()
            .collect();
        assert_eq!(names, ["a-x", "b-x"]);
        assert!(
            adapt(
                &adapted.slice(0, 0).project(&[1]).unwrap(),
                &schema,
                sources.iter()
            )
            .is_err()
        );
    }
}
