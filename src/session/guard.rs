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
            let there = Path::new(path.as_ref());
            let reason = match there.is_dir() {
                _ if there.is_file() => {
                    "it exists; COPY replaces h5ad files only, so remove it first"
                }
                true if is_store(there) => "it is a zarr store, and COPY would write files into it",
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            return Err(Error::OutputRefused {
                path: path.into_owned(),
                reason: reason.to_owned(),
            }
            .into());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// Whether a folder is a zarr store, or in one.
fn is_store(folder: &Path) -> bool {
    let documents = ["zarr.json", ".zgroup", ".zarray"];
    documents.iter().any(|name| folder.join(name).exists())
}
