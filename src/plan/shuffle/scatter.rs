//! Rows on their way through a temporary file: written by windows as they come, read window by window.
//!
//! ```text
//!  rows ──► stage of some MB ──► file: w0 w1 w2 │ w0 w1 w2 │ …     window 1 = all blocks w1
//! ```
//! The file has no name, so it is gone when it is closed, however the process ends. It holds Arrow's
//! stream format, uncompressed: compression costs more than a disk saves.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamEncoder;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::metrics::Count;
use rayon::prelude::*;

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
        let (file, end) = (Arc::clone(&self.file), AtomicU64::new(self.end));
        let work = move || {
            let columns = columns(&staged);
            let windows = by_window(&staged, &windows).into_par_iter().enumerate();
            let windows = windows.filter(|(_, rows)| !rows.is_empty());
            let blocks = windows.map(|(window, rows)| {
                let block = encode(&columns, &rows, &schema)?;
                let len = block.iter().map(Buffer::len).sum();
                let at = end.fetch_add(len as u64, Ordering::Relaxed);
                write(&file, &block, at).map_err(failed)?;
                Ok::<_, Error>((window, at, len))
            });
            let blocks: Vec<(usize, u64, usize)> = blocks.collect::<Result<_>>()?;
            Ok((blocks, end.into_inner()))
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
            collected.reserve(blocks.iter().map(|(_, len)| len).sum())?;
            let batches = blocks.into_par_iter().map(|(at, len)| {
                let mut bytes = MutableBuffer::from_len_zeroed(len);
                file.read_exact_at(&mut bytes, at).map_err(failed)?;
                decode(bytes.into(), &order)
            });
            for (batch, places) in batches.collect::<Result<Vec<_>>>()? {
                // Its columns lie in the block, which each of them would count as its own.
                collected.push_sized(batch, &places, 0)?;
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

/// The parts of each column of what is staged.
fn columns(staged: &[(RecordBatch, Vec<OrderCut>)]) -> Vec<Vec<ArrayRef>> {
    let n_columns = staged.first().map_or(0, |(batch, _)| batch.num_columns());
    let parts = |at: usize| staged.iter().map(move |(batch, _)| batch.column(at));
    (0..n_columns)
        .map(|at| parts(at).cloned().collect())
        .collect()
}

/// A window's staged rows as a stream of one batch: the memory of its columns, not a copy.
fn encode(
    columns: &[Vec<ArrayRef>],
    rows: &[(RowPlace, u64)],
    schema: &SchemaRef,
) -> Result<Vec<Buffer>> {
    let places: Vec<RowPlace> = rows.iter().map(|(place, _)| *place).collect();
    let mut gathered = Vec::with_capacity(schema.fields().len());
    for parts in columns {
        gathered.push(gather(parts, &places)?);
    }
    let numbers = rows.iter().map(|(_, number)| *number);
    gathered.push(Arc::new(UInt64Array::from_iter_values(numbers)));
    let batch = batch_of(schema, gathered, rows.len())?;
    let mut stream = StreamEncoder::try_new(schema)?;
    let mut block = stream.encode(&batch)?;
    block.extend(stream.finish()?);
    Ok(block)
}

/// Writes a block, small parts of it together.
fn write(file: &File, block: &[Buffer], at: u64) -> std::io::Result<()> {
    let mut out = BufWriter::new(Place { file, at });
    for part in block {
        out.write_all(part)?;
    }
    out.flush()
}

/// A place in a file where something is written.
struct Place<'a> {
    file: &'a File,
    at: u64,
}

impl Write for Place<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.file.write_at(bytes, self.at)?;
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The batch of a block, in the block's memory, and the places of its rows.
fn decode(mut block: Buffer, order: &RowOrder) -> Result<(RecordBatch, Vec<OrderCut>)> {
    let lost = || Error::IncompatibleSchemas("a block came back without its rows".to_owned());
    let batch = StreamDecoder::new().decode(&mut block)?.ok_or_else(lost)?;
    let numbers = batch.column_by_name(NUMBER);
    let numbers = numbers.and_then(|numbers| numbers.as_primitive_opt::<UInt64Type>());
    let places = places(order, numbers.ok_or_else(lost)?.values().to_vec());
    Ok((batch, places))
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
