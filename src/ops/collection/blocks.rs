//! Which cells go into which dataset.

use crate::model::{RowOrder, RowSelection};

/// Where datasets of `n` cells end that have `size` cells at most, in whole blocks; of fewer than two
/// blocks, one has all (annbatch's `_create_chunks_for_shuffling`).
fn blocks_of_dataset(n: u64, size: u64, block: u64) -> u64 {
    let all = n.div_ceil(block.max(1)).max(1);
    match size / block.max(1) {
        _ if n <= size => all,
        0 | 1 => all,
        blocks => blocks,
    }
}

/// The cells of each dataset, where blocks of adjacent ones stay together: in the order of a seed, or in
/// their own.
pub(super) fn deal(n: u64, size: u64, block: u64, order: Option<RowOrder>) -> Vec<RowSelection> {
    let block = block.max(1);
    let Some(order) = order else {
        let step = blocks_of_dataset(n, size, block)
            .saturating_mul(block)
            .max(1);
        let starts = (0..n.div_ceil(step)).map(|at| at * step);
        return starts
            .map(|start| RowSelection::range(start..n.min(start + step)))
            .collect();
    };
    let per_dataset = usize::try_from(blocks_of_dataset(n, size, block)).unwrap_or(usize::MAX);
    let blocks = shuffled(n.div_ceil(block), order);
    let datasets = blocks.chunks(per_dataset);
    datasets.map(|blocks| rows(blocks, n, block)).collect()
}

/// The cells that each of some datasets gets, as many blocks as every other but for one; blocks are
/// smaller where there would not be one for each.
pub(super) fn spread(
    n: u64,
    datasets: u64,
    block: u64,
    order: Option<RowOrder>,
) -> Vec<RowSelection> {
    let block = block.min(n / datasets.max(1)).max(1);
    let blocks: Vec<u64> = match order {
        Some(order) => shuffled(n.div_ceil(block), order),
        None => (0..n.div_ceil(block)).collect(),
    };
    let cut = |at: u64| {
        let at = u128::from(at) * blocks.len() as u128 / u128::from(datasets.max(1));
        usize::try_from(at).unwrap_or(blocks.len())
    };
    let parts = (0..datasets).map(|at| rows(&blocks[cut(at)..cut(at + 1)], n, block));
    parts.collect()
}

/// Numbers of blocks in the order of a seed.
fn shuffled(n_blocks: u64, order: RowOrder) -> Vec<u64> {
    // Cells have the keys of their numbers, so blocks count from the other end.
    let keys = order.keys_of((0..n_blocks).map(|at| u64::MAX - at));
    let mut keyed: Vec<(u64, u64)> = keys.zip(0..n_blocks).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, block)| block).collect()
}

/// The cells of blocks.
fn rows(blocks: &[u64], n: u64, block: u64) -> RowSelection {
    RowSelection::from_ranges(blocks.iter().map(|at| at * block..n.min((at + 1) * block)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(n: u64, size: u64, block: u64) -> Vec<u64> {
        let datasets = deal(n, size, block, Some(RowOrder::new(7)));
        datasets.iter().map(RowSelection::len).collect()
    }

    #[test]
    fn datasets_have_whole_blocks() {
        assert_eq!(sizes(100, 1000, 10), [100]);
        assert_eq!(sizes(100, 35, 10), [30, 30, 30, 10]);
        // Two blocks at least make a dataset.
        assert_eq!(sizes(100, 15, 10), [100]);
        assert_eq!(sizes(0, 15, 10), [0u64; 0]);
        // The short block is anywhere.
        assert_eq!(sizes(95, 30, 10).iter().sum::<u64>(), 95);
    }

    #[test]
    fn every_cell_is_in_one_dataset_and_order_is_the_seeds() {
        let of = |seed| deal(1003, 200, 10, Some(RowOrder::new(seed)));
        let all = of(1);
        let ranges = all.iter().flat_map(|rows| rows.ranges().iter().cloned());
        assert_eq!(RowSelection::from_ranges(ranges), RowSelection::all(1003));
        assert_eq!(all.iter().map(RowSelection::len).sum::<u64>(), 1003);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let kept = deal(1003, 200, 10, None);
        assert_eq!(kept[0], RowSelection::all(200));
    }

    #[test]
    fn cells_are_spread_over_all_datasets() {
        for (n, datasets, block) in [(1003, 4, 10), (7, 3, 1000), (2, 3, 10), (0, 2, 10)] {
            for order in [Some(RowOrder::new(5)), None] {
                let parts = spread(n, datasets, block, order);
                assert_eq!(parts.len() as u64, datasets);
                let ranges = parts.iter().flat_map(|rows| rows.ranges().iter().cloned());
                assert_eq!(RowSelection::from_ranges(ranges), RowSelection::all(n));
                let lens = parts.iter().map(RowSelection::len);
                assert_eq!(lens.clone().sum::<u64>(), n);
                // A block more, and one that is not short.
                assert!(lens.clone().max() <= lens.min().map(|least| least + 2 * block));
            }
        }
    }
}
