//! Columns, frames and square matrices of the source, cut to positions and written by blocks.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};

use crate::element::{
    ColumnReader, ColumnWriter, Frame, FrameWriter, MatrixReader, Place, stored_name,
};
use crate::error::{Error, Result};
use crate::kernel::{AxisMap, Positions, RowPlace, gather};
use crate::model::{FieldMeta, MatrixKind};
use crate::store::ReadMetrics;

/// Bytes of a block of rows, by estimate.
const BLOCK_BYTES: u64 = 4 << 20;
/// Rows of a block of narrow columns.
const BLOCK_ROWS: u64 = 1 << 16;

/// Writes a data frame's selected rows, and the columns that `keep` says, to the element at `place`.
pub(crate) async fn write_frame(
    frame: &Frame,
    positions: &Positions,
    mut place: Place,
    keep: impl Fn(&Place) -> bool,
) -> Result<()> {
    place.size.rows = Some(positions.len());
    let columns = frame.columns().iter();
    let columns: Vec<_> = columns
        .filter(|column| keep(&place.child(&stored_name(column.field()))))
        .collect();
    let fields: Vec<FieldRef> = columns.iter().map(|c| Arc::clone(c.field())).collect();
    let mut writer = FrameWriter::create(place, frame.index().field(), &fields).await?;
    for ranks in blocks(positions.len(), BLOCK_ROWS) {
        let index = read(frame.index().as_ref(), positions, ranks.clone()).await?;
        let mut values = Vec::with_capacity(columns.len());
        for column in &columns {
            values.push(read(column.as_ref(), positions, ranks.clone()).await?);
        }
        writer.append(&index, &values).await?;
    }
    writer.finish().await
}

/// Reads a data frame's selected rows whole, the index first.
pub(super) async fn read_frame(frame: &Frame, positions: &Positions) -> Result<RecordBatch> {
    let mut fields = vec![Arc::clone(frame.index().field())];
    let mut columns = vec![read(frame.index().as_ref(), positions, 0..positions.len()).await?];
    for column in frame.columns() {
        fields.push(Arc::clone(column.field()));
        columns.push(read(column.as_ref(), positions, 0..positions.len()).await?);
    }
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}

/// Writes a data frame that is in memory, index first, and the columns that `keep` says.
pub(super) async fn write_batch(
    frame: &RecordBatch,
    mut place: Place,
    keep: impl Fn(&Place) -> bool,
) -> Result<()> {
    place.size.rows = Some(frame.num_rows() as u64);
    let schema = frame.schema();
    let columns: Vec<usize> = (1..frame.num_columns())
        .filter(|i| keep(&place.child(&stored_name(schema.field(*i)))))
        .collect();
    let fields: Vec<FieldRef> = columns
        .iter()
        .map(|i| Arc::clone(&schema.fields()[*i]))
        .collect();
    let mut writer = FrameWriter::create(place, schema.field(0), &fields).await?;
    let values: Vec<ArrayRef> = columns
        .iter()
        .map(|i| Arc::clone(frame.column(*i)))
        .collect();
    writer.append(frame.column(0), &values).await?;
    writer.finish().await
}

/// Writes an element's selected rows (`varm`) to `place`.
pub(crate) async fn write_column(
    reader: &Arc<dyn ColumnReader>,
    positions: &Positions,
    mut place: Place,
) -> Result<()> {
    place.size.rows = Some(positions.len());
    place.size.nnz = all_entries(reader.as_matrix(), positions);
    let mut writer = ColumnWriter::at(place, reader.field()).await?;
    let rows = (BLOCK_BYTES / reader.row_bytes().max(1)).clamp(1, BLOCK_ROWS);
    for ranks in blocks(positions.len(), rows) {
        let values = read(reader.as_ref(), positions, ranks).await?;
        writer.append(&values).await?;
    }
    writer.finish().await
}

/// Writes a square matrix (`obsp`, `varp`), cut on both axes, to `place`.
pub(super) async fn write_pairwise(
    reader: &Arc<dyn MatrixReader>,
    map: &AxisMap,
    mut place: Place,
) -> Result<()> {
    let shape = reader.shape();
    if shape.n_cols != shape.n_rows {
        return Err(Error::invalid(
            place.writer.url(),
            reader.key(),
            format!("a shape of {} × {}, not square", shape.n_rows, shape.n_cols),
        ));
    }
    let positions = map.positions();
    place.size.rows = Some(positions.len());
    place.size.nnz = all_entries(Some(reader.as_ref()), positions);
    let field = square_field(reader.field(), positions.len())?;
    let mut writer = ColumnWriter::at(place.clone(), &field).await?;
    let value = shape.data.size().unwrap_or(16);
    let row_bytes = match shape.nnz {
        Some(nnz) => (nnz / shape.n_rows.max(1)).saturating_mul(value + 4),
        None => shape.n_cols.saturating_mul(value),
    };
    let rows = (BLOCK_BYTES / row_bytes.max(1)).clamp(1, BLOCK_ROWS);
    for ranks in blocks(positions.len(), rows) {
        let values = read(reader.as_ref(), positions, ranks).await?;
        let values: ArrayRef = if positions.is_all(reader.len()) {
            values
        } else if shape.kind == MatrixKind::Sparse {
            Arc::new(named(map.sparse(values.as_list()), &place)?)
        } else {
            Arc::new(named(map.dense(values.as_fixed_size_list()), &place)?)
        };
        writer.append(&values).await?;
    }
    writer.finish().await
}

/// Reads the rows of some ranks, in the positions' order.
async fn read<R: ColumnReader + ?Sized>(
    reader: &R,
    positions: &Positions,
    ranks: std::ops::Range<u64>,
) -> Result<ArrayRef> {
    let (rows, order) = positions.block(ranks);
    let values = reader.read(&rows, &ReadMetrics::default()).await?;
    Ok(match order {
        Some(order) => {
            let place = |row: &u64| (0, usize::try_from(*row).unwrap_or(usize::MAX));
            let places: Vec<RowPlace> = order.values().iter().map(place).collect();
            gather(&[values], &places)?
        }
        None => values,
    })
}

fn blocks(len: u64, rows: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    let step = usize::try_from(rows).unwrap_or(usize::MAX);
    (0..len)
        .step_by(step)
        .map(move |start| start..start.saturating_add(rows).min(len))
}

/// Stored entries of the selection, where all rows are selected.
fn all_entries(matrix: Option<&dyn MatrixReader>, positions: &Positions) -> Option<u64> {
    let shape = matrix?.shape();
    shape.nnz.filter(|_| positions.is_all(shape.n_rows))
}

/// The field of a square matrix that is `n` wide now.
fn square_field(field: &Field, n: u64) -> Result<Field> {
    let meta = FieldMeta {
        width: Some(n),
        ..FieldMeta::of(field)
    };
    let data_type = match field.data_type() {
        DataType::FixedSizeList(item, _) => {
            let width = i32::try_from(n)
                .map_err(|_| Error::NotImplemented(format!("a dense matrix over {n} positions")))?;
            DataType::FixedSizeList(Arc::clone(item), width)
        }
        other => other.clone(),
    };
    Ok(meta.apply(Field::new(field.name(), data_type, field.is_nullable())))
}

/// Gives an error of the kernel, which knows no names, the element's.
fn named<T>(result: Result<T>, place: &Place) -> Result<T> {
    result.map_err(|error| match error {
        Error::OutOfRange { position, len, .. } => Error::OutOfRange {
            url: place.writer.url().to_owned(),
            element: place.key.clone(),
            position,
            len,
        },
        other => other,
    })
}
