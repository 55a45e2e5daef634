//! A rank's part of an epoch, in minibatches.
//!
//! ```text
//!  what is left, two ranks   ▏0 ▏1 ▏2 ▏3 ▏4 ▏5 ▏···
//!  rank 0                    ▏0 ▏1 ▏2 ▏·▏             whole minibatches, and half of the last round
//!  rank 1                    ▏3 ▏4 ▏5 ▏·▏
//! ```

use std::ops::Range;

use super::options::LastRound;
use crate::model::RowSelection;

/// Minibatches of a rank; cells by their places in the order of the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    batch_size: u64,
    /// Cells of whole minibatches.
    whole: RowSelection,
    /// Minibatches of the last round.
    last: Vec<Vec<Range<u64>>>,
    /// Which of all of them are here.
    numbers: Range<u64>,
}

impl Share {
    /// The share of a rank of what is left: as many minibatches as every other rank has.
    pub(super) fn new(
        left: &RowSelection,
        batch_size: u64,
        (rank, world_size): (u64, u64),
        last_round: LastRound,
    ) -> Self {
        let (n, round) = (left.len(), batch_size.saturating_mul(world_size));
        let mut each = n / round;
        let rest = n % round;
        // Fewer cells than ranks are divided together with those of the round before.
        if last_round == LastRound::Divided && rest > 0 && rest < world_size && each > 0 {
            each -= 1;
        }
        let first = each * round;
        let whole = left.slice(rank * each * batch_size..(rank + 1) * each * batch_size);
        let last = match last_round {
            LastRound::Dropped => Vec::new(),
            LastRound::Divided => divided(left, first, batch_size, (rank, world_size)),
            LastRound::Padded if rest == 0 => Vec::new(),
            LastRound::Padded => vec![padded(left, first + rank * batch_size, batch_size)],
        };
        Self {
            batch_size,
            whole,
            numbers: 0..each + last.len() as u64,
            last,
        }
    }

    /// A part of the minibatches, as large as every other but for one.
    #[must_use]
    pub(super) fn part(self, part: u64, parts: u64) -> Self {
        let cut = |part: u64| even(self.numbers.end, part, parts);
        Self {
            numbers: cut(part)..cut(part + 1),
            ..self
        }
    }

    /// How many minibatches there are.
    pub(super) fn len(&self) -> u64 {
        self.numbers.end - self.numbers.start
    }

    /// Cells of all minibatches.
    pub(super) fn n_cells(&self) -> u64 {
        let n_whole = self.whole.len() / self.batch_size;
        let whole = self.numbers.end.min(n_whole) - self.numbers.start.min(n_whole);
        let last = self.numbers.start.max(n_whole)..self.numbers.end;
        let last = last.flat_map(|number| self.minibatch(number));
        whole * self.batch_size + last.map(|cells| cells.end - cells.start).sum::<u64>()
    }

    /// The cells of each minibatch, in its order.
    pub(super) fn minibatches(self) -> impl Iterator<Item = Vec<Range<u64>>> + Send {
        let numbers = self.numbers.clone();
        numbers.map(move |number| self.minibatch(number))
    }

    fn minibatch(&self, number: u64) -> Vec<Range<u64>> {
        let n_whole = self.whole.len() / self.batch_size;
        match number.checked_sub(n_whole) {
            None => {
                let first = number * self.batch_size;
                let cells = self.whole.slice(first..first + self.batch_size);
                cells.ranges().to_vec()
            }
            Some(last) => {
                let last = usize::try_from(last).ok();
                last.and_then(|at| self.last.get(at))
                    .cloned()
                    .unwrap_or_default()
            }
        }
    }
}

/// A rank's part of the cells from `first` on: in one minibatch, or in two where one would be too
/// large.
fn divided(
    left: &RowSelection,
    first: u64,
    batch_size: u64,
    (rank, world_size): (u64, u64),
) -> Vec<Vec<Range<u64>>> {
    let n = left.len() - first;
    if n < world_size {
        // There is not one for every rank.
        return Vec::new();
    }
    let (start, end) = (even(n, rank, world_size), even(n, rank + 1, world_size));
    // Each has a cell, so that there are as many for the smallest share as for the largest.
    let parts = n
        .div_ceil(world_size)
        .div_ceil(batch_size)
        .min(n / world_size);
    let cut = |part: u64| first + start + even(end - start, part, parts);
    let parts = (0..parts).map(|part| left.slice(cut(part)..cut(part + 1)).ranges().to_vec());
    parts.collect()
}

/// So many cells from `first` on, over and over.
fn padded(left: &RowSelection, first: u64, batch_size: u64) -> Vec<Range<u64>> {
    let n = left.len();
    let (mut at, mut wanted) = (first % n.max(1), batch_size);
    let mut cells = Vec::new();
    while wanted > 0 && n > 0 {
        let end = n.min(at + wanted);
        cells.extend_from_slice(left.slice(at..end).ranges());
        wanted -= end - at;
        at = 0;
    }
    cells
}

/// Where a part of `n` begins, of parts whose sizes differ by one at most.
fn even(n: u64, part: u64, parts: u64) -> u64 {
    let at = u128::from(n) * u128::from(part) / u128::from(parts.max(1));
    u64::try_from(at).unwrap_or(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(left: &RowSelection, batch: u64, ranks: u64, last: LastRound) -> Vec<Vec<Vec<u64>>> {
        let shares = (0..ranks).map(|rank| {
            let share = Share::new(left, batch, (rank, ranks), last);
            let n = share.n_cells();
            let minibatches = share
                .minibatches()
                .map(|cells| cells.into_iter().flatten().collect());
            let minibatches: Vec<Vec<u64>> = minibatches.collect();
            assert_eq!(n, minibatches.iter().map(Vec::len).sum::<usize>() as u64);
            minibatches
        });
        shares.collect()
    }

    #[test]
    fn every_rank_has_as_many_minibatches_and_no_cell_is_lost_or_repeated() {
        for n in 0..60 {
            let left = RowSelection::from_ranges([3..3 + n / 2, 100..100 + n - n / 2]);
            for (batch, ranks) in [(1, 1), (1, 3), (2, 3), (4, 1), (4, 2), (5, 7)] {
                let shares = shares(&left, batch, ranks, LastRound::Divided);
                let lens: Vec<usize> = shares.iter().map(Vec::len).collect();
                assert!(
                    lens.iter().all(|len| *len == lens[0]),
                    "{n} {batch} {ranks}: {lens:?}"
                );
                let sizes = shares.iter().flatten().map(Vec::len);
                let most = sizes.clone().max().unwrap_or(0) as u64;
                // A cell each cannot be divided further.
                assert!(
                    most <= batch.max(2) && sizes.min() != Some(0),
                    "{n} {batch} {ranks}"
                );
                let mut seen: Vec<u64> = shares.into_iter().flatten().flatten().collect();
                seen.sort_unstable();
                match n < ranks {
                    true => assert!(seen.is_empty()),
                    false => assert_eq!(seen, left.iter().collect::<Vec<_>>()),
                }
            }
        }
    }

    #[test]
    fn the_last_round_is_padded_or_dropped_where_that_is_asked_for() {
        let left = RowSelection::all(10);
        let padded = shares(&left, 4, 2, LastRound::Padded);
        assert_eq!(padded[0], [vec![0, 1, 2, 3], vec![8, 9, 0, 1]]);
        assert_eq!(padded[1], [vec![4, 5, 6, 7], vec![2, 3, 4, 5]]);
        let dropped = shares(&left, 4, 2, LastRound::Dropped);
        assert_eq!(dropped, [[vec![0, 1, 2, 3]], [vec![4, 5, 6, 7]]]);
        let few = shares(&RowSelection::all(2), 5, 1, LastRound::Padded);
        assert_eq!(few, [[vec![0, 1, 0, 1, 0]]]);
    }

    #[test]
    fn parts_of_a_share_follow_each_other() {
        let share = Share::new(&RowSelection::all(103), 4, (0, 1), LastRound::Divided);
        let all: Vec<_> = share.clone().minibatches().collect();
        let parts = (0..5).flat_map(|part| share.clone().part(part, 5).minibatches());
        assert_eq!(parts.collect::<Vec<_>>(), all);
        let last: Vec<Range<u64>> = std::iter::once(100..103).collect();
        assert_eq!(all.last(), Some(&last));
    }
}
