//! The one leaf of every plan: a `FileSource` over a table of an object.
//!
//! `DataSourceExec(FileScanConfig)` rather than a node of our own, because Ballista splits exactly
//! that by its file groups and silently repeats any other leaf in every task. A file group is a
//! partition, a file range is a range of rows (ranks in the description's rows), and the file's
//! path is only a label: what is opened stands in [`ScanDescription`].

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, exec_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileOpener, FileScanConfig, FileScanConfigBuilder, FileSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr, conjunction};
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan};
use object_store::ObjectStore;
use tokio::sync::OnceCell;

use crate::table::description::ScanDescription;
use crate::table::layout::Layout;
use crate::table::scan::{self, Ordered, Scan};

/// A scan of one table: predicate, projection and matrix functions run inside it.
#[derive(Clone)]
pub struct AnnDataSource {
    description: Arc<ScanDescription>,
    /// The open object: set where the plan was made in this process, else on first use.
    layout: Arc<OnceCell<Arc<Layout>>>,
    /// What partitions share where rows come in a seeded order: set by the first.
    ordered: Arc<OnceCell<Arc<Ordered>>>,
    table_schema: TableSchema,
    projection: ProjectionExprs,
    conjuncts: Vec<Arc<dyn PhysicalExpr>>,
    batch_size: usize,
    metrics: ExecutionPlanMetricsSet,
}

impl AnnDataSource {
    /// A scan of all columns and rows of a table with this schema.
    pub(crate) fn new(description: Arc<ScanDescription>, table_schema: TableSchema) -> Self {
        let columns: Vec<usize> = (0..table_schema.table_schema().fields().len()).collect();
        Self {
            description,
            layout: Arc::new(OnceCell::new()),
            ordered: Arc::default(),
            projection: ProjectionExprs::from_indices(&columns, table_schema.table_schema()),
            table_schema,
            conjuncts: Vec::new(),
            batch_size: 8192,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The same scan over an object that is open already.
    #[must_use]
    pub(crate) fn with_layout(mut self, layout: Arc<Layout>) -> Self {
        self.layout = Arc::new(OnceCell::new_with(Some(layout)));
        self
    }

    /// The same scan of only the rows that satisfy all conjuncts.
    #[must_use]
    pub(crate) fn with_conjuncts(mut self, conjuncts: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        self.conjuncts.extend(conjuncts);
        self.ordered = Arc::default();
        self
    }

    /// The same scan with this projection over the table's schema, whatever it had before.
    #[must_use]
    pub(crate) fn with_projection(mut self, projection: ProjectionExprs) -> Self {
        self.projection = projection;
        self.ordered = Arc::default();
        self
    }

    /// What is read.
    pub fn description(&self) -> &ScanDescription {
        &self.description
    }

    /// The predicate, as conjuncts over the table's schema.
    pub fn conjuncts(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.conjuncts
    }

    /// Bytes that a row of the matrices projected takes on the average; 0 where the object is not
    /// open here.
    pub fn matrix_row_bytes(&self) -> u64 {
        let Some(layout) = self.layout.get() else {
            return 0;
        };
        let projected = self.projection.iter();
        projected
            .filter_map(|output| output.expr.downcast_ref::<Column>())
            .map(|column| layout.matrix_row_bytes(column.index()))
            .fold(0, u64::saturating_add)
    }

    /// Bytes that a row of the columns projected takes on the average, where the object is open.
    fn row_bytes(&self) -> Option<u64> {
        let layout = self.layout.get()?;
        let columns = self.projection.column_indices();
        Some(
            columns
                .into_iter()
                .map(|c| layout.row_bytes(c))
                .fold(0, u64::saturating_add),
        )
    }

    /// The output's expressions over the table's schema.
    pub fn projection_exprs(&self) -> &ProjectionExprs {
        &self.projection
    }
}

/// A leaf over `source` with a partition for each range of ranks.
pub(crate) fn scan_plan(
    source: AnnDataSource,
    partitions: &[Range<u64>],
    n_rows: Option<u64>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let groups: Vec<_> = partitions.iter().map(|range| vec![range.clone()]).collect();
    let config = scan_config(source, &groups, n_rows, limit)?;
    Ok(DataSourceExec::from_data_source(config))
}

/// The configuration of a leaf with a partition for each group of ranges. `n_rows` is the exact
/// number of rows before the predicate, where it is known.
pub(crate) fn scan_config(
    source: AnnDataSource,
    partitions: &[Vec<Range<u64>>],
    n_rows: Option<u64>,
    limit: Option<usize>,
) -> Result<FileScanConfig> {
    let schema = Arc::clone(source.table_schema.table_schema());
    let label = source.description.label();
    let exact = |rows: u64| match usize::try_from(rows) {
        Ok(rows) => Precision::Exact(rows),
        Err(_) => Precision::Absent,
    };
    // What rows weigh decides which side of a join is held in memory.
    let bytes = source
        .row_bytes()
        .zip(n_rows)
        .and_then(|(row, n)| usize::try_from(row.checked_mul(n)?).ok());
    let statistics = |num_rows| Statistics {
        num_rows,
        total_byte_size: bytes.map_or(Precision::Absent, Precision::Inexact),
        ..Statistics::new_unknown(&schema)
    };
    let file = |range: &Range<u64>| {
        let (Ok(start), Ok(end)) = (i64::try_from(range.start), i64::try_from(range.end)) else {
            return exec_err!("rows {range:?} of {label} are beyond what a plan can carry");
        };
        let size = range.end.saturating_sub(range.start);
        Ok(PartitionedFile::new_with_range(
            label.clone(),
            size,
            start,
            end,
        ))
    };
    let groups = partitions
        .iter()
        .map(|ranges| {
            Ok(FileGroup::new(
                ranges.iter().map(file).collect::<Result<_>>()?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    // The order of positions is the order of rows, so sorting by it costs nothing.
    let in_order = source.description.order.is_none();
    let ordering = match schema.fields().first().filter(|_| in_order) {
        Some(field) if field.name() == "obs_idx" || field.name() == "var_idx" => {
            let position = Arc::new(Column::new(field.name(), 0));
            LexOrdering::new([PhysicalSortExpr::new_default(position)])
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    };
    let num_rows = n_rows.map_or(Precision::Absent, exact);
    Ok(
        FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics(num_rows))
            .with_output_ordering(ordering)
            .with_preserve_order(true)
            .with_limit(limit)
            .build(),
    )
}

/// Fewer rows than this are not worth a partition.
pub(crate) const LEAST_PARTITION: u64 = 4096;

/// Cuts `len` rows into up to `target` ranges of at least `least` rows; one empty range where
/// there are no rows.
pub(crate) fn even_partitions(len: u64, target: usize, least: u64) -> Vec<Range<u64>> {
    let target = u64::try_from(target).unwrap_or(1).max(1);
    let count = target.min(len / least.max(1)).max(1);
    (0..count)
        .map(|i| {
            let cut = |i: u64| u64::try_from(u128::from(len) * u128::from(i) / u128::from(count));
            cut(i).unwrap_or(len)..cut(i + 1).unwrap_or(len)
        })
        .collect()
}

struct AnnDataOpener {
    source: AnnDataSource,
    limit: Option<usize>,
    partition: usize,
}

impl FileOpener for AnnDataOpener {
    fn open(
        &self,
        file: PartitionedFile,
    ) -> Result<datafusion::datasource::physical_plan::FileOpenFuture> {
        let source = self.source.clone();
        let (limit, partition) = (self.limit, self.partition);
        let (start, end) = file.range();
        Ok(Box::pin(async move {
            let layout = source
                .layout
                .get_or_try_init(|| async { source.description.open().await.map(Arc::new) })
                .await?;
            let expected = source.table_schema.table_schema();
            if !same_columns(expected, layout.schema()) {
                return exec_err!(
                    "{}: table {} has other columns than when the query was planned",
                    source.description.location,
                    source.description.table
                );
            }
            let order = match (&source.description.order, layout.as_ref()) {
                (Some(by), Layout::Aligned(table)) => Some(Arc::clone(
                    source
                        .ordered
                        .get_or_init(|| async {
                            let rows = source.description.rows.as_ref();
                            Arc::new(Ordered::new(table, rows, by))
                        })
                        .await,
                )),
                _ => None,
            };
            Ok(scan::open(Scan {
                order,
                layout: Arc::clone(layout),
                rows: source.description.rows.clone(),
                ranks: start..end,
                schema: Arc::new(source.projection.project_schema(expected)?),
                projection: source.projection.clone(),
                conjuncts: source.conjuncts.clone(),
                batch_bytes: source.description.batch_bytes,
                batch_size: source.batch_size,
                limit,
                is_remote: source.description.location.is_url(),
                metrics: Arc::new(scan::ScanMetrics::new(&source.metrics, partition)),
            }))
        }))
    }
}

/// Names and types; metadata may say more once an object is open.
fn same_columns(a: &arrow::datatypes::Schema, b: &arrow::datatypes::Schema) -> bool {
    a.fields().len() == b.fields().len()
        && a.fields()
            .iter()
            .zip(b.fields())
            .all(|(a, b)| a.name() == b.name() && a.data_type().equals_datatype(b.data_type()))
}

impl FileSource for AnnDataSource {
    fn create_file_opener(
        &self,
        _object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        Ok(Arc::new(AnnDataOpener {
            source: self.clone(),
            limit: base_config.limit,
            partition,
        }))
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table_schema
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self {
            batch_size,
            ..self.clone()
        })
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        (!self.conjuncts.is_empty()).then(|| conjunction(self.conjuncts.iter().map(Arc::clone)))
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection)
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        "h5ad"
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(t, DisplayFormatType::TreeRender) {
            return writeln!(f, "table={}", self.description.table);
        }
        write!(f, ", table={}", self.description.table)?;
        let columns = scan::columns_read(
            self.table_schema.table_schema(),
            &self.projection,
            &self.conjuncts,
        );
        write!(f, ", columns=[{}]", columns.join(", "))?;
        if let Some(filter) = self.filter() {
            write!(f, ", predicate={filter}")?;
        }
        if let Some(genes) = &self.description.genes {
            write!(f, ", genes={}", genes.len())?;
        }
        if let Some(rows) = &self.description.rows {
            write!(f, ", rows={}", rows.len())?;
        }
        if let Some(by) = &self.description.order {
            let kind = if by.blocks.is_some() {
                "blocks"
            } else {
                "shuffle"
            };
            write!(f, ", order={kind}({})", by.order.seed)?;
            if let Some(groups) = &by.order.groups {
                write!(f, ", groups={}", groups.len())?;
            }
        }
        Ok(())
    }

    /// Ranges are rows, which DataFusion would split as if they were bytes.
    fn supports_repartitioning(&self) -> bool {
        false
    }

    /// Everything is accepted and evaluated exactly: a filter left above a matrix column would
    /// gather its rows into batches of thousands.
    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let accepted = vec![PushedDown::Yes; filters.len()];
        let source: Arc<dyn FileSource> = Arc::new(self.clone().with_conjuncts(filters));
        Ok(
            FilterPushdownPropagation::with_parent_pushdown_result(accepted)
                .with_updated_node(source),
        )
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn FileSource>>> {
        let projection = self.projection.try_merge(projection)?;
        Ok(Some(Arc::new(self.clone().with_projection(projection))))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let projected = self.projection.iter().map(|p| &p.expr);
        for expr in self.conjuncts.iter().chain(projected) {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_cover_all_rows_once() {
        assert_eq!(even_partitions(0, 4, 10), vec![0..0]);
        assert_eq!(even_partitions(25, 4, 10), vec![0..12, 12..25]);
        assert_eq!(even_partitions(9, 2, 1), vec![0..4, 4..9]);
    }
}
