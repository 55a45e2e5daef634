//! Cells in a seeded order: the scan that gives them so, and the sizes of outputs that are cut from it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;

use super::genes::Genes;
use super::options::RunOptions;
use super::outputs::{STEP, Shard, sparse};
use super::prepare::BASE_BYTES;
use crate::element::AnnData;
use crate::error::Result;
use crate::kernel::{OrderCut, Ranks};
use crate::model::{RowOrder, RowSelection};
use crate::plan::{
    DEFAULT_SHUFFLE_BYTES, OutputSpec, Shuffle, ShuffleMemory, ShuffleRequest, ShuffledObject,
};
use crate::store::ReadMetrics;
use crate::table::{CellsScan, scan_cells, weigh_cells};

/// The cells of objects in a seeded order.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) shuffle: Shuffle,
    /// The objects, and the cells of each that are kept.
    pub(super) objects: Vec<(Arc<AnnData>, RowSelection)>,
    /// Whether outputs are ranges of ranks in the order; otherwise each has cells of its own, and
    /// their order.
    pub(super) by_rank: bool,
}

impl Order {
    /// The plan that gives the cells, in partitions of these ranks; `like` says which columns and
    /// genes of the first object.
    pub(super) fn plan(
        &self,
        partitions: Vec<Range<u64>>,
        like: &CellsScan,
        memory: ShuffleMemory,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let of = |at: usize, rows: RowSelection, partitions, order| CellsScan {
            object: Arc::clone(&self.objects[at].0),
            rows,
            partitions,
            order,
            ..like.clone()
        };
        let mut weight = None;
        for at in 0..self.objects.len() {
            let of = weigh_cells(&of(at, RowSelection::default(), Vec::new(), None))?;
            weight =
                Some(weight.map_or(of, |heaviest: crate::table::RowWeight| heaviest.heavier(of)));
        }
        let objects = self.objects.iter().map(|(object, rows)| {
            ShuffledObject::at(object.location(), object.n_obs(), rows.clone())
        });
        let request = ShuffleRequest {
            shuffle: self.shuffle,
            groups: None,
            objects: objects.collect(),
            scanned: self.objects.len(),
            weight: weight.unwrap_or_default(),
            partitions,
            memory,
        };
        request.plan(|scan| {
            let rows = self.objects[scan.object].1.clone();
            scan_cells(of(scan.object, rows, scan.partitions, scan.order))
        })
    }

    /// The sizes of outputs that are ranges of ranks: one pass over `indptr`.
    pub(super) async fn sizes(
        &self,
        shards: &[Shard],
        genes: Option<&Genes>,
    ) -> Result<Vec<OutputSpec>> {
        let spec = |shard: &Shard, nnz| OutputSpec {
            path: shard.path.clone(),
            n_obs: Some(shard.rows.len()),
            nnz,
            axis: genes.map(|genes| genes.axis.clone()),
        };
        if self.shuffle.block.is_some() {
            // Keys do not say which window a row is in, so arrays grow as rows come.
            return Ok(shards
                .iter()
                .map(|shard| spec(shard, BTreeMap::new()))
                .collect());
        }
        let cuts = self.cuts(shards);
        let mut nnz: Vec<BTreeMap<String, u64>> = vec![BTreeMap::new(); shards.len()];
        let mut base = 0;
        for (object, kept) in &self.objects {
            let order = RowOrder::new(self.shuffle.seed);
            for (name, matrix) in sparse(object) {
                if genes.is_some() && (name == "X" || name.starts_with("layers_")) {
                    continue;
                }
                for of_shard in &mut nnz {
                    of_shard.entry(name.clone()).or_insert(0);
                }
                let mut start = 0;
                while start < kept.len() {
                    let rows = kept.slice(start..start + STEP);
                    let offsets = matrix.offsets(&rows, &ReadMetrics::default()).await?;
                    let numbers = || rows.iter().map(|row| base + row);
                    let places = numbers().zip(order.keys_of(numbers()));
                    let places = places.map(|(row, key)| OrderCut { key, row });
                    for (place, pair) in places.zip(offsets.windows(2)) {
                        let shard = cuts.partition_point(|cut| *cut <= place);
                        if let Some(entries) =
                            nnz.get_mut(shard).and_then(|shard| shard.get_mut(&name))
                        {
                            *entries += pair[1].saturating_sub(pair[0]);
                        }
                    }
                    start += STEP;
                }
            }
            base += object.n_obs();
        }
        Ok(shards
            .iter()
            .zip(nnz)
            .map(|(shard, nnz)| spec(shard, nnz))
            .collect())
    }

    /// Where outputs after the first begin.
    fn cuts(&self, shards: &[Shard]) -> Vec<OrderCut> {
        let mut base = 0;
        let numbers = self.objects.iter().flat_map(|(object, rows)| {
            let first = base;
            base += object.n_obs();
            let ranges = rows.ranges().iter();
            ranges.map(move |rows| first + rows.start..first + rows.end)
        });
        let numbers = RowSelection::from_ranges(numbers.collect::<Vec<_>>());
        let ranks = Ranks::new(RowOrder::new(self.shuffle.seed), numbers);
        let starts = shards.iter().skip(1);
        let starts = starts.filter_map(|shard| shard.rows.ranges().first());
        let starts: Vec<u64> = starts.map(|ranks_of| ranks_of.start).collect();
        ranks.cuts(&starts).into_iter().flatten().collect()
    }
}

/// What a shuffle may hold, and how many outputs are written beside it: each half of the limit.
pub(super) fn memory(options: &RunOptions, jobs: usize) -> ShuffleMemory {
    let bytes = match options.memory_limit {
        Some(limit) => limit.saturating_sub(BASE_BYTES) / 2,
        None => DEFAULT_SHUFFLE_BYTES,
    };
    ShuffleMemory {
        bytes,
        at_a_time: u64::try_from(jobs).unwrap_or(1),
        beside: BASE_BYTES,
    }
}
