//! Scanning a table of cells or genes: late materialisation by blocks of rows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;

use crate::error::Result;
use crate::kernel::pieces;
use crate::model::RowSelection;
use crate::table::layout::{AlignedColumn, AlignedLayout};
use crate::table::scan::block::{Block, Reader, cut};
use crate::table::scan::expr::{Compiled, Slot};
use crate::table::scan::prune::rows_allowed;
use crate::table::scan::{Output, Scan, is_dynamic};

/// Rows of a block, unless columns are wide.
const BLOCK_ROWS: u64 = 1 << 16;
/// Bytes of a block's columns, matrices aside.
const BLOCK_BYTES: u64 = 8 << 20;
/// Bytes of matrix rows that are read together from far away: an answer takes as long to begin as
/// some megabytes take to come.
const REMOTE_BYTES: u64 = 16 << 20;
/// Rows of a block at least, when a LIMIT asks for few.
const LEAST_BLOCK: u64 = 1024;

/// Reads a partition.
pub(super) async fn run(table: &AlignedLayout, scan: &Scan, mut output: Output) -> Result<()> {
    let reader = Reader {
        table,
        metrics: &scan.metrics.reads,
    };
    let plan = Plan::new(table, scan, &reader)?;
    let mut rows = plan.allowed(scan.partition_rows());
    let mut block_rows = plan.block_rows;
    if let Some(limit) = output.remaining {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        if plan.conjuncts.is_empty() {
            rows = rows.slice(0..limit);
        }
        block_rows = block_rows.min(limit.saturating_mul(2).max(LEAST_BLOCK));
    }
    let (mut start, end) = (0, rows.len());
    while start < end && !output.is_full() {
        let stop = end.min(start.saturating_add(block_rows));
        let mut block = Block::new(rows.slice(start..stop))?;
        for conjunct in &plan.conjuncts {
            keep(&mut block, conjunct, &reader, scan).await?;
        }
        block.truncate(output.take(block.n_rows()));
        plan.filter_dynamic(&mut block, &reader, scan).await?;
        scan.metrics.add_rows(block.n_rows());
        let wanted = plan.emit(&mut block, &reader, scan, &output).await?;
        scan.metrics.report();
        if !wanted {
            break;
        }
        start = stop;
        // Where few rows satisfy the predicate, a limit reads on in larger steps.
        block_rows = block_rows.saturating_mul(2).min(plan.block_rows);
    }
    Ok(())
}

/// What is read for each block.
pub(super) struct Plan<'a> {
    table: &'a AlignedLayout,
    /// Rows that predicates on positions allow.
    positions: Vec<RowSelection>,
    /// Predicates that stay the same, cheapest first.
    pub(super) conjuncts: Vec<Compiled>,
    /// Predicates that a plan tightens while it runs (of a top-k or a join).
    dynamic: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) projection: Compiled,
    light: Vec<Slot>,
    heavy: Vec<Slot>,
    block_rows: u64,
}

impl<'a> Plan<'a> {
    pub(super) fn new(table: &'a AlignedLayout, scan: &Scan, reader: &Reader<'_>) -> Result<Self> {
        let position = table
            .columns
            .iter()
            .position(|c| matches!(c, AlignedColumn::Position));
        let mut positions = Vec::new();
        let (mut conjuncts, mut dynamic) = (Vec::new(), Vec::new());
        for expr in &scan.conjuncts {
            if let Some(allowed) = position.and_then(|p| rows_allowed(expr, p, table.n_rows)) {
                positions.push(allowed);
            } else if is_dynamic(expr) {
                dynamic.push(Arc::clone(expr));
            } else {
                conjuncts.push(compile(table, reader, [Arc::clone(expr)])?);
            }
        }
        conjuncts.sort_by_key(|conjunct| cost(conjunct, reader));
        let projection = compile(table, reader, scan.projection.expr_iter())?;
        let (heavy, light): (Vec<_>, Vec<_>) = projection
            .slots
            .iter()
            .cloned()
            .partition(|slot| reader.is_heavy(slot));
        let read = conjuncts.iter().flat_map(|c| c.slots.iter().cloned());
        let read: Vec<Slot> = read.chain(light.iter().cloned()).collect();
        let fit = BLOCK_BYTES / reader.light_row_bytes(&read).max(1);
        Ok(Self {
            table,
            positions,
            conjuncts,
            dynamic,
            projection,
            light,
            heavy,
            block_rows: fit.clamp(LEAST_BLOCK / 4, BLOCK_ROWS),
        })
    }

    /// Those of the rows that predicates on positions allow.
    pub(super) fn allowed(&self, rows: RowSelection) -> RowSelection {
        let positions = self.positions.iter();
        positions.fold(rows, |rows, allowed| rows.intersect(allowed))
    }

    /// Applies what the plan has learnt so far.
    async fn filter_dynamic(
        &self,
        block: &mut Block,
        reader: &Reader<'_>,
        scan: &Scan,
    ) -> Result<()> {
        for expr in &self.dynamic {
            let now = snapshot_physical_expr(Arc::clone(expr))?;
            let conjunct = compile(self.table, reader, [now])?;
            keep(block, &conjunct, reader, scan).await?;
        }
        Ok(())
    }

    /// Reads what is projected for the rows left, and hands it over batch by batch; false when
    /// nobody wants more.
    async fn emit(
        &self,
        block: &mut Block,
        reader: &Reader<'_>,
        scan: &Scan,
        output: &Output,
    ) -> Result<bool> {
        if block.n_rows() == 0 {
            return Ok(true);
        }
        if self.heavy.is_empty() {
            block.load(&self.light, reader).await?;
            let batch = self.batch(block, 0..block.n_rows(), Vec::new(), scan)?;
            return output.send(batch).await;
        }
        block.load(&self.light, reader).await?;
        let max_bytes = scan.batch_bytes as u64;
        let (rows, n_rows) = (block.rows().clone(), block.n_rows());
        let sizes = reader.sizes(&self.heavy, &rows, n_rows).await?;
        let runs = match scan.is_remote {
            true => cut(&sizes, usize::MAX, max_bytes.max(REMOTE_BYTES)),
            false => cut(&sizes, output.batch_size, max_bytes),
        };
        for run in runs {
            let run_rows = rows.slice(run.start as u64..run.end as u64);
            let read = reader.read(&self.heavy, &run_rows).await?;
            for piece in cut(&sizes[run.clone()], output.batch_size, max_bytes) {
                let heavy = read.iter().map(|v| pieces::copy(v, piece.clone()));
                let of_block = run.start + piece.start..run.start + piece.end;
                let batch = self.batch(block, of_block, heavy.collect::<Result<_>>()?, scan)?;
                scan.metrics.report();
                if !output.send(batch).await? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The output for rows `cut` of a block, whose heavy slots have been read.
    fn batch(
        &self,
        block: &Block,
        cut: Range<usize>,
        heavy: Vec<ArrayRef>,
        scan: &Scan,
    ) -> Result<RecordBatch> {
        let n_rows = cut.len();
        let mut heavy = heavy.into_iter();
        let values = self
            .projection
            .slots
            .iter()
            .filter_map(|slot| match block.get(slot) {
                Some(values) => Some(pieces::copy(values, cut.clone())),
                None => heavy.next().map(Ok),
            });
        let columns = self
            .projection
            .evaluate(values.collect::<Result<_>>()?, n_rows)?;
        scan.batch(columns, n_rows)
    }
}

fn compile(
    table: &AlignedLayout,
    reader: &Reader<'_>,
    exprs: impl IntoIterator<Item = Arc<dyn PhysicalExpr>>,
) -> Result<Compiled> {
    Compiled::new(exprs, &table.schema, |column| reader.computes(column))
}

/// Predicates on columns come first, then those on matrix functions, then those on whole rows.
fn cost(conjunct: &Compiled, reader: &Reader<'_>) -> u8 {
    let slots = &conjunct.slots;
    if slots.iter().any(|slot| reader.is_heavy(slot)) {
        2
    } else {
        u8::from(slots.iter().any(|slot| reader.needs_matrix(slot)))
    }
}

/// Drops the rows that do not satisfy a predicate.
pub(super) async fn keep(
    block: &mut Block,
    conjunct: &Compiled,
    reader: &Reader<'_>,
    scan: &Scan,
) -> Result<()> {
    let n_rows = block.n_rows();
    if n_rows == 0 {
        return Ok(());
    }
    let (heavy, light): (Vec<_>, Vec<_>) = conjunct
        .slots
        .iter()
        .cloned()
        .partition(|slot| reader.is_heavy(slot));
    block.load(&light, reader).await?;
    if heavy.is_empty() {
        let values = conjunct
            .slots
            .iter()
            .filter_map(|slot| block.get(slot).cloned());
        let mask = conjunct.mask(values.collect(), n_rows)?;
        return block.keep(&mask);
    }
    let rows = block.rows().clone();
    let max_bytes = match scan.is_remote {
        true => REMOTE_BYTES,
        false => scan.batch_bytes as u64,
    };
    let sizes = reader.sizes(&heavy, &rows, n_rows).await?;
    let cuts = cut(&sizes, usize::MAX, max_bytes);
    let mut masks = Vec::with_capacity(cuts.len());
    for cut in cuts {
        let cut_rows = rows.slice(cut.start as u64..cut.end as u64);
        let mut read = reader.read(&heavy, &cut_rows).await?.into_iter();
        let values = conjunct
            .slots
            .iter()
            .filter_map(|slot| match block.get(slot) {
                Some(values) => Some(values.slice(cut.start, cut.len())),
                None => read.next(),
            });
        masks.push(conjunct.mask(values.collect(), cut.len())?);
    }
    let masks: Vec<&dyn Array> = masks.iter().map(|mask| mask as _).collect();
    let mask = concat(&masks)?;
    block.keep(mask.as_boolean())
}
