//! [`MergeExec`]: cells of several objects as the cells of one.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildStats, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties, StatisticsArgs,
};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::adapt::{POSITION, Source};
use super::lane::{Lane, ahead};
use super::outline::{MergeOutline, Rows, whole};
use super::spec::MergeSpec;
use crate::kernel::{OrderCut, ranks_by_cuts};
use crate::model::{MatrixKind, RowSelection, value_bytes};
use crate::table::{
    CellsScan, DEFAULT_BATCH_BYTES, LEAST_PARTITION, OrderedRows, ScanMetrics, even_partitions,
    scan_cells_where,
};

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
///
/// Objects beside each other have no scans of their own: a row is read from all of them where it
/// stands in each, so the node is then a leaf of one partition.
#[derive(Debug)]
pub struct MergeExec {
    /// Scans of cells, one per object.
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    spec: Arc<MergeSpec>,
    output: MergeOutput,
    schema: SchemaRef,
    /// Made when the plan was, or, where that was on another machine, on first use.
    outline: Arc<OnceCell<Arc<MergeOutline>>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What comes out of a merge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MergeOutput {
    /// Which of the merged columns, in which order.
    pub columns: Vec<usize>,
    /// Whether `__object` and `__row` come behind them: the merge, and the row's place in it.
    pub provenance: bool,
    /// Whether all rows are one partition, for whoever needs no more than the first.
    pub in_one: bool,
    /// Bytes of matrix rows per batch.
    pub batch_bytes: usize,
}

impl MergeOutput {
    /// These columns, a partition or more per object.
    pub fn columns(columns: Vec<usize>) -> Self {
        Self {
            columns,
            provenance: false,
            in_one: false,
            batch_bytes: DEFAULT_BATCH_BYTES,
        }
    }
}

/// What cells of an object have to satisfy, over the schema of all their columns.
pub(super) type Conjuncts<'a> = &'a dyn Fn(&SchemaRef) -> crate::Result<Vec<Arc<dyn PhysicalExpr>>>;

impl MergeExec {
    /// The cells of a merge.
    ///
    /// # Errors
    /// Those of [`scan_cells`](crate::table::scan_cells).
    pub fn try_new(outline: &Arc<MergeOutline>, output: MergeOutput) -> crate::Result<Self> {
        Self::with_conjuncts(outline, output, &|_| Ok(Vec::new()))
    }

    /// As [`try_new`](Self::try_new), of the cells of each object that satisfy all conjuncts.
    pub(super) fn with_conjuncts(
        outline: &Arc<MergeOutline>,
        output: MergeOutput,
        conjuncts: Conjuncts<'_>,
    ) -> crate::Result<Self> {
        Self::scanning(outline, output, conjuncts, &|_, scan| scan)
    }

    /// As [`try_new`](Self::try_new), of chosen rows of a merge along cells, as partitions for as many
    /// cores as there are.
    ///
    /// # Errors
    /// Those of [`scan_cells`](crate::table::scan_cells).
    pub(crate) fn of_rows(
        outline: &Arc<MergeOutline>,
        output: MergeOutput,
        rows: &RowSelection,
    ) -> crate::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let rows = outline.rows_of_objects(rows);
        Self::scanning(outline, output, &|_| Ok(Vec::new()), &|at, scan| {
            let rows = rows.get(at).cloned().unwrap_or_default();
            CellsScan {
                partitions: even_partitions(rows.len(), cores, LEAST_PARTITION),
                rows,
                ..scan
            }
        })
    }

    /// As [`of_rows`](Self::of_rows), of rows in an order: of a lone object in partitions of these ranks;
    /// of several each object's, in partitions that begin at these places in the order of all.
    ///
    /// # Errors
    /// Those of [`scan_cells`](crate::table::scan_cells).
    pub(crate) fn in_order(
        outline: &Arc<MergeOutline>,
        output: MergeOutput,
        rows: &RowSelection,
        (partitions, starts): (&[Range<u64>], &[OrderCut]),
        order: &OrderedRows,
    ) -> crate::Result<Self> {
        let rows = outline.rows_of_objects(rows);
        let is_lone = rows.len() == 1;
        let first_row = |at: usize| match outline.rows() {
            Rows::Below(below) => below.starts.get(at).copied().unwrap_or_default(),
            Rows::Beside(_) => 0,
        };
        Self::scanning(outline, output, &|_| Ok(Vec::new()), &|at, scan| {
            let rows = rows.get(at).cloned().unwrap_or_default();
            let of_object = order.order.clone().from_row(first_row(at));
            CellsScan {
                partitions: match is_lone {
                    true => partitions.to_vec(),
                    false => ranks_by_cuts(&of_object, &rows, starts),
                },
                rows,
                order: Some(OrderedRows {
                    order: of_object,
                    ..order.clone()
                }),
                ..scan
            }
        })
    }

    /// Over scans that `change` makes of those of all cells.
    fn scanning(
        outline: &Arc<MergeOutline>,
        output: MergeOutput,
        conjuncts: Conjuncts<'_>,
        change: &dyn Fn(usize, CellsScan) -> CellsScan,
    ) -> crate::Result<Self> {
        let mut inputs = Vec::with_capacity(outline.objects().len());
        let Rows::Below(below) = outline.rows() else {
            return Ok(Self::over(outline, output, inputs));
        };
        for (at, object) in outline.objects().iter().enumerate() {
            // Positions cost nothing, and who writes the rows may want to know them.
            let mut names = vec![POSITION.to_owned()];
            let targets = output
                .columns
                .iter()
                .filter_map(|at| below.targets.get(*at));
            let sources = targets.filter_map(|target| target.sources.get(at));
            for name in sources.clone().flat_map(Source::reads) {
                if !names.iter().any(|other| other == name) {
                    names.push(name.to_owned());
                }
            }
            // So many are there at a time.
            let batch_bytes = output.batch_bytes / ahead(sources);
            let scan = whole(object, Some(names), batch_bytes);
            inputs.push(scan_cells_where(change(at, scan), conjuncts)?);
        }
        Ok(Self::over(outline, output, inputs))
    }

    /// The same merge over other scans of the objects' cells.
    fn over(
        outline: &Arc<MergeOutline>,
        output: MergeOutput,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Self {
        let of = outline.schema().fields();
        let mut fields: Vec<FieldRef> = output
            .columns
            .iter()
            .filter_map(|at| of.get(*at))
            .map(Arc::clone)
            .collect();
        if output.provenance {
            fields.extend(outline.provenance_fields().map(Arc::new));
        }
        let node = Self::described(
            Arc::clone(outline.spec()),
            output,
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
        output: MergeOutput,
        schema: SchemaRef,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Self {
        Self {
            properties: compute_properties(&schema, &inputs, &output),
            inputs,
            spec,
            output,
            schema,
            outline: Arc::new(OnceCell::new()),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// What is merged and how.
    pub fn spec(&self) -> &Arc<MergeSpec> {
        &self.spec
    }

    /// What comes out.
    pub(crate) fn output(&self) -> &MergeOutput {
        &self.output
    }

    /// The merge thought through.
    ///
    /// # Errors
    /// Those of [`MergeOutline::of`], where it was not made before.
    pub async fn outline(&self) -> crate::Result<Arc<MergeOutline>> {
        outline(&self.outline, &self.spec).await
    }

    /// Bytes of matrices in a row, which an object may not have; 0 where the merge was not thought
    /// through here.
    pub fn matrix_row_bytes(&self) -> u64 {
        let outline = self.outline.get();
        outline.map_or(0, |outline| outline.row_bytes(&self.output.columns))
    }

    /// Bytes of a row, by estimate.
    fn row_bytes(&self) -> usize {
        let fields = self.schema.fields().iter();
        let narrow = fields.filter(|field| MatrixKind::of(field.data_type()).is_none());
        let narrow: u64 = narrow.map(|field| value_bytes(field.data_type())).sum();
        usize::try_from(narrow.saturating_add(self.matrix_row_bytes())).unwrap_or(usize::MAX)
    }

    /// The same merge with the two hidden columns.
    pub(crate) async fn with_provenance(&self) -> crate::Result<Self> {
        let outline = self.outline().await?;
        let inputs = self.inputs.iter().map(Arc::clone).collect();
        let output = MergeOutput {
            provenance: true,
            ..self.output.clone()
        };
        Ok(Self::over(&outline, output, inputs))
    }
}

async fn outline(
    cell: &OnceCell<Arc<MergeOutline>>,
    spec: &Arc<MergeSpec>,
) -> crate::Result<Arc<MergeOutline>> {
    let outline = cell
        .get_or_try_init(|| MergeOutline::of(Arc::clone(spec)))
        .await?;
    Ok(Arc::clone(outline))
}

fn compute_properties(
    schema: &SchemaRef,
    inputs: &[Arc<dyn ExecutionPlan>],
    output: &MergeOutput,
) -> Arc<PlanProperties> {
    let partitions = match output.in_one || inputs.is_empty() {
        true => 1,
        false => inputs
            .iter()
            .map(|input| input.output_partitioning().partition_count())
            .sum(),
    };
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(Arc::clone(schema)),
        Partitioning::UnknownPartitioning(partitions),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

impl DisplayAs for MergeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .schema
            .fields()
            .iter()
            .map(|field| field.name().as_str());
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
            self.output.clone(),
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
        if partition >= self.properties.partitioning.partition_count() {
            return Err(DataFusionError::Internal(format!(
                "MergeExec has no partition {partition}"
            )));
        }
        let inputs = self.inputs.iter().enumerate().flat_map(|(at, input)| {
            let partitions = input.output_partitioning().partition_count();
            (0..partitions).map(move |partition| (at, input, partition))
        });
        let metrics = Arc::new(BaselineMetrics::new(&self.metrics, partition));
        let (cell, spec) = (Arc::clone(&self.outline), Arc::clone(&self.spec));
        let schema = Arc::clone(&self.schema);
        if self.inputs.is_empty() {
            let lane = Lane::new(0, &self.output, &self.schema)?;
            let reads = Arc::new(ScanMetrics::new(&self.metrics, partition));
            let stream = futures::stream::once(async move {
                let outline = outline(&cell, &spec).await?;
                lane.check(&outline)?;
                Ok::<_, DataFusionError>(lane.beside(outline, metrics, reads))
            });
            let stream = stream.try_flatten();
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)));
        }
        // A lane per partition of an object, or all of them after each other.
        let lanes: Vec<_> = match self.output.in_one {
            true => inputs.collect(),
            false => inputs.skip(partition).take(1).collect(),
        };
        let lanes = lanes.into_iter().map(|(at, input, partition)| {
            let rows = input.execute(partition, Arc::clone(&context))?;
            Ok((Lane::new(at, &self.output, &self.schema)?, rows))
        });
        let lanes = lanes.collect::<Result<Vec<_>>>()?;
        let stream = futures::stream::iter(lanes).then(move |(lane, rows)| {
            let (cell, spec) = (Arc::clone(&cell), Arc::clone(&spec));
            let metrics = Arc::clone(&metrics);
            async move {
                let outline = outline(&cell, &spec).await?;
                lane.check(&outline)?;
                Ok::<_, DataFusionError>(lane.below(outline, rows, metrics))
            }
        });
        let stream = stream.try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    /// Of all rows, or of the object whose partition it is.
    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        let Some(partition) = partition else {
            return vec![ChildStats::At(None); self.inputs.len()];
        };
        let mut first = 0;
        let requests = self.inputs.iter().map(|input| {
            let own = partition.checked_sub(first);
            let n = input.output_partitioning().partition_count();
            first += n;
            match own.filter(|own| *own < n) {
                _ if self.output.in_one => ChildStats::At(None),
                Some(own) => ChildStats::At(Some(own)),
                None => ChildStats::Skip,
            }
        });
        requests.collect()
    }

    /// A merge has as many rows as its objects' scans, exactly so where none has a predicate.
    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let asked = self.child_stats_requests(args.partition());
        let rows = inputs.iter().zip(asked);
        let rows = rows.filter(|(_, asked)| !matches!(asked, ChildStats::Skip));
        let rows = rows.map(|(of, _)| of.num_rows);
        let num_rows = match (inputs.is_empty(), self.outline.get()) {
            (false, _) => rows
                .reduce(|sum, rows| sum.add(&rows))
                .unwrap_or(Precision::Absent),
            // Objects beside each other take no predicate.
            (true, Some(outline)) => {
                usize::try_from(outline.n_obs()).map_or(Precision::Absent, Precision::Exact)
            }
            (true, None) => Precision::Absent,
        };
        Ok(Arc::new(Statistics {
            num_rows,
            total_byte_size: match num_rows.get_value() {
                Some(rows) => Precision::Inexact(rows.saturating_mul(self.row_bytes())),
                None => Precision::Absent,
            },
            ..Statistics::new_unknown(&self.schema)
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
