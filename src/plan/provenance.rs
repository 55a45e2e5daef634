//! Carries `__object` and `__row` from a scan up to the node that writes.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::merge::MergeExec;
use super::shuffle::ShuffleExec;
use crate::model::{OBJECT_COLUMN, ROW_COLUMN};
use crate::table::add_provenance;

/// The plan with the two hidden columns behind its own; [`None`] where its rows are no longer rows
/// of one scan or merge (aggregates, joins), whose pairwise elements have no meaning.
pub(super) fn with_provenance(
    plan: &Arc<dyn ExecutionPlan>,
) -> BoxFuture<'_, Result<Option<Arc<dyn ExecutionPlan>>>> {
    carry(plan).boxed()
}

async fn carry(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(scan) = add_provenance(plan).await? {
        return Ok(Some(scan));
    }
    if let Some(merge) = plan.downcast_ref::<MergeExec>() {
        return Ok(Some(Arc::new(merge.with_provenance().await?)));
    }
    let children = plan.children();
    let [child] = children.as_slice() else {
        return Ok(None);
    };
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let Some(child) = with_provenance(child).await? else {
            return Ok(None);
        };
        let schema = child.schema();
        let mut exprs: Vec<ProjectionExpr> = projection.expr().to_vec();
        for name in [OBJECT_COLUMN, ROW_COLUMN] {
            exprs.push(ProjectionExpr::new(
                Arc::new(Column::new_with_schema(name, &schema)?),
                name,
            ));
        }
        return Ok(Some(Arc::new(ProjectionExec::try_new(exprs, child)?)));
    }
    let passes = match plan.downcast_ref::<FilterExec>() {
        // A filter that projects would need its own list extended; the planner makes none before
        // the physical optimizer has run.
        Some(filter) => filter.projection().is_none(),
        None => {
            plan.is::<SortExec>()
                || plan.is::<ShuffleExec>()
                || plan.is::<SortPreservingMergeExec>()
                || plan.is::<CoalescePartitionsExec>()
                || plan.is::<GlobalLimitExec>()
                || plan.is::<LocalLimitExec>()
        }
    };
    if !passes {
        return Ok(None);
    }
    let Some(child) = with_provenance(child).await? else {
        return Ok(None);
    };
    let node = replace_children_if_necessary(Arc::clone(plan), vec![child])?;
    Ok(Some(node))
}
