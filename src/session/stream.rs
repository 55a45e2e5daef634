//! Running a query so that its rows come in order and its batches stay small.

use std::sync::Arc;

use datafusion::dataframe::DataFrame;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, execute_stream};
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::{Error, Result};
use crate::model::MatrixKind;
use crate::plan::ShuffleExec;
use crate::plan::merge::MergeExec;
use crate::table::AnnDataSource;

/// Bytes of matrix rows that other nodes may gather into one batch.
const GATHERED_BYTES: u64 = 4 << 20;

/// Plans and starts a query.
pub(super) async fn run(frame: DataFrame) -> Result<SendableRecordBatchStream> {
    let context = frame.task_ctx();
    let plan = frame.create_physical_plan().await.map_err(Error::from)?;
    let context = Arc::new(sized(context, &plan));
    if plan.output_partitioning().partition_count() < 2 || !in_order(&plan) {
        return Ok(execute_stream(plan, context)?);
    }
    // Partition after partition is the order of the object. Decoding uses all cores anyway.
    let schema = plan.schema();
    let partitions = stream::iter(0..plan.output_partitioning().partition_count());
    let batches = partitions
        .map(move |partition| plan.execute(partition, Arc::clone(&context)))
        .try_flatten();
    Ok(Box::pin(RecordBatchStreamAdapter::new(
        schema,
        batches.boxed(),
    )))
}

/// Whether the plan gives the rows of its one leaf in their order, partition by partition.
fn in_order(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.children().as_slice() {
        [] => true,
        _ if plan.is::<ShuffleExec>() => true,
        [child] => {
            !plan.is::<RepartitionExec>()
                && plan.maintains_input_order().iter().all(|kept| *kept)
                && in_order(child)
        }
        children if plan.is::<MergeExec>() => children.iter().all(|child| in_order(child)),
        _ => false,
    }
}

/// The context with a batch size that fits the largest matrix rows a leaf gives: joins, sorts and
/// exchanges fill batches by rows, and 8,192 rows of a matrix can be a GB.
fn sized(context: TaskContext, plan: &Arc<dyn ExecutionPlan>) -> TaskContext {
    let row_bytes = widest_rows(plan);
    if row_bytes == 0 {
        return context;
    }
    let config = context.session_config();
    let fit = usize::try_from(GATHERED_BYTES / row_bytes).unwrap_or(usize::MAX);
    let size = fit.clamp(16, config.batch_size().max(16));
    let config = config.clone().with_batch_size(size);
    context.with_session_config(config)
}

fn widest_rows(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let below = plan
        .children()
        .into_iter()
        .map(widest_rows)
        .max()
        .unwrap_or(0);
    if let Some(merge) = plan.downcast_ref::<MergeExec>() {
        return below.max(merge.matrix_row_bytes());
    }
    let Some(leaf) = plan.downcast_ref::<DataSourceExec>() else {
        return below;
    };
    let Some((_, source)) = leaf.downcast_to_file_source::<AnnDataSource>() else {
        return below;
    };
    let schema = plan.schema();
    let mut fields = schema.fields().iter();
    match fields.any(|field| MatrixKind::of(field.data_type()).is_some()) {
        true => below.max(source.matrix_row_bytes()),
        false => below,
    }
}
