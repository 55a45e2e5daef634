//! The datasets of a collection: their sizes, and the plan that writes them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;

use super::options::{CollectionOptions, CollectionOrder};
use crate::element::{AnnData, MatrixReader};
use crate::error::Result;
use crate::model::{RowGroups, RowSelection, share};
use crate::ops::order::{self, Order};
use crate::ops::outputs::{self, Shard};
use crate::ops::prepare::{self, LONE_BATCH_BYTES, Prepared};
use crate::ops::report::{OutputReport, Report};
use crate::plan::merge::{MergeExec, MergeOutline, MergeOutput};
use crate::plan::{
    OutputSpec, Outputs, Shuffle, ShuffleMemory, ShuffleRequest, ShuffledObject, WriteExec,
    WriteSpec,
};
use crate::session::Session;
use crate::store::url_of;
use crate::table::RowWeight;

/// The cells of a dataset.
#[derive(Debug)]
pub(super) enum Dataset {
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

/// Datasets of a merge, and how they are written.
pub(super) struct Plan<'a> {
    outline: &'a Arc<MergeOutline>,
    options: &'a CollectionOptions,
    weight: RowWeight,
    memory: ShuffleMemory,
    /// Whether the collection is one of the inputs.
    grows: bool,
    /// Groups of cells that stay together within a dataset.
    groups: Option<Arc<RowGroups>>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        outline: &'a Arc<MergeOutline>,
        options: &'a CollectionOptions,
        weight: RowWeight,
    ) -> Self {
        Self {
            outline,
            options,
            weight,
            memory: order::memory(&options.run, 1),
            grows: false,
            groups: None,
        }
    }

    /// The same with datasets that are sorted by groups.
    pub(super) fn grouped(mut self, groups: Option<Arc<RowGroups>>) -> Self {
        let bytes = groups.as_ref().map_or(0, |groups| groups.bytes());
        self.memory.bytes = self.memory.bytes.saturating_sub(bytes);
        Self { groups, ..self }
    }

    /// The same of a collection that is one of the inputs.
    pub(super) fn growing(self) -> Self {
        Self {
            grows: true,
            ..self
        }
    }
}

impl Plan<'_> {
    /// The plan that writes the datasets.
    pub(super) async fn prepare(
        &self,
        session: Session,
        datasets: &[Dataset],
        mut warnings: Vec<String>,
    ) -> Result<Prepared> {
        let (outline, options) = (self.outline, self.options);
        let members = self.sizes(datasets).await?;
        warnings.extend_from_slice(outline.warnings());
        warnings.extend(outline.rest_warnings().await?);
        let has_pairs = |object: &Arc<AnnData>| !object.obsp().is_empty();
        if members.len() > 1
            && outline.objects().len() == 1
            && outline.objects().iter().any(has_pairs)
        {
            warnings.push("obsp: pairs of cells of different datasets are not kept".to_owned());
        }
        let n_vars = outline.axis().len() as u64;
        let stored = outline.objects().iter();
        let stored: u64 = stored
            .map(|object| object.stored_bytes().unwrap_or(0))
            .sum();
        let outputs = members.iter().zip(datasets);
        let outputs = outputs.map(|(member, dataset)| OutputReport {
            path: member.path.clone(),
            n_obs: dataset.len(),
            n_vars,
            bytes: share(stored, dataset.len(), outline.n_obs()),
        });
        let report = Report {
            outputs: outputs.collect(),
            warnings,
            details: Vec::new(),
            memory_bytes: prepare::memory(1, url_of(&options.output).is_some())
                + self.memory.bytes
                + self.groups.as_ref().map_or(0, |groups| groups.bytes()),
            seconds: 0.0,
        };
        let spec = WriteSpec {
            outputs: Outputs::Collection {
                path: options.output.clone(),
                members,
                grows: self.grows,
            },
            storage: options.run.storage,
            drop: options.drop.clone(),
            overwrite: options.run.overwrite,
            fsync: options.run.fsync,
            jobs: 1,
        };
        let write = WriteExec::try_new(self.rows(datasets)?, Arc::new(spec))?;
        Ok(Prepared::of_plan(
            session,
            write,
            report,
            "collection",
            &options.run,
        ))
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
    fn rows(&self, datasets: &[Dataset]) -> Result<Arc<dyn ExecutionPlan>> {
        let all = RowSelection::all(self.outline.n_obs());
        if let Some(Dataset::Ranks(_)) = datasets.first() {
            let ranks = datasets.iter().filter_map(|dataset| match dataset {
                Dataset::Ranks(ranks) => Some(ranks.clone()),
                Dataset::Rows(_) => None,
            });
            return self.shuffled(&all, ranks.collect());
        }
        let parts = datasets.iter().filter_map(|dataset| match dataset {
            Dataset::Rows(rows) => Some(rows),
            Dataset::Ranks(_) => None,
        });
        let parts = parts.map(|rows| match self.options.order {
            CollectionOrder::Kept if self.groups.is_none() => self.in_place(rows),
            _ => self.shuffled(rows, std::iter::once(0..rows.len()).collect()),
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
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let shuffle = Shuffle {
            way: self.options.way,
            ..Shuffle::new(self.options.seed)
        };
        let request = ShuffleRequest {
            shuffle,
            groups: self.groups.clone(),
            objects: vec![ShuffledObject {
                name: self.outline.id().to_owned(),
                n_rows: self.outline.n_obs(),
                rows: rows.clone(),
            }],
            scanned: self.outline.objects().len(),
            weight: self.weight,
            partitions,
            memory: self.memory,
        };
        request.plan(|scan| {
            let output = self.output();
            let merge = match scan.order {
                Some(order) => {
                    let parts = (scan.partitions.as_slice(), scan.windows.as_slice());
                    MergeExec::in_order(self.outline, output, rows, parts, &order)?
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
