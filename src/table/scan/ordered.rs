//! Reading rows in a seeded order: window by window of ranks, the entries of matrices straight to their
//! places in batches.
//!
//! ```text
//!  ranks 0..4 ──► rows 7 2 9 4 ──► those that satisfy predicates ──► batches 7 2 │ 9 4, each filled
//!                                                                    as chunks are undone
//! ```
//! Columns that are not matrices are read once for all windows, and pointers of rows are kept, where
//! they fit in what the description allows. A window belongs to one partition, or holds rows of several,
//! which then share it: what is compressed is undone once per window.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::FieldRef;
use tokio::sync::OnceCell;

use crate::element::{ColumnReader, HeldColumn, RowReader, Rows};
use crate::error::{Error, Result};
use crate::kernel::genes::GeneSelection;
use crate::kernel::{BlockRanks, Ranks, RowPlace, gather, pieces};
use crate::model::RowSelection;
use crate::store::ReadMetrics;
use crate::table::description::{OrderedRows, OrderedWindows};
use crate::table::layout::{AlignedColumn, AlignedLayout};
use crate::table::scan::aligned::{Plan, keep};
use crate::table::scan::block::{Block, Reader, cut};
use crate::table::scan::expr::Slot;
use crate::table::scan::{Output, Scan};
use crate::table::shared::Shared;

/// Rows of a window at least.
const LEAST_WINDOW: u64 = 64;

/// The share of rows from which on reading all of a file in order is cheaper than reading those where
/// they lie, if it is on a disk.
const WARM_SHARE: u64 = 16;

/// What the partitions of an ordered scan share.
pub(crate) struct Ordered {
    ranks: RankedRows,
    /// The table, with what is kept in memory.
    table: AlignedLayout,
    /// Of each column, if its rows are read batch by batch, how.
    matrices: Vec<Option<Matrix>>,
    windows: OrderedWindows,
    shared: Shared<Window>,
}

/// A matrix whose rows go straight to their places.
struct Matrix {
    element: Arc<dyn ColumnReader>,
    genes: Option<Arc<GeneSelection>>,
    /// Whether the pointers of its rows may be kept.
    held: bool,
    /// Whether many of its rows are read by windows that each are a small part of it.
    warm: bool,
    reader: OnceCell<RowReader>,
}

/// Parts of a window, by their ranks, until their partitions take them.
struct Window(Mutex<Vec<(Range<u64>, Vec<Piece>)>>);

/// A batch that has been read, and is put together when its turn comes.
struct Piece {
    /// Where its rows are in `light`.
    places: Vec<RowPlace>,
    /// Values of the slots that are not matrices, in their order, of all rows of the window.
    light: Arc<[ArrayRef]>,
    /// Rows of those that are.
    heavy: Vec<Rows>,
}

impl Ordered {
    /// Counts the keys of all rows; reads nothing yet.
    pub(crate) fn new(
        table: &AlignedLayout,
        rows: Option<&RowSelection>,
        by: &OrderedRows,
    ) -> Self {
        let rows = rows.map_or_else(|| RowSelection::all(table.n_rows), RowSelection::clone);
        let (table, mut matrices) = held(table, by.held_bytes);
        let far_apart = by.blocks.is_none() && matches!(by.windows, OrderedWindows::Own { .. });
        for matrix in matrices.iter_mut().flatten() {
            matrix.warm = far_apart && rows.len() > table.n_rows / WARM_SHARE;
        }
        Self {
            ranks: match by.blocks {
                Some(blocks) => RankedRows::Blocks(BlockRanks::new(by.order.clone(), rows, blocks)),
                None => RankedRows::Exact(Ranks::new(by.order.clone(), rows)),
            },
            table,
            matrices,
            windows: by.windows.clone(),
            shared: Shared::default(),
        }
    }

    fn matrix(&self, slot: &Slot) -> Option<&Matrix> {
        match slot {
            Slot::Column(column) => self.matrices.get(*column)?.as_ref(),
            Slot::Call(..) => None,
        }
    }

    /// The window that a rank is in, and where it ends; `rows` is what a window of one partition holds.
    fn window(&self, rank: u64, rows: u64) -> (Option<usize>, u64) {
        match (&self.windows, &self.ranks) {
            (_, RankedRows::Blocks(ranks)) => (None, ranks.window_end(rank)),
            (OrderedWindows::Own { .. }, _) => (None, rank.saturating_add(rows)),
            (OrderedWindows::Shared { starts, .. }, _) => {
                let at = starts.partition_point(|start| *start <= rank);
                let end = starts.get(at).copied().unwrap_or(u64::MAX);
                (Some(at), end)
            }
        }
    }

    /// The parts of a shared window: what each partition has of it.
    fn parts(&self, window: usize) -> Vec<Range<u64>> {
        let OrderedWindows::Shared { starts, partitions } = &self.windows else {
            return Vec::new();
        };
        let start = window.checked_sub(1).and_then(|before| starts.get(before));
        let (start, end) = (start.copied().unwrap_or(0), starts.get(window));
        let end = end.copied().unwrap_or(u64::MAX);
        let parts = partitions
            .iter()
            .map(|part| part.start.max(start)..part.end.min(end));
        parts.filter(|part| part.start < part.end).collect()
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
}

/// The table with its light columns kept, and how the others are read; kept is what fits in `bytes`.
fn held(table: &AlignedLayout, bytes: u64) -> (AlignedLayout, Vec<Option<Matrix>>) {
    let metrics = ReadMetrics::default();
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
    let mut columns = table.columns.clone();
    let mut matrices = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter_mut().enumerate() {
        let (element, genes) = match &*column {
            AlignedColumn::Element(element) => (element, None),
            AlignedColumn::Genes(element, genes) => (element, Some(genes)),
            _ => {
                matrices.push(None);
                continue;
            }
        };
        let heavy = reader.is_heavy(&Slot::Column(at));
        matrices.push(heavy.then(|| Matrix {
            element: Arc::clone(element),
            genes: genes.cloned(),
            held: fits(size_of::<u64>() as u64),
            warm: false,
            reader: OnceCell::new(),
        }));
        if !heavy && genes.is_none() && fits(element.row_bytes()) {
            *column = AlignedColumn::Element(Arc::new(HeldColumn::new(Arc::clone(element))));
        }
    }
    let table = AlignedLayout {
        schema: Arc::clone(&table.schema),
        n_rows: table.n_rows,
        columns,
    };
    (table, matrices)
}

/// Reads a partition.
pub(super) async fn run(ordered: &Ordered, scan: &Scan, mut output: Output) -> Result<()> {
    let reader = Reader {
        table: &ordered.table,
        metrics: &scan.metrics.reads,
    };
    let reading = Reading {
        ordered,
        scan,
        plan: Plan::new(&ordered.table, scan, &reader)?,
        reader,
        batch_rows: output.batch_size,
    };
    let rows = reading.window_rows();
    let end = scan.ranks.end.min(ordered.ranks.len());
    let mut start = scan.ranks.start.min(end);
    while start < end && !output.is_full() {
        let (window, stop) = ordered.window(start, rows);
        let ranks = start..stop.min(end);
        start = ranks.end;
        let pieces = match window {
            Some(window) => reading.shared(window, ranks).await?,
            None => reading.own(ranks).await?,
        };
        for piece in pieces {
            let wanted = output.take(piece.places.len());
            let batch = pieces::piece(&reading.batch(piece)?, 0..wanted)?;
            scan.metrics.report();
            if !output.send(batch).await? {
                return Ok(());
            }
            if output.is_full() {
                break;
            }
        }
    }
    Ok(())
}

struct Reading<'a> {
    ordered: &'a Ordered,
    scan: &'a Scan,
    plan: Plan<'a>,
    reader: Reader<'a>,
    batch_rows: usize,
}

impl Reading<'_> {
    /// Rows of a window of this partition alone, by what rows of the projected columns take on the
    /// average.
    fn window_rows(&self) -> u64 {
        let OrderedWindows::Own { bytes } = self.ordered.windows else {
            return u64::MAX;
        };
        let columns = self.scan.projection.column_indices();
        let row_bytes = columns
            .into_iter()
            .map(|column| self.scan.layout.row_bytes(column))
            .fold(0, u64::saturating_add);
        (bytes / row_bytes.max(1)).max(LEAST_WINDOW)
    }

    async fn own(&self, ranks: Range<u64>) -> Result<Vec<Piece>> {
        let mut read = self.read(std::slice::from_ref(&ranks)).await?;
        Ok(read.pop().unwrap_or_default())
    }

    /// A part of a shared window, which the first that wants some of it reads.
    async fn shared(&self, window: usize, ranks: Range<u64>) -> Result<Vec<Piece>> {
        let parts = self.ordered.parts(window);
        let Some(part) = parts.iter().position(|part| *part == ranks) else {
            // A partition that is cut otherwise than was planned.
            return self.own(ranks).await;
        };
        let make = async || {
            let read = self.read(&parts).await?;
            Ok::<_, Error>(Window(Mutex::new(
                parts.iter().cloned().zip(read).collect(),
            )))
        };
        let users = (part, parts.len());
        let (window, _lease) = self.ordered.shared.get(window, users, make).await?;
        let taken = {
            let mut parts = window.0.lock().unwrap_or_else(PoisonError::into_inner);
            let at = parts.iter().position(|(part, _)| *part == ranks);
            at.map(|at| parts.swap_remove(at).1)
        };
        match taken {
            Some(pieces) => Ok(pieces),
            // Who comes twice reads it for itself.
            None => self.own(ranks).await,
        }
    }

    /// Reads the rows of these ranks that satisfy the predicates, each range in pieces of its own.
    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Vec<Piece>>> {
        let mut rows = Vec::new();
        let mut ends = Vec::with_capacity(ranges.len());
        for ranks in ranges {
            rows.extend(self.ordered.ranks.rows(ranks.clone()));
            ends.push(rows.len());
        }
        let mut sorted = rows.clone();
        sorted.sort_unstable();
        let selected = RowSelection::from_sorted(sorted.iter().copied());
        let selected = selected.ok_or_else(|| lost("a row stands twice in the order"))?;
        let selected = self.surviving(selected).await?;
        if selected.len() < sorted.len() as u64 {
            let mut kept = Vec::new();
            let mut start = 0;
            for end in &mut ends {
                let of_range = rows[start..*end].iter();
                kept.extend(of_range.filter(|row| selected.contains(**row)));
                start = std::mem::replace(end, kept.len());
            }
            rows = kept;
            sorted.retain(|row| selected.contains(*row));
        }
        let cuts = self.cuts(&ends, &rows).await?;
        let all: Vec<Range<usize>> = cuts.iter().flatten().cloned().collect();
        // Matrices first: while they are read, their rows' places take memory as well.
        let heavy = self.heavy(&rows, &all).await?;
        let light: Arc<[ArrayRef]> = self.light(&sorted, &selected).await?.into();
        let mut heavy: Vec<_> = heavy.into_iter().map(Vec::into_iter).collect();
        let mut piece = |cut: &Range<usize>| {
            let of = rows.get(cut.clone()).unwrap_or(&[]).iter();
            let places = of.map(|row| (0, sorted.binary_search(row).unwrap_or_default()));
            Piece {
                places: places.collect(),
                light: Arc::clone(&light),
                heavy: heavy.iter_mut().filter_map(Iterator::next).collect(),
            }
        };
        let pieces = cuts
            .iter()
            .map(|cuts| cuts.iter().map(&mut piece).collect());
        Ok(pieces.collect())
    }

    /// Those of the rows that satisfy the predicates. What a plan tightens while it runs is left to
    /// whoever tightens it.
    async fn surviving(&self, rows: RowSelection) -> Result<RowSelection> {
        let mut block = Block::new(self.plan.allowed(rows))?;
        for conjunct in &self.plan.conjuncts {
            keep(&mut block, conjunct, &self.reader, self.scan).await?;
        }
        self.scan.metrics.add_rows(block.n_rows());
        Ok(block.rows().clone())
    }

    /// Where rows are cut into batches, as places among all of them; each range, which ends at one of
    /// `ends`, by itself.
    async fn cuts(&self, ends: &[usize], rows: &[u64]) -> Result<Vec<Vec<Range<usize>>>> {
        let mut sizes = vec![0u64; rows.len()];
        for matrix in self.matrices() {
            let reader = matrix.reader(self.reader.metrics).await?;
            let of_matrix = reader.sizes(rows, self.reader.metrics).await?;
            for (size, more) in sizes.iter_mut().zip(of_matrix) {
                *size = size.saturating_add(more);
            }
        }
        let most = self.scan.batch_bytes as u64;
        let mut start = 0;
        let cuts = ends.iter().map(|end| {
            let from = std::mem::replace(&mut start, *end);
            let cuts = cut(sizes.get(from..*end).unwrap_or(&[]), self.batch_rows, most);
            let cuts = cuts.into_iter();
            cuts.map(|cut| from + cut.start..from + cut.end).collect()
        });
        Ok(cuts.collect())
    }

    /// The matrices among the projected slots, in their order.
    fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let slots = self.plan.projection.slots.iter();
        slots.filter_map(|slot| self.ordered.matrix(slot))
    }

    /// Values of the other slots, in the order of the object.
    async fn light(&self, sorted: &[u64], rows: &RowSelection) -> Result<Vec<ArrayRef>> {
        let slots = self.plan.projection.slots.iter();
        let slots = slots.filter(|slot| self.ordered.matrix(slot).is_none());
        let slots: Vec<Slot> = slots.cloned().collect();
        let values = self.reader.read(&slots, rows).await?;
        match values.iter().find(|values| values.len() != sorted.len()) {
            Some(_) => Err(lost("a column has other rows than were asked for")),
            None => Ok(values),
        }
    }

    /// Rows of the matrices, a part for each cut. One matrix after another: each is read on all cores,
    /// and takes memory for its rows' places.
    async fn heavy(&self, rows: &[u64], cuts: &[Range<usize>]) -> Result<Vec<Vec<Rows>>> {
        let mut read = Vec::new();
        for matrix in self.matrices() {
            let reader = matrix.reader(self.reader.metrics).await?;
            read.push(reader.read(rows, cuts, self.reader.metrics).await?);
        }
        Ok(read)
    }

    /// Puts a piece together.
    fn batch(&self, piece: Piece) -> Result<RecordBatch> {
        let n_rows = piece.places.len();
        let (mut light, mut heavy) = (piece.light.iter(), piece.heavy.into_iter());
        let slots = self.plan.projection.slots.iter();
        let values = slots.map(|slot| match self.ordered.matrix(slot) {
            Some(matrix) => {
                let rows = heavy.next().ok_or_else(|| lost("a matrix was not read"))?;
                let field = &self.ordered.table.schema.fields()[slot.column()];
                matrix.array(rows, field)
            }
            None => {
                let values = light.next().ok_or_else(|| lost("a column was not read"))?;
                gather(std::slice::from_ref(values), &piece.places)
            }
        });
        let values = values.collect::<Result<_>>()?;
        let columns = self.plan.projection.evaluate(values, n_rows)?;
        self.scan.batch(columns, n_rows)
    }
}

impl Matrix {
    async fn reader(&self, metrics: &ReadMetrics) -> Result<&RowReader> {
        let open = || async {
            let reader = match self.held {
                true => RowReader::open(&self.element, metrics).await?,
                false => RowReader::moving(&self.element),
            };
            if self.warm {
                reader.warm().await?;
            }
            Ok::<_, Error>(reader.of_type(self.element.field()))
        };
        self.reader.get_or_try_init(open).await
    }

    /// Rows that were read, as the table's field has them.
    fn array(&self, rows: Rows, field: &FieldRef) -> Result<ArrayRef> {
        let reader = self.reader.get();
        let rows = reader
            .ok_or_else(|| lost("a matrix was not opened"))?
            .array(rows)?;
        match &self.genes {
            Some(genes) => genes.select(&rows, field),
            None => Ok(rows),
        }
    }
}

fn lost(what: &str) -> Error {
    Error::IncompatibleSchemas(format!("rows in a seeded order: {what}"))
}
