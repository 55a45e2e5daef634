//! What [`WriteExec`](super::WriteExec) does when it runs.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::runtime::JoinSet;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::common::spawn_buffered;
use datafusion::physical_plan::metrics::Count;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::names::{file_name, make_folder, object_path};
use super::notices::Notices;
use super::select::{row_positions, select_rows, text_column};
use super::sources::sources;
use super::spec::{OutputSpec, Outputs, RoutedOutput, WriteSpec};
use super::write::{Written, WrittenObject};
use crate::element::{AnnData, Storage};
use crate::error::{Error, Result};
use crate::model::Location;
use crate::sink::{CollectionSink, FinishedObject, ObjectSink, ObjectSize, SinkOptions, Sources};
use crate::store::{Compression, Format, Inputs, UPLOAD_PART, settled};

/// Batches that are read ahead of a lone output.
const READ_AHEAD: usize = 1;

/// Metrics of a run.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    pub(super) rows: Count,
    pub(super) objects: Count,
}

/// The share of a memory limit that parts of uploads may take, one in so many, while they wait to be
/// full.
const IN_BUCKETS: usize = 4;

/// How long who was told of a failure waits for what was written to object stores to be removed.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// Runs the input and writes it; every object is complete before the first gets its name. Where it
/// fails, what was written is gone when this returns.
pub(super) async fn write(
    input: Arc<dyn ExecutionPlan>,
    spec: Arc<WriteSpec>,
    context: Arc<TaskContext>,
    counters: Counters,
) -> Result<Written> {
    let written = Box::pin(write_all(input, spec, context, counters)).await;
    if written.is_err() && !settled(CLEAN_UP).await {
        tracing::warn!("what was written to an object store is still being removed");
    }
    written
}

async fn write_all(
    input: Arc<dyn ExecutionPlan>,
    spec: Arc<WriteSpec>,
    context: Arc<TaskContext>,
    counters: Counters,
) -> Result<Written> {
    let (sources, mut warnings) = sources(&input).await?;
    let mut places = Vec::with_capacity(sources.objects.len());
    for object in &sources.objects {
        let object = AnnData::open(object).await?;
        object.check_whole(&spec.drop).await?;
        warnings.extend(object.chunk_warnings(&spec.drop).await);
        places.extend(object.places().into_iter().cloned());
    }
    let mut job = Job {
        schema: input.schema(),
        inputs: Inputs::of(places.iter().map(Location::path)),
        collection: None,
        sources,
        input,
        run_bytes: spec.outputs.known_bytes(),
        spec: Arc::clone(&spec),
        context: Arc::clone(&context),
        counters,
    };
    let objects = match &spec.outputs {
        Outputs::PerPartition(outputs) => job.per_partition(outputs).await?,
        Outputs::Collection {
            path,
            members,
            grows,
        } => {
            // What grows is read to its end before it is replaced.
            if !grows {
                job.inputs.check(path)?;
            }
            make_folder(path)?;
            let sink = CollectionSink::create(path, &job.sink_options()).await?;
            job.collection = Some(Arc::new(sink));
            job.per_partition(members).await?
        }
        Outputs::Single(output) => vec![job.single(output).await?],
        Outputs::Routed(outputs) => job.routed(outputs).await?,
        Outputs::ByColumn { column, prefix } => {
            job.by_column(column, prefix, &mut warnings).await?
        }
    };
    let mut written = Written {
        objects: Vec::with_capacity(objects.len()),
        warnings,
    };
    if objects.iter().any(|object| !object.is_of_one_object()) {
        let has_genes = objects.iter().all(FinishedObject::has_genes);
        for source in &job.sources.objects {
            let source = AnnData::open(source).await?;
            written.warnings.extend(lost(&source, has_genes));
        }
    }
    for object in objects {
        for warning in object.warnings() {
            if !written.warnings.contains(warning) {
                written.warnings.push(warning.clone());
            }
        }
        written.objects.push(WrittenObject {
            path: object.path().to_owned(),
            n_obs: object.rows(),
        });
        object.commit().await?;
    }
    if let Some(collection) = &job.collection {
        collection.commit().await?;
    }
    written.warnings.iter().for_each(|w| tracing::warn!("{w}"));
    if let Some(notices) = context.session_config().get_extension::<Notices>() {
        notices.add(&written.warnings);
    }
    Ok(written)
}

#[derive(Clone)]
struct Job {
    input: Arc<dyn ExecutionPlan>,
    sources: Sources,
    inputs: Inputs,
    /// What the outputs are members of.
    collection: Option<Arc<CollectionSink>>,
    schema: SchemaRef,
    /// Bytes of all outputs, as far as the plan knows them.
    run_bytes: u64,
    spec: Arc<WriteSpec>,
    context: Arc<TaskContext>,
    counters: Counters,
}

impl Job {
    /// Writes each partition in a task of its own, some at a time.
    ///
    /// After a failure the other tasks are stopped and waited for: what they wrote has no name any
    /// more when this returns. Its room is free once their last write has ended.
    async fn per_partition(&self, outputs: &[OutputSpec]) -> Result<Vec<FinishedObject>> {
        let mut waiting = outputs.iter().cloned().enumerate();
        let mut objects: Vec<Option<FinishedObject>> = outputs.iter().map(|_| None).collect();
        let mut tasks = JoinSet::new();
        loop {
            let free = self.spec.jobs.max(1) - tasks.len();
            for (partition, output) in waiting.by_ref().take(free) {
                let job = self.clone();
                tasks.spawn(async move {
                    let object = job.partition(partition, &output).await?;
                    Ok::<_, Error>((partition, object))
                });
            }
            let Some(ended) = tasks.join_next().await else {
                break;
            };
            let failure = match ended {
                Ok(Ok((partition, object))) => {
                    objects[partition] = Some(object);
                    continue;
                }
                Ok(Err(error)) => Ok(error),
                Err(stopped) => Err(stopped),
            };
            tasks.shutdown().await;
            return Err(
                failure.unwrap_or_else(|stopped| match stopped.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(stopped) => Error::store("task", "write", stopped),
                }),
            );
        }
        Ok(objects.into_iter().flatten().collect())
    }

    async fn partition(&self, partition: usize, output: &OutputSpec) -> Result<FinishedObject> {
        let mut sink = self.sink(output).await?;
        let mut rows = self.rows(partition..partition + 1);
        self.drain(&mut rows, &mut sink).await?;
        self.finish(sink).await
    }

    async fn single(&self, output: &OutputSpec) -> Result<FinishedObject> {
        let mut sink = self.sink(output).await?;
        self.drain(&mut self.all_rows(), &mut sink).await?;
        self.finish(sink).await
    }

    /// Each pass over the input feeds as many outputs as may be open at a time.
    async fn routed(&self, outputs: &[RoutedOutput]) -> Result<Vec<FinishedObject>> {
        let mut objects = Vec::with_capacity(outputs.len());
        for group in outputs.chunks(self.open_outputs()) {
            objects.extend(self.pass(group).await?);
        }
        Ok(objects)
    }

    /// How many outputs may be open. An h5ad has up to three descriptors, and with compression a few
    /// chunks that wait to be full; of zarr every long array may have a shard open, and wait, in a
    /// bucket with bytes that are no whole part of an upload yet.
    fn open_outputs(&self) -> usize {
        let columns = self.schema.fields().len().max(1);
        match self.spec.storage {
            Storage {
                format: Format::Zarr { .. },
                ..
            } if self.spec.outputs.are_urls() => {
                let limit = match self.context.memory_pool().memory_limit() {
                    MemoryLimit::Finite(limit) => limit / IN_BUCKETS / UPLOAD_PART,
                    _ => usize::MAX,
                };
                // A sparse matrix has two long arrays; all columns together count as one more.
                let fields = self.schema.fields().iter();
                let matrices = fields.filter(|field| field.data_type().is_nested());
                (limit / (2 * matrices.count() + 1)).clamp(1, (1024 / columns).clamp(1, 64))
            }
            Storage {
                format: Format::H5ad,
                compression: Compression::None,
                ..
            } => 256,
            Storage {
                format: Format::H5ad,
                ..
            } => 64,
            Storage {
                format: Format::Zarr { .. },
                ..
            } => (1024 / columns).clamp(1, 64),
        }
    }

    async fn pass(&self, outputs: &[RoutedOutput]) -> Result<Vec<FinishedObject>> {
        let mut sinks = Vec::with_capacity(outputs.len());
        for routed in outputs {
            sinks.push(self.sink(&routed.output).await?);
        }
        let mut rows = self.all_rows();
        while let Some(batch) = rows.try_next().await? {
            let positions = row_positions(&batch)?;
            let appends = sinks.iter_mut().zip(outputs).map(async |(sink, routed)| {
                if let Some(part) = select_rows(&batch, &positions, &routed.rows)? {
                    sink.append(&part).await?;
                    self.counters.rows.add(part.num_rows());
                }
                Ok::<_, Error>(())
            });
            try_join_all(appends).await?;
        }
        self.finish_all(sinks).await
    }

    async fn by_column(
        &self,
        column: &str,
        prefix: &Path,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<FinishedObject>> {
        let mut sinks: Vec<(String, ObjectSink)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut names: HashMap<String, String> = HashMap::new();
        let mut without_value = 0;
        let mut rows = self.all_rows();
        while let Some(batch) = rows.try_next().await? {
            let values = text_column(&batch, column)?;
            let values = values.as_string::<i32>();
            without_value += values.null_count();
            let mut of_place: Vec<Option<usize>> = Vec::with_capacity(values.len());
            for value in values {
                let Some(value) = value else {
                    of_place.push(None);
                    continue;
                };
                let place = match places.get(value) {
                    Some(place) => *place,
                    None if sinks.len() >= self.open_outputs() => {
                        return Err(Error::option(
                            "PARTITIONED BY",
                            format!(
                                "{column} has more than {} values, and no more outputs of \
                                 {} columns are written in one pass; slice --obs-column \
                                 writes any number of the values of a categorical",
                                sinks.len(),
                                self.schema.fields().len()
                            ),
                        ));
                    }
                    None => {
                        let path = self.path_of(value, column, prefix, &mut names)?;
                        let sink = self.sink(&OutputSpec::unsized_at(path)).await?;
                        sinks.push((value.to_owned(), sink));
                        places.insert(value.to_owned(), sinks.len() - 1);
                        sinks.len() - 1
                    }
                };
                of_place.push(Some(place));
            }
            for (place, (_, sink)) in sinks.iter_mut().enumerate() {
                let mask: BooleanArray =
                    of_place.iter().map(|at| Some(*at == Some(place))).collect();
                if mask.true_count() == 0 {
                    continue;
                }
                let part = filter_record_batch(&batch, &mask)?;
                sink.append(&part).await?;
                self.counters.rows.add(part.num_rows());
            }
        }
        if without_value > 0 {
            warnings.push(format!(
                "{without_value} cells have no value in {column} and are in no output"
            ));
        }
        sinks.sort_by(|a, b| a.0.cmp(&b.0));
        self.finish_all(sinks.into_iter().map(|(_, sink)| sink))
            .await
    }

    fn path_of(
        &self,
        value: &str,
        column: &str,
        prefix: &Path,
        names: &mut HashMap<String, String>,
    ) -> Result<PathBuf> {
        let name = file_name(value);
        if let Some(other) = names.insert(name.clone(), value.to_owned()) {
            return Err(Error::option(
                column,
                format!(
                    "values '{other}' and '{value}' would both be written to '{name}.{}'",
                    self.spec.storage.format.ending()
                ),
            ));
        }
        Ok(object_path(prefix, &name, self.spec.storage.format))
    }

    /// The rows of all partitions.
    fn all_rows(&self) -> SendableRecordBatchStream {
        self.rows(0..self.input.properties().partitioning.partition_count())
    }

    /// The rows of partitions, one after the other: the next is read while the last of the one before are
    /// written.
    fn rows(&self, partitions: Range<usize>) -> SendableRecordBatchStream {
        let (input, context) = (Arc::clone(&self.input), Arc::clone(&self.context));
        let rows = stream::iter(partitions)
            .map(move |partition| input.execute(partition, Arc::clone(&context)))
            .try_flatten();
        let schema = Arc::clone(&self.schema);
        let rows: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
        match &self.spec.outputs {
            // Where several are written, one is read while another is written.
            Outputs::PerPartition(outputs) if outputs.len() > 1 => rows,
            Outputs::Collection { .. } if self.spec.jobs > 1 => rows,
            _ => spawn_buffered(rows, READ_AHEAD),
        }
    }

    async fn sink(&self, output: &OutputSpec) -> Result<ObjectSink> {
        let size = ObjectSize {
            rows: output.n_obs,
            nnz: output.nnz.clone().into_iter().collect(),
            axis: output.axis.clone(),
        };
        let options = self.sink_options();
        let (path, schema) = (&output.path, &self.schema);
        let sink = match &self.collection {
            Some(collection) => collection.member(path, schema, &size, &options).await?,
            None => {
                self.inputs.check(path)?;
                make_folder(path)?;
                ObjectSink::create(path, schema, &size, &options).await?
            }
        };
        Ok(sink.with_sources(self.sources.clone()))
    }

    fn sink_options(&self) -> SinkOptions {
        SinkOptions {
            storage: self.spec.storage,
            drop: self.spec.drop.clone(),
            overwrite: self.spec.overwrite,
            fsync: self.spec.fsync,
            run_bytes: self.run_bytes,
        }
    }

    async fn drain(
        &self,
        rows: &mut SendableRecordBatchStream,
        sink: &mut ObjectSink,
    ) -> Result<()> {
        while let Some(batch) = rows.try_next().await? {
            sink.append(&batch).await?;
            self.counters.rows.add(batch.num_rows());
        }
        Ok(())
    }

    /// Finishes outputs side by side.
    async fn finish_all(
        &self,
        sinks: impl IntoIterator<Item = ObjectSink>,
    ) -> Result<Vec<FinishedObject>> {
        stream::iter(sinks)
            .map(|sink| self.finish(sink))
            .buffered(self.spec.jobs.max(1))
            .try_collect()
            .await
    }

    async fn finish(&self, sink: ObjectSink) -> Result<FinishedObject> {
        let object = sink.finish().await?;
        self.counters.objects.add(1);
        Ok(object)
    }
}

/// What of a source is in no output whose rows are not its cells (groups, joins, unions).
fn lost(source: &AnnData, has_genes: bool) -> Option<String> {
    let mut names = Vec::new();
    if !has_genes {
        names.extend((source.n_vars() > 0).then(|| "var".to_owned()));
        names.extend(source.varm().iter().map(|(name, _)| format!("varm/{name}")));
        names.extend(source.varp().iter().map(|(name, _)| format!("varp/{name}")));
    }
    names.extend(source.obsp().iter().map(|(name, _)| format!("obsp/{name}")));
    names.extend(source.uns().map(|_| "uns".to_owned()));
    (!names.is_empty()).then(|| {
        format!(
            "{}: {} not written, because the rows are not cells of one object",
            source.location(),
            names.join(", ")
        )
    })
}
