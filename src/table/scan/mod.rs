//! How a partition is read.
//!
//! [`aligned`] walks a table of cells or genes in blocks of rows: predicates first, on the columns
//! they need, then what is projected, for the rows that survive; [`ordered`] does so out of order. [`entries`] does the same for
//! tables of stored entries, [`listing`] makes `uns` and `elements`. Expressions are compiled to
//! [`expr::Compiled`], in which columns and matrix functions are slots to be read.

mod expr;
mod prune;
mod named;
mod metrics;
mod calls;
mod block;
mod aligned;
mod ordered;
mod entries;
mod listing;

pub(crate) use expr::columns_read;
pub(crate) use metrics::ScanMetrics;
pub(crate) use ordered::Ordered;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr_common::physical_expr::snapshot_generation;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc::Sender;

use crate::kernel::pieces;
use crate::model::RowSelection;
use crate::table::layout::Layout;

/// A partition to be read.
pub(crate) struct Scan {
    pub(crate) layout: Arc<Layout>,
    /// Rows of the table; all where absent.
    pub(crate) rows: Option<RowSelection>,
    /// What the rows are ordered by, where that is not their position; ranks count in it.
    pub(crate) order: Option<Arc<Ordered>>,
    /// The partition, as ranks in `rows`.
    pub(crate) ranks: Range<u64>,
    /// Schema of what comes out.
    pub(crate) schema: SchemaRef,
    pub(crate) projection: ProjectionExprs,
    pub(crate) conjuncts: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) batch_bytes: usize,
    pub(crate) batch_size: usize,
    pub(crate) limit: Option<usize>,
    /// Whether the object is far away, so that more is read at a time.
    pub(crate) is_remote: bool,
    pub(crate) metrics: Arc<ScanMetrics>,
}

impl Scan {
    /// A batch of the output's columns.
    fn batch(&self, columns: Vec<ArrayRef>, n_rows: usize) -> crate::Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }

    /// The partition's rows.
    fn partition_rows(&self) -> RowSelection {
        match &self.rows {
            Some(rows) => rows.slice(self.ranks.clone()),
            None => {
                RowSelection::range(self.ranks.start..self.ranks.end.min(self.layout.axis_len()))
            }
        }
    }
}

/// Starts reading: a task decodes the next batch while the consumer has the last one.
pub(crate) fn open(scan: Scan) -> BoxStream<'static, Result<RecordBatch>> {
    let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&scan.schema), 1);
    let output = Output {
        batches: builder.tx(),
        remaining: scan.limit,
        batch_size: scan.batch_size.max(1),
    };
    builder.spawn(async move {
        let layout = Arc::clone(&scan.layout);
        let result = match layout.as_ref() {
            Layout::Aligned(table) => match &scan.order {
                Some(ordered) => ordered::run(ordered, &scan, output).await,
                None => aligned::run(table, &scan, output).await,
            },
            Layout::Entries(table) => entries::run(table, &scan, output).await,
            Layout::Listing(table) => listing::run(table, &scan, output).await,
        };
        scan.metrics.report();
        result.map_err(DataFusionError::from)
    });
    builder.build().boxed()
}

/// Whether a predicate is one that a plan tightens while it runs (of a top-k or a join). Those come
/// from above a `LIMIT` that was pushed into the scan, so rows are counted before they are asked.
fn is_dynamic(expr: &Arc<dyn PhysicalExpr>) -> bool {
    snapshot_generation(expr) != 0
}

/// Where batches go, and how many rows of the limit are left.
struct Output {
    batches: Sender<Result<RecordBatch>>,
    remaining: Option<usize>,
    batch_size: usize,
}

impl Output {
    /// Counts rows that satisfy what stands below the limit; how many of them, from the first, are
    /// within it.
    fn take(&mut self, n_rows: usize) -> usize {
        let Some(remaining) = &mut self.remaining else {
            return n_rows;
        };
        let taken = n_rows.min(*remaining);
        *remaining -= taken;
        taken
    }

    /// Whether the limit is reached.
    fn is_full(&self) -> bool {
        self.remaining == Some(0)
    }

    /// Hands a batch over, in pieces of at most `batch_size` rows; false when nobody wants more.
    async fn send(&self, batch: RecordBatch) -> crate::Result<bool> {
        let n_rows = batch.num_rows();
        let mut start = 0;
        while start < n_rows {
            let end = n_rows.min(start + self.batch_size);
            let piece = pieces::piece(&batch, start..end)?;
            if self.batches.send(Ok(piece)).await.is_err() {
                return Ok(false);
            }
            start = end;
        }
        Ok(true)
    }
}
