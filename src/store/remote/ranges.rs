//! Ranges of bytes, joined where a request costs more than the bytes between.

use std::ops::Range;

/// A gap that is always read over: less than what comes around the bytes of an answer.
const SMALL_GAP: u64 = 1 << 10;
/// A gap that is never read over.
const LARGEST_GAP: u64 = 256 << 10;
/// The share of what is wanted that gaps may add to it: one in so many.
const SHARE: u64 = 10;
/// Bytes of a request at most: large ranges come in parts, side by side.
const PART: u64 = 4 << 20;

/// The ranges to ask for so as to have those wanted, sorted and disjoint. Nearest ones are joined
/// first, as long as what lies between is a small share of what is wanted.
pub(in crate::store) fn join(wanted: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> = wanted.iter().filter(|r| r.start < r.end).cloned().collect();
    sorted.sort_unstable_by_key(|r| r.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(SMALL_GAP) => {
                last.end = last.end.max(range.end);
            }
            _ => merged.push(range),
        }
    }
    let mut left = merged.iter().map(|r| r.end - r.start).sum::<u64>() / SHARE;
    let gaps = merged.windows(2).map(|pair| pair[1].start - pair[0].end);
    let mut gaps: Vec<(u64, usize)> = gaps
        .zip(1..)
        .filter(|(gap, _)| *gap <= LARGEST_GAP)
        .collect();
    gaps.sort_unstable();
    let mut joins = vec![false; merged.len()];
    for (gap, at) in gaps {
        if gap > left {
            break;
        }
        left -= gap;
        joins[at] = true;
    }
    let mut joined: Vec<Range<u64>> = Vec::new();
    for (range, join) in merged.into_iter().zip(joins) {
        match joined.last_mut() {
            Some(last) if join => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

/// Ranges as requests: none larger than a part.
pub(super) fn cut(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut parts = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            let end = match range.end - start {
                // No short rest at the end.
                len if len <= PART + PART / 4 => range.end,
                _ => start + PART,
            };
            parts.push(start..end);
            start = end;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ranges_are_joined_within_a_share() {
        assert_eq!(join(&[10..20, 0..10, 500..600]), vec![0..600]);
        // 100 kB are wanted, so 10 kB may be wasted: on the nearer gap.
        let wanted = [0..50_000, 56_000..81_000, 90_000..115_000];
        assert_eq!(join(&wanted), vec![0..81_000, 90_000..115_000]);
        let apart = [0..10_000_000, 11_000_000..20_000_000];
        assert_eq!(join(&apart), apart);
        let nothing = 5..5;
        assert!(join(std::slice::from_ref(&nothing)).is_empty());
    }

    #[test]
    fn parts_cover_a_range() {
        let range = 7..7 + 3 * PART + 1;
        let parts = cut(std::slice::from_ref(&range));
        assert_eq!(parts.len(), 3);
        assert_eq!((parts[0].start, parts[2].end), (range.start, range.end));
        assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
    }
}
