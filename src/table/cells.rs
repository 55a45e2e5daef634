//! A scan of cells built from Rust rather than SQL.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::ExecutionPlan;

use crate::element::AnnData;
use crate::error::{Error, Result};
use crate::model::{OBJECT_COLUMN, ROW_COLUMN, RowSelection};
use crate::table::description::{OrderedRows, ScanDescription};
use crate::table::kind::TableKind;
use crate::table::layout::Layout;
use crate::table::source::{AnnDataSource, scan_plan};
use crate::table::weigh::{RowWeight, weigh};

/// Which cells, genes and columns to scan.
#[derive(Debug, Clone)]
pub struct CellsScan {
    /// The object.
    pub object: Arc<AnnData>,
    /// Its cells.
    pub rows: RowSelection,
    /// Ranges of ranks in `rows`, one partition each.
    pub partitions: Vec<Range<u64>>,
    /// The order they are read in, where it is not the object's; ranks count in it.
    pub order: Option<OrderedRows>,
    /// Positions of the genes that `X` and layers are restricted to; `raw_X` keeps all.
    pub genes: Option<Arc<[u64]>>,
    /// Whether `__object` and `__row` are added at the end.
    pub provenance: bool,
    /// Columns of `cells` by name, in this order; all where absent.
    pub columns: Option<Vec<String>>,
    /// Bytes of matrix rows per batch.
    pub batch_bytes: usize,
}

/// What a row of these cells weighs.
///
/// # Errors
/// [`Error::InvalidOption`] for genes that are not on the axis.
pub(crate) fn weigh_cells(scan: &CellsScan) -> Result<RowWeight> {
    let description = ScanDescription {
        genes: scan.genes.clone(),
        ..ScanDescription::new(scan.object.location().clone(), TableKind::Cells)
    };
    let layout = Layout::of(&scan.object, &description)?;
    Ok(weigh(&layout, |name| {
        let columns = scan.columns.as_ref();
        columns.is_none_or(|columns| columns.iter().any(|column| column == name))
    }))
}

/// The leaf that reads these cells: rows in order, batches owned and cut by bytes.
///
/// # Errors
/// [`Error::ElementNotFound`] for a column that `cells` does not have; [`Error::OutOfRange`] for
/// rows beyond the object's; [`Error::InvalidOption`] for genes that are not on the axis.
pub fn scan_cells(scan: CellsScan) -> Result<Arc<dyn ExecutionPlan>> {
    scan_cells_where(scan, |_| Ok(Vec::new()))
}

/// As [`scan_cells`], of those cells that satisfy all conjuncts, which are over the schema of all
/// columns.
pub(crate) fn scan_cells_where(
    scan: CellsScan,
    conjuncts: impl FnOnce(&SchemaRef) -> Result<Vec<Arc<dyn PhysicalExpr>>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let n_obs = scan.object.n_obs();
    if scan.rows.end() > n_obs {
        return Err(Error::OutOfRange {
            url: scan.object.location().to_string(),
            element: "obs".into(),
            position: i128::from(scan.rows.end()) - 1,
            len: n_obs,
        });
    }
    let description = ScanDescription {
        rows: (scan.rows != RowSelection::all(n_obs)).then_some(scan.rows),
        order: scan.order,
        genes: scan.genes,
        provenance: scan.provenance,
        batch_bytes: scan.batch_bytes,
        ..ScanDescription::new(scan.object.location().clone(), TableKind::Cells)
    };
    let layout = Arc::new(Layout::of(&scan.object, &description)?);
    let schema = Arc::clone(layout.schema());
    let mut source = AnnDataSource::new(
        Arc::new(description),
        TableSchema::from(Arc::clone(&schema)),
    )
    .with_layout(layout)
    .with_conjuncts(conjuncts(&schema)?);
    if let Some(mut names) = scan.columns {
        if scan.provenance {
            names.extend([OBJECT_COLUMN.to_owned(), ROW_COLUMN.to_owned()]);
        }
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        let columns = names
            .iter()
            .map(|name| {
                schema.index_of(name).map_err(|_| Error::ElementNotFound {
                    url: scan.object.location().to_string(),
                    element: name.as_str().into(),
                    hint: " as a column of cells".to_owned(),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        source = source.with_projection(ProjectionExprs::from_indices(&columns, &schema));
    }
    let n_rows = scan
        .partitions
        .iter()
        .map(|p| p.end.saturating_sub(p.start))
        .sum();
    Ok(scan_plan(source, &scan.partitions, Some(n_rows), None)?)
}
