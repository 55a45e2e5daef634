//! What a plan reads: objects, and merges of them.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;

use super::unions;
use crate::error::Result;
use crate::sink::Sources;
use crate::table::locations;

/// What the rows of a plan may come from, and what merges have to say.
///
/// # Errors
/// [`Error::IncompatibleSchemas`](crate::Error::IncompatibleSchemas) for a union over different genes;
/// those of opening objects.
pub(super) async fn sources(plan: &Arc<dyn ExecutionPlan>) -> Result<(Sources, Vec<String>)> {
    unions::check(plan).await?;
    let mut sources = Sources {
        merges: Vec::new(),
        objects: locations(plan),
    };
    let mut warnings = Vec::new();
    for merge in unions::merges(plan) {
        let outline = merge.outline().await?;
        // Parts of a plan may each have their rows from the same merge.
        if sources.merges.iter().any(|known| known.id == outline.id()) {
            continue;
        }
        sources.merges.push(outline.origin().await?);
        warnings.extend(outline.warnings().iter().cloned());
        warnings.extend(outline.rest_warnings().await?);
        // Objects beside each other are read by the merge, not by scans of their own.
        for object in outline.objects() {
            if !sources.objects.contains(object.location()) {
                sources.objects.push(object.location().clone());
            }
        }
    }
    Ok((sources, warnings))
}
