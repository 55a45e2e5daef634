//! Reading rows in a seeded order: window by window of ranks, each in the order of the object and then
//! put into its own.
//!
//! ```text
//!  ranks 0..4 ──► rows 7 2 9 4 ──► read 2 4 7 9 ──► gather 7 2 9 4 ──► batches by bytes
//! ```
//! What a window reads is a plain [`aligned`] scan of its rows, so predicates and matrix functions
//! work as everywhere: a row that does not survive leaves no gap. Columns that are not matrices, and
//! the lengths of rows, are read once for all windows where they fit in what the description allows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::Result as DataFusionResult;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use tokio::sync::mpsc::{Receiver, channel};

use crate::element::{ColumnReader, HeldColumn};
use crate::error::{Error, Result};
use crate::kernel::{BlockRanks, Ranks, RowPlace, gather, owned_bytes};
use crate::model::RowSelection;
use crate::table::description::OrderedRows;
use crate::table::layout::{AlignedColumn, AlignedLayout};
use crate::table::scan::block::Reader;
use crate::table::scan::expr::Slot;
use crate::table::scan::{Output, Scan, aligned};

/// Name of the column by which windows are put in order; never seen outside.
const PLACE: &str = "__place";
/// Rows of a window at least.
const LEAST_WINDOW: u64 = 64;

/// What the partitions of an ordered scan share.
pub(crate) struct Ordered {
    ranks: RankedRows,
    /// The table, with what is kept in memory.
    table: AlignedLayout,
    window_bytes: u64,
}

impl Ordered {
    /// Counts the keys of all rows; reads nothing yet.
    pub(crate) fn new(
        table: &AlignedLayout,
        rows: Option<&RowSelection>,
        by: &OrderedRows,
    ) -> Self {
        let rows = rows.map_or_else(|| RowSelection::all(table.n_rows), RowSelection::clone);
        Self {
            ranks: match by.blocks {
                Some(blocks) => RankedRows::Blocks(BlockRanks::new(by.order, rows, blocks)),
                None => RankedRows::Exact(Ranks::new(by.order, rows)),
            },
            table: held(table, by.held_bytes),
            window_bytes: by.window_bytes,
        }
    }
}

/// Rows by their rank.
enum RankedRows {
    Exact(Ranks),
    Blocks(BlockRanks),
}

impl RankedRows {
    fn len(&self) -> u64 {
        match self {
            Self::Exact(ranks) => ranks.len(),
            Self::Blocks(ranks) => ranks.len(),
        }
    }

    fn rows(&self, ranks: Range<u64>) -> Vec<u64> {
        match self {
            Self::Exact(of) => of.rows(ranks),
            Self::Blocks(of) => of.rows(ranks),
        }
    }

    /// Where what is read with a rank ends: blocks of a window are read together.
    fn window_end(&self, rank: u64, rows: u64) -> u64 {
        match self {
            Self::Exact(_) => rank.saturating_add(rows),
            Self::Blocks(ranks) => ranks.window_end(rank),
        }
    }
}

/// The table with its light columns and row lengths kept, as far as they fit in `bytes`.
fn held(table: &AlignedLayout, bytes: u64) -> AlignedLayout {
    let metrics = crate::store::ReadMetrics::default();
    let reader = Reader {
        table,
        metrics: &metrics,
    };
    let mut left = bytes;
    let mut fits = |row_bytes: u64| {
        let wanted = row_bytes.saturating_mul(table.n_rows);
        let fits = wanted <= left;
        left -= if fits { wanted } else { 0 };
        fits
    };
    let held = |element: &Arc<dyn ColumnReader>, heavy: bool, fits: &mut dyn FnMut(u64) -> bool| {
        if !heavy {
            let fits = fits(element.row_bytes());
            let column = || Arc::new(HeldColumn::new(Arc::clone(element))) as Arc<dyn ColumnReader>;
            return fits.then(column);
        }
        let matrix = element.as_matrix()?.with_held_lengths()?;
        fits(size_of::<u64>() as u64).then_some(matrix as Arc<dyn ColumnReader>)
    };
    let columns = table.columns.iter().enumerate().map(|(at, column)| {
        let heavy = reader.is_heavy(&Slot::Column(at));
        let kept = match column {
            AlignedColumn::Element(element) => {
                held(element, heavy, &mut fits).map(AlignedColumn::Element)
            }
            AlignedColumn::Genes(element, genes) => held(element, heavy, &mut fits)
                .map(|element| AlignedColumn::Genes(element, Arc::clone(genes))),
            _ => None,
        };
        kept.unwrap_or_else(|| column.clone())
    });
    AlignedLayout {
        schema: Arc::clone(&table.schema),
        n_rows: table.n_rows,
        columns: columns.collect(),
    }
}

/// Reads a partition.
pub(super) async fn run(ordered: &Ordered, scan: &Scan, mut output: Output) -> Result<()> {
    let window = window_rows(ordered, scan);
    let end = scan.ranks.end.min(ordered.ranks.len());
    let mut start = scan.ranks.start.min(end);
    while start < end && !output.is_full() {
        let stop = end.min(ordered.ranks.window_end(start, window));
        let rows = ordered.ranks.rows(start..stop);
        start = stop;
        let window = Window::read(ordered, scan, rows).await?;
        if !window.emit(scan, &mut output).await? {
            break;
        }
    }
    Ok(())
}

/// Rows of a window, by what rows of the projected columns take on the average.
fn window_rows(ordered: &Ordered, scan: &Scan) -> u64 {
    let columns = scan.projection.column_indices();
    let row_bytes = columns
        .into_iter()
        .map(|column| scan.layout.row_bytes(column))
        .fold(0, u64::saturating_add);
    (ordered.window_bytes / row_bytes.max(1)).max(LEAST_WINDOW)
}

/// Some ranks' rows, read in the order of the object.
struct Window {
    batches: Vec<RecordBatch>,
    /// Where each row of the window is, by rank.
    places: Vec<RowPlace>,
}

impl Window {
    async fn read(ordered: &Ordered, scan: &Scan, rows: Vec<u64>) -> Result<Self> {
        let mut by_row: Vec<(u64, usize)> = rows.into_iter().zip(0..).collect();
        by_row.sort_unstable();
        let sorted = RowSelection::from_sorted(by_row.iter().map(|(row, _)| *row));
        let sorted = sorted.ok_or_else(|| lost("a row stands twice in the order"))?;
        let inner = scan.of_rows(sorted)?;
        let (sender, receiver) = channel(2);
        let part = Output {
            batches: sender,
            remaining: None,
            batch_size: usize::MAX,
        };
        let reading = Box::pin(aligned::run(&ordered.table, &inner, part));
        let (read, batches) = tokio::join!(reading, collect(receiver));
        read?;
        let batches = batches?;
        let mut ranks: Vec<Option<RowPlace>> = vec![None; by_row.len()];
        let mut expected = by_row.into_iter();
        for (at, batch) in batches.iter().enumerate() {
            let place = batch
                .columns()
                .last()
                .map(|column| column.as_primitive::<Int64Type>());
            let place = place.ok_or_else(|| lost("a batch came without its positions"))?;
            for (row, position) in place.values().iter().enumerate() {
                let rank = expected.find(|(row, _)| i64::try_from(*row) == Ok(*position));
                let (_, rank) = rank.ok_or_else(|| lost("a row came that was not asked for"))?;
                ranks[rank] = Some((at, row));
            }
        }
        Ok(Self {
            batches,
            places: ranks.into_iter().flatten().collect(),
        })
    }

    /// Hands the rows over in their order; false when nobody wants more.
    async fn emit(&self, scan: &Scan, output: &mut Output) -> Result<bool> {
        let n_columns = scan.schema.fields().len();
        let bytes: usize = self.batches.iter().map(owned_bytes).sum();
        let row_bytes = bytes / self.places.len().max(1);
        let step = (scan.batch_bytes / row_bytes.max(1)).clamp(1, output.batch_size);
        let columns: Vec<Vec<ArrayRef>> = (0..n_columns)
            .map(|at| {
                self.batches
                    .iter()
                    .map(|batch| Arc::clone(batch.column(at)))
                    .collect()
            })
            .collect();
        let wanted = output.take(self.places.len());
        for places in self.places[..wanted].chunks(step) {
            let gathered = columns.iter().map(|arrays| gather(arrays, places));
            let batch = scan.batch(gathered.collect::<Result<_>>()?, places.len())?;
            if !output.send(batch).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Scan {
    /// A scan of these rows alone, in the order of the object, with their positions behind the
    /// projected columns.
    fn of_rows(&self, rows: RowSelection) -> Result<Self> {
        let mut projection: Vec<ProjectionExpr> = self.projection.as_ref().to_vec();
        let position = self
            .layout
            .position_column()
            .ok_or_else(|| lost("a table without positions has no order"))?;
        let name = self.layout.schema().field(position).name().clone();
        projection.push(ProjectionExpr::new(
            Arc::new(Column::new(&name, position)),
            PLACE,
        ));
        let mut fields = self.schema.fields().to_vec();
        fields.push(Arc::new(Field::new(PLACE, DataType::Int64, false)));
        Ok(Self {
            layout: Arc::clone(&self.layout),
            ranks: 0..rows.len(),
            rows: Some(rows),
            order: None,
            schema: Arc::new(Schema::new_with_metadata(
                fields,
                self.schema.metadata().clone(),
            )),
            projection: ProjectionExprs::new(projection),
            conjuncts: self.conjuncts.clone(),
            batch_bytes: self.batch_bytes,
            batch_size: usize::MAX,
            is_remote: self.is_remote,
            limit: None,
            metrics: Arc::clone(&self.metrics),
        })
    }
}

async fn collect(mut batches: Receiver<DataFusionResult<RecordBatch>>) -> Result<Vec<RecordBatch>> {
    let mut all = Vec::new();
    while let Some(batch) = batches.recv().await {
        all.push(batch?);
    }
    Ok(all)
}

fn lost(what: &str) -> Error {
    Error::IncompatibleSchemas(format!("rows in a seeded order: {what}"))
}
