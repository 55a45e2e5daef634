//! Which cells come when: an epoch as a sequence of ranks.

use std::ops::Range;

use crate::kernel::{BlockRanks, Blocks};
use crate::model::{RowOrder, RowSelection};

/// Numbers below which rows have their keys: those of epochs and draws stand above.
const EPOCHS: u64 = 1 << 63;
const DRAWS: u64 = 1 << 62;

/// The order of an epoch.
pub(super) fn order_of(seed: u64, epoch: u64) -> RowOrder {
    RowOrder::new(RowOrder::new(seed).key(EPOCHS + epoch))
}

/// The cells of an epoch by rank.
#[derive(Debug)]
pub(super) enum Sequence {
    InOrder { rows: RowSelection, window: u64 },
    Blocks(Mixed),
    Drawn(Draws),
}

/// Every cell once, in random blocks.
///
/// A block that is short, because blocks do not divide the cells, comes in the last window: all
/// windows before are full, so that minibatches do not cross their ends. Which cells it has is random.
#[derive(Debug)]
pub(super) struct Mixed {
    full: BlockRanks,
    /// The rank at which the last window begins, which has the short block.
    last_start: u64,
    last: Vec<u64>,
}

/// Cells drawn with replacement.
#[derive(Debug)]
pub(super) struct Draws {
    order: RowOrder,
    n: u64,
    /// Draws of a window, which are mixed.
    window: u64,
    from: Pool,
}

/// What is drawn from.
#[derive(Debug)]
pub(super) enum Pool {
    /// Blocks of adjacent ones of these cells.
    Blocks { rows: Vec<u64>, size: u64 },
    /// Cells of classes, and the sums of weights up to each.
    Classes { rows: Vec<Vec<u64>>, sums: Vec<f64> },
}

impl Sequence {
    /// Every cell once, in blocks of `chunk_size`, of which `per_window` are mixed.
    pub(super) fn mixed(order: RowOrder, rows: &RowSelection, blocks: Blocks) -> Self {
        let short = rows.len() % blocks.rows;
        let n_full = rows.len() / blocks.rows;
        let at = below(order.key(EPOCHS), n_full + 1) * blocks.rows;
        let tail = rows.slice(at..at + short);
        let full = BlockRanks::new(order.clone(), rows.without(&tail), blocks);
        let window = blocks.rows.saturating_mul(blocks.per_window).max(1);
        let last_start = full.len() - full.len() % window;
        let mut last = full.rows(last_start..full.len());
        last.extend(tail.iter());
        last.sort_unstable();
        let keys: Vec<u64> = order.keys_of(last.iter().copied()).collect();
        let mut keyed: Vec<(u64, u64)> = keys.into_iter().zip(last).collect();
        keyed.sort_unstable();
        Self::Blocks(Mixed {
            full,
            last_start,
            last: keyed.into_iter().map(|(_, row)| row).collect(),
        })
    }

    /// `n` cells drawn from a pool.
    pub(super) fn drawn(order: RowOrder, n: u64, window: u64, from: Pool) -> Self {
        Self::Drawn(Draws {
            order,
            n,
            window,
            from,
        })
    }

    /// Cells of the epoch.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::InOrder { rows, .. } => rows.len(),
            Self::Blocks(mixed) => mixed.last_start + mixed.last.len() as u64,
            Self::Drawn(draws) => draws.n,
        }
    }

    /// The rank at which the window of a rank ends: what is read together.
    pub(super) fn window_end(&self, rank: u64) -> u64 {
        let even = |window: u64| (rank - rank % window.max(1)).saturating_add(window.max(1));
        let end = match self {
            Self::InOrder { window, .. } => even(*window),
            Self::Blocks(mixed) if rank < mixed.last_start => mixed.full.window_end(rank),
            Self::Blocks(_) => self.len(),
            Self::Drawn(draws) => even(draws.window),
        };
        end.min(self.len())
    }

    /// The cells of these ranks, in the order.
    pub(super) fn rows(&self, ranks: Range<u64>) -> Vec<u64> {
        match self {
            Self::InOrder { rows, .. } => rows.slice(ranks).iter().collect(),
            Self::Blocks(mixed) => {
                let split = mixed
                    .last_start
                    .clamp(ranks.start, ranks.end.max(ranks.start));
                let mut rows = mixed.full.rows(ranks.start..split);
                let place = |rank: u64| {
                    let place = rank.saturating_sub(mixed.last_start);
                    usize::try_from(place).map_or(mixed.last.len(), |at| at.min(mixed.last.len()))
                };
                rows.extend_from_slice(&mixed.last[place(split)..place(ranks.end)]);
                rows
            }
            Self::Drawn(draws) => draws.rows(ranks),
        }
    }
}

impl Draws {
    fn rows(&self, ranks: Range<u64>) -> Vec<u64> {
        let mut rows = Vec::new();
        let mut at = ranks.start;
        let end = ranks.end.min(self.n);
        while at < end {
            let first = at - at % self.window;
            let stop = (first + self.window).min(self.n);
            // Draws of a window come in a random order: those of a block are adjacent cells.
            let keys = self.order.keys_of(DRAWS + first..DRAWS + stop);
            let mut keyed: Vec<(u64, u64)> = keys.zip(first..stop).collect();
            keyed.sort_unstable();
            let upto = end.min(stop);
            let wanted = keyed.iter().skip(place(at - first)).take(place(upto - at));
            rows.extend(wanted.filter_map(|(_, draw)| self.draw(*draw)));
            at = upto;
        }
        rows
    }

    fn draw(&self, draw: u64) -> Option<u64> {
        match &self.from {
            Pool::Blocks { rows, size } => {
                let size = (*size).min(rows.len() as u64).max(1);
                let starts = rows.len() as u64 - size + 1;
                let start = below(self.order.key(draw / size), starts);
                rows.get(place(start + draw % size)).copied()
            }
            Pool::Classes { rows, sums } => {
                let mut keys = self.order.keys(2 * draw..2 * draw + 2);
                let (class, row) = (keys.next()?, keys.next()?);
                let at = unit(class) * sums.last()?;
                let class = sums.partition_point(|sum| *sum <= at).min(sums.len() - 1);
                let rows = rows.get(class)?;
                rows.get(place(below(row, rows.len() as u64))).copied()
            }
        }
    }
}

/// A number below `n` from a uniform key.
fn below(key: u64, n: u64) -> u64 {
    u64::try_from((u128::from(key) * u128::from(n)) >> 64).unwrap_or(0)
}

/// A number from 0 to 1, without 1, from a uniform key.
#[expect(clippy::cast_precision_loss, reason = "53 bits are what a double has")]
fn unit(key: u64) -> f64 {
    (key >> 11) as f64 / (1u64 << 53) as f64
}

fn place(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(n: u64, chunk: u64, per_window: u64, seed: u64) -> Sequence {
        let rows = RowSelection::from_ranges([0..n / 2, n / 2 + 7..n + 7]);
        let blocks = Blocks {
            rows: chunk,
            per_window,
        };
        Sequence::mixed(RowOrder::new(seed), &rows, blocks)
    }

    #[test]
    fn every_cell_comes_once_and_windows_are_full() {
        for (n, chunk, per_window) in [
            (100, 8, 4),
            (96, 8, 4),
            (5, 8, 4),
            (33, 32, 1),
            (1000, 1, 64),
        ] {
            let sequence = mixed(n, chunk, per_window, 3);
            let all = sequence.rows(0..n);
            assert_eq!(sequence.len(), n);
            let mut sorted = all.clone();
            sorted.sort_unstable();
            let expected: Vec<u64> = (0..n / 2).chain(n / 2 + 7..n + 7).collect();
            assert_eq!(sorted, expected);
            let mut start = 0;
            while start < n {
                let end = sequence.window_end(start);
                assert!(
                    end == n || end - start == chunk * per_window,
                    "{start} {end}"
                );
                assert_eq!(sequence.rows(start..end), all[place(start)..place(end)]);
                start = end;
            }
            assert_eq!(
                sequence.rows(n / 3..n / 3 + 2),
                all[place(n / 3)..place(n / 3) + 2]
            );
        }
        assert_ne!(
            mixed(100, 8, 4, 1).rows(0..100),
            mixed(100, 8, 4, 2).rows(0..100)
        );
    }

    #[test]
    fn classes_are_drawn_by_their_weights() {
        let from = Pool::Classes {
            rows: vec![vec![1], vec![10, 11], (20..1000).collect()],
            sums: vec![1.0, 1.0, 4.0],
        };
        let sequence = Sequence::drawn(RowOrder::new(1), 40_000, 512, from);
        let rows = sequence.rows(0..40_000);
        let share = |of: Range<u64>| {
            let n = rows.iter().filter(|row| of.contains(row)).count();
            n as f64 / rows.len() as f64
        };
        assert!((share(1..2) - 0.25).abs() < 0.02);
        assert!(share(10..12) == 0.0);
        assert!((share(20..1000) - 0.75).abs() < 0.02);
        assert_eq!(sequence.rows(700..1300), rows[700..1300]);
    }

    #[test]
    fn blocks_are_drawn_with_their_neighbours() {
        let from = Pool::Blocks {
            rows: (100..200).collect(),
            size: 4,
        };
        let sequence = Sequence::drawn(RowOrder::new(1), 1000, 4, from);
        for window in sequence.rows(0..1000).chunks(4) {
            let mut sorted = window.to_vec();
            sorted.sort_unstable();
            assert!(
                sorted.windows(2).all(|pair| pair[1] == pair[0] + 1),
                "{window:?}"
            );
        }
    }
}
