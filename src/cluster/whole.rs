//! Nodes that take all of their input, said in the words of whoever gives tasks parts of it.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};

use crate::plan::merge::MergeExec;
use crate::plan::{InOrderExec, ShuffleExec, WriteExec};

/// The last rule of a session whose plans are cut into tasks, as Ballista does it: what writes, shuffles
/// or merges is given all of its input.
///
/// Ballista gives a task some partitions of the leaves, everywhere but below nodes that ask for
/// [`SinglePartition`](datafusion::physical_expr::Distribution::SinglePartition). Nodes that read several
/// partitions themselves, in their order, do not ask for that before this rule: DataFusion would put them
/// together in any order. A shuffle or a merge with several partitions becomes one, since a task cannot be
/// told which of them it is to make.
///
/// No rule that distributes rows may come after it. Ballista's adaptive planner
/// (`ballista.planner.adaptive.enabled`) has rules of its own and not those of the session, and so has to be
/// off. Costs a walk through the plan.
#[derive(Debug, Default)]
pub struct WholeInputs;

impl PhysicalOptimizerRule for WholeInputs {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        whole_inputs(plan)
    }

    fn name(&self) -> &'static str {
        "whole_inputs"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The plan as [`WholeInputs`] makes it, for plans that no session's rules see.
///
/// # Errors
/// Those of nodes that are given other children.
pub fn whole_inputs(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    // What is below such a node comes to it whole.
    if let Some(write) = plan.downcast_ref::<WriteExec>() {
        return Ok(Arc::new(write.with_whole_input()));
    }
    if plan.is::<InOrderExec>() {
        let input = Arc::clone(plan.children()[0]);
        return Ok(Arc::new(InOrderExec::new(input).with_whole_input()));
    }
    if plan.is::<ShuffleExec>() || plan.is::<MergeExec>() {
        // Of one partition, too: it may be put together from several below.
        return Ok(Arc::new(InOrderExec::new(plan).with_whole_input()));
    }
    let children = plan.children().into_iter().map(Arc::clone);
    let children = children.map(whole_inputs).collect::<Result<Vec<_>>>()?;
    replace_children_if_necessary(plan, children)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Schema;
    use datafusion::physical_expr::Distribution;
    use datafusion::physical_plan::ExecutionPlanProperties;
    use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
    use datafusion::physical_plan::empty::EmptyExec;

    use super::*;

    #[test]
    fn what_is_above_and_below_stays_as_it_is() {
        let leaf = |partitions| -> Arc<dyn ExecutionPlan> {
            let schema = Arc::new(Schema::empty());
            Arc::new(EmptyExec::new(schema).with_partitions(partitions))
        };
        let in_order: Arc<dyn ExecutionPlan> = Arc::new(InOrderExec::new(leaf(3)));
        let plan: Arc<dyn ExecutionPlan> = Arc::new(CoalescePartitionsExec::new(in_order));
        let asked = |plan: &Arc<dyn ExecutionPlan>| {
            let asked = plan.input_distribution_requirements();
            let asked = asked.per_child_distributions().next().cloned();
            matches!(asked, Some(Distribution::SinglePartition))
        };
        assert!(!asked(plan.children()[0]));
        let whole = whole_inputs(plan).unwrap();
        let in_order = Arc::clone(whole.children()[0]);
        assert!(whole.is::<CoalescePartitionsExec>() && !asked(&whole));
        assert!(in_order.is::<InOrderExec>() && asked(&in_order));
        assert_eq!(
            in_order.children()[0]
                .output_partitioning()
                .partition_count(),
            3
        );
        // Another child does not change what it says.
        let again = replace_children_if_necessary(in_order, vec![leaf(2)]).unwrap();
        assert!(asked(&again));
    }
}
