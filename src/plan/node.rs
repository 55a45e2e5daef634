//! What every node of one input says in the same words.

use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::Distribution;
use datafusion::physical_plan::{ExecutionPlan, InputDistributionRequirements};

/// The child of a node that has one.
///
/// # Errors
/// [`DataFusionError::Internal`] for another number of children.
pub(super) fn only_child(
    node: &str,
    children: Vec<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let [child] = <[_; 1]>::try_from(children).map_err(|children| {
        DataFusionError::Internal(format!("{node} has one child, not {}", children.len()))
    })?;
    Ok(child)
}

/// Refuses any partition but the first, for a node that has one.
///
/// # Errors
/// [`DataFusionError::Internal`] for another partition.
pub(super) fn only_partition(node: &str, partition: usize) -> Result<()> {
    match partition {
        0 => Ok(()),
        _ => Err(DataFusionError::Internal(format!(
            "{node} has one partition, not {partition}"
        ))),
    }
}

/// What a node of one input says of its partitions: nothing, or that it takes all of them. The latter
/// is for whoever gives tasks some of them; DataFusion's planner would put them together before.
pub(super) fn whole(is_said: bool) -> InputDistributionRequirements {
    InputDistributionRequirements::new(vec![match is_said {
        true => Distribution::SinglePartition,
        false => Distribution::UnspecifiedDistribution,
    }])
}
