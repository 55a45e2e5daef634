//! The way of rows through [`MergeExec`](super::MergeExec): what comes from a scan is adapted, what is
//! beside each other is read.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringArray,
};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::BaselineMetrics;
use futures::{Stream, StreamExt, stream};

use super::adapt::{Source, adapt};
use super::exec::MergeOutput;
use super::outline::{MergeOutline, Rows};
use crate::error::Error;
use crate::kernel::pieces;
use crate::model::{RowSelection, value_bytes};
use crate::store::ReadMetrics;
use crate::table::ScanMetrics;

/// Batches of rows that are adapted at a time. Entries that move take as long as all the rest: on threads
/// of their own they do not keep whoever asks for rows from reading and writing others.
pub(super) fn ahead<'a>(mut sources: impl Iterator<Item = &'a Source>) -> usize {
    if sources.any(Source::moves_entries) {
        2
    } else {
        1
    }
}

/// The way of one object's rows.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    /// Which object.
    at: usize,
    output: MergeOutput,
    /// The columns alone.
    kept: SchemaRef,
    schema: SchemaRef,
}

impl Lane {
    pub(super) fn new(at: usize, output: &MergeOutput, schema: &SchemaRef) -> Result<Self> {
        let columns: Vec<usize> = (0..output.columns.len()).collect();
        Ok(Self {
            at,
            output: output.clone(),
            kept: Arc::new(schema.project(&columns)?),
            schema: Arc::clone(schema),
        })
    }

    /// Whether the objects still are what they were when the merge was planned.
    pub(super) fn check(&self, outline: &MergeOutline) -> crate::Result<()> {
        let mut pairs = self.kept.fields().iter().zip(&self.output.columns);
        let same = pairs.all(|(field, column)| {
            outline.schema().fields().get(*column).is_some_and(|now| {
                now.name() == field.name() && now.data_type().equals_datatype(field.data_type())
            })
        });
        match same {
            true => Ok(()),
            false => Err(Error::IncompatibleSchemas(
                "the objects to merge have other columns than when the query was planned"
                    .to_owned(),
            )),
        }
    }

    /// Rows of the object's scan as rows of the merge, as they come.
    ///
    /// A batch is cut by what its rows grow to: a scan cuts by what they take in the object, where
    /// they may have no matrix at all.
    pub(super) fn below(
        self,
        outline: Arc<MergeOutline>,
        rows: SendableRecordBatchStream,
        metrics: Arc<BaselineMetrics>,
    ) -> impl Stream<Item = Result<RecordBatch>> + Send {
        let most = self.most_rows(&outline);
        let pieces = rows.flat_map(move |batch| match batch {
            Ok(batch) => {
                let pieces = pieces::cut(batch, most).map(|piece| Ok(piece?));
                stream::iter(pieces).left_stream()
            }
            Err(error) => stream::iter([Err(error)]).right_stream(),
        });
        let ahead = ahead(self.sources(&outline));
        let lane = Arc::new(self);
        let adapted = pieces.map(move |batch| {
            let (lane, outline) = (Arc::clone(&lane), Arc::clone(&outline));
            let metrics = Arc::clone(&metrics);
            let adapt = move |batch: RecordBatch| -> Result<RecordBatch> {
                let _timer = metrics.elapsed_compute().timer();
                let adapted = lane.adapt(&outline, &batch)?;
                metrics.output_rows().add(adapted.num_rows());
                Ok(adapted)
            };
            async move {
                let batch = batch?;
                match ahead > 1 {
                    true => SpawnedTask::spawn_blocking(move || adapt(batch))
                        .join()
                        .await
                        .map_err(|stopped| Error::store("task", "merge", stopped))?,
                    false => adapt(batch),
                }
            }
        });
        adapted.buffered(ahead)
    }

    /// Where the columns of the object's rows come from.
    fn sources<'a>(&'a self, outline: &'a MergeOutline) -> impl Iterator<Item = &'a Source> {
        let targets = match outline.rows() {
            Rows::Below(below) => below.targets.as_slice(),
            Rows::Beside(_) => &[],
        };
        let columns = self.output.columns.iter();
        let targets = columns.filter_map(|at| targets.get(*at));
        targets.filter_map(|target| target.sources.get(self.at))
    }

    /// Rows that may be adapted at a time.
    fn most_rows(&self, outline: &MergeOutline) -> usize {
        let Rows::Below(below) = outline.rows() else {
            return usize::MAX;
        };
        let columns = self.output.columns.iter();
        let targets = columns.filter_map(|at| below.targets.get(*at));
        let grown = targets.filter_map(|target| match target.sources.get(self.at)? {
            Source::Missing | Source::Frame { name: None, .. } => {
                Some(value_bytes(target.field.data_type()))
            }
            source => source.matrix()?.widened_bytes(self.at),
        });
        match grown.fold(0, u64::saturating_add) {
            0 => usize::MAX,
            bytes => {
                let rows = self.output.batch_bytes as u64 / bytes;
                usize::try_from(rows).unwrap_or(usize::MAX).max(1)
            }
        }
    }

    fn adapt(&self, outline: &MergeOutline, batch: &RecordBatch) -> crate::Result<RecordBatch> {
        let Rows::Below(below) = outline.rows() else {
            return Err(Error::IncompatibleSchemas(
                "objects beside each other have no scans".to_owned(),
            ));
        };
        let adapted = adapt(batch, &self.kept, self.sources(outline))?;
        if !self.output.provenance {
            return Ok(adapted);
        }
        let first = below.starts.get(self.at).copied().unwrap_or_default();
        let row = Source::Position {
            first: i64::try_from(first).unwrap_or(i64::MAX),
        };
        let [_, field] = outline.provenance_fields();
        let row_schema = Arc::new(Schema::new(vec![field]));
        let rows = adapt(batch, &row_schema, std::iter::once(&row))?;
        self.finish(
            outline,
            adapted.columns().to_vec(),
            rows.column(0),
            batch.num_rows(),
        )
    }

    /// A batch of these columns, and of provenance where that is asked for.
    fn finish(
        &self,
        outline: &MergeOutline,
        mut columns: Vec<ArrayRef>,
        rows: &ArrayRef,
        n: usize,
    ) -> crate::Result<RecordBatch> {
        if self.output.provenance {
            let keys = Int32Array::from_value(0, n);
            let values = Arc::new(StringArray::from(vec![outline.id()]));
            columns.push(Arc::new(DictionaryArray::try_new(keys, values)?));
            columns.push(Arc::clone(rows));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(n));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }

    /// Rows of objects beside each other, block by block.
    pub(super) fn beside(
        self,
        outline: Arc<MergeOutline>,
        metrics: Arc<BaselineMetrics>,
        reads: Arc<ScanMetrics>,
    ) -> impl Stream<Item = Result<RecordBatch>> + Send {
        let step = self.block_rows(&outline);
        let n_obs = outline.n_obs();
        let blocks = (0..n_obs)
            .step_by(step)
            .map(move |start| start..n_obs.min(start + step as u64));
        let lane = Arc::new(self);
        stream::iter(blocks).then(move |rows| {
            let (lane, outline) = (Arc::clone(&lane), Arc::clone(&outline));
            let (metrics, reads) = (Arc::clone(&metrics), Arc::clone(&reads));
            async move {
                let batch = lane.block(&outline, rows, &reads.reads).await?;
                reads.report();
                metrics.output_rows().add(batch.num_rows());
                Ok(batch)
            }
        })
    }

    /// Rows whose matrices take as much as a batch shall.
    fn block_rows(&self, outline: &MergeOutline) -> usize {
        let Rows::Beside(beside) = outline.rows() else {
            return 1;
        };
        // Positions come before the columns that are read.
        let columns = self
            .output
            .columns
            .iter()
            .filter_map(|at| at.checked_sub(1));
        let columns = columns.filter_map(|at| beside.columns.get(at));
        let bytes = columns
            .map(|column| column.row_bytes())
            .fold(8, u64::saturating_add);
        let rows = self.output.batch_bytes as u64 / bytes;
        usize::try_from(rows)
            .unwrap_or(usize::MAX)
            .clamp(1, 1 << 14)
    }

    async fn block(
        &self,
        outline: &MergeOutline,
        rows: Range<u64>,
        metrics: &ReadMetrics,
    ) -> crate::Result<RecordBatch> {
        let selection = RowSelection::range(rows.clone());
        let positions = rows.map(|row| i64::try_from(row).unwrap_or(i64::MAX));
        let positions: ArrayRef = Arc::new(Int64Array::from_iter_values(positions));
        let mut columns = Vec::with_capacity(self.output.columns.len());
        for at in &self.output.columns {
            let column = match outline.rows() {
                Rows::Beside(beside) => at.checked_sub(1).and_then(|at| beside.columns.get(at)),
                Rows::Below(_) => None,
            };
            columns.push(match column {
                Some(column) => column.read(&selection, metrics).await?,
                None => Arc::clone(&positions),
            });
        }
        self.finish(outline, columns, &positions, positions.len())
    }
}
