//! Making a collection.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;

use super::blocks::deal;
use super::options::{CollectionOptions, CollectionOrder};
use crate::element::{Amount, AnnData, MatrixReader};
use crate::error::{Error, Result};
use crate::model::{Location, MergeStrategy, RowOrder, RowSelection, value_bytes};
use crate::ops::convert::check_dropped;
use crate::ops::genes;
use crate::ops::order::{self, Order};
use crate::ops::outputs::{self, Shard};
use crate::ops::prepare::{self, LONE_BATCH_BYTES, Prepared};
use crate::ops::report::{OutputReport, Report};
use crate::plan::merge::{MergeExec, MergeOutline, MergeOutput, MergeSpec};
use crate::plan::{
    OutputSpec, Outputs, Shuffle, ShuffleMemory, ShuffleRequest, ShuffledObject, WriteExec,
    WriteSpec,
};
use crate::store::url_of;
use crate::table::RowWeight;

/// The obs column that says which input a cell came from, as annbatch calls it.
const SOURCE_COLUMN: &str = "src_path";

/// Plans the writing of a collection for training from objects of any format: their cells over the
/// joined genes, with a categorical `src_path` that names the input, in random order, dealt out to
/// datasets.
///
/// Of one input everything is kept; of several what `merge` and `uns_merge` say, and no `obsp`, as
/// `anndata.concat` has it. The report says what is left out.
///
/// # Errors
/// [`Error::InvalidOption`] for options that cannot be met, [`Error::IncompatibleSchemas`] for
/// elements that cannot be merged, [`Error::OutputRefused`] where the output may not be written, and
/// whatever opening the inputs meets.
pub async fn create(options: &CollectionOptions) -> Result<Prepared> {
    let session = prepare::session(&options.run)?;
    let outline = outline(options).await?;
    let inputs = outline.objects().iter().flat_map(|object| object.places());
    let inputs: Vec<&str> = inputs.map(Location::path).collect();
    outputs::check(&[options.output.as_path()], &inputs, &options.run).await?;
    check_dropped(outline.objects(), &options.drop).await?;
    if outline.n_obs() == 0 {
        let reason = "the inputs have no cells, and a collection is of some";
        return Err(Error::option("collection", reason));
    }
    if outline.axis().is_empty() && outline.objects().iter().any(|object| object.n_vars() > 0) {
        let reason = "the inputs have no gene in common; --join outer keeps the genes of all";
        return Err(Error::option("collection", reason));
    }
    let weight = outline.weigh()?;
    let size = match options.dataset_size {
        Amount::Cells(cells) => cells,
        Amount::Bytes(bytes) => bytes / row_bytes(&outline, weight.bytes).max(1),
    };
    let plan = Plan {
        memory: order::memory(&options.run, 1),
        outline: &outline,
        options,
        size,
    };
    let datasets = plan.datasets()?;
    let members = plan.sizes(&datasets).await?;
    let mut warnings = outline.warnings().to_vec();
    warnings.extend(outline.rest_warnings().await?);
    let has_pairs = |object: &Arc<AnnData>| !object.obsp().is_empty();
    if members.len() > 1 && options.inputs.len() == 1 && outline.objects().iter().any(has_pairs) {
        warnings.push("obsp: pairs of cells of different datasets are not kept".to_owned());
    }
    let n_vars = outline.axis().len() as u64;
    let stored = outline.objects().iter();
    let stored: u64 = stored
        .map(|object| object.stored_bytes().unwrap_or(0))
        .sum();
    let report = Report {
        outputs: members
            .iter()
            .zip(&datasets)
            .map(|(member, dataset)| OutputReport {
                path: member.path.clone(),
                n_obs: dataset.len(),
                n_vars,
                bytes: share(stored, dataset.len(), outline.n_obs()),
            })
            .collect(),
        warnings,
        details: Vec::new(),
        memory_bytes: prepare::memory(1, url_of(&options.output).is_some()) + plan.memory.bytes,
        seconds: 0.0,
    };
    let spec = WriteSpec {
        outputs: Outputs::Collection {
            path: options.output.clone(),
            members,
        },
        storage: options.run.storage,
        drop: options.drop.clone(),
        overwrite: options.run.overwrite,
        fsync: options.run.fsync,
        jobs: 1,
    };
    let write = WriteExec::try_new(plan.rows(&datasets, weight)?, Arc::new(spec))?;
    Ok(Prepared::of_plan(
        session,
        write,
        report,
        "collection",
        &options.run,
    ))
}

/// The merge of the inputs, over the genes asked for.
async fn outline(options: &CollectionOptions) -> Result<Arc<MergeOutline>> {
    let lone = options.inputs.len() == 1;
    let spec = MergeSpec {
        join: options.join,
        // There is nothing to agree on.
        merge: options.merge.or(lone.then_some(MergeStrategy::First)),
        uns_merge: options.uns_merge.or(lone.then_some(MergeStrategy::First)),
        pairwise: lone,
        label: Some(SOURCE_COLUMN.to_owned()),
        keys: Some(options.inputs.iter().map(Location::to_string).collect()),
        index_unique: options.index_unique.clone(),
        drop: options.drop.clone(),
        ..MergeSpec::new(options.inputs.clone())
    };
    let outline = MergeOutline::of(Arc::new(spec.clone())).await?;
    let Some(genes) = &options.genes else {
        return Ok(outline);
    };
    let kept = genes::positions(outline.axis(), genes)?;
    let kept = genes::names_at(outline.axis(), &kept).map(str::to_owned);
    let spec = MergeSpec {
        genes: Some(kept.collect()),
        ..spec
    };
    MergeOutline::of(Arc::new(spec)).await
}

/// Bytes of a row in memory, by estimate.
fn row_bytes(outline: &MergeOutline, matrices: u64) -> u64 {
    let fields = outline.schema().fields().iter();
    let narrow = fields.filter(|field| !field.data_type().is_nested());
    let narrow = narrow.map(|field| value_bytes(field.data_type()));
    narrow.fold(matrices, u64::saturating_add)
}

/// The cells of a dataset.
#[derive(Debug)]
enum Dataset {
    /// These rows of the merge.
    Rows(RowSelection),
    /// Those of these ranks in the order.
    Ranks(Range<u64>),
}

impl Dataset {
    fn len(&self) -> u64 {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Ranks(ranks) => ranks.end.saturating_sub(ranks.start),
        }
    }
}

struct Plan<'a> {
    outline: &'a Arc<MergeOutline>,
    options: &'a CollectionOptions,
    /// Cells of a dataset at most.
    size: u64,
    memory: ShuffleMemory,
}

impl Plan<'_> {
    fn datasets(&self) -> Result<Vec<Dataset>> {
        let n = self.outline.n_obs();
        let (block, order) = match self.options.order {
            _ if self.size == 0 => {
                return Err(Error::option("dataset size", "it is not even one cell"));
            }
            CollectionOrder::Blocks { size: 0 } => {
                return Err(Error::option("block", "a block has a cell at least"));
            }
            CollectionOrder::Blocks { size } if size > self.size && self.size < n => {
                return Err(Error::option(
                    "dataset size",
                    format!(
                        "{} cells of a dataset are not even a block of {size} (--shuffle-chunk-size)",
                        self.size
                    ),
                ));
            }
            CollectionOrder::Blocks { size } => (size, Some(RowOrder::new(self.options.seed))),
            CollectionOrder::Exact | CollectionOrder::Kept => (1, None),
        };
        let datasets = deal(n, self.size, block, order).into_iter();
        Ok(match self.options.order {
            CollectionOrder::Exact => {
                let ranks = datasets.filter_map(|rows| rows.ranges().first().cloned());
                ranks.map(Dataset::Ranks).collect()
            }
            _ => datasets.map(Dataset::Rows).collect(),
        })
    }

    /// What is known of the datasets' sizes, from `indptr` alone: chunks are cut by it.
    async fn sizes(&self, datasets: &[Dataset]) -> Result<Vec<OutputSpec>> {
        let axis = Some(self.outline.axis().id().to_owned());
        let mut specs: Vec<OutputSpec> = (0..)
            .zip(datasets)
            .map(|(at, dataset): (u64, _)| OutputSpec {
                path: self.options.output.join(format!("dataset_{at}")),
                n_obs: Some(dataset.len()),
                nnz: BTreeMap::new(),
                axis: axis.clone(),
            })
            .collect();
        let mut entries: Vec<BTreeMap<String, u64>> = match datasets.first() {
            Some(Dataset::Ranks(_)) => self.entries_by_rank(&specs, datasets).await?,
            _ => {
                let mut entries = Vec::with_capacity(datasets.len());
                for dataset in datasets {
                    let Dataset::Rows(rows) = dataset else {
                        continue;
                    };
                    entries.push(self.entries(rows).await?);
                }
                entries
            }
        };
        for (spec, entries) in specs.iter_mut().zip(&mut entries) {
            spec.nnz = std::mem::take(entries);
            spec.nnz
                .retain(|column, _| self.outline.keeps_entries(column));
        }
        Ok(specs)
    }

    /// Stored entries of rows of the merge, by column.
    async fn entries(&self, rows: &RowSelection) -> Result<BTreeMap<String, u64>> {
        let mut known = BTreeMap::new();
        let of_objects = self.outline.rows_of_objects(rows);
        for (object, rows) in self.outline.objects().iter().zip(&of_objects) {
            for (column, matrix) in outputs::sparse(object) {
                let matrix: &dyn MatrixReader = matrix;
                *known.entry(column).or_insert(0) += outputs::entries(matrix, rows).await?;
            }
        }
        Ok(known)
    }

    async fn entries_by_rank(
        &self,
        specs: &[OutputSpec],
        datasets: &[Dataset],
    ) -> Result<Vec<BTreeMap<String, u64>>> {
        let objects = self.outline.objects().iter();
        let order = Order {
            shuffle: Shuffle::new(self.options.seed),
            objects: objects
                .map(|object| (Arc::clone(object), RowSelection::all(object.n_obs())))
                .collect(),
            by_rank: true,
        };
        let shards = specs.iter().zip(datasets).map(|(spec, dataset)| {
            let ranks = match dataset {
                Dataset::Ranks(ranks) => RowSelection::range(ranks.clone()),
                Dataset::Rows(rows) => rows.clone(),
            };
            Shard::lone(&spec.path, ranks)
        });
        let shards: Vec<Shard> = shards.collect();
        let sizes = order.sizes(&shards, None).await?;
        Ok(sizes.into_iter().map(|size| size.nnz).collect())
    }

    /// The cells, a partition per dataset.
    fn rows(&self, datasets: &[Dataset], weight: RowWeight) -> Result<Arc<dyn ExecutionPlan>> {
        let all = RowSelection::all(self.outline.n_obs());
        if let Some(Dataset::Ranks(_)) = datasets.first() {
            let ranks = datasets.iter().filter_map(|dataset| match dataset {
                Dataset::Ranks(ranks) => Some(ranks.clone()),
                Dataset::Rows(_) => None,
            });
            return self.shuffled(&all, ranks.collect(), weight);
        }
        let parts = datasets.iter().filter_map(|dataset| match dataset {
            Dataset::Rows(rows) => Some(rows),
            Dataset::Ranks(_) => None,
        });
        let parts = parts.map(|rows| match self.options.order {
            CollectionOrder::Kept => self.in_place(rows),
            _ => self.shuffled(rows, std::iter::once(0..rows.len()).collect(), weight),
        });
        let mut parts = parts.collect::<Result<Vec<_>>>()?;
        match parts.len() {
            1 => Ok(parts.swap_remove(0)),
            _ => Ok(UnionExec::try_new(parts)?),
        }
    }

    /// Chosen rows in the order of the seed, in partitions of these ranks.
    fn shuffled(
        &self,
        rows: &RowSelection,
        partitions: Vec<Range<u64>>,
        weight: RowWeight,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let shuffle = Shuffle {
            way: self.options.way,
            ..Shuffle::new(self.options.seed)
        };
        let request = ShuffleRequest {
            shuffle,
            objects: vec![ShuffledObject {
                name: self.outline.id().to_owned(),
                n_rows: self.outline.n_obs(),
                rows: rows.clone(),
            }],
            gathers: self.outline.objects().len() == 1,
            weight,
            partitions,
            memory: self.memory,
        };
        request.plan(|scan| {
            let output = self.output();
            let merge = match scan.order {
                Some(order) => {
                    let order = (scan.partitions.as_slice(), order);
                    MergeExec::in_order(self.outline, output, rows, order)?
                }
                None => MergeExec::of_rows(self.outline, output, rows)?,
            };
            Ok(Arc::new(merge))
        })
    }

    /// Chosen rows one after the other.
    fn in_place(&self, rows: &RowSelection) -> Result<Arc<dyn ExecutionPlan>> {
        let output = MergeOutput {
            in_one: true,
            batch_bytes: LONE_BATCH_BYTES,
            ..self.output()
        };
        Ok(Arc::new(MergeExec::of_rows(self.outline, output, rows)?))
    }

    fn output(&self) -> MergeOutput {
        let columns = (0..self.outline.schema().fields().len()).collect();
        MergeOutput {
            provenance: true,
            ..MergeOutput::columns(columns)
        }
    }
}

fn share(bytes: u64, part: u64, whole: u64) -> u64 {
    let bytes = u128::from(bytes) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
