//! Expressions over slots: what must be read to evaluate them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;

use crate::error::{Error, Result};
use crate::functions::{MatrixCall, MatrixFunction};
use crate::model::MatrixKind;

/// A column that is read or computed by the scan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// A column of the table.
    Column(usize),
    /// A matrix function of a column of the table.
    Call(usize, MatrixCall),
}

impl Slot {
    /// The column of the table.
    pub(super) fn column(&self) -> usize {
        match self {
            Self::Column(column) | Self::Call(column, _) => *column,
        }
    }
}

/// Expressions rewritten to slots.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    pub(super) slots: Vec<Slot>,
    schema: SchemaRef,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
}

impl Compiled {
    /// Rewrites expressions over `table`; a call on a column for which `in_scan` holds becomes a
    /// slot of its own, unless the column itself is wanted too: then its rows are there anyway.
    pub(super) fn new(
        exprs: impl IntoIterator<Item = Arc<dyn PhysicalExpr>>,
        table: &Schema,
        in_scan: impl Fn(usize) -> bool,
    ) -> Result<Self> {
        let exprs: Vec<_> = exprs.into_iter().collect();
        let compiled = Self::rewrite(&exprs, table, &in_scan)?;
        let called = |slot: &Slot| matches!(slot, Slot::Call(..));
        let whole: Vec<usize> = compiled
            .slots
            .iter()
            .filter(|s| !called(s))
            .map(Slot::column)
            .collect();
        if compiled
            .slots
            .iter()
            .any(|s| called(s) && whole.contains(&s.column()))
        {
            return Self::rewrite(&exprs, table, &|column| {
                in_scan(column) && !whole.contains(&column)
            });
        }
        Ok(compiled)
    }

    fn rewrite(
        exprs: &[Arc<dyn PhysicalExpr>],
        table: &Schema,
        in_scan: &dyn Fn(usize) -> bool,
    ) -> Result<Self> {
        let mut slots: Vec<Slot> = Vec::new();
        let mut fields: Vec<FieldRef> = Vec::new();
        let mut rewrite = |e: Arc<dyn PhysicalExpr>| {
            let call = MatrixFunction::call_on_column(e.as_ref());
            let (slot, field) = match (call, e.downcast_ref::<Column>()) {
                (Some((column, call)), _) if in_scan(column) => {
                    (Slot::Call(column, call), e.return_field(table)?)
                }
                (_, Some(column)) if column.index() < table.fields().len() => {
                    let at = column.index();
                    (Slot::Column(at), Arc::clone(&table.fields()[at]))
                }
                _ => return Ok(Transformed::no(e)),
            };
            let place = slots.iter().position(|s| *s == slot).unwrap_or_else(|| {
                slots.push(slot);
                fields.push(Arc::clone(&field));
                slots.len() - 1
            });
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), place));
            // The new column's number means a slot, so it is not looked at again.
            Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
        };
        let exprs = exprs
            .iter()
            .map(|expr| Ok(Arc::clone(expr).transform_down(&mut rewrite)?.data))
            .collect::<datafusion::common::Result<Vec<_>>>()
            .map_err(Error::from)?;
        Ok(Self {
            slots,
            schema: Arc::new(Schema::new(fields)),
            exprs,
        })
    }

    /// The values of the expressions, `values` being those of the slots.
    pub(super) fn evaluate(&self, values: Vec<ArrayRef>, n_rows: usize) -> Result<Vec<ArrayRef>> {
        let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), values, &options)?;
        self.exprs
            .iter()
            .map(|expr| Ok(expr.evaluate(&batch)?.into_array(n_rows)?))
            .collect()
    }

    /// Which rows satisfy the expression (there is one); null is no.
    pub(super) fn mask(&self, values: Vec<ArrayRef>, n_rows: usize) -> Result<BooleanArray> {
        let results = self.evaluate(values, n_rows)?;
        let Some(result) = results.first() else {
            return Ok(BooleanArray::from(vec![true; n_rows]));
        };
        let mask = as_boolean_array(result)?;
        Ok(match mask.null_count() {
            0 => mask.clone(),
            _ => prep_null_mask_filter(mask),
        })
    }
}

/// What a plan shows as read: columns, and the matrix functions that are computed from parts.
pub(crate) fn columns_read(
    table: &Schema,
    projection: &ProjectionExprs,
    conjuncts: &[Arc<dyn PhysicalExpr>],
) -> Vec<String> {
    let is_matrix = |column: usize| {
        let field = table.fields().get(column);
        field.is_some_and(|field| MatrixKind::of(field.data_type()).is_some())
    };
    let exprs = conjuncts
        .iter()
        .map(Arc::clone)
        .chain(projection.expr_iter());
    let Ok(compiled) = Compiled::new(exprs, table, is_matrix) else {
        return Vec::new();
    };
    let mut slots = compiled.slots;
    slots.sort_by_key(Slot::column);
    let show = |slot: &Slot| {
        let name = table.field(slot.column()).name();
        match slot {
            Slot::Column(_) => name.clone(),
            Slot::Call(_, MatrixCall::Gene(gene)) => format!("gene({name}, {gene})"),
            Slot::Call(_, MatrixCall::NGenes) => format!("n_genes({name})"),
            Slot::Call(_, MatrixCall::TotalCounts) => format!("total_counts({name})"),
        }
    };
    slots.iter().map(show).collect()
}
