//! Selected rows of one axis.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Rows of one axis, as sorted, disjoint, non-empty ranges. Adjacent ranges are merged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "Said")]
pub struct RowSelection {
    ranges: Vec<Range<u64>>,
}

/// Ranges as somebody sent them, who need not have kept the rules.
#[derive(Deserialize)]
struct Said {
    ranges: Vec<Range<u64>>,
}

impl From<Said> for RowSelection {
    fn from(said: Said) -> Self {
        Self::from_ranges(said.ranges)
    }
}

impl RowSelection {
    /// The rows of one range; an empty range selects nothing.
    pub fn range(range: Range<u64>) -> Self {
        Self {
            ranges: if range.start < range.end {
                vec![range]
            } else {
                Vec::new()
            },
        }
    }

    /// All rows of an axis.
    pub fn all(len: u64) -> Self {
        Self::range(0..len)
    }

    /// From positions in ascending order without repeats; [`None`] where they are not.
    pub fn from_sorted(rows: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for row in rows {
            match ranges.last_mut() {
                Some(last) if row == last.end => last.end = row.checked_add(1)?,
                Some(last) if row < last.end => return None,
                _ => ranges.push(row..row.checked_add(1)?),
            }
        }
        Some(Self { ranges })
    }

    /// From ranges in any order; they are sorted and merged.
    pub fn from_ranges(ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().filter(|r| r.start < r.end).collect();
        sorted.sort_unstable_by_key(|r| r.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        Self { ranges: merged }
    }

    /// The ranges.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// How many rows are selected.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|r| r.end - r.start).sum()
    }

    /// Whether nothing is selected.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether a row is selected. Costs a binary search.
    pub fn contains(&self, row: u64) -> bool {
        let after = self.ranges.partition_point(|r| r.end <= row);
        self.ranges.get(after).is_some_and(|r| r.start <= row)
    }

    /// One past the last row, 0 for an empty selection.
    pub fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |r| r.end)
    }

    /// The positions, in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.ranges.iter().cloned().flatten()
    }

    /// The selected rows that lie in `range`. Costs a binary search and a copy.
    #[must_use]
    pub fn clip(&self, range: Range<u64>) -> Self {
        let first = self.ranges.partition_point(|r| r.end <= range.start);
        let ranges = self.ranges[first..]
            .iter()
            .take_while(|r| r.start < range.end)
            .map(|r| r.start.max(range.start)..r.end.min(range.end))
            .collect();
        Self { ranges }
    }

    /// The selected rows whose rank lies in `ranks`: `slice(0..n)` are the first `n`.
    #[must_use]
    pub fn slice(&self, ranks: Range<u64>) -> Self {
        let mut ranges = Vec::new();
        let mut seen = 0;
        for r in &self.ranges {
            let len = r.end - r.start;
            let lo = ranks.start.max(seen);
            let hi = ranks.end.min(seen + len);
            if lo < hi {
                ranges.push(r.start + (lo - seen)..r.start + (hi - seen));
            }
            seen += len;
            if seen >= ranks.end {
                break;
            }
        }
        Self { ranges }
    }

    /// These rows without the other selection's.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let ends = other.ranges.iter().map(|r| r.end);
        let starts = other.ranges.iter().map(|r| r.start).chain([u64::MAX]);
        let between = std::iter::once(0).chain(ends).zip(starts);
        self.intersect(&Self {
            ranges: between
                .map(|(start, end)| start..end)
                .filter(|r| !r.is_empty())
                .collect(),
        })
    }

    /// Both selections' rows.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let (mut i, mut j) = (0, 0);
        let mut ranges = Vec::new();
        while let (Some(a), Some(b)) = (self.ranges.get(i), other.ranges.get(j)) {
            let lo = a.start.max(b.start);
            let hi = a.end.min(b.end);
            if lo < hi {
                ranges.push(lo..hi);
            }
            if a.end <= b.end {
                i += 1;
            } else {
                j += 1;
            }
        }
        Self { ranges }
    }
}
