//! How far an epoch has come.

use serde::{Deserialize, Serialize};

use crate::model::RowSelection;

/// Where training was interrupted: what of an epoch is done, by minibatch. Positions of several ranks
/// add up ([`and`](Self::and)), so that any number of others may take over the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// The epoch.
    pub epoch: u64,
    /// Its minibatches that have been used, as ranges of their numbers.
    pub done: RowSelection,
}

impl Position {
    /// The beginning of an epoch.
    pub fn start(epoch: u64) -> Self {
        Self {
            epoch,
            done: RowSelection::default(),
        }
    }

    /// What either of two ranks of an epoch has done.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let ranges = self.done.ranges().iter().chain(other.done.ranges());
        Self {
            epoch: self.epoch,
            done: RowSelection::from_ranges(ranges.cloned()),
        }
    }

    /// With a further minibatch.
    pub(super) fn add(&mut self, minibatch: u64) {
        let last = self.done.ranges().last().cloned();
        let one = minibatch..minibatch + 1;
        self.done = match last {
            // The usual case costs no more than it has to.
            Some(last) if last.end == minibatch && self.done.ranges().len() == 1 => {
                RowSelection::range(last.start..one.end)
            }
            _ => RowSelection::from_ranges(self.done.ranges().iter().cloned().chain([one])),
        };
    }

    /// The share of a rank of what is left of `n` minibatches, equal to that of every other.
    pub(super) fn left(&self, n: u64, rank: u64, world_size: u64) -> RowSelection {
        let left = RowSelection::all(n).without(&self.done);
        let each = left.len() / world_size.max(1);
        left.slice(rank * each..(rank + 1) * each)
    }

    /// A part of such a share, as large as every other but for one.
    pub(super) fn part(share: &RowSelection, part: u64, parts: u64) -> RowSelection {
        let cut = |part: u64| {
            let at = u128::from(share.len()) * u128::from(part) / u128::from(parts.max(1));
            u64::try_from(at).unwrap_or(share.len())
        };
        share.slice(cut(part)..cut(part + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_take_over_what_is_left() {
        let mut first = Position::start(2);
        (0..3).for_each(|minibatch| first.add(minibatch));
        let mut second = Position::start(2);
        second.add(5);
        let both = first.and(&second);
        assert_eq!(both.done.ranges(), [0..3, 5..6]);
        assert_eq!(both.left(11, 0, 3), RowSelection::range(3..5));
        assert_eq!(both.left(11, 1, 3), RowSelection::range(6..8));
        assert_eq!(both.left(11, 2, 3), RowSelection::range(8..10));
        let text = serde_json::to_string(&both).unwrap();
        assert_eq!(serde_json::from_str::<Position>(&text).unwrap(), both);
    }
}
