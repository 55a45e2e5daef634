//! Ranks of a seeded order to rows, without holding the order.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::model::{RowOrder, RowSelection};

/// Ranks whose rows are looked up, and held, at a time: 8 MB.
const SPAN: u64 = 1 << 20;
/// Rows per bucket that are aimed at, and bits of a key that buckets have at most.
const BUCKET: u64 = 64;
const MOST_BITS: u32 = 16;

/// The rows of a selection in a seeded order, by rank.
///
/// Knows how many keys begin with each pattern of bits, so that a run of ranks is found by one pass
/// over the keys of all rows: 5 ns a row. Runs of a million ranks are kept, the last one at a time.
#[derive(Debug)]
pub struct Ranks {
    order: RowOrder,
    rows: RowSelection,
    /// Bits that a bucket's number is shifted by in a key.
    shift: u32,
    /// The rank of each bucket's first row, and at the end their number.
    starts: Vec<u64>,
    span: Mutex<Span>,
}

/// Rows of ranks from `first` on.
#[derive(Debug, Default)]
struct Span {
    first: u64,
    rows: Vec<u64>,
}

/// A place in an order: in front of the row with this key and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrderCut {
    /// The row's key.
    pub key: u64,
    /// Its number, counted over all inputs.
    pub row: u64,
}

impl Ranks {
    /// The ranks of these rows. Costs a pass over their keys.
    pub fn new(order: RowOrder, rows: RowSelection) -> Self {
        let bits = (rows.len() / BUCKET).checked_ilog2().unwrap_or(0);
        let shift = 64 - bits.min(MOST_BITS);
        let mut ranks = Self {
            order,
            rows,
            shift,
            starts: vec![0; (1usize << (64 - shift)) + 1],
            span: Mutex::default(),
        };
        let mut counts = std::mem::take(&mut ranks.starts);
        for range in ranks.rows.ranges() {
            for key in ranks.order.keys(range.clone()) {
                counts[ranks.bucket(key) + 1] += 1;
            }
        }
        let mut sum = 0;
        for count in &mut counts {
            sum += *count;
            *count = sum;
        }
        ranks.starts = counts;
        ranks
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
        let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
        while at < end {
            let held = span.first..span.first + span.rows.len() as u64;
            if !held.contains(&at) {
                let first = at - at % SPAN;
                *span = Span {
                    first,
                    rows: self.find(first..(first + SPAN).min(self.len())),
                };
                continue;
            }
            let stop = end.min(held.end);
            rows.extend_from_slice(&span.rows[place(at - held.start)..place(stop - held.start)]);
            at = stop;
        }
        rows
    }

    /// The places in front of ranks; [`None`] behind the last row. One pass over all keys, however many
    /// ranks there are.
    pub fn cuts(&self, ranks: &[u64]) -> Vec<Option<OrderCut>> {
        // A rank's bucket is the last that begins at it or before: those that do and have no rows come
        // in front of that.
        let bucket = |rank: u64| {
            let after = self.starts.partition_point(|start| *start <= rank);
            (rank < self.len()).then(|| after - 1)
        };
        let mut buckets: Vec<usize> = ranks.iter().filter_map(|rank| bucket(*rank)).collect();
        buckets.sort_unstable();
        buckets.dedup();
        if buckets.is_empty() {
            return vec![None; ranks.len()];
        }
        let mut slots: Vec<Option<usize>> = vec![None; self.starts.len()];
        for (slot, bucket) in buckets.iter().enumerate() {
            slots[*bucket] = Some(slot);
        }
        let mut found: Vec<Vec<(u64, u64)>> = vec![Vec::new(); buckets.len()];
        for range in self.rows.ranges() {
            for (row, key) in range.clone().zip(self.order.keys(range.clone())) {
                if let Some(slot) = slots[self.bucket(key)] {
                    found[slot].push((key, row));
                }
            }
        }
        found.iter_mut().for_each(|rows| rows.sort_unstable());
        let cut = |rank: u64| {
            let bucket = bucket(rank)?;
            let rows = found.get(slots[bucket]?)?;
            let (key, row) = *rows.get(place(rank - self.starts[bucket]))?;
            Some(OrderCut {
                key,
                row: self.order.base + row,
            })
        };
        ranks.iter().map(|rank| cut(*rank)).collect()
    }

    /// One pass over all keys: the rows of the buckets that hold these ranks, sorted and cut.
    fn find(&self, ranks: Range<u64>) -> Vec<u64> {
        let lo = self.starts.partition_point(|start| *start <= ranks.start) - 1;
        let hi = self.starts.partition_point(|start| *start < ranks.end);
        let mut found: Vec<(u64, u64)> =
            Vec::with_capacity(place(self.starts[hi] - self.starts[lo]));
        for range in self.rows.ranges() {
            for (row, key) in range.clone().zip(self.order.keys(range.clone())) {
                if (lo..hi).contains(&self.bucket(key)) {
                    found.push((key, row));
                }
            }
        }
        found.sort_unstable();
        let skip = place(ranks.start - self.starts[lo]);
        let rows = found.into_iter().map(|(_, row)| row);
        rows.skip(skip)
            .take(place(ranks.end - ranks.start))
            .collect()
    }

    fn bucket(&self, key: u64) -> usize {
        usize::try_from(key.checked_shr(self.shift).unwrap_or(0)).unwrap_or(0)
    }
}

/// The ranks of rows between places in the order: before the first, from each to the next, from the
/// last on. One pass over their keys.
pub fn ranks_by_cuts(order: &RowOrder, rows: &RowSelection, cuts: &[OrderCut]) -> Vec<Range<u64>> {
    let mut counts = vec![0; cuts.len() + 1];
    for range in rows.ranges() {
        for (row, key) in range.clone().zip(order.keys(range.clone())) {
            let row = order.base + row;
            let at = cuts.partition_point(|cut| *cut <= OrderCut { key, row });
            counts[at] += 1;
        }
    }
    let mut start = 0;
    let ranges = counts.into_iter().map(|n| {
        let first = start;
        start += n;
        first..start
    });
    ranges.collect()
}

/// A number of rows at hand.
fn place(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(order: &RowOrder, rows: &RowSelection) -> Vec<u64> {
        let mut keyed: Vec<_> = rows.iter().map(|row| (order.key(row), row)).collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, row)| row).collect()
    }

    #[test]
    fn ranks_give_the_rows_in_the_order_of_their_keys() {
        for n in [0, 1, 63, 1000, 20_000] {
            let rows = RowSelection::from_ranges([0..n / 3, n / 2..n]);
            let order = RowOrder::new(n).from_row(17);
            let ranks = Ranks::new(order.clone(), rows.clone());
            let expected = sorted(&order, &rows);
            assert_eq!(ranks.rows(0..n + 5), expected);
            let (a, b) = (rows.len() / 4, rows.len() / 2);
            assert_eq!(ranks.rows(a..b), &expected[place(a)..place(b)]);
            let wanted: Vec<u64> = (0..=n).rev().step_by(7).chain([a, a]).collect();
            for (rank, cut) in wanted.iter().zip(ranks.cuts(&wanted)) {
                let row = expected.get(place(*rank)).copied();
                let cut_at = |row| OrderCut {
                    key: order.key(row),
                    row: row + 17,
                };
                assert_eq!(cut, row.map(cut_at));
            }
            let cuts: Vec<OrderCut> = ranks.cuts(&[a, a, b]).into_iter().flatten().collect();
            let parts = ranks_by_cuts(&order, &rows, &cuts);
            match rows.is_empty() {
                true => assert_eq!(parts.len(), 1),
                false => assert_eq!(parts, [0..a, a..a, a..b, b..rows.len()]),
            }
        }
    }

    #[test]
    fn every_span_of_many_ranks_is_found() {
        let rows = RowSelection::all(SPAN + SPAN / 2);
        let ranks = Ranks::new(RowOrder::new(1), rows);
        let around = ranks.rows(SPAN - 2..SPAN + 2);
        assert_eq!(around[..2], ranks.rows(SPAN - 2..SPAN));
        assert_eq!(around[2..], ranks.rows(SPAN..SPAN + 2));
    }

    #[test]
    fn a_row_is_at_every_place_equally_often() {
        const N: usize = 12;
        const SEEDS: usize = 6000;
        let mut counts = [[0u32; N]; N];
        for seed in 0..SEEDS as u64 {
            let ranks = Ranks::new(RowOrder::new(seed), RowSelection::all(N as u64));
            for (rank, row) in ranks.rows(0..N as u64).into_iter().enumerate() {
                counts[place(row)][rank] += 1;
            }
        }
        let expected = (SEEDS / N) as f64;
        let chi: f64 = counts
            .iter()
            .flatten()
            .map(|n| (f64::from(*n) - expected).powi(2) / expected)
            .sum();
        // (N - 1)² = 121 degrees of freedom: beyond 180 once in 2,000 times, and seeds are fixed.
        assert!(chi < 180.0, "{chi}");
    }
}
