//! Scans of a table whose rows say where they come from, planned by whoever moves rows.

use std::ops::Range;
use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::{DFSchema, Result};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::ExecutionPlan;

use crate::table::description::{OrderedRows, ScanDescription};
use crate::table::layout::Layout;
use crate::table::provider::AnnDataTable;
use crate::table::source::{AnnDataSource, scan_plan};
use crate::table::weigh::{RowWeight, weigh};

/// A table with `__object` and `__row` behind its columns.
#[derive(Debug)]
pub(crate) struct NumberedTable {
    description: ScanDescription,
    layout: Arc<Layout>,
}

impl NumberedTable {
    /// Opens the table's object (cached per process).
    ///
    /// # Errors
    /// Those of opening it.
    pub(crate) async fn open(table: &AnnDataTable) -> Result<Self> {
        let description = ScanDescription {
            provenance: true,
            ..table.description().clone()
        };
        let layout = Arc::new(description.open().await?);
        Ok(Self {
            description,
            layout,
        })
    }

    /// What is read.
    pub(crate) fn description(&self) -> &ScanDescription {
        &self.description
    }

    /// Rows of the table.
    pub(crate) fn n_rows(&self) -> u64 {
        self.layout.axis_len()
    }

    /// What rows of the named columns weigh.
    pub(crate) fn weigh(&self, keep: impl Fn(&str) -> bool) -> RowWeight {
        weigh(&self.layout, keep)
    }

    /// A scan of these columns and the two behind them, of the rows that meet all filters.
    pub(crate) fn scan(
        &self,
        state: &dyn Session,
        columns: &[usize],
        filters: &[Expr],
        partitions: &[Range<u64>],
        order: Option<OrderedRows>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::clone(self.layout.schema());
        let df_schema = DFSchema::try_from(Arc::clone(&schema))?;
        let conjuncts = filters
            .iter()
            .map(|filter| state.create_physical_expr(filter.clone(), &df_schema))
            .collect::<Result<Vec<_>>>()?;
        let mut columns = columns.to_vec();
        let n_columns = schema.fields().len();
        columns.extend(n_columns.saturating_sub(2)..n_columns);
        let n_rows = partitions
            .iter()
            .map(|p| p.end.saturating_sub(p.start))
            .sum();
        let description = ScanDescription {
            order,
            ..self.description.clone()
        };
        let source = AnnDataSource::new(
            Arc::new(description),
            TableSchema::from(Arc::clone(&schema)),
        )
        .with_layout(Arc::clone(&self.layout))
        .with_conjuncts(conjuncts)
        .with_projection(ProjectionExprs::from_indices(&columns, &schema));
        scan_plan(source, partitions, Some(n_rows), None)
    }
}
