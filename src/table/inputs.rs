//! Which objects a plan reads.

use std::sync::Arc;

use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;

use crate::model::Location;
use crate::table::source::AnnDataSource;

/// The objects of a plan's scans, each once, in the order in which the plan names them.
pub(crate) fn locations(plan: &Arc<dyn ExecutionPlan>) -> Vec<Location> {
    let mut found: Vec<Location> = Vec::new();
    let mut todo = vec![plan];
    while let Some(node) = todo.pop() {
        let source = node
            .downcast_ref::<DataSourceExec>()
            .and_then(|leaf| leaf.downcast_to_file_source::<AnnDataSource>());
        if let Some((_, source)) = source {
            let location = &source.description().location;
            if !found.contains(location) {
                found.push(location.clone());
            }
        }
        todo.extend(node.children().into_iter().rev());
    }
    found
}
