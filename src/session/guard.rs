//! What a statement may not do.

use std::path::Path;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;

use crate::error::Error;
use crate::model::file_path;

/// Refuses a `COPY` over a file. An h5ad is guarded where it is written, and has an option for it;
/// DataFusion's own formats truncate what is there as they begin, be it the query's input.
///
/// # Errors
/// [`Error::OutputRefused`], wrapped.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    plan.apply(|node| {
        if let LogicalPlan::Copy(copy) = node
            && copy.file_type.get_ext() != "h5ad"
        {
            let path = file_path(&copy.output_url);
            if Path::new(path.as_ref()).is_file() {
                return Err(Error::OutputRefused {
                    path: path.into_owned(),
                    reason: "it exists; COPY replaces h5ad files only, so remove it first"
                        .to_owned(),
                }
                .into());
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}
