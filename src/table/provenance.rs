//! Where rows came from, added to a scan that is planned already.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_plan::ExecutionPlan;

use crate::element::AnnData;
use crate::model::{OBJECT_COLUMN, ROW_COLUMN};
use crate::table::description::ScanDescription;
use crate::table::kind::TableKind;
use crate::table::layout::Layout;
use crate::table::source::{AnnDataSource, scan_plan};

/// A scan of `cells` with `__object` and `__row` behind its columns; [`None`] for any other node.
pub(crate) async fn add_provenance(
    plan: &Arc<dyn ExecutionPlan>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(config) = plan.downcast_ref::<DataSourceExec>().and_then(|node| {
        (node.data_source().as_ref() as &dyn std::any::Any).downcast_ref::<FileScanConfig>()
    }) else {
        return Ok(None);
    };
    let Some(source) = config.file_source().downcast_ref::<AnnDataSource>() else {
        return Ok(None);
    };
    let description = source.description();
    if description.table != TableKind::Cells {
        return Ok(None);
    }
    if description.provenance {
        return Ok(Some(Arc::clone(plan)));
    }
    let description = ScanDescription {
        provenance: true,
        ..description.clone()
    };
    let object = AnnData::open(&description.location).await?;
    let layout = Arc::new(Layout::of(&object, &description)?);
    let schema = Arc::clone(layout.schema());
    let mut projection: Vec<ProjectionExpr> = source.projection_exprs().as_ref().to_vec();
    for name in [OBJECT_COLUMN, ROW_COLUMN] {
        projection.push(ProjectionExpr::new(
            Arc::new(Column::new_with_schema(name, &schema)?),
            name,
        ));
    }
    let source = AnnDataSource::new(Arc::new(description), TableSchema::from(schema))
        .with_layout(layout)
        .with_conjuncts(source.conjuncts().to_vec())
        .with_projection(ProjectionExprs::new(projection));
    let partitions: Vec<_> = config
        .file_groups
        .iter()
        .flat_map(|group| group.files())
        .filter_map(|file| file.range.as_ref())
        .filter_map(|range| Some(u64::try_from(range.start).ok()?..u64::try_from(range.end).ok()?))
        .collect();
    let n_rows = partitions
        .iter()
        .map(|p| p.end.saturating_sub(p.start))
        .sum();
    Ok(Some(scan_plan(
        source,
        &partitions,
        Some(n_rows),
        config.limit,
    )?))
}
