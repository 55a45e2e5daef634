//! A cheaper order than an exact one: random blocks of adjacent rows, and then the rows of some blocks
//! at a time in a random order.
//!
//! ```text
//!  blocks  0 1 2 3 4 5   ──►  4 0 3 │ 5 1 2   ──►  rows of 4, 0 and 3 mixed │ rows of 5, 1 and 2
//!                             window of three
//! ```

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::model::{RowOrder, RowSelection};

/// Sizes of blocks and windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blocks {
    /// Rows of a block.
    pub rows: u64,
    /// Blocks of a window.
    pub per_window: u64,
}

/// The rows of a selection by their rank in such an order. Holds 8 bytes a block.
///
/// Blocks are runs of `rows` selected rows; block `b` sorts by the key of the number `2^64 - 1 - b`,
/// which no row has, and rows within a window by their own.
#[derive(Debug)]
pub struct BlockRanks {
    order: RowOrder,
    rows: RowSelection,
    blocks: Blocks,
    /// Blocks in their order.
    sequence: Vec<u64>,
    /// The rank of each window's first row, and at the end their number.
    starts: Vec<u64>,
    /// The window that was asked for last.
    last: Mutex<(usize, Arc<Vec<u64>>)>,
}

impl BlockRanks {
    /// The order of these rows.
    pub fn new(order: RowOrder, rows: RowSelection, blocks: Blocks) -> Self {
        let blocks = Blocks {
            rows: blocks.rows.max(1),
            per_window: blocks.per_window.max(1),
        };
        let len = rows.len();
        let count = len.div_ceil(blocks.rows);
        let keys = order.keys_of((0..count).map(|block| u64::MAX - block));
        let mut keyed: Vec<(u64, u64)> = keys.zip(0..count).collect();
        keyed.sort_unstable();
        let sequence: Vec<u64> = keyed.into_iter().map(|(_, block)| block).collect();
        let mut starts = vec![0];
        let mut sum = 0;
        for window in sequence.chunks(step(blocks.per_window)) {
            let sizes = window
                .iter()
                .map(|block| len.min((block + 1) * blocks.rows) - block * blocks.rows);
            sum += sizes.sum::<u64>();
            starts.push(sum);
        }
        Self {
            order,
            rows,
            blocks,
            sequence,
            starts,
            last: Mutex::new((usize::MAX, Arc::default())),
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of these ranks, in the order; ranks beyond the last row are left out.
    pub fn rows(&self, ranks: Range<u64>) -> Vec<u64> {
        let end = ranks.end.min(self.len());
        let mut rows = Vec::new();
        let mut at = ranks.start;
        while at < end {
            let window = self.starts.partition_point(|start| *start <= at) - 1;
            let first = self.starts[window];
            let stop = end.min(self.starts[window + 1]);
            let of_window = self.window(window);
            rows.extend_from_slice(&of_window[step(at - first)..step(stop - first)]);
            at = stop;
        }
        rows
    }

    /// The rank at which the window of a rank ends: what is read together.
    pub fn window_end(&self, rank: u64) -> u64 {
        let window = self.starts.partition_point(|start| *start <= rank);
        self.starts
            .get(window)
            .copied()
            .unwrap_or_else(|| self.len())
    }

    fn window(&self, window: usize) -> Arc<Vec<u64>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 == window {
            return Arc::clone(&last.1);
        }
        let first = window * step(self.blocks.per_window);
        let blocks = self
            .sequence
            .iter()
            .skip(first)
            .take(step(self.blocks.per_window));
        let mut rows: Vec<u64> = Vec::new();
        for block in blocks {
            let start = block * self.blocks.rows;
            rows.extend(self.rows.slice(start..start + self.blocks.rows).iter());
        }
        rows.sort_unstable();
        let keys = self
            .order
            .keys_of(rows.iter().map(|row| self.order.base + row));
        let mut keyed: Vec<(u64, u64)> = keys.zip(rows.iter().copied()).collect();
        keyed.sort_unstable();
        let rows: Arc<Vec<u64>> = Arc::new(keyed.into_iter().map(|(_, row)| row).collect());
        *last = (window, Arc::clone(&rows));
        rows
    }
}

/// A number of blocks or rows at hand.
fn step(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_comes_once_and_windows_hold_whole_blocks() {
        let rows = RowSelection::from_ranges([0..50, 60..105]);
        let blocks = Blocks {
            rows: 10,
            per_window: 3,
        };
        let ranks = BlockRanks::new(RowOrder::new(5), rows.clone(), blocks);
        let all = ranks.rows(0..1000);
        assert_eq!(ranks.len(), 95);
        let mut sorted = all.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, rows.iter().collect::<Vec<_>>());
        assert_ne!(all, sorted);
        assert_eq!(ranks.rows(20..40), all[20..40]);
        let first = step(ranks.window_end(0));
        let ranks_of: Vec<usize> = all[..first]
            .iter()
            .map(|row| rows.iter().position(|other| other == *row).unwrap() / 10)
            .collect();
        let mut blocks = ranks_of.clone();
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!(blocks.len(), 3);
        assert_ne!(
            ranks_of
                .windows(2)
                .filter(|pair| pair[0] != pair[1])
                .count(),
            2
        );
    }
}
