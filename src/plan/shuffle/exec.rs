//! [`ShuffleExec`]: rows in a seeded order.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Statistics;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::{
    ChildStats, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties, StatisticsArgs,
};
use futures::StreamExt;

use super::super::node::only_child;
use super::shared::{Source, Windows};
use super::spec::{ShuffleSpec, bounds};
use crate::error::Error;
use crate::table::DEFAULT_BATCH_BYTES;

/// Brings the rows of its input into a seeded order.
///
/// ```text
///  partition 0 ─┐                     ┌─► partition 0: the first rows of the order
///  partition 1 ─┼─► windows of keys ──┼─► partition 1: those after them
///  partition 2 ─┘    each sorted      └─► …
/// ```
/// Equal keys: the row that comes first in the input is first. Rows of one object come from a scan that
/// reads in the order itself; this node then says so, and reserves the memory of its windows and of the
/// columns that it keeps.
pub struct ShuffleExec {
    /// The rows, with `__object` and `__row` where the spec names objects.
    input: Arc<dyn ExecutionPlan>,
    /// The order and the way.
    spec: Arc<ShuffleSpec>,
    /// Windows that several partitions need.
    windows: Arc<Windows>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl fmt::Debug for ShuffleExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShuffleExec")
            .field("input", &self.input)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl ShuffleExec {
    /// A node that shuffles `input` as `spec` says.
    pub fn new(input: Arc<dyn ExecutionPlan>, spec: Arc<ShuffleSpec>) -> Self {
        Self {
            properties: Self::compute_properties(&input, &spec),
            input,
            spec,
            windows: Arc::default(),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The order and the way.
    pub fn spec(&self) -> &Arc<ShuffleSpec> {
        &self.spec
    }

    fn compute_properties(
        input: &Arc<dyn ExecutionPlan>,
        spec: &ShuffleSpec,
    ) -> Arc<PlanProperties> {
        let (partitions, emission) = match spec.in_scan {
            true => (
                input.output_partitioning().partition_count(),
                EmissionType::Incremental,
            ),
            false => (spec.partitions.len() + 1, EmissionType::Final),
        };
        Arc::new(PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(partitions),
            emission,
            Boundedness::Bounded,
        ))
    }
}

impl DisplayAs for ShuffleExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = &self.spec;
        write!(
            f,
            "ShuffleExec: seed={}, way={} ({})",
            spec.order.seed, spec.way, spec.reason
        )?;
        if let Some(groups) = &spec.order.groups {
            write!(f, ", groups={}", groups.len())?;
        }
        if !spec.windows.is_empty() {
            write!(f, ", windows={}", spec.windows.len() + 1)?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ShuffleExec {
    fn name(&self) -> &'static str {
        "ShuffleExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    /// Rows are numbered as they come.
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
        Ok(Arc::new(Self::new(input, Arc::clone(&self.spec))))
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
        let schema = self.schema();
        if self.spec.in_scan {
            let partitions = self.properties.partitioning.partition_count();
            let (bytes, pool) = (self.spec.held_bytes, context.memory_pool());
            let held = self.windows.hold(bytes, partitions, pool)?;
            let consumer = MemoryConsumer::new(format!("ShuffleExec[{partition}]"));
            let reservation = consumer.register(context.memory_pool());
            reservation.try_grow(usize::try_from(self.spec.window_bytes).unwrap_or(usize::MAX))?;
            let rows = self.input.execute(partition, context)?;
            let rows = rows.inspect(move |_| {
                let _held = (&reservation, &held);
            });
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)));
        }
        let held = match self.spec.held_bytes {
            0 => None,
            bytes => {
                let partitions = self.properties.partitioning.partition_count();
                let pool = context.memory_pool();
                Some(self.windows.hold(bytes, partitions, pool)?)
            }
        };
        let counter =
            |name: &'static str| MetricBuilder::new(&self.metrics).counter(name, partition);
        let output_rows = MetricBuilder::new(&self.metrics).output_rows(partition);
        let source = Arc::new(Source {
            input: Arc::clone(&self.input),
            spec: Arc::clone(&self.spec),
            spilled: MetricBuilder::new(&self.metrics).spilled_bytes(partition),
            passes: counter("passes"),
            context: Arc::clone(&context),
        });
        let windows = Arc::clone(&self.windows);
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&schema), 1);
        let sender = builder.tx();
        builder.spawn(async move {
            let _held = held;
            let range = bounds(&source.spec.partitions, partition);
            let most_rows = source.context.session_config().batch_size();
            let make = |at| {
                let (windows, source) = (Arc::clone(&windows), Arc::clone(&source));
                SpawnedTask::spawn(async move { windows.window((at, partition), &source).await })
            };
            // A window more than are read is what memory was shared out for: of one partition it is the
            // next one, of several that of the next partition.
            let is_ahead = source.spec.partitions.is_empty();
            let mut numbers = source.spec.windows_of(partition);
            let mut next = numbers.next().map(make);
            while let Some(making) = next.take() {
                let made = making.join().await;
                let (window, lease) =
                    made.map_err(|stopped| Error::store("task", "shuffle", stopped))??;
                if is_ahead {
                    next = numbers.next().map(make);
                }
                for step in window.steps(range, DEFAULT_BATCH_BYTES, most_rows) {
                    let batch = window.batch(step, &schema)?;
                    output_rows.add(batch.num_rows());
                    if sender.send(Ok(batch)).await.is_err() {
                        return Ok(());
                    }
                }
                drop((window, lease));
                if !is_ahead {
                    next = numbers.next().map(make);
                }
            }
            Ok(())
        });
        Ok(builder.build())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        match partition {
            None => vec![ChildStats::At(None)],
            Some(_) => vec![ChildStats::Skip],
        }
    }

    /// All rows are known to be as many as came, and which of them a partition has is not.
    fn statistics_from_inputs(
        &self,
        input: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        match (args.partition(), input) {
            (None, [all]) => Ok(Arc::clone(all)),
            _ => Ok(Arc::new(Statistics::new_unknown(&self.schema()))),
        }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
