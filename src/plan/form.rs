//! [`MatrixFormExec`]: dense matrices as sparse ones, and back.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::{StreamExt, stream};

use super::node::only_child;
use crate::error::Error;
use crate::kernel::form::{densify, is_of_numbers, sparsify};
use crate::kernel::pieces;
use crate::model::{FieldMeta, MatrixKind, matrix_type, value_bytes};
use crate::table::DEFAULT_BATCH_BYTES;

/// Gives matrix columns the other form, row by row; what has the form already stays as it is.
///
/// A batch is cut before sparse rows become dense ones, so that none grows beyond some mebibytes.
#[derive(Debug)]
pub struct MatrixFormExec {
    input: Arc<dyn ExecutionPlan>,
    /// Columns by name, and the form that each gets.
    columns: Vec<(String, MatrixKind)>,
    /// The same by position.
    forms: Vec<Option<MatrixKind>>,
    /// Rows of a batch of the output at most.
    rows: usize,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl MatrixFormExec {
    /// A node that gives the columns of `input` their forms.
    ///
    /// # Errors
    /// A schema error where a column is not there, [`Error::IncompatibleSchemas`] where it is no
    /// matrix of numbers or has no known width.
    pub fn try_new(
        input: Arc<dyn ExecutionPlan>,
        columns: Vec<(String, MatrixKind)>,
    ) -> Result<Self> {
        let schema = input.schema();
        let mut fields: Vec<FieldRef> = schema.fields().iter().map(Arc::clone).collect();
        let mut forms = vec![None; fields.len()];
        let mut dense_bytes = 0;
        for (name, kind) in &columns {
            let at = schema.index_of(name)?;
            if MatrixKind::of(fields[at].data_type()) == Some(*kind) {
                continue;
            }
            let field = in_form(&fields[at], *kind)?;
            if *kind == MatrixKind::Dense {
                let bytes = value_bytes(field.data_type());
                dense_bytes += usize::try_from(bytes).unwrap_or(usize::MAX);
            }
            forms[at] = Some(*kind);
            fields[at] = Arc::new(field);
        }
        let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::new(schema)),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Ok(Self {
            input,
            columns,
            forms,
            rows: match dense_bytes {
                0 => usize::MAX,
                bytes => (4 * DEFAULT_BATCH_BYTES / bytes).max(1),
            },
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// Columns by name, and the form that each gets.
    pub fn columns(&self) -> &[(String, MatrixKind)] {
        &self.columns
    }
}

/// The field of a matrix in the other form.
fn in_form(field: &Field, kind: MatrixKind) -> Result<Field> {
    let refuse = |why: &str| {
        let name = field.name();
        DataFusionError::from(Error::IncompatibleSchemas(format!("column '{name}' {why}")))
    };
    let meta = FieldMeta::of(field);
    let (data_type, meta) = match (field.data_type(), kind) {
        (DataType::FixedSizeList(item, width), MatrixKind::Sparse)
            if is_of_numbers(item.data_type()) =>
        {
            let meta = FieldMeta {
                encoding: Some("csr_matrix".to_owned()),
                width: u64::try_from(*width).ok(),
                ..meta
            };
            (matrix_type(item.data_type().clone(), DataType::Int32), meta)
        }
        (DataType::List(item), MatrixKind::Dense) => {
            let DataType::Struct(members) = item.data_type() else {
                return Err(refuse("is no matrix"));
            };
            let data = members[1].data_type().clone();
            let width = meta.width.and_then(|width| i32::try_from(width).ok());
            let width = width.ok_or_else(|| refuse("has no width that dense rows can have"))?;
            let meta = FieldMeta {
                encoding: Some("array".to_owned()),
                indices: None,
                ..meta
            };
            let item = Arc::new(Field::new("item", data, false));
            (DataType::FixedSizeList(item, width), meta)
        }
        _ => return Err(refuse("is no matrix of numbers")),
    };
    Ok(meta.apply(Field::new(field.name(), data_type, field.is_nullable())))
}

impl DisplayAs for MatrixFormExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |kind| {
            let columns = self.columns.iter().filter(move |(_, k)| *k == kind);
            let names: Vec<&str> = columns.map(|(name, _)| name.as_str()).collect();
            names.join(", ")
        };
        let (sparse, dense) = (of(MatrixKind::Sparse), of(MatrixKind::Dense));
        write!(f, "MatrixFormExec: sparse=[{sparse}], dense=[{dense}]")
    }
}

impl ExecutionPlan for MatrixFormExec {
    fn name(&self) -> &'static str {
        "MatrixFormExec"
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
        Ok(Arc::new(Self::try_new(input, self.columns.clone())?))
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
        let batches = self.input.execute(partition, context)?;
        let (schema, forms, rows) = (self.schema(), self.forms.clone(), self.rows);
        let out = Arc::clone(&schema);
        let parts = batches.flat_map(move |batch| match batch {
            Ok(batch) => {
                let parts = pieces::cut(batch, rows).map(|part| Ok(part?));
                stream::iter(parts).left_stream()
            }
            Err(error) => stream::iter([Err(error)]).right_stream(),
        });
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let formed = parts.map(move |batch| {
            let batch = batch?;
            let _timer = metrics.elapsed_compute().timer();
            metrics.output_rows().add(batch.num_rows());
            convert(&batch, &schema, &forms)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(out, formed)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

fn convert(
    batch: &RecordBatch,
    schema: &SchemaRef,
    forms: &[Option<MatrixKind>],
) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(forms).zip(schema.fields());
    let columns = columns.map(
        |((column, form), field)| -> crate::error::Result<ArrayRef> {
            Ok(match (form, field.data_type()) {
                (Some(MatrixKind::Sparse), _) => Arc::new(sparsify(column.as_fixed_size_list())?),
                (Some(MatrixKind::Dense), DataType::FixedSizeList(_, width)) => {
                    Arc::new(densify(column.as_list(), *width)?)
                }
                _ => Arc::clone(column),
            })
        },
    );
    let columns = columns.collect::<crate::error::Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
