//! Dealing cells out to shards so that each shard has each category in proportion.

use crate::error::{Error, Result};
use crate::model::{RowOrder, RowSelection};

/// Gives every shard of a category of `c` cells `c / n` of them, rounded down or up, and every shard as
/// many cells as the others, to one.
///
/// ```text
///  A A A A A A A │ B B B │ C C      shards 0 1 2 0 1 2 0 │ 1 2 0 │ 1 2
/// ```
/// The cells of a category are dealt round by round, from the shard that the last category ended at;
/// within a round the order of keys says which cell goes where, so that each cell has the same chance
/// of every shard. Cells without a category are dealt as if they had one of their own.
///
/// # Errors
/// [`Error::InvalidOption`] for more shards than memory has room for rounds.
pub(super) fn deal(
    categories: &[RowSelection],
    kept: &RowSelection,
    n_shards: u64,
    order: RowOrder,
) -> Result<Vec<RowSelection>> {
    let n = usize::try_from(n_shards)
        .ok()
        .filter(|n| *n <= 1 << 24)
        .ok_or_else(|| Error::option("--size", format!("{n_shards} shards are too many")))?;
    let mut shards: Vec<Vec<std::ops::Range<u64>>> = vec![Vec::new(); n];
    let mut next = 0;
    let all = RowSelection::from_ranges(categories.iter().flat_map(|c| c.ranges().iter().cloned()));
    let without = kept.without(&all);
    for cells in categories.iter().chain(std::iter::once(&without)) {
        let cells = cells.intersect(kept);
        let mut keyed = order.keys_of(cells.iter()).zip(cells.iter()).peekable();
        let mut round = Vec::with_capacity(n.min(1 << 16));
        while keyed.peek().is_some() {
            round.clear();
            round.extend(keyed.by_ref().take(n));
            round.sort_unstable();
            for (_, row) in &round {
                shards[next].push(*row..*row + 1);
                next = (next + 1) % n;
            }
        }
    }
    Ok(shards.into_iter().map(RowSelection::from_ranges).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_has_its_share_of_each_category_to_one() {
        let categories = [
            RowSelection::from_ranges([0..40, 60..77]),
            RowSelection::range(41..60),
            RowSelection::from_ranges([80..81, 90..95]),
        ];
        let kept = RowSelection::from_ranges([0..30, 35..100]);
        for n in [1, 4, 7, 200] {
            let shards = deal(&categories, &kept, n, RowOrder::new(n)).unwrap();
            assert_eq!(shards.len() as u64, n);
            let total: u64 = shards.iter().map(RowSelection::len).sum();
            assert_eq!(total, kept.len());
            let sizes: Vec<u64> = shards.iter().map(RowSelection::len).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            for category in &categories {
                let cells = category.intersect(&kept);
                for shard in &shards {
                    let here = shard.intersect(&cells).len();
                    assert!(here == cells.len() / n || here == cells.len().div_ceil(n));
                }
            }
            let all =
                RowSelection::from_ranges(shards.iter().flat_map(|s| s.ranges().iter().cloned()));
            assert_eq!(all, kept);
        }
    }
}
