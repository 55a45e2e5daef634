//! Groups of rows that an order keeps together.

use serde::{Deserialize, Serialize};

/// Groups of numbered rows, one after the other in a [`RowOrder`](super::RowOrder).
///
/// A group has a share of all keys that is its share of the rows, so that keys are as evenly spread with
/// groups as without, and whoever counts on that need not know of them. Holds 4 bytes a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RowGroups {
    /// The group of each row.
    of_rows: Vec<u32>,
    /// Where the keys of each group begin, and those of the last one end.
    starts: Vec<u64>,
    /// Whether rows of a group keep their order.
    keeps: bool,
}

impl RowGroups {
    /// Groups by the number of each row's, in the order of these numbers; within one, rows come in the
    /// order of the seed, or keep their own.
    pub fn new(of_rows: Vec<u32>, keeps: bool) -> Self {
        let n_groups = of_rows.iter().max().map_or(0, |last| place(*last) + 1);
        let mut counts = vec![0u64; n_groups];
        for group in &of_rows {
            counts[place(*group)] += 1;
        }
        let mut before = 0;
        let mut starts = vec![0];
        starts.extend(counts.into_iter().map(|count| {
            before += count;
            share(before, of_rows.len() as u64)
        }));
        Self {
            of_rows,
            starts,
            keeps,
        }
    }

    /// The key of a row that has this one without groups.
    pub(super) fn key(&self, row: u64, key: u64) -> u64 {
        let at = usize::try_from(row).unwrap_or(usize::MAX);
        let group = self.of_rows.get(at).map_or(0, |group| place(*group));
        let start = self.starts.get(group).copied().unwrap_or(0);
        let end = self.starts.get(group + 1).copied().unwrap_or(u64::MAX);
        let key = match self.keeps {
            true => share(row, self.of_rows.len() as u64),
            false => key,
        };
        start + high(u128::from(key) * u128::from(end - start))
    }
}

/// The share of all keys that a part of some rows has.
fn share(part: u64, whole: u64) -> u64 {
    let share = u128::from(part) * u128::from(u64::MAX) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

fn high(product: u128) -> u64 {
    u64::try_from(product >> 64).unwrap_or(u64::MAX)
}

fn place(group: u32) -> usize {
    usize::try_from(group).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::RowOrder;

    fn ordered(order: &RowOrder, n: u64) -> Vec<u64> {
        let mut keyed: Vec<_> = order.keys(0..n).zip(0..n).collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, row)| row).collect()
    }

    #[test]
    fn groups_follow_each_other_in_the_order_of_the_seed() {
        // A group that is nearly all, an empty one, and a group of one row.
        let groups: Vec<u32> = (0..5000)
            .map(|row| {
                if row == 77 {
                    3
                } else {
                    u32::from(row % 9 == 0)
                }
            })
            .collect();
        let plain = ordered(&RowOrder::new(5), 5000);
        let mut expected = plain.clone();
        expected.sort_by_key(|row| groups[usize::try_from(*row).unwrap()]);
        let grouped =
            RowOrder::new(5).grouped(Some(Arc::new(RowGroups::new(groups.clone(), false))));
        assert_eq!(ordered(&grouped, 5000), expected);
        let mut kept: Vec<u64> = (0..5000).collect();
        kept.sort_by_key(|row| groups[usize::try_from(*row).unwrap()]);
        let grouped = RowOrder::new(5).grouped(Some(Arc::new(RowGroups::new(groups, true))));
        assert_eq!(ordered(&grouped, 5000), kept);
    }

    #[test]
    fn keys_stay_evenly_spread() {
        let groups: Vec<u32> = (0..64_000).map(|row| u32::from(row % 10 == 0)).collect();
        let order = RowOrder::new(1).grouped(Some(Arc::new(RowGroups::new(groups, false))));
        let mut counts = [0u32; 16];
        for key in order.keys(0..64_000) {
            counts[usize::try_from(key >> 60).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|n| (3600..4400).contains(n)),
            "{counts:?}"
        );
    }
}
