//! One column of a CSV file with a row per cell, brought into the order of the cells.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Seek};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, StringArray, UInt32Array,
};
use arrow::compute::{SortOptions, cast, concat, lexsort_to_indices, partition, take};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};

use super::options::CsvColumn;
use crate::error::{Error, Result};
use crate::model::{CategoryRegistry, FieldMeta};
use crate::table::cells_name;

/// Reads `column`, matched on `obs_names`, as a categorical whose categories are sorted.
///
/// Holds the column and the join column in memory. Blanks around names are dropped, and names are
/// compared as text, whatever a number-like name might be elsewhere.
///
/// # Errors
/// [`Error::InvalidOption`] where the file, a column or a cell is missing, or a name repeats with
/// different values.
pub(super) fn categorical(
    csv: &CsvColumn,
    column: &str,
    obs_names: &StringArray,
) -> Result<(FieldRef, ArrayRef)> {
    let (names, values) = read(csv, column)?;
    let order = match_rows(csv, &names, obs_names)?;
    let values = take(&values, &order, None)?;
    let (codes, categories) = factorize(&values)?;
    let id = CategoryRegistry::global().register(&categories);
    let array = DictionaryArray::try_new(codes, categories)?;
    let name = cells_name(column);
    let meta = FieldMeta {
        name: (name != column).then(|| column.to_owned()),
        encoding: Some("categorical".to_owned()),
        ordered: Some(false),
        categories: Some(id),
        ..FieldMeta::default()
    };
    let field = meta.apply(Field::new(name, array.data_type().clone(), true));
    Ok((Arc::new(field), Arc::new(array)))
}

/// The join column as text, and the wanted column in the type its values have.
fn read(csv: &CsvColumn, column: &str) -> Result<(StringArray, ArrayRef)> {
    let name = csv.file.display().to_string();
    let fail = |reason: String| Error::option("--csv-file", format!("{name}: {reason}"));
    let mut file = File::open(&csv.file).map_err(|e| fail(e.to_string()))?;
    let format = Format::default().with_header(true);
    let (schema, _) = format
        .infer_schema(BufReader::new(&file), None)
        .map_err(|e| fail(e.to_string()))?;
    let index = |wanted: &str| {
        schema.index_of(wanted).map_err(|_| {
            let there: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            fail(format!(
                "no column '{wanted}'; its columns are {}",
                there.join(", ")
            ))
        })
    };
    let join = match &csv.join_column {
        Some(join) => index(join)?,
        None => 0,
    };
    let value = index(column)?;
    let schema = as_text(&schema, join);
    file.rewind().map_err(|e| fail(e.to_string()))?;
    let batches = ReaderBuilder::new(schema)
        .with_format(format)
        .with_projection(vec![join, value])
        .build(BufReader::new(file))
        .map_err(|e| fail(e.to_string()))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| fail(e.to_string()))?;
    // The reader gives projected columns in the order asked for.
    let column = |at: usize| -> Result<ArrayRef> {
        let parts: Vec<&dyn Array> = batches.iter().map(|b| b.column(at).as_ref()).collect();
        if parts.is_empty() {
            return Ok(Arc::new(StringArray::new_null(0)));
        }
        Ok(concat(&parts)?)
    };
    let names = cast(&column(0)?, &DataType::Utf8)?;
    Ok((names.as_string().clone(), column(1)?))
}

fn as_text(schema: &arrow::datatypes::Schema, join: usize) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| match field.data_type() {
            _ if i == join => field.as_ref().clone().with_data_type(DataType::Utf8),
            DataType::Null => field.as_ref().clone().with_data_type(DataType::Utf8),
            // Dates stay the text they are.
            data_type if data_type.is_temporal() => {
                field.as_ref().clone().with_data_type(DataType::Utf8)
            }
            _ => field.as_ref().clone(),
        })
        .collect();
    Arc::new(arrow::datatypes::Schema::new(fields))
}

/// For every cell the CSV's row.
fn match_rows(
    csv: &CsvColumn,
    names: &StringArray,
    obs_names: &StringArray,
) -> Result<UInt32Array> {
    let mut rows: HashMap<&str, u32> = HashMap::with_capacity(names.len());
    for (row, name) in (0u32..).zip(names) {
        let name = name.unwrap_or_default().trim();
        if rows.insert(name, row).is_some() {
            return Err(Error::option(
                "--csv-file",
                format!(
                    "{}: cell '{name}' has more than one row",
                    csv.file.display()
                ),
            ));
        }
    }
    let mut missing = 0u64;
    let mut first = None;
    let order: UInt32Array = obs_names
        .iter()
        .map(|name| {
            let name = name.unwrap_or_default().trim();
            let row = rows.get(name).copied();
            if row.is_none() {
                missing += 1;
                first.get_or_insert(name);
            }
            row
        })
        .collect();
    match first {
        None => Ok(order),
        Some(name) => Err(Error::option(
            "--csv-file",
            format!(
                "{}: {missing} of {} cells have no row, '{name}' is the first",
                csv.file.display(),
                obs_names.len()
            ),
        )),
    }
}

/// Codes and sorted categories of values; nulls have no category.
fn factorize(values: &ArrayRef) -> Result<(Int32Array, ArrayRef)> {
    let sorted = lexsort_to_indices(
        &[arrow::compute::SortColumn {
            values: Arc::clone(values),
            options: Some(SortOptions {
                descending: false,
                nulls_first: false,
            }),
        }],
        None,
    )?;
    let in_order = take(values, &sorted, None)?;
    let groups = partition(&[Arc::clone(&in_order)])?;
    let mut codes: Vec<Option<i32>> = vec![None; values.len()];
    let mut firsts = Vec::new();
    for (code, range) in (0i32..).zip(groups.ranges()) {
        if in_order.is_null(range.start) {
            continue;
        }
        firsts.push(u64::try_from(range.start).unwrap_or_default());
        for at in range {
            let row = usize::try_from(sorted.value(at)).unwrap_or(usize::MAX);
            if let Some(slot) = codes.get_mut(row) {
                *slot = Some(code);
            }
        }
    }
    let firsts = arrow::array::UInt64Array::from(firsts);
    let categories = take(&in_order, &firsts, None)?;
    Ok((Int32Array::from(codes), categories))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn csv(text: &str) -> (tempfile::NamedTempFile, CsvColumn) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let column = CsvColumn {
            file: file.path().to_owned(),
            join_column: None,
        };
        (file, column)
    }

    #[test]
    fn cells_find_their_rows_whatever_the_order() {
        let (_file, csv) = csv("cell,batch\n2,b\n1,a\n3,b\n");
        let names = StringArray::from(vec!["1", "2", "3"]);
        let (_, values) = categorical(&csv, "batch", &names).unwrap();
        let text = cast(&values, &DataType::Utf8).unwrap();
        let text: Vec<_> = text.as_string::<i32>().iter().flatten().collect();
        assert_eq!(text, ["a", "b", "b"]);
    }

    #[test]
    fn a_cell_without_a_row_is_named() {
        let (_file, csv) = csv("cell,batch\nx,b\n");
        let names = StringArray::from(vec!["x", "y"]);
        let message = categorical(&csv, "batch", &names).unwrap_err().to_string();
        assert!(
            message.contains("1 of 2 cells") && message.contains("'y'"),
            "{message}"
        );
    }
}
