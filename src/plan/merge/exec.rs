//! [`MergeExec`]: cells of several objects as the cells of one.

use std::fmt;
use std::sync::Arc;

use arrow::array::{DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties,
};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::adapt::{POSITION, Source, adapt};
use super::outline::{MergeOutline, whole};
use super::spec::MergeSpec;
use crate::error::Error;
use crate::table::scan_cells;

/// Cells of several objects, one after another, as the cells of the merged object.
///
/// ```text
///   object 0  partition 0 ──► adapt ──► partition 0
///   object 1  partition 0 ──► adapt ──► partition 1
///             partition 1 ──► adapt ──► partition 2
/// ```
///
/// Every batch is turned into the merged columns on its own: categories get other codes, numbers a
/// wider type, matrix rows other indices. What is the same in an object is handed on untouched. The
/// rows of an object come before those of the next.
#[derive(Debug)]
pub struct MergeExec {
    /// Scans of cells, one per object.
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    spec: Arc<MergeSpec>,
    /// Which of the merged columns come out, in which order.
    columns: Vec<usize>,
    /// Whether `__object` and `__row` come behind them: the merge, and the row's place in it.
    provenance: bool,
    schema: SchemaRef,
    /// Made when the plan was, or, where that was on another machine, on first use.
    outline: Arc<OnceCell<Arc<MergeOutline>>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl MergeExec {
    /// The cells of a merge: `columns` of its schema, read in batches of so many bytes of matrix
    /// rows.
    ///
    /// # Errors
    /// Those of [`scan_cells`].
    pub fn try_new(
        outline: &Arc<MergeOutline>,
        columns: Vec<usize>,
        provenance: bool,
        batch_bytes: usize,
    ) -> crate::Result<Self> {
        let mut inputs = Vec::with_capacity(outline.objects().len());
        for (at, object) in outline.objects().iter().enumerate() {
            // Positions cost nothing, and who writes the rows may want to know them.
            let mut names = vec![POSITION.to_owned()];
            let targets = columns.iter().filter_map(|column| outline.targets.get(*column));
            let sources = targets.filter_map(|target| target.sources.get(at));
            for name in sources.flat_map(Source::reads) {
                if !names.iter().any(|other| other == name) {
                    names.push(name.to_owned());
                }
            }
            inputs.push(scan_cells(whole(object, Some(names), batch_bytes))?);
        }
        Ok(Self::over(outline, columns, provenance, inputs))
    }

    /// The same merge over other scans of the objects' cells.
    pub(super) fn over(
        outline: &Arc<MergeOutline>,
        columns: Vec<usize>,
        provenance: bool,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Self {
        let of = outline.schema().fields();
        let mut fields: Vec<FieldRef> =
            columns.iter().filter_map(|at| of.get(*at)).map(Arc::clone).collect();
        if provenance {
            fields.extend(outline.provenance_fields().map(Arc::new));
        }
        let node = Self::described(
            Arc::clone(outline.spec()),
            columns,
            provenance,
            Arc::new(Schema::new(fields)),
            inputs,
        );
        Self {
            outline: Arc::new(OnceCell::new_with(Some(Arc::clone(outline)))),
            ..node
        }
    }

    /// A merge whose objects have not been opened here.
    pub(crate) fn described(
        spec: Arc<MergeSpec>,
        columns: Vec<usize>,
        provenance: bool,
        schema: SchemaRef,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Self {
        Self {
            properties: compute_properties(&schema, &inputs),
            inputs,
            spec,
            columns,
            provenance,
            schema,
            outline: Arc::new(OnceCell::new()),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// What is merged and how.
    pub fn spec(&self) -> &Arc<MergeSpec> {
        &self.spec
    }

    /// Which of the merged columns come out, and whether provenance does.
    pub(crate) fn output(&self) -> (&[usize], bool) {
        (&self.columns, self.provenance)
    }

    /// The merge thought through.
    ///
    /// # Errors
    /// Those of [`MergeOutline::of`], where it was not made before.
    pub async fn outline(&self) -> crate::Result<Arc<MergeOutline>> {
        outline(&self.outline, &self.spec).await
    }

    /// The same merge with the two hidden columns.
    pub(crate) async fn with_provenance(&self) -> crate::Result<Self> {
        let outline = self.outline().await?;
        let inputs = self.inputs.iter().map(Arc::clone).collect();
        Ok(Self::over(&outline, self.columns.clone(), true, inputs))
    }
}

async fn outline(
    cell: &OnceCell<Arc<MergeOutline>>,
    spec: &Arc<MergeSpec>,
) -> crate::Result<Arc<MergeOutline>> {
    let outline = cell.get_or_try_init(|| MergeOutline::of(Arc::clone(spec))).await?;
    Ok(Arc::clone(outline))
}

fn compute_properties(
    schema: &SchemaRef,
    inputs: &[Arc<dyn ExecutionPlan>],
) -> Arc<PlanProperties> {
    let partitions = inputs.iter().map(|input| input.output_partitioning().partition_count());
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(Arc::clone(schema)),
        Partitioning::UnknownPartitioning(partitions.sum()),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

impl DisplayAs for MergeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.schema.fields().iter().map(|field| field.name().as_str());
        let names: Vec<&str> = names.collect();
        write!(
            f,
            "MergeExec: objects={}, join={}, columns=[{}]",
            self.spec.inputs.len(),
            self.spec.join,
            names.join(", ")
        )
    }
}

impl ExecutionPlan for MergeExec {
    fn name(&self) -> &'static str {
        "MergeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true; self.inputs.len()]
    }

    /// Round-robin repartitioning would break the order of rows.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.inputs.len()]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.len() != self.inputs.len() {
            return Err(DataFusionError::Internal(format!(
                "MergeExec of {} objects has not {} children",
                self.inputs.len(),
                children.len()
            )));
        }
        let mut node = Self::described(
            Arc::clone(&self.spec),
            self.columns.clone(),
            self.provenance,
            Arc::clone(&self.schema),
            children,
        );
        node.outline = Arc::clone(&self.outline);
        Ok(Arc::new(node))
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
        let mut first = 0;
        let mut found = None;
        for (at, input) in self.inputs.iter().enumerate() {
            let partitions = input.output_partitioning().partition_count();
            if partition < first + partitions {
                found = Some((at, input.execute(partition - first, context)?));
                break;
            }
            first += partitions;
        }
        let (at, rows) = found.ok_or_else(|| {
            DataFusionError::Internal(format!("MergeExec has {first} partitions, not {partition}"))
        })?;
        let kept = self.schema.project(&(0..self.columns.len()).collect::<Vec<_>>())?;
        let lane = Lane {
            at,
            columns: self.columns.clone(),
            provenance: self.provenance,
            kept: Arc::new(kept),
            schema: Arc::clone(&self.schema),
        };
        let (cell, spec) = (Arc::clone(&self.outline), Arc::clone(&self.spec));
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let batches = async move {
            let outline = outline(&cell, &spec).await?;
            lane.check(&outline)?;
            let adapted = rows.map(move |batch| {
                let batch = batch?;
                let timer = metrics.elapsed_compute().timer();
                let adapted = lane.adapt(&outline, &batch)?;
                timer.done();
                metrics.output_rows().add(adapted.num_rows());
                Ok(adapted)
            });
            Ok::<_, DataFusionError>(adapted)
        };
        let stream = futures::stream::once(batches).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            stream,
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The way of one object's rows.
struct Lane {
    /// Which object.
    at: usize,
    columns: Vec<usize>,
    provenance: bool,
    /// The columns alone.
    kept: SchemaRef,
    schema: SchemaRef,
}

impl Lane {
    /// Whether the objects still are what they were when the merge was planned.
    fn check(&self, outline: &MergeOutline) -> crate::Result<()> {
        let mut pairs = self.kept.fields().iter().zip(&self.columns);
        let same = pairs.all(|(field, column)| {
            outline.schema().fields().get(*column).is_some_and(|now| {
                now.name() == field.name() && now.data_type().equals_datatype(field.data_type())
            })
        });
        match same {
            true => Ok(()),
            false => Err(Error::IncompatibleSchemas(
                "the objects to merge have other columns than when the query was planned"
                    .to_owned(),
            )),
        }
    }

    fn adapt(&self, outline: &MergeOutline, batch: &RecordBatch) -> crate::Result<RecordBatch> {
        let targets = self.columns.iter().filter_map(|column| outline.targets.get(*column));
        let sources = targets.filter_map(|target| target.sources.get(self.at));
        let adapted = adapt(batch, &self.kept, sources)?;
        if !self.provenance {
            return Ok(adapted);
        }
        let first = outline.starts().get(self.at).copied().unwrap_or_default();
        let row = Source::Position {
            first: i64::try_from(first).unwrap_or(i64::MAX),
        };
        let [_, field] = outline.provenance_fields();
        let row_schema = Arc::new(Schema::new(vec![field]));
        let rows = adapt(batch, &row_schema, std::iter::once(&row))?;
        let keys = Int32Array::from_value(0, batch.num_rows());
        let values = Arc::new(StringArray::from(vec![outline.id()]));
        let mut columns = adapted.columns().to_vec();
        columns.push(Arc::new(DictionaryArray::try_new(keys, values)?));
        columns.push(Arc::clone(rows.column(0)));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}
