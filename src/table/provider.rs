//! A table of an object as DataFusion's planner sees it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, Result};
use datafusion::datasource::TableType;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::ExecutionPlan;

use crate::element::AnnData;
use crate::table::description::ScanDescription;
use crate::table::kind::TableKind;
use crate::table::layout::Layout;
use crate::table::source::{AnnDataSource, LEAST_PARTITION, even_partitions, scan_plan};

/// A table of an object.
///
/// Filters are all taken over, so none stays above the scan; `LIMIT` reads one partition from its
/// start, so that it gives the first rows.
#[derive(Debug, Clone)]
pub struct AnnDataTable {
    description: Arc<ScanDescription>,
    schema: SchemaRef,
    /// Absent where the table came from another machine: the scan opens it.
    layout: Option<Arc<Layout>>,
    n_rows: Option<u64>,
    axis_len: u64,
}

impl AnnDataTable {
    /// A table of an open object. Reads no more than names.
    ///
    /// # Errors
    /// [`Error::ElementNotFound`](crate::Error::ElementNotFound) where the object has no such
    /// table.
    pub fn try_new(object: &Arc<AnnData>, table: TableKind) -> crate::Result<Self> {
        let description = ScanDescription::new(object.location().clone(), table);
        Self::of(object, description)
    }

    /// A described table of an open object.
    pub(crate) fn of(object: &Arc<AnnData>, description: ScanDescription) -> crate::Result<Self> {
        let layout = Arc::new(Layout::of(object, &description)?);
        Ok(Self {
            description: Arc::new(description),
            schema: Arc::clone(layout.schema()),
            n_rows: layout.n_rows(),
            axis_len: layout.axis_len(),
            layout: Some(layout),
        })
    }

    /// A table whose object has not been opened here.
    pub(crate) fn unopened(
        description: ScanDescription,
        schema: SchemaRef,
        n_rows: Option<u64>,
        axis_len: u64,
    ) -> Self {
        Self {
            description: Arc::new(description),
            schema,
            layout: None,
            n_rows,
            axis_len,
        }
    }

    /// What is read.
    pub fn description(&self) -> &ScanDescription {
        &self.description
    }

    /// Rows, where that is known without reading, and the length of the axis.
    pub(crate) fn lengths(&self) -> (Option<u64>, u64) {
        (self.n_rows, self.axis_len)
    }

    /// The same table with other matrix bytes per batch.
    #[must_use]
    pub fn with_batch_bytes(&self, batch_bytes: usize) -> Self {
        let mut description = self.description.as_ref().clone();
        description.batch_bytes = batch_bytes;
        Self {
            description: Arc::new(description),
            ..self.clone()
        }
    }

    /// Whether it has a row per cell or gene, and so a position for each.
    pub(crate) fn has_positions(&self) -> bool {
        let first = self
            .schema
            .fields()
            .first()
            .map(|field| field.name().as_str());
        matches!(first, Some("obs_idx" | "var_idx")) && self.n_rows == Some(self.axis_len)
    }

    /// The source of an unfiltered scan of all columns.
    fn source(&self) -> AnnDataSource {
        let schema = TableSchema::from(Arc::clone(&self.schema));
        let source = AnnDataSource::new(Arc::clone(&self.description), schema);
        match &self.layout {
            Some(layout) => source.with_layout(Arc::clone(layout)),
            None => source,
        }
    }
}

#[async_trait]
impl TableProvider for AnnDataTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let df_schema = DFSchema::try_from(Arc::clone(&self.schema))?;
        let conjuncts = filters
            .iter()
            .map(|filter| state.create_physical_expr(filter.clone(), &df_schema))
            .collect::<Result<Vec<_>>>()?;
        let mut source = self.source().with_conjuncts(conjuncts);
        if let Some(columns) = projection {
            source = source.with_projection(ProjectionExprs::from_indices(columns, &self.schema));
        }
        let target = if limit.is_some() {
            1
        } else {
            state.config().target_partitions()
        };
        let partitions = even_partitions(self.axis_len, target, LEAST_PARTITION);
        let n_rows = match (self.n_rows, limit) {
            (Some(n_rows), Some(limit)) => Some(n_rows.min(u64::try_from(limit).unwrap_or(n_rows))),
            (n_rows, _) => n_rows,
        };
        scan_plan(source, &partitions, n_rows, limit)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        use TableProviderFilterPushDown::{Exact, Unsupported};
        let taken = |filter: &&Expr| if is_plain(filter) { Exact } else { Unsupported };
        Ok(filters.iter().map(taken).collect())
    }
}

/// Whether a condition can be evaluated where rows are read.
pub(crate) fn is_plain(filter: &Expr) -> bool {
    !filter.exists(|e| Ok(needs_planning(e))).unwrap_or(true)
}

/// What only the planner can evaluate.
fn needs_planning(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::ScalarSubquery(_)
            | Expr::InSubquery(_)
            | Expr::Exists(_)
            | Expr::SetComparison(_)
            | Expr::OuterReferenceColumn(_, _)
    )
}
