//! Predicates on `var_names` as positions of genes, applied to indices before data is read.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, InListExpr, Literal};

use crate::model::{RowSelection, VarAxis};

/// The genes that a condition on `var_names` allows, where it is an equality, an IN list, or an OR
/// of such. Names may repeat; all positions count.
pub(super) fn named(
    expr: &Arc<dyn PhysicalExpr>,
    column: usize,
    axis: &VarAxis,
) -> Option<RowSelection> {
    let mut names = HashSet::new();
    collect_names(expr, column, &mut names)?;
    let all = axis.names().iter().enumerate();
    let hits = all.filter(|(_, name)| name.is_some_and(|name| names.contains(name)));
    RowSelection::from_sorted(hits.map(|(at, _)| at as u64))
}

fn collect_names(
    expr: &Arc<dyn PhysicalExpr>,
    column: usize,
    names: &mut HashSet<String>,
) -> Option<()> {
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        if list.negated() || !is_column(list.expr(), column) {
            return None;
        }
        for item in list.list() {
            names.insert(text(item)?);
        }
        return Some(());
    }
    let binary = expr.downcast_ref::<BinaryExpr>()?;
    match binary.op() {
        Operator::Or => {
            collect_names(binary.left(), column, names)?;
            collect_names(binary.right(), column, names)
        }
        Operator::Eq if is_column(binary.left(), column) => {
            names.insert(text(binary.right())?);
            Some(())
        }
        Operator::Eq if is_column(binary.right(), column) => {
            names.insert(text(binary.left())?);
            Some(())
        }
        _ => None,
    }
}

fn is_column(expr: &Arc<dyn PhysicalExpr>, column: usize) -> bool {
    match expr.downcast_ref::<CastExpr>() {
        Some(cast) => is_column(cast.expr(), column),
        None => expr
            .downcast_ref::<Column>()
            .is_some_and(|c| c.index() == column),
    }
}

fn text(expr: &Arc<dyn PhysicalExpr>) -> Option<String> {
    let literal = expr.downcast_ref::<Literal>()?;
    Some(literal.value().try_as_str()??.to_owned())
}
