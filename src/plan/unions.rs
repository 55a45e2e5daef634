//! What a `UNION ALL` of cells may not do.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};

use super::merge::MergeExec;
use crate::element::AnnData;
use crate::error::{Error, Result};
use crate::table::locations;

/// Refuses unions whose parts have matrices over different genes: stored entries say a position
/// only, and would come to stand under other names.
///
/// The planner casts the parts to one type, which drops what fields say of their genes; so the
/// objects are asked.
///
/// # Errors
/// [`Error::IncompatibleSchemas`], which names the column and the objects; those of opening them.
pub(super) async fn check(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    let mut todo = vec![plan];
    while let Some(plan) = todo.pop() {
        let parts = plan.children();
        let is_union = plan.is::<UnionExec>() || plan.is::<InterleaveExec>();
        let schema = plan.schema();
        let columns = || schema.fields().iter().map(|field| field.name().as_str());
        let over_var = columns().find(|name| *name == "X" || name.starts_with("layers_"));
        let over_raw = columns().find(|name| *name == "raw_X");
        for (column, raw) in [(over_var, false), (over_raw, true)] {
            if let Some(column) = column.filter(|_| is_union) {
                check_parts(column, raw, &parts).await?;
            }
        }
        todo.extend(parts);
    }
    Ok(())
}

async fn check_parts(column: &str, raw: bool, parts: &[&Arc<dyn ExecutionPlan>]) -> Result<()> {
    let mut before: Option<(BTreeSet<String>, String)> = None;
    for part in parts {
        let (mut axes, mut names) = (BTreeSet::new(), Vec::new());
        // Rows of a merge are over its own genes, whatever those of its objects are.
        let merges = merges(part);
        for merge in &merges {
            let outline = merge.outline().await?;
            let axis = match raw {
                true => outline.raw_axis().map(|axis| axis.id().to_owned()),
                false => Some(outline.axis().id().to_owned()),
            };
            axes.extend(axis);
            names.push(format!("a merge of {} objects", outline.objects().len()));
        }
        for location in locations(part).into_iter().filter(|_| merges.is_empty()) {
            let object = AnnData::open(&location).await?;
            let axis = match raw {
                true => object.raw_axis().await?,
                false => Some(object.var_axis().await?),
            };
            axes.extend(axis.map(|axis| axis.id().to_owned()));
            names.push(location.to_string());
        }
        let names = names.join(", ");
        match &before {
            Some((others, of)) if *others != axes => {
                return Err(Error::IncompatibleSchemas(format!(
                    "column '{column}': the genes of {of} and of {names} are not the same in the \
                     same order, so their rows cannot be in one matrix"
                )));
            }
            _ => before = Some((axes, names)),
        }
    }
    Ok(())
}

/// The merges of a plan.
pub(super) fn merges(plan: &Arc<dyn ExecutionPlan>) -> Vec<&MergeExec> {
    let mut found = Vec::new();
    let mut todo = vec![plan];
    while let Some(node) = todo.pop() {
        match node.downcast_ref::<MergeExec>() {
            Some(merge) => found.push(merge),
            None => todo.extend(node.children()),
        }
    }
    found
}
