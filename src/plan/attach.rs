//! [`AttachColumnExec`]: a column by position, for cells whose object does not have it.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::take;
use arrow::datatypes::{FieldRef, Int64Type, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::StreamExt;

use super::node::only_child;
use crate::model::ROW_COLUMN;

/// Replaces an obs column, or adds one behind the others, by values for every row of the source.
#[derive(Debug)]
pub struct AttachColumnExec {
    /// Cells with [`ROW_COLUMN`].
    input: Arc<dyn ExecutionPlan>,
    /// The column's field.
    field: FieldRef,
    /// One value per row of the source.
    values: ArrayRef,
    /// Where the column stands in the output.
    at: usize,
    /// Position of [`ROW_COLUMN`] in the input.
    row: usize,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl AttachColumnExec {
    /// A node that gives `input` the column.
    ///
    /// # Errors
    /// An internal error where the input has no [`ROW_COLUMN`].
    pub fn try_new(
        input: Arc<dyn ExecutionPlan>,
        field: FieldRef,
        values: ArrayRef,
    ) -> Result<Self> {
        let schema = input.schema();
        let row = schema.index_of(ROW_COLUMN)?;
        let at = schema
            .index_of(field.name())
            .unwrap_or(schema.fields().len());
        let schema = with_field(&schema, at, &field);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Ok(Self {
            input,
            field,
            values,
            at,
            row,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// The column's field.
    pub fn field(&self) -> &FieldRef {
        &self.field
    }

    /// One value per row of the source.
    pub fn values(&self) -> &ArrayRef {
        &self.values
    }
}

fn with_field(schema: &SchemaRef, at: usize, field: &FieldRef) -> SchemaRef {
    let mut fields: Vec<FieldRef> = schema.fields().iter().map(Arc::clone).collect();
    match fields.get_mut(at) {
        Some(slot) => *slot = Arc::clone(field),
        None => fields.push(Arc::clone(field)),
    }
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

impl DisplayAs for AttachColumnExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "AttachColumnExec: column={}, rows={}",
            self.field.name(),
            self.values.len()
        )
    }
}

impl ExecutionPlan for AttachColumnExec {
    fn name(&self) -> &'static str {
        "AttachColumnExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = only_child(self.name(), children)?;
        Ok(Arc::new(Self::try_new(
            input,
            Arc::clone(&self.field),
            Arc::clone(&self.values),
        )?))
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let (schema, values, at, row) =
            (self.schema(), Arc::clone(&self.values), self.at, self.row);
        let out = Arc::clone(&schema);
        let rows = self.input.execute(partition, context)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let rows = rows.map(move |batch| {
            let batch = batch?;
            let _timer = metrics.elapsed_compute().timer();
            metrics.output_rows().add(batch.num_rows());
            let positions = batch.column(row).as_primitive::<Int64Type>();
            let column = take(&values, positions, None)?;
            let mut columns = batch.columns().to_vec();
            match columns.get_mut(at) {
                Some(slot) => *slot = column,
                None => columns.push(column),
            }
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(out, rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
