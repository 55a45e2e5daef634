//! From rows to be shuffled to a plan that does it.

use std::ops::Range;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;

use super::choose::{ShuffleInput, ShuffleMemory, blocks, choose, in_blocks};
use super::exec::ShuffleExec;
use super::spec::{Shuffle, ShuffleSpec, ShuffleWay};
use crate::error::{Error, Result};
use crate::kernel::{OrderCut, Ranks, ranks_by_cuts};
use crate::model::{Location, RowGroups, RowOrder, RowSelection};
use crate::table::{LEAST_PARTITION, OrderedRows, OrderedWindows, RowWeight, even_partitions};

/// An object whose rows are shuffled.
#[derive(Debug, Clone)]
pub struct ShuffledObject {
    /// What its rows call it in `__object`.
    pub name: String,
    /// Its rows, also those that are left out: they have their numbers.
    pub n_rows: u64,
    /// Those that are shuffled.
    pub rows: RowSelection,
}

impl ShuffledObject {
    /// The object at a location.
    pub fn at(location: &Location, n_rows: u64, rows: RowSelection) -> Self {
        Self {
            // What `__object` holds, so with what is not shown of a URL.
            name: location.text(),
            n_rows,
            rows,
        }
    }
}

/// Rows to be shuffled.
#[derive(Debug, Clone)]
pub struct ShuffleRequest {
    /// The order.
    pub shuffle: Shuffle,
    /// Groups of their rows that stay together, for an order that is not in blocks.
    pub groups: Option<Arc<RowGroups>>,
    /// The objects, in their order.
    pub objects: Vec<ShuffledObject>,
    /// What the heaviest of them have in a row.
    pub weight: RowWeight,
    /// How many objects scans read the rows from; see [`ShuffleInput`].
    pub scanned: usize,
    /// The output's partitions, as ranges of ranks that follow each other.
    pub partitions: Vec<Range<u64>>,
    /// What it may take.
    pub memory: ShuffleMemory,
}

/// What of an object is to be scanned.
#[derive(Debug, Clone)]
pub struct ShuffledScan {
    /// Which of the request's objects.
    pub object: usize,
    /// Partitions, as ranges of ranks in its rows (in their order, where there is one).
    pub partitions: Vec<Range<u64>>,
    /// The order that rows are read in.
    pub order: Option<OrderedRows>,
    /// Where partitions after the first begin, where those are the rows of windows: of several objects
    /// each has some of every window.
    pub windows: Vec<OrderCut>,
}

impl ShuffleRequest {
    /// The plan, over scans that `scan` makes: of the objects' shuffled rows, with `__object` and
    /// `__row`.
    ///
    /// # Errors
    /// Those of [`choose`] and of `scan`.
    pub fn plan(
        self,
        scan: impl Fn(ShuffledScan) -> Result<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let n_rows = self.objects.iter().map(|object| object.rows.len()).sum();
        let input = ShuffleInput {
            rows: n_rows,
            weight: self.weight,
            scanned: self.scanned as u64,
            partitions: self.partitions.len() as u64,
            table_rows: self.objects.iter().map(|object| object.n_rows).sum(),
        };
        if self.shuffle.block.is_some() && self.groups.is_some() {
            let reason = "blocks of adjacent rows do not stay together where groups do";
            return Err(Error::option("block", reason));
        }
        let blocks = self.shuffle.block.map(|rows| blocks(rows, self.weight));
        let choice = match blocks {
            Some(blocks) => in_blocks(&input, blocks, self.memory)?,
            None => choose(&input, self.memory, self.shuffle.way)?,
        };
        let row_bytes = input.row_bytes(choice.way, self.memory);
        let mut spec = ShuffleSpec {
            order: RowOrder::new(self.shuffle.seed).grouped(self.groups.clone()),
            way: choice.way,
            reason: choice.reason,
            in_scan: input.in_scan(choice.way, self.memory),
            by_window: input.by_window(choice.way),
            partitions: Vec::new(),
            windows: Vec::new(),
            window_bytes: choice.window_bytes,
            held_bytes: choice.held_bytes,
            objects: self.bases(),
        };
        let per_window = (spec.window_bytes / row_bytes).max(1);
        let windows = match spec.way {
            ShuffleWay::InMemory => Vec::new(),
            ShuffleWay::Gather if !spec.by_window => Vec::new(),
            _ => window_starts(&self.partitions, per_window),
        };
        let rows = if spec.in_scan {
            let held_bytes = spec.held_bytes;
            let windows = match spec.way {
                ShuffleWay::Gather => OrderedWindows::Own {
                    bytes: choice.window_bytes,
                },
                _ => {
                    // Those of all partitions that are read at a time, once for all.
                    let alive = alive(&self.partitions, &windows, self.memory.at_a_time);
                    let bytes = spec.window_bytes.min(n_rows.saturating_mul(row_bytes));
                    spec.held_bytes = held_bytes.saturating_add(bytes.saturating_mul(alive));
                    spec.window_bytes = 0;
                    OrderedWindows::Shared {
                        starts: windows.into(),
                        partitions: self.partitions.clone().into(),
                    }
                }
            };
            scan(ShuffledScan {
                object: 0,
                partitions: self.partitions.clone(),
                order: Some(OrderedRows {
                    order: spec.order.clone(),
                    blocks,
                    windows,
                    held_bytes,
                }),
                windows: Vec::new(),
            })?
        } else {
            let ranks = Ranks::new(spec.order.clone(), self.numbers());
            spec.partitions = cuts(&ranks, self.partitions.iter().skip(1).map(|p| p.start));
            spec.windows = cuts(&ranks, windows.into_iter());
            match spec.by_window {
                true => self.by_window(&spec, scan)?,
                false => self.in_order(scan)?,
            }
        };
        Ok(Arc::new(ShuffleExec::new(rows, Arc::new(spec))))
    }

    /// Scans of all objects, one behind the other.
    fn in_order(
        &self,
        scan: impl Fn(ShuffledScan) -> Result<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let scans = self.objects.iter().enumerate().map(|(at, object)| {
            scan(ShuffledScan {
                object: at,
                partitions: even_partitions(object.rows.len(), cores, LEAST_PARTITION),
                order: None,
                windows: Vec::new(),
            })
        });
        one_after_other(scans.collect::<Result<_>>()?)
    }

    /// Scans of all objects, each with a partition for every window.
    fn by_window(
        &self,
        spec: &ShuffleSpec,
        scan: impl Fn(ShuffledScan) -> Result<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let objects = self.objects.iter().zip(&spec.objects).enumerate();
        let scans = objects.map(|(at, (object, (_, base)))| {
            let order = spec.order.clone().from_row(*base);
            scan(ShuffledScan {
                object: at,
                partitions: ranks_by_cuts(&order, &object.rows, &spec.windows),
                order: Some(OrderedRows {
                    order,
                    blocks: None,
                    // All that a partition has is of one window, which is held as it is.
                    windows: OrderedWindows::Own { bytes: u64::MAX },
                    held_bytes: spec.held_bytes / self.scanned.max(1) as u64,
                }),
                windows: spec.windows.clone(),
            })
        });
        one_after_other(scans.collect::<Result<_>>()?)
    }

    /// The objects and the numbers of their first rows.
    fn bases(&self) -> Vec<(String, u64)> {
        let mut base = 0;
        let objects = self.objects.iter().map(|object| {
            let first = base;
            base += object.n_rows;
            (object.name.clone(), first)
        });
        objects.collect()
    }

    /// The numbers of all shuffled rows.
    fn numbers(&self) -> RowSelection {
        let objects = self.objects.iter().zip(self.bases());
        RowSelection::from_ranges(objects.flat_map(|(object, (_, base))| {
            let ranges = object.rows.ranges().iter();
            ranges.map(move |rows| base + rows.start..base + rows.end)
        }))
    }
}

/// The partitions of all scans.
fn one_after_other(mut scans: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
    match scans.len() {
        1 => Ok(scans.swap_remove(0)),
        _ => Ok(UnionExec::try_new(scans)?),
    }
}

/// How many windows have rows of partitions that are read at a time, at most.
fn alive(partitions: &[Range<u64>], windows: &[u64], at_a_time: u64) -> u64 {
    let window = |rank: u64| windows.partition_point(|start| *start <= rank);
    let n = usize::try_from(at_a_time.max(1)).unwrap_or(usize::MAX);
    let together = partitions.windows(n.min(partitions.len()).max(1));
    let alive = together.map(|read| {
        let start = read.first().map_or(0, |first| first.start);
        let end = read.last().map_or(0, |last| last.end.max(1));
        window(end - 1).saturating_sub(window(start)) as u64 + 1
    });
    alive.max().unwrap_or(1)
}

fn cuts(ranks: &Ranks, starts: impl Iterator<Item = u64>) -> Vec<OrderCut> {
    let end = OrderCut {
        key: u64::MAX,
        row: u64::MAX,
    };
    let starts: Vec<u64> = starts.collect();
    let cuts = ranks.cuts(&starts).into_iter();
    cuts.map(|cut| cut.unwrap_or(end)).collect()
}

/// The ranks at which windows after the first begin: of as many whole partitions as fit, or of parts
/// of one that does not, so that none waits for a partition that has not begun.
fn window_starts(partitions: &[Range<u64>], per_window: u64) -> Vec<u64> {
    let mut starts = Vec::new();
    let mut first = 0;
    for partition in partitions {
        let len = partition.end.saturating_sub(partition.start);
        if partition.end.saturating_sub(first) <= per_window {
            continue;
        }
        if partition.start > first {
            starts.push(partition.start);
            first = partition.start;
        }
        let parts = len.div_ceil(per_window);
        for part in 1..parts {
            let at = u128::from(len) * u128::from(part) / u128::from(parts);
            starts.push(partition.start + u64::try_from(at).unwrap_or(len));
        }
        if parts > 1 {
            // What follows has a window of its own, so that nobody holds two parts of this one.
            starts.push(partition.end);
            first = partition.end;
        }
    }
    if starts.last() == partitions.last().map(|p| &p.end) {
        starts.pop();
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_urls_are_numbered_by_all_of_their_location() {
        let location = Location::parse("https://me:secret@host/a.h5ad?signature=1#mod/rna");
        let object = ShuffledObject::at(&location, 5, RowSelection::all(5));
        assert_eq!(object.name, location.text());
    }

    #[test]
    fn windows_that_partitions_need_together_are_counted() {
        let partitions: Vec<_> = (0..6).map(|at| 10 * at..10 * at + 10).collect();
        assert_eq!(alive(&partitions, &[], 4), 1);
        assert_eq!(alive(&partitions, &[30], 2), 2);
        assert_eq!(alive(&partitions, &[20, 40], 2), 2);
        assert_eq!(alive(&partitions, &[10, 20, 30, 40, 50], 3), 3);
        assert_eq!(alive(&partitions, &[5, 10], 1), 2);
        assert_eq!(alive(&[], &[], 2), 1);
    }

    #[test]
    fn windows_hold_whole_partitions_or_parts_of_one() {
        assert_eq!(window_starts(&[0..4, 4..8, 8..12, 12..14], 8), [8]);
        assert_eq!(window_starts(&[0..4, 4..8, 8..12], 100), [0u64; 0]);
        assert_eq!(window_starts(&[0..2, 2..12, 12..14], 4), [2, 5, 8, 12]);
        let all = 0..9;
        assert_eq!(window_starts(std::slice::from_ref(&all), 4), [3, 6]);
    }
}
