//! Nested values as JSON text, for CSV.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;

use crate::error::Result;

/// The schema with nested columns as text.
pub(super) fn flat_schema(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            if field.data_type().is_nested() {
                Field::new(field.name(), DataType::Utf8, true)
            } else {
                field.as_ref().clone()
            }
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// The batch with nested columns as text.
pub(super) fn flatten(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch
        .columns()
        .iter()
        .map(|column| {
            if column.data_type().is_nested() {
                as_json(column)
            } else {
                Ok(Arc::clone(column))
            }
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(flat_schema(&batch.schema()), columns)?)
}

fn as_json(column: &ArrayRef) -> Result<ArrayRef> {
    const BEFORE: &str = "{\"v\":";
    let field = Field::new("v", column.data_type().clone(), true);
    let one = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(column)])?;
    let mut text = Vec::new();
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, LineDelimited>(&mut text);
    writer.write(&one)?;
    writer.finish()?;
    drop(writer);
    let text = String::from_utf8_lossy(&text);
    let mut out = StringBuilder::new();
    for (row, line) in text.lines().enumerate() {
        let value = line.strip_prefix(BEFORE).and_then(|l| l.strip_suffix('}'));
        match value {
            Some(value) if column.is_valid(row) => out.append_value(value),
            _ => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, ListArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn nested_values_become_json() {
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), Some(2)]),
            None,
        ]));
        let text = as_json(&lists).unwrap();
        let text = text.as_string::<i32>();
        assert_eq!(text.value(0), "[1,2]");
        assert!(text.is_null(1));
    }
}
