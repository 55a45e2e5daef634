//! Rows on their way through a temporary file: written by windows as they come, read window by window.
//!
//! ```text
//!  rows ──► stage of some MB ──► file: w0 w1 w2 │ w0 w1 w2 │ …     window 1 = all blocks w1
//! ```
//! The file has no name, so it is gone when it is closed, however the process ends. It holds Arrow's
//! stream format, uncompressed: compression costs more than a disk saves.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::metrics::Count;

use super::numbering::places;
use super::spec::ShuffleSpec;
use super::window::{Collected, Window, batch_of};
use crate::element::{scratch_file, scratch_folder};
use crate::error::{Error, Result};
use crate::kernel::{OrderCut, RowPlace, gather, owned_bytes};
use crate::model::RowOrder;

/// The column that carries a row's number; never seen outside.
const NUMBER: &str = "__number";

/// Rows in a file, by window.
pub(super) struct Scattered {
    file: Arc<File>,
    order: RowOrder,
    /// Where the blocks of each window are.
    blocks: Vec<Vec<(u64, usize)>>,
}

/// Rows being scattered.
pub(super) struct Scatter {
    file: Arc<File>,
    end: u64,
    order: RowOrder,
    windows: Vec<OrderCut>,
    schema: SchemaRef,
    staged: Vec<(RecordBatch, Vec<OrderCut>)>,
    stage_bytes: usize,
    reservation: MemoryReservation,
    blocks: Vec<Vec<(u64, usize)>>,
    spilled: Count,
}

impl Scatter {
    /// Begins a file in the folder of temporary files.
    ///
    /// # Errors
    /// [`Error::Store`] where it cannot be made.
    pub(super) fn begin(
        spec: &ShuffleSpec,
        schema: &SchemaRef,
        pool: &Arc<dyn MemoryPool>,
        spilled: Count,
    ) -> Result<Self> {
        let mut fields = schema.fields().to_vec();
        fields.push(Arc::new(Field::new(NUMBER, DataType::UInt64, false)));
        Ok(Self {
            file: Arc::new(scratch_file().map_err(failed)?),
            end: 0,
            order: spec.order.clone(),
            windows: spec.windows.clone(),
            schema: Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())),
            staged: Vec::new(),
            // Blocks are made from what is staged, so that counts twice.
            stage_bytes: usize::try_from(spec.window_bytes / 2).unwrap_or(usize::MAX),
            reservation: MemoryConsumer::new("ShuffleExec scatter").register(pool),
            blocks: vec![Vec::new(); spec.windows.len() + 1],
            spilled,
        })
    }

    /// Takes a batch whose rows have these places.
    pub(super) async fn push(&mut self, batch: RecordBatch, places: Vec<OrderCut>) -> Result<()> {
        let bytes = owned_bytes(&batch) + size_of_val(&places[..]);
        if self.reservation.size() + bytes > self.stage_bytes
            || self.reservation.try_grow(bytes).is_err()
        {
            self.flush().await?;
            self.reservation.try_grow(bytes)?;
        }
        self.staged.push((batch, places));
        Ok(())
    }

    /// Writes the last rows.
    pub(super) async fn finish(mut self) -> Result<Scattered> {
        self.flush().await?;
        Ok(Scattered {
            file: self.file,
            order: self.order,
            blocks: self.blocks,
        })
    }

    async fn flush(&mut self) -> Result<()> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let staged = std::mem::take(&mut self.staged);
        let (windows, schema) = (self.windows.clone(), Arc::clone(&self.schema));
        let (file, mut end) = (Arc::clone(&self.file), self.end);
        let work = move || {
            let mut written = Vec::new();
            let mut block = Vec::new();
            for (window, rows) in by_window(&staged, &windows).into_iter().enumerate() {
                if rows.is_empty() {
                    continue;
                }
                encode(&staged, &rows, &schema, &mut block)?;
                file.write_all_at(&block, end).map_err(failed)?;
                written.push((window, end, block.len()));
                end += block.len() as u64;
            }
            Ok::<_, Error>((written, end))
        };
        let (written, end) = blocking(work).await?;
        self.spilled
            .add(usize::try_from(end - self.end).unwrap_or(usize::MAX));
        self.end = end;
        for (window, at, len) in written {
            self.blocks[window].push((at, len));
        }
        self.reservation.free();
        Ok(())
    }
}

impl Scattered {
    /// Reads a window.
    pub(super) async fn window(&self, window: usize, pool: &Arc<dyn MemoryPool>) -> Result<Window> {
        let reservation = MemoryConsumer::new("ShuffleExec window").register(pool);
        let mut collected = Collected::new(reservation);
        let (file, order) = (Arc::clone(&self.file), self.order.clone());
        let blocks = self.blocks.get(window).cloned().unwrap_or_default();
        let work = move || {
            for (at, len) in blocks {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, at).map_err(failed)?;
                for batch in StreamReader::try_new(&bytes[..], None)? {
                    let batch = batch?;
                    let numbers = batch.column_by_name(NUMBER);
                    let numbers = numbers.and_then(|n| n.as_primitive_opt::<UInt64Type>());
                    let numbers = numbers.ok_or_else(|| {
                        Error::IncompatibleSchemas("a block came back without numbers".to_owned())
                    })?;
                    let places = places(&order, numbers.values().to_vec());
                    collected.push_sized(batch, &places, len)?;
                }
            }
            Ok(collected.finish())
        };
        blocking(work).await
    }
}

/// The staged rows of each window, in the order they came.
fn by_window(
    staged: &[(RecordBatch, Vec<OrderCut>)],
    windows: &[OrderCut],
) -> Vec<Vec<(RowPlace, u64)>> {
    let mut rows = vec![Vec::new(); windows.len() + 1];
    for (batch, (_, places)) in staged.iter().enumerate() {
        for (row, place) in places.iter().enumerate() {
            let window = windows.partition_point(|cut| cut <= place);
            rows[window].push(((batch, row), place.row));
        }
    }
    rows
}

/// A window's staged rows as a stream of one batch.
fn encode(
    staged: &[(RecordBatch, Vec<OrderCut>)],
    rows: &[(RowPlace, u64)],
    schema: &SchemaRef,
    block: &mut Vec<u8>,
) -> Result<()> {
    let places: Vec<RowPlace> = rows.iter().map(|(place, _)| *place).collect();
    let mut columns = Vec::with_capacity(schema.fields().len());
    for at in 0..schema.fields().len() - 1 {
        let parts: Vec<ArrayRef> = staged
            .iter()
            .map(|(b, _)| Arc::clone(b.column(at)))
            .collect();
        columns.push(gather(&parts, &places)?);
    }
    let numbers = rows.iter().map(|(_, number)| *number);
    columns.push(Arc::new(UInt64Array::from_iter_values(numbers)));
    let batch = batch_of(schema, columns, rows.len())?;
    block.clear();
    let mut stream = StreamWriter::try_new(block, schema)?;
    stream.write(&batch)?;
    stream.finish()?;
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = datafusion::common::runtime::SpawnedTask::spawn_blocking(work)
        .join()
        .await;
    done.map_err(|stopped| Error::store("task", "shuffle", stopped))?
}

fn failed(error: std::io::Error) -> Error {
    let folder = scratch_folder();
    Error::store("temporary file", folder.display().to_string(), error)
}
