//! Scanning a table of stored entries.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, RecordBatch,
    RecordBatchOptions, UInt64Array,
};
use arrow::compute::{cast, filter_record_batch, take};
use arrow::datatypes::{DataType, Int32Type, Int64Type, Schema};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;

use crate::element::EntryParts;
use crate::error::{Error, Result};
use crate::kernel::sums;
use crate::model::{MatrixKind, RowSelection};
use crate::table::layout::{EntriesLayout, EntryColumn};
use crate::table::scan::calls::{Hits, offsets_of, runs};
use crate::table::scan::expr::Compiled;
use crate::table::scan::named::named;
use crate::table::scan::prune::rows_allowed;
use crate::table::scan::{Output, Scan, is_dynamic};

/// Rows whose lengths are looked at together.
const BLOCK_ROWS: u64 = 1 << 16;

/// Reads a partition: conditions on the row's position prune rows, those on the column's position
/// or name prune entries by their indices, and the data is read for rows that have any left.
pub(super) async fn run(table: &EntriesLayout, scan: &Scan, mut output: Output) -> Result<()> {
    let at = |wanted| table.columns.iter().position(|c| *c == wanted);
    let shape = table.matrix.shape();
    let mut rows = scan.partition_rows();
    let mut cols: Option<RowSelection> = None;
    let mut rest = Vec::new();
    for expr in &scan.conjuncts {
        let of_rows = at(EntryColumn::Row).and_then(|c| rows_allowed(expr, c, shape.n_rows));
        if let Some(allowed) = of_rows {
            rows = rows.intersect(&allowed);
            continue;
        }
        let of_cols = at(EntryColumn::Col).and_then(|c| rows_allowed(expr, c, shape.n_cols));
        let of_names = || named(expr, at(EntryColumn::ColName)?, table.axis.as_deref()?);
        match of_cols.or_else(of_names) {
            Some(allowed) => cols = Some(cols.map_or(allowed.clone(), |c| c.intersect(&allowed))),
            None => rest.push(Arc::clone(expr)),
        }
    }
    if cols.as_ref().is_some_and(RowSelection::is_empty) {
        return Ok(());
    }
    let entries = Entries::new(table, scan, cols, &rest)?;
    let (dynamic, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_dynamic);
    let metrics = &scan.metrics.reads;
    let (mut start, end) = (0, rows.len());
    while start < end {
        let stop = end.min(start + BLOCK_ROWS);
        let block = rows.slice(start..stop);
        let offsets = table.matrix.offsets(&block, metrics).await?;
        for run in runs(&offsets) {
            let run_rows = block.slice(run.start as u64..run.end as u64);
            let run_offsets = offsets_of(&offsets, &run)?;
            let batch = entries.read(&run_rows, &run_offsets, scan).await?;
            let batch = entries.filter(batch, &rest)?;
            let batch = batch.slice(0, output.take(batch.num_rows()));
            let batch = entries.filter(batch, &dynamic)?;
            let wanted = match entries.project(&batch, scan)? {
                Some(batch) => output.send(batch).await?,
                None => true,
            };
            scan.metrics.report();
            if !wanted || output.is_full() {
                return Ok(());
            }
        }
        start = stop;
    }
    Ok(())
}

/// What is read of each run of rows.
struct Entries<'a> {
    table: &'a EntriesLayout,
    /// Which columns of the matrix are wanted.
    wanted: Option<Wanted>,
    /// Which columns of the table are needed.
    needed: Vec<bool>,
    projection: Compiled,
}

enum Wanted {
    One(usize),
    Some(Vec<bool>),
}

impl<'a> Entries<'a> {
    fn new(
        table: &'a EntriesLayout,
        scan: &Scan,
        cols: Option<RowSelection>,
        rest: &[Arc<dyn PhysicalExpr>],
    ) -> Result<Self> {
        let projection = compile(scan.projection.expr_iter(), &table.schema)?;
        let predicate = compile(rest.iter().map(Arc::clone), &table.schema)?;
        let mut needed = vec![false; table.columns.len()];
        for slot in projection.slots.iter().chain(&predicate.slots) {
            needed[slot.column()] = true;
        }
        let too_wide = |_| Error::IncompatibleSchemas("a matrix of too many columns".to_owned());
        let wanted = match cols {
            None => None,
            Some(cols) if cols.len() == 1 => Some(Wanted::One(
                usize::try_from(cols.end() - 1).map_err(too_wide)?,
            )),
            Some(cols) => {
                let mut wanted = vec![false; usize::try_from(cols.end()).map_err(too_wide)?];
                for col in cols.iter() {
                    if let Some(wanted) = usize::try_from(col).ok().and_then(|c| wanted.get_mut(c))
                    {
                        *wanted = true;
                    }
                }
                Some(Wanted::Some(wanted))
            }
        };
        Ok(Self {
            table,
            wanted,
            needed,
            projection,
        })
    }

    fn needs(&self, column: EntryColumn) -> bool {
        let columns = self.table.columns.iter().zip(&self.needed);
        columns
            .into_iter()
            .any(|(c, needed)| *needed && *c == column)
    }

    /// The needed columns of a run's entries; the others are null.
    async fn read(
        &self,
        rows: &RowSelection,
        offsets: &[usize],
        scan: &Scan,
    ) -> Result<RecordBatch> {
        let matrix = &self.table.matrix;
        let metrics = &scan.metrics.reads;
        let dense = matrix.shape().kind == MatrixKind::Dense;
        let needs_cols = self.needs(EntryColumn::Col) || self.needs(EntryColumn::ColName);
        let parts = EntryParts {
            indices: !dense && (needs_cols || self.wanted.is_some()),
            data: dense || (self.wanted.is_none() && self.needs(EntryColumn::Value)),
        };
        let (indices, data) = match parts {
            EntryParts {
                indices: false,
                data: false,
            } => (None, None),
            parts => matrix.entries(rows, parts, metrics).await?,
        };
        let total = offsets.last().copied().unwrap_or(0);
        let lengths = [indices.as_ref(), data.as_ref()]
            .into_iter()
            .flatten()
            .map(|a| a.len());
        if lengths.into_iter().any(|len| len != total) {
            let reason = format!("{total} entries were expected");
            return Err(Error::invalid("", matrix.key().clone(), reason));
        }
        let places = self.places(indices.as_ref(), data.as_ref(), offsets, dense)?;
        let data = match (data, &places) {
            (Some(data), Some(places)) => Some(take(&data, &positions(places), None)?),
            (Some(data), None) => Some(data),
            (None, Some(places)) if self.needs(EntryColumn::Value) && !places.is_empty() => {
                let hits = Hits::read(matrix.as_ref(), rows, places, offsets, metrics).await?;
                Some(take(&hits.data, &positions(&hits.places), None)?)
            }
            (None, _) => None,
        };
        let cols = match (indices, &places) {
            (Some(indices), Some(places)) => Some(take(&indices, &positions(places), None)?),
            (Some(indices), None) => Some(indices),
            (None, Some(places)) if dense => Some(dense_cols(places, matrix.shape().n_cols)),
            _ => None,
        };
        let n_rows = places.as_ref().map_or(total, Vec::len);
        let ranks = self.ranks(places.as_deref(), offsets);
        let mut columns = Vec::with_capacity(self.needed.len());
        for (column, field) in self.table.columns.iter().zip(self.table.schema.fields()) {
            let values = match column {
                _ if !self.needs(*column) => None,
                EntryColumn::Row => {
                    let rows: Vec<i64> = rows
                        .iter()
                        .map(|r| i64::try_from(r).unwrap_or(i64::MAX))
                        .collect();
                    let rows = ranks.iter().filter_map(|rank| rows.get(*rank).copied());
                    Some(Arc::new(Int64Array::from_iter_values(rows)) as ArrayRef)
                }
                EntryColumn::RowName => match &self.table.row_names {
                    Some(names) => {
                        let names = names.read(rows, metrics).await?;
                        let ranks = ranks.iter().map(|r| i32::try_from(*r).unwrap_or(i32::MAX));
                        let ranks = Int32Array::from_iter_values(ranks);
                        Some(Arc::new(DictionaryArray::try_new(ranks, names)?) as ArrayRef)
                    }
                    None => None,
                },
                EntryColumn::Col => match &cols {
                    Some(cols) => Some(cast(cols, &DataType::Int64)?),
                    None => None,
                },
                EntryColumn::ColName => match (&cols, &self.table.axis) {
                    (Some(cols), Some(axis)) => {
                        let keys = cast(cols, &DataType::Int32)?;
                        let names = Arc::new(axis.names().clone());
                        let keys = keys.as_primitive::<Int32Type>().clone();
                        Some(Arc::new(DictionaryArray::try_new(keys, names)?) as ArrayRef)
                    }
                    _ => None,
                },
                EntryColumn::Value => data.clone(),
            };
            columns.push(
                values.unwrap_or_else(|| arrow::array::new_null_array(field.data_type(), n_rows)),
            );
        }
        let fields = self
            .table
            .schema
            .fields()
            .iter()
            .map(|f| f.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }

    /// Which entries of the run are rows of the table, where that is not all of them.
    fn places(
        &self,
        indices: Option<&ArrayRef>,
        data: Option<&ArrayRef>,
        offsets: &[usize],
        dense: bool,
    ) -> Result<Option<Vec<usize>>> {
        if dense {
            let width = usize::try_from(self.table.matrix.shape().n_cols)
                .unwrap_or(usize::MAX)
                .max(1);
            let total = offsets.last().copied().unwrap_or(0);
            let Some(data) = data else {
                return Ok(Some(Vec::new()));
            };
            // A value is an entry of its own here: one that is not zero is counted once.
            let each: Vec<usize> = (0..=total).collect();
            let counts = sums::count_nonzero(data, &each)?;
            let wanted = |place: &usize| match &self.wanted {
                None => true,
                Some(Wanted::One(col)) => place % width == *col,
                Some(Wanted::Some(cols)) => cols.get(place % width).copied().unwrap_or(false),
            };
            let stored = (0..total).filter(|place| counts.value(*place) != 0);
            return Ok(Some(stored.filter(wanted).collect()));
        }
        let (Some(wanted), Some(indices)) = (&self.wanted, indices) else {
            return Ok(None);
        };
        Ok(Some(match wanted {
            Wanted::One(col) => sums::places_of(indices, *col)?,
            Wanted::Some(cols) => {
                let indices = cast(indices, &DataType::Int64)?;
                let indices = indices.as_primitive::<Int64Type>();
                let is_wanted =
                    |col: i64| usize::try_from(col).ok().and_then(|c| cols.get(c)).copied();
                let places = indices.values().iter().enumerate();
                places
                    .filter(|(_, col)| is_wanted(**col) == Some(true))
                    .map(|(p, _)| p)
                    .collect()
            }
        }))
    }

    /// The rank of each entry's row in the run.
    fn ranks(&self, places: Option<&[usize]>, offsets: &[usize]) -> Vec<usize> {
        if !(self.needs(EntryColumn::Row) || self.needs(EntryColumn::RowName)) {
            return Vec::new();
        }
        match places {
            Some(places) => {
                let mut ranks = Vec::with_capacity(places.len());
                sums::for_rows(places, offsets, |row, _| ranks.push(row));
                ranks
            }
            None => {
                let lengths = offsets.windows(2).enumerate();
                lengths
                    .flat_map(|(row, pair)| std::iter::repeat_n(row, pair[1] - pair[0]))
                    .collect()
            }
        }
    }

    /// The rows that satisfy what has not pruned rows and entries already.
    fn filter(
        &self,
        mut batch: RecordBatch,
        conjuncts: &[Arc<dyn PhysicalExpr>],
    ) -> Result<RecordBatch> {
        for expr in conjuncts {
            let now = snapshot_physical_expr(Arc::clone(expr))?;
            let conjunct = compile([now], &self.table.schema)?;
            let values = slots(&conjunct, &batch);
            let mask = conjunct.mask(values, batch.num_rows())?;
            batch = filter_record_batch(&batch, &mask)?;
        }
        Ok(batch)
    }

    /// Applies the projection; [`None`] where no row is left.
    fn project(&self, batch: &RecordBatch, scan: &Scan) -> Result<Option<RecordBatch>> {
        let n_rows = batch.num_rows();
        if n_rows == 0 {
            return Ok(None);
        }
        scan.metrics.add_rows(n_rows);
        let columns = self
            .projection
            .evaluate(slots(&self.projection, batch), n_rows)?;
        let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
        let schema = Arc::clone(&scan.schema);
        Ok(Some(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?))
    }
}

fn compile(
    exprs: impl IntoIterator<Item = Arc<dyn PhysicalExpr>>,
    schema: &Schema,
) -> Result<Compiled> {
    Compiled::new(exprs, schema, |_| false)
}

fn slots(compiled: &Compiled, batch: &RecordBatch) -> Vec<ArrayRef> {
    compiled
        .slots
        .iter()
        .map(|slot| Arc::clone(batch.column(slot.column())))
        .collect()
}

fn positions(places: &[usize]) -> UInt64Array {
    UInt64Array::from_iter_values(places.iter().map(|p| *p as u64))
}

fn dense_cols(places: &[usize], n_cols: u64) -> ArrayRef {
    let cols = places
        .iter()
        .map(|p| i64::try_from(*p as u64 % n_cols.max(1)).unwrap_or(i64::MAX));
    Arc::new(Int64Array::from_iter_values(cols))
}
