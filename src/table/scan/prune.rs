//! Predicates on positions as ranges of rows, applied before anything is read.

use std::ops::Range;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, InListExpr, Literal};

use crate::model::RowSelection;

/// The rows a conjunct allows, where it is exactly a condition on the position in column
/// `position`: a comparison, an IN list, or an AND or OR of such.
pub(super) fn rows_allowed(
    expr: &Arc<dyn PhysicalExpr>,
    position: usize,
    len: u64,
) -> Option<RowSelection> {
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        if list.negated() || !is_position(list.expr(), position) {
            return None;
        }
        let rows = list
            .list()
            .iter()
            .map(|item| Some(at_position(integer(item)?, len)));
        return Some(RowSelection::from_ranges(rows.collect::<Option<Vec<_>>>()?));
    }
    let binary = expr.downcast_ref::<BinaryExpr>()?;
    let (left, op, right) = (binary.left(), binary.op(), binary.right());
    match op {
        Operator::And => {
            let left = rows_allowed(left, position, len)?;
            return Some(left.intersect(&rows_allowed(right, position, len)?));
        }
        Operator::Or => {
            let left = rows_allowed(left, position, len)?;
            let right = rows_allowed(right, position, len)?;
            let both = left.ranges().iter().chain(right.ranges()).cloned();
            return Some(RowSelection::from_ranges(both));
        }
        _ => {}
    }
    let (op, at) = if is_position(left, position) {
        (*op, integer(right)?)
    } else if is_position(right, position) {
        (op.swap()?, integer(left)?)
    } else {
        return None;
    };
    Some(RowSelection::range(match op {
        Operator::Eq => at_position(at, len),
        Operator::Lt => range(0, at, len),
        Operator::LtEq => range(0, at + 1, len),
        Operator::Gt => range(at + 1, i128::MAX, len),
        Operator::GtEq => range(at, i128::MAX, len),
        _ => return None,
    }))
}

fn is_position(expr: &Arc<dyn PhysicalExpr>, position: usize) -> bool {
    expr.downcast_ref::<Column>()
        .is_some_and(|c| c.index() == position)
}

/// An integer literal, wide enough that adding one cannot overflow.
fn integer(expr: &Arc<dyn PhysicalExpr>) -> Option<i128> {
    match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::Int64(Some(v)) => Some(i128::from(*v)),
        _ => None,
    }
}

fn at_position(at: i128, len: u64) -> Range<u64> {
    range(at, at + 1, len)
}

fn range(start: i128, end: i128, len: u64) -> Range<u64> {
    let clamp = |v: i128| u64::try_from(v.clamp(0, i128::from(len))).unwrap_or(len);
    clamp(start)..clamp(end)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::physical_expr::expressions::{binary, col, in_list, lit};

    use super::*;

    #[test]
    fn comparisons_and_lists_become_ranges() {
        let schema = Schema::new(vec![Field::new("obs_idx", DataType::Int64, false)]);
        let at = || col("obs_idx", &schema).unwrap();
        let compare = |op, v: i64| binary(at(), op, lit(v), &schema).unwrap();
        let rows = |expr| rows_allowed(&expr, 0, 10).unwrap().ranges().to_vec();
        assert_eq!(rows(compare(Operator::Gt, 7)), vec![8..10]);
        assert_eq!(rows(compare(Operator::LtEq, -3)), Vec::<Range<u64>>::new());
        assert_eq!(
            rows(binary(lit(3i64), Operator::Gt, at(), &schema).unwrap()),
            vec![0..3]
        );
        let (high, two) = (compare(Operator::GtEq, i64::MAX), compare(Operator::Eq, 2));
        assert_eq!(
            rows(binary(high, Operator::Or, two, &schema).unwrap()),
            vec![2..3]
        );
        let list = in_list(at(), vec![lit(4i64), lit(1i64), lit(5i64)], &false, &schema);
        assert_eq!(rows(list.unwrap()), vec![1..2, 4..6]);
        assert!(rows_allowed(&compare(Operator::NotEq, 1), 0, 10).is_none());
    }
}
