//! Tables for reading: matrix rows are shortened to their first entries.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;

use crate::error::Result;
use crate::model::MatrixKind;

/// Values of a matrix row that are shown.
const SHOWN: usize = 3;

/// The batches as a table with borders; the header alone where there are none.
pub(super) fn format(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String> {
    let options = options();
    let empty = [RecordBatch::new_empty(Arc::clone(schema))];
    let batches = if batches.is_empty() {
        &empty[..]
    } else {
        batches
    };
    Ok(pretty_format_batches_with_options(batches, &options)?.to_string())
}

/// A batch with its matrix columns as short text: `{5: 1.0, 9: 2.0, … 123 stored}`.
pub(super) fn readable(batch: &RecordBatch) -> Result<RecordBatch> {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let text = match MatrixKind::of(column.data_type()) {
            Some(MatrixKind::Sparse) => Some(sparse(column)?),
            Some(MatrixKind::Dense) => Some(dense(column)?),
            None => None,
        };
        match text {
            Some(text) => {
                fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
                columns.push(text);
            }
            None => {
                fields.push(Arc::clone(field));
                columns.push(Arc::clone(column));
            }
        }
    }
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}

fn options() -> FormatOptions<'static> {
    FormatOptions::new().with_null("null")
}

fn sparse(column: &ArrayRef) -> Result<ArrayRef> {
    let lists = column.as_list::<i32>();
    let mut out = StringBuilder::new();
    for row in 0..lists.len() {
        if lists.is_null(row) {
            out.append_null();
            continue;
        }
        let entries = lists.value(row);
        let (n, entries) = (entries.len(), entries.as_struct());
        let (head, options) = (entries.slice(0, n.min(SHOWN)), options());
        let indices = ArrayFormatter::try_new(head.column(0), &options)?;
        let data = ArrayFormatter::try_new(head.column(1), &options)?;
        let mut text = String::from("{");
        for i in 0..n.min(SHOWN) {
            let comma = if i > 0 { ", " } else { "" };
            // Writing to a string does not fail.
            let _ = write!(text, "{comma}{}: {}", indices.value(i), data.value(i));
        }
        if n > SHOWN {
            let _ = write!(text, ", … {n} stored");
        }
        text.push('}');
        out.append_value(text);
    }
    Ok(Arc::new(out.finish()))
}

fn dense(column: &ArrayRef) -> Result<ArrayRef> {
    let lists = column.as_fixed_size_list();
    let mut out = StringBuilder::new();
    for row in 0..lists.len() {
        if lists.is_null(row) {
            out.append_null();
            continue;
        }
        let values = lists.value(row);
        let (n, options) = (values.len(), options());
        let head = values.slice(0, n.min(SHOWN));
        let shown = ArrayFormatter::try_new(head.as_ref(), &options)?;
        let mut text = String::from("[");
        for i in 0..n.min(SHOWN) {
            let comma = if i > 0 { ", " } else { "" };
            let _ = write!(text, "{comma}{}", shown.value(i));
        }
        if n > SHOWN {
            let _ = write!(text, ", … {n}");
        }
        text.push(']');
        out.append_value(text);
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use arrow::array::FixedSizeListArray;
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn long_rows_are_shortened() {
        let rows = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
            [Some((0..5).map(Some).collect::<Vec<_>>())],
            5,
        );
        let text = dense(&(Arc::new(rows) as ArrayRef)).unwrap();
        assert_eq!(text.as_string::<i32>().value(0), "[0, 1, 2, … 5]");
    }
}
