//! What a statement may not do.

use std::path::Path;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;

use crate::model::file_path;
use crate::store::{ZARR_DOCUMENTS, refuse};

/// Refuses a `COPY` over a file, or into a store. An h5ad is guarded where it is written, and has an
/// option for it; DataFusion's own formats truncate what is there as they begin, be it the query's
/// input.
///
/// # Errors
/// [`Error::OutputRefused`](crate::Error::OutputRefused), wrapped.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    plan.apply(|node| {
        if let LogicalPlan::Copy(copy) = node
            && !matches!(copy.file_type.get_ext().as_str(), "h5ad" | "zarr")
        {
            let path = file_path(&copy.output_url);
            let there = Path::new(path.as_ref());
            if there.is_file() {
                let reason = "it exists; COPY replaces h5ad and zarr only, so remove it first";
                return Err(refuse(there, reason).into());
            }
            if is_store(there) {
                let reason = "it is a zarr store, and COPY would write files into it";
                return Err(refuse(there, reason).into());
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// Whether a folder is a zarr store, or a node of one.
fn is_store(folder: &Path) -> bool {
    ZARR_DOCUMENTS.iter().any(|name| folder.join(name).exists())
}
