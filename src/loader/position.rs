//! How far an epoch has come.

use serde::{Deserialize, Serialize};

use crate::model::RowSelection;

/// Where training was interrupted: which cells of an epoch are done. Positions of several ranks add up
/// ([`and`](Self::and)), so that any number of others may take over the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// The epoch.
    pub epoch: u64,
    /// Its cells that have been used, as ranges of their places in the epoch's order.
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

    /// With the cells of a further minibatch.
    pub(super) fn add(&mut self, cells: &RowSelection) {
        self.done = match (self.done.ranges(), cells.ranges()) {
            // The usual case costs no more than it has to.
            ([all], [more]) if all.end == more.start => RowSelection::range(all.start..more.end),
            (done, more) => RowSelection::from_ranges(done.iter().chain(more).cloned()),
        };
    }

    /// What is left of `n` cells.
    pub(super) fn left(&self, n: u64) -> RowSelection {
        RowSelection::all(n).without(&self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_take_over_what_is_left() {
        let mut first = Position::start(2);
        (0..3).for_each(|at| first.add(&RowSelection::range(4 * at..4 * at + 4)));
        let mut second = Position::start(2);
        second.add(&RowSelection::range(20..24));
        let both = first.and(&second);
        assert_eq!(both.done.ranges(), [0..12, 20..24]);
        assert_eq!(both.left(42).ranges(), [12..20, 24..42]);
        let text = serde_json::to_string(&both).unwrap();
        assert_eq!(serde_json::from_str::<Position>(&text).unwrap(), both);
    }
}
