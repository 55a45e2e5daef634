//! An operation that is planned and not yet run.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::ArrayRef;
use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::runtime::SpawnedTask;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};

use super::genes::Genes;
use super::options::RunOptions;
use super::order::{self, Order};
use super::outputs::{self, Shard};
use super::progress::Progress;
use super::report::{OutputReport, Report};
use crate::element::AnnData;
use crate::error::{Error, Result};
use crate::model::{
    ElementKey, Location, MatrixKind, OBJECT_COLUMN, ROW_COLUMN, RowSelection, share,
};
use crate::plan::{
    AttachColumnExec, MatrixFormExec, OutputSpec, Outputs, RoutedOutput, ShuffleMemory, WriteExec,
    WriteSpec,
};
use crate::session::Session;
use crate::sink::element_of;
use crate::store::{Claim, Compression, UPLOAD_PART, UPLOAD_ROOM, bytes_at, url_of};
use crate::table::{CellsScan, DEFAULT_BATCH_BYTES, scan_cells};

/// Memory of the program itself.
pub(super) const BASE_BYTES: u64 = 64 << 20;
/// Memory of an output being written: batches read ahead, and the writers' buffers.
const OUTPUT_BYTES: u64 = 24 * DEFAULT_BATCH_BYTES as u64;
/// Bytes of a batch where a lone output is written: its reading, decoding and encoding share the
/// cores batch by batch, which takes several chunks of work for each.
pub(super) const LONE_BATCH_BYTES: usize = 8 << 20;
/// The least memory limit, in bytes, that every operation can work in.
pub const LEAST_MEMORY_LIMIT: u64 = 192 << 20;

/// Opens the input in a session of its own, with the resources an operation may use.
pub(super) async fn open(
    input: &Location,
    options: &RunOptions,
) -> Result<(Session, Arc<AnnData>)> {
    let session = session(options)?;
    let object = AnnData::open(input).await?;
    session.add(Some("input"), Arc::clone(&object))?;
    Ok((session, object))
}

/// A session with the resources an operation may use.
pub(super) fn session(options: &RunOptions) -> Result<Session> {
    let mut session = Session::builder();
    if let Some(limit) = options.memory_limit {
        if limit < LEAST_MEMORY_LIMIT {
            return Err(Error::option(
                "--memory-limit",
                format!(
                    "{limit} bytes are too few; the least that will do is {LEAST_MEMORY_LIMIT}"
                ),
            ));
        }
        session = session.memory_limit(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    if let Some(tmpdir) = &options.tmpdir {
        session = session.tmpdir(tmpdir);
    }
    session.build()
}

/// Memory of an operation that writes so many outputs at a time, to such places.
pub(super) fn memory(jobs: usize, is_url: bool) -> u64 {
    let (base, output) = needed(is_url);
    base + jobs as u64 * output
}

/// Memory of the program, and of each output: of those in object stores, all share the room of what
/// is on its way, and each has parts that wait to be full, of the two arrays of a matrix.
fn needed(is_url: bool) -> (u64, u64) {
    match is_url {
        true => (
            BASE_BYTES + UPLOAD_ROOM as u64,
            OUTPUT_BYTES + 2 * UPLOAD_PART as u64,
        ),
        false => (BASE_BYTES, OUTPUT_BYTES),
    }
}

/// Outputs written at a time: what was asked for, or two more than there are cores, so that some
/// read while others wait for the library's lock or for memory. Compression keeps all cores busy, and then
/// those two would take memory alone. All as far as memory allows, of which a shuffle takes half.
fn jobs(options: &RunOptions, shuffles: bool, is_url: bool) -> usize {
    let (base, output) = needed(is_url);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let more = match options.storage.compression {
        Compression::None => 2,
        _ => 0,
    };
    let wanted = options.jobs.unwrap_or(cores + more).max(1);
    let fit = options.memory_limit.map_or(u64::MAX, |limit| {
        let beside = limit.saturating_sub(base) / if shuffles { 2 } else { 1 };
        (beside / output).max(1)
    });
    wanted.min(usize::try_from(fit).unwrap_or(usize::MAX))
}

/// A plan that writes objects, with what it will do; [`run`](Self::run) does it.
#[derive(Debug)]
pub struct Prepared {
    session: Session,
    plan: Arc<WriteExec>,
    /// Names without folders are made when it runs, not when it is planned.
    report: Report,
    what: String,
    /// What nobody else may change meanwhile.
    _claim: Option<Claim>,
}

/// A column for cells that their object does not have.
pub(super) type Attached = (FieldRef, ArrayRef);

/// What is to be written.
pub(super) struct Work {
    pub(super) session: Session,
    pub(super) object: Arc<AnnData>,
    pub(super) shards: Vec<Shard>,
    pub(super) genes: Option<Genes>,
    /// The order of cells; that of the object where absent.
    pub(super) order: Option<Order>,
    pub(super) attached: Option<Attached>,
    /// Matrix columns that get another form.
    pub(super) forms: Vec<(String, MatrixKind)>,
    /// Elements that are left out.
    pub(super) drop: Vec<ElementKey>,
    pub(super) what: String,
    pub(super) warnings: Vec<String>,
}

impl Work {
    /// Where what is read is.
    fn places(&self) -> impl Iterator<Item = &Location> {
        let more = self.order.iter().flat_map(|order| &order.objects);
        std::iter::once(&self.object)
            .chain(more.map(|(object, _)| object))
            .flat_map(|object| object.places())
    }

    /// Bytes and cells of what is read.
    fn input_size(&self) -> (u64, u64) {
        let size = |object: &AnnData| (object.stored_bytes().unwrap_or(0), object.n_obs());
        match &self.order {
            None => size(&self.object),
            Some(order) => order
                .objects
                .iter()
                .map(|(object, _)| size(object))
                .fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1)),
        }
    }

    /// What is known of the outputs' sizes.
    async fn sizes(&self) -> Result<Vec<OutputSpec>> {
        if let Some(order) = self.order.as_ref().filter(|order| order.by_rank) {
            return order.sizes(&self.shards, self.genes.as_ref()).await;
        }
        let mut sizes = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let mut size = outputs::size(&self.object, shard, self.genes.as_ref()).await?;
            let changes = |name: &String| self.forms.iter().any(|(other, _)| other == name);
            size.nnz.retain(|name, _| !changes(name));
            sizes.push(size);
        }
        Ok(sizes)
    }
}

impl Prepared {
    /// Plans the writing of `work`.
    pub(super) async fn try_new(work: Work, options: &RunOptions) -> Result<Self> {
        let paths: Vec<&Path> = work.shards.iter().map(|s| s.path.as_path()).collect();
        let inputs: Vec<&str> = work.places().map(Location::path).collect();
        outputs::check(&paths, &inputs, options).await?;
        let sizes = work.sizes().await?;
        let is_url = paths.first().is_some_and(|path| url_of(path).is_some());
        let jobs = jobs(options, work.order.is_some(), is_url);
        let at_a_time = match &work.order {
            Some(order) if order.by_rank => jobs.min(work.shards.len()),
            _ => 1,
        };
        let memory = order::memory(options, at_a_time);
        let spec = WriteSpec {
            outputs: Outputs::PerPartition(Vec::new()),
            storage: options.storage,
            drop: work.drop.clone(),
            overwrite: options.overwrite,
            fsync: options.fsync,
            jobs,
        };
        let n_vars = match &work.genes {
            Some(genes) => u64::try_from(genes.positions.len()).unwrap_or(u64::MAX),
            None => work.object.n_vars(),
        };
        let report = Report {
            outputs: work
                .shards
                .iter()
                .map(|shard| OutputReport {
                    path: shard.path.clone(),
                    n_obs: shard.rows.len(),
                    n_vars,
                    bytes: estimate_bytes(&work, shard, n_vars),
                })
                .collect(),
            warnings: work.warnings.clone(),
            details: Vec::new(),
            memory_bytes: self::memory(jobs, is_url)
                + work.order.as_ref().map_or(0, |_| memory.bytes),
            seconds: 0.0,
        };
        let plan = plan(&work, sizes, spec, memory).await?;
        Ok(Self::of_plan(
            work.session,
            plan,
            report,
            work.what,
            options,
        ))
    }

    /// A plan that is made already; the report says what it will do, but for the time.
    pub(super) fn of_plan(
        session: Session,
        plan: WriteExec,
        mut report: Report,
        what: impl Into<String>,
        options: &RunOptions,
    ) -> Self {
        let jobs = plan.spec().jobs;
        report.seconds = estimate_seconds(&report, options.storage.compression, jobs);
        Self {
            session,
            plan: Arc::new(plan),
            report,
            what: what.into(),
            _claim: None,
        }
    }

    /// The same, with a claim of what it changes.
    pub(super) fn claiming(self, claim: Option<Claim>) -> Self {
        Self {
            _claim: claim,
            ..self
        }
    }

    /// The physical plan, as EXPLAIN shows it.
    pub fn explain(&self) -> String {
        let plan: Arc<dyn ExecutionPlan> = Arc::clone(&self.plan) as _;
        displayable(plan.as_ref()).indent(false).to_string()
    }

    /// What running it would do.
    pub fn estimate(&self) -> &Report {
        &self.report
    }

    /// The plan itself.
    pub fn plan(&self) -> &Arc<WriteExec> {
        &self.plan
    }

    /// Runs it. Dropping the future leaves nothing behind.
    ///
    /// # Errors
    /// Whatever reading or writing meets; no output has its final name then.
    pub async fn run(self, progress: Arc<dyn Progress>) -> Result<Report> {
        let begun = Instant::now();
        let total = self.report.outputs.iter().map(|output| output.n_obs).sum();
        progress.start(&self.what, total);
        let ticker = watch(Arc::clone(&self.plan), Arc::clone(&progress));
        let plan: Arc<dyn ExecutionPlan> = Arc::clone(&self.plan) as _;
        let outcome = collect(plan, self.session.context().task_ctx()).await;
        drop(ticker);
        outcome.map_err(Error::from)?;
        let (objects, warnings) = self.plan.outcome();
        progress.update(objects.iter().map(|object| object.n_obs).sum());
        progress.finish();
        let mut report = self.report;
        for (output, object) in report.outputs.iter_mut().zip(objects) {
            output.n_obs = object.n_obs;
            output.bytes = bytes_at(&object.path).await;
        }
        for warning in warnings {
            // What the plan said already.
            if !report.warnings.contains(&warning) {
                report.warnings.push(warning);
            }
        }
        report.seconds = begun.elapsed().as_secs_f64();
        Ok(report)
    }
}

/// The input's bytes by the share of its cells and genes; compression is not foreseen.
fn estimate_bytes(work: &Work, shard: &Shard, n_vars: u64) -> u64 {
    let (bytes, n_obs) = work.input_size();
    let bytes = share(bytes, shard.rows.len(), n_obs);
    share(bytes, n_vars, work.object.n_vars())
}

/// At the rates measured on two cores of 2.6 GHz, see the README.
fn estimate_seconds(report: &Report, compression: Compression, jobs: usize) -> f64 {
    /// Bytes a second of a copy into the page cache.
    const COPY: f64 = 1e9;
    /// Bytes a second that a core compresses.
    const COMPRESS: f64 = 1e8;
    let bytes: u64 = report.outputs.iter().map(|output| output.bytes).sum();
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let (bytes, jobs) = (bytes as f64, jobs as f64);
    match compression {
        Compression::None => bytes / COPY,
        _ => bytes / (COMPRESS * jobs),
    }
}

/// Tells of rows written until it is dropped.
fn watch(plan: Arc<WriteExec>, progress: Arc<dyn Progress>) -> SpawnedTask<()> {
    SpawnedTask::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        loop {
            ticks.tick().await;
            let rows = plan
                .metrics()
                .and_then(|metrics| metrics.sum_by_name("rows_written"))
                .map_or(0, |value| value.as_usize());
            progress.update(u64::try_from(rows).unwrap_or(u64::MAX));
        }
    })
}

async fn plan(
    work: &Work,
    sizes: Vec<OutputSpec>,
    mut spec: WriteSpec,
    memory: ShuffleMemory,
) -> Result<WriteExec> {
    let one_pass = match &work.order {
        Some(order) => !order.by_rank,
        None => must_read_once(work).await?,
    };
    let (rows, partitions) = if one_pass {
        let rows = RowSelection::from_ranges(
            work.shards
                .iter()
                .flat_map(|s| s.rows.ranges().iter().cloned()),
        );
        let n_rows = rows.len();
        (rows, std::iter::once(0..n_rows).collect())
    } else {
        consecutive(&work.shards)
    };
    spec.outputs = if one_pass {
        let shards = work.shards.iter().zip(sizes);
        Outputs::Routed(
            shards
                .map(|(shard, output)| RoutedOutput {
                    output,
                    rows: shard.rows.clone(),
                })
                .collect(),
        )
    } else {
        Outputs::PerPartition(sizes)
    };
    let mut scan = CellsScan {
        object: Arc::clone(&work.object),
        rows,
        partitions,
        order: None,
        genes: work
            .genes
            .as_ref()
            .map(|genes| Arc::clone(&genes.positions)),
        provenance: true,
        columns: None,
        batch_bytes: match work.shards.len() {
            1 => LONE_BATCH_BYTES,
            _ => DEFAULT_BATCH_BYTES,
        },
    };
    let ranks = scan.partitions.clone();
    if work.order.is_some() {
        // Only what its columns are is asked of it; the order has scans of its own.
        scan.rows = RowSelection::default();
        scan.partitions = std::iter::once(0..0).collect();
    }
    let mut input = scan_cells(scan.clone())?;
    if !work.drop.is_empty() {
        let columns = kept_columns(&input.schema(), &work.drop)?;
        scan.columns = Some(columns);
        input = scan_cells(scan.clone())?;
    }
    if let Some(order) = &work.order {
        input = order.plan(ranks, &scan, memory)?;
        if order.objects.len() > 1 {
            input = without_provenance(input)?;
        }
    }
    if let Some((field, values)) = &work.attached {
        input = Arc::new(AttachColumnExec::try_new(
            input,
            Arc::clone(field),
            Arc::clone(values),
        )?);
    }
    if !work.forms.is_empty() {
        input = Arc::new(MatrixFormExec::try_new(input, work.forms.clone())?);
    }
    Ok(WriteExec::try_new(input, Arc::new(spec))?)
}

/// Cells of several objects, which have no rows of one: without the columns that would say so.
fn without_provenance(input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    let columns = schema.fields().iter().enumerate();
    let columns =
        columns.filter(|(_, field)| field.name() != OBJECT_COLUMN && field.name() != ROW_COLUMN);
    let columns = columns.map(|(at, field)| {
        let column = Arc::new(Column::new(field.name(), at));
        ProjectionExpr::new(column, field.name().clone())
    });
    let columns: Vec<_> = columns.collect();
    Ok(Arc::new(ProjectionExec::try_new(columns, input)?))
}

/// Columns of elements that are not left out.
fn kept_columns(schema: &Schema, drop: &[ElementKey]) -> Result<Vec<String>> {
    let mut columns = Vec::new();
    for field in schema.fields() {
        let name = field.name();
        if name == OBJECT_COLUMN || name == ROW_COLUMN {
            continue;
        }
        let key = element_of(field)?;
        if !drop.iter().any(|dropped| key.is_in(dropped)) {
            columns.push(name.clone());
        }
    }
    Ok(columns)
}

/// Rows of all shards, and each shard's ranks among them. Only for shards that follow each other.
fn consecutive(shards: &[Shard]) -> (RowSelection, Vec<Range<u64>>) {
    let rows =
        RowSelection::from_ranges(shards.iter().flat_map(|s| s.rows.ranges().iter().cloned()));
    let mut start = 0;
    let partitions = shards
        .iter()
        .map(|shard| {
            let range = start..start + shard.rows.len();
            start = range.end;
            range
        })
        .collect();
    (rows, partitions)
}

/// Whether the input is read in one pass that feeds all outputs: their rows interleave, so a scan
/// per output would decode the chunks they share once for each.
async fn must_read_once(work: &Work) -> Result<bool> {
    let follow = work.shards.windows(2).all(|pair| {
        pair[0].rows.end() <= pair[1].rows.ranges().first().map_or(u64::MAX, |r| r.start)
    });
    Ok(!follow)
}
