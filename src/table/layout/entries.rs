//! The columns of tables with a row per stored entry.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};

use crate::element::{AnnData, ColumnReader, MatrixReader};
use crate::table::layout::{EntriesLayout, EntryColumn, Layout};

fn names_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

pub(super) fn coo(object: &Arc<AnnData>, matrix: &Arc<dyn MatrixReader>) -> Layout {
    let mut columns = vec![
        (
            Field::new("obs_idx", DataType::Int64, false),
            EntryColumn::Row,
        ),
        (
            Field::new("obs_names", names_type(), false),
            EntryColumn::RowName,
        ),
        (
            Field::new("var_idx", DataType::Int64, false),
            EntryColumn::Col,
        ),
    ];
    if matrix.axis().is_some() {
        let names = Field::new("var_names", names_type(), false);
        columns.push((names, EntryColumn::ColName));
    }
    columns.push((entry_field(matrix.field()), EntryColumn::Value));
    entries(matrix, Some(Arc::clone(object.obs().index())), columns)
}

pub(super) fn pairs(matrix: &Arc<dyn MatrixReader>) -> Layout {
    let columns = vec![
        (
            Field::new("row_idx", DataType::Int64, false),
            EntryColumn::Row,
        ),
        (
            Field::new("col_idx", DataType::Int64, false),
            EntryColumn::Col,
        ),
        (entry_field(matrix.field()), EntryColumn::Value),
    ];
    entries(matrix, None, columns)
}

fn entries(
    matrix: &Arc<dyn MatrixReader>,
    row_names: Option<Arc<dyn ColumnReader>>,
    columns: Vec<(Field, EntryColumn)>,
) -> Layout {
    let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    Layout::Entries(EntriesLayout {
        schema: Arc::new(Schema::new(fields)),
        matrix: Arc::clone(matrix),
        row_names,
        axis: matrix.axis().cloned(),
        columns,
    })
}

/// The field of one stored value.
fn entry_field(matrix: &Field) -> Field {
    let data_type = match matrix.data_type() {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => fields[1].data_type().clone(),
            other => other.clone(),
        },
        DataType::FixedSizeList(item, _) => item.data_type().clone(),
        other => other.clone(),
    };
    Field::new("value", data_type, false)
}
