//! Groups of rows that an order keeps together.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::size::share;
use crate::error::{Error, Result};

/// Groups of numbered rows, one after the other in a [`RowOrder`](super::RowOrder).
///
/// A group has a share of all keys that is its share of the rows, so that keys are as evenly spread with
/// groups as without, and whoever counts on that need not know of them: those of group `g`, before which
/// `b` of `n` rows come, begin at `s(g) = b * (2^64 - 1) / n`, rounded down, and a row with the word `w`
/// of its order has the key `s(g) + w * (s(g + 1) - s(g)) / 2^64`. Holds 4 bytes a row and 8 a group; as
/// bytes of a plan, the group of each row.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct RowGroups {
    of_rows: Vec<u32>,
    /// Where the keys of each group begin, and those of the last one end.
    starts: Vec<u64>,
    keeps: bool,
}

impl RowGroups {
    /// Groups by the number of each row's, in the order of these numbers, which leave none out.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a number that is not below the number of rows.
    pub fn new(of_rows: Vec<u32>) -> Result<Self> {
        let n_groups = of_rows.iter().max().map_or(0, |last| place(*last) + 1);
        if n_groups > of_rows.len() {
            let reason = format!("{n_groups} groups of {} rows", of_rows.len());
            return Err(Error::option("groups", reason));
        }
        let mut starts = vec![0u64; n_groups + 1];
        for group in &of_rows {
            starts[place(*group) + 1] += 1;
        }
        let mut before = 0;
        for start in &mut starts {
            before += *start;
            *start = share(u64::MAX, before, of_rows.len() as u64);
        }
        Ok(Self {
            of_rows,
            starts,
            keeps: false,
        })
    }

    /// The same groups, in which rows keep their own order, whatever the seed.
    #[must_use]
    pub fn keeping_order(self) -> Self {
        Self {
            keeps: true,
            ..self
        }
    }

    /// Whether rows of a group keep their own order.
    pub fn keeps_order(&self) -> bool {
        self.keeps
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> u64 {
        (size_of_val(&self.of_rows[..]) + size_of_val(&self.starts[..])) as u64
    }

    /// The key of a row; rows that have no group come last.
    pub(super) fn key(&self, row: u64, word: impl FnOnce() -> u64) -> u64 {
        let at = usize::try_from(row).unwrap_or(usize::MAX);
        let Some(group) = self.of_rows.get(at).map(|group| place(*group)) else {
            return u64::MAX;
        };
        let word = match self.keeps {
            true => row * (u64::MAX / self.of_rows.len() as u64),
            false => word(),
        };
        let (start, end) = (self.starts[group], self.starts[group + 1]);
        start + high(u128::from(word) * u128::from(end - start))
    }
}

impl fmt::Debug for RowGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowGroups")
            .field("rows", &self.of_rows.len())
            .field("groups", &self.len())
            .field("keeps", &self.keeps)
            .finish()
    }
}

/// What is said of groups in the bytes of a plan.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    of_rows: Vec<u32>,
    keeps: bool,
}

impl From<RowGroups> for Stored {
    fn from(groups: RowGroups) -> Self {
        Self {
            of_rows: groups.of_rows,
            keeps: groups.keeps,
        }
    }
}

impl TryFrom<Stored> for RowGroups {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Self> {
        let groups = Self::new(stored.of_rows)?;
        Ok(Self {
            keeps: stored.keeps,
            ..groups
        })
    }
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

    fn ordered(groups: RowGroups, n: u64) -> Vec<u64> {
        let order = RowOrder::new(5).grouped(Some(Arc::new(groups)));
        let mut keyed: Vec<_> = order.keys(0..n).zip(0..n).collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, row)| row).collect()
    }

    #[test]
    fn groups_follow_each_other_in_the_order_of_the_seed() {
        // A group that is nearly all, one of an eighth, an empty one, and one of a row.
        let of = |row: u64| {
            if row == 77 {
                3
            } else {
                u32::from(row.is_multiple_of(9))
            }
        };
        let of_rows: Vec<u32> = (0..5000).map(of).collect();
        let groups = RowGroups::new(of_rows).unwrap();
        let order = RowOrder::new(5);
        let mut expected: Vec<u64> = (0..5000).collect();
        expected.sort_by_key(|row| (of(*row), order.key(*row)));
        assert_eq!(ordered(groups.clone(), 5000), expected);
        expected.sort_by_key(|row| (of(*row), *row));
        let kept = groups.keeping_order();
        assert_eq!(ordered(kept.clone(), 5000), expected);
        let stored = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<RowGroups>(&stored).unwrap(), kept);
        // A row that nothing is known of comes last.
        assert_eq!(ordered(kept, 5001).last(), Some(&5000));
    }

    #[test]
    fn keys_stay_evenly_spread() {
        let of_rows: Vec<u32> = (0..64_000).map(|row| u32::from(row % 10 == 0)).collect();
        let groups = Arc::new(RowGroups::new(of_rows).unwrap());
        let order = RowOrder::new(1).grouped(Some(groups));
        let mut counts = [0u32; 16];
        for key in order.keys(0..64_000) {
            counts[usize::try_from(key >> 60).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|n| (3600..4400).contains(n)),
            "{counts:?}"
        );
    }

    #[test]
    fn more_groups_than_rows_are_refused() {
        assert!(RowGroups::new(vec![0, u32::MAX]).is_err());
        assert!(serde_json::from_str::<RowGroups>(r#"{"of_rows":[7],"keeps":true}"#).is_err());
        assert!(RowGroups::new(Vec::new()).unwrap().is_empty());
    }
}
