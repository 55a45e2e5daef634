//! [`WriteExec`]: the node at the root of everything that writes objects.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, Partitioning,
    PlanProperties,
};

use super::node::{only_child, only_partition, whole};
use super::run::{self, Counters};
use super::spec::{Outputs, WriteSpec};
use crate::model::shown;

/// An object that a [`WriteExec`] has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenObject {
    /// Its final name.
    pub path: PathBuf,
    /// Its cells.
    pub n_obs: u64,
}

/// Writes the rows of its input to objects; gives one row, their count.
///
/// ```text
///   partition 0 ──► object 0 ┐
///   partition 1 ──► object 1 ├─ all complete ──► all named
///   partition 2 ──► object 2 ┘
/// ```
///
/// Other than DataFusion's sink it takes any number of ordered inputs: the rows of partition `i`
/// come before those of `i + 1`. With [`Outputs::PerPartition`] they are written side by side;
/// otherwise one partition is read after the other. The
/// members of an [`Outputs::Collection`] get their name with it.
#[derive(Debug)]
pub struct WriteExec {
    /// What is written, with all columns of `cells` that the objects shall have.
    input: Arc<dyn ExecutionPlan>,
    /// Where and how.
    spec: Arc<WriteSpec>,
    /// What has been written, once it has run.
    written: Arc<Mutex<Written>>,
    whole_input: bool,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// The outcome of a run, for who holds the plan.
#[derive(Debug, Default, Clone)]
pub(super) struct Written {
    pub(super) objects: Vec<WrittenObject>,
    pub(super) warnings: Vec<String>,
}

impl WriteExec {
    /// A node that writes `input` as `spec` says.
    ///
    /// # Errors
    /// A plan error where the outputs are one per partition and their numbers differ.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, spec: Arc<WriteSpec>) -> Result<Self> {
        if let Outputs::PerPartition(outputs)
        | Outputs::Collection {
            members: outputs, ..
        } = &spec.outputs
        {
            let partitions = input.properties().partitioning.partition_count();
            if partitions != outputs.len() {
                return Err(DataFusionError::Plan(format!(
                    "{} outputs, but the input has {partitions} partitions",
                    outputs.len()
                )));
            }
        }
        Ok(Self {
            properties: Self::compute_properties(),
            input,
            spec,
            written: Arc::default(),
            whole_input: false,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// The same, which says that it takes all partitions of its input.
    #[must_use]
    pub(crate) fn with_whole_input(&self) -> Self {
        Self {
            input: Arc::clone(&self.input),
            spec: Arc::clone(&self.spec),
            written: Arc::clone(&self.written),
            whole_input: true,
            properties: Arc::clone(&self.properties),
            metrics: self.metrics.clone(),
        }
    }

    /// Where and how rows are written.
    pub fn spec(&self) -> &Arc<WriteSpec> {
        &self.spec
    }

    /// The objects written and what the user should know; empty before the plan has run.
    pub fn outcome(&self) -> (Vec<WrittenObject>, Vec<String>) {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        (written.objects.clone(), written.warnings.clone())
    }

    fn compute_properties() -> Arc<PlanProperties> {
        let schema = Schema::new(vec![Field::new("count", DataType::UInt64, false)]);
        Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::new(schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ))
    }
}

impl DisplayAs for WriteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteExec: ")?;
        match &self.spec.outputs {
            Outputs::PerPartition(outputs) => {
                write!(f, "outputs={}, jobs={}", outputs.len(), self.spec.jobs)?;
                if let Some(first) = outputs.first() {
                    write!(f, ", first={}", shown(&first.path.to_string_lossy()))?;
                }
            }
            Outputs::Collection { path, members, .. } => write!(
                f,
                "collection={}, members={}",
                shown(&path.to_string_lossy()),
                members.len()
            )?,
            Outputs::Single(output) => {
                write!(f, "output={}", shown(&output.path.to_string_lossy()))?
            }
            Outputs::Routed(outputs) => write!(f, "outputs={}, routed by row", outputs.len())?,
            Outputs::ByColumn { column, prefix } => {
                write!(
                    f,
                    "by={column}, prefix={}",
                    shown(&prefix.to_string_lossy())
                )?;
            }
        }
        write!(
            f,
            ", format={}, compression={:?}",
            self.spec.storage.format.ending(),
            self.spec.storage.compression
        )
    }
}

impl ExecutionPlan for WriteExec {
    fn name(&self) -> &'static str {
        "WriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    /// Round-robin repartitioning would break the order of rows.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    /// What is written is in the order of the rows, so a sort below is not for nothing.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        whole(self.whole_input)
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = only_child(self.name(), children)?;
        let mut node = Self::try_new(input, Arc::clone(&self.spec))?;
        // Who holds the plan from before an optimizer rule still sees the outcome.
        node.written = Arc::clone(&self.written);
        node.whole_input = self.whole_input;
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
        only_partition(self.name(), partition)?;
        let counters = Counters {
            rows: MetricBuilder::new(&self.metrics).global_counter("rows_written"),
            objects: MetricBuilder::new(&self.metrics).global_counter("objects_written"),
        };
        let input = Arc::clone(&self.input);
        let spec = Arc::clone(&self.spec);
        let written = Arc::clone(&self.written);
        let schema = self.schema();
        let batch_schema = Arc::clone(&schema);
        let work = async move {
            let outcome = run::write(input, spec, context, counters).await?;
            let rows = outcome.objects.iter().map(|object| object.n_obs).sum();
            *written.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
            let count = Arc::new(UInt64Array::from_value(rows, 1));
            Ok(RecordBatch::try_new(batch_schema, vec![count])?)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            schema,
            futures::stream::once(work),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
