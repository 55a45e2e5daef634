//! Rows by the chunks they are in.

use std::ops::Range;

use crate::model::RowSelection;

/// The selected rows by band of `height` rows, counted from the band's first.
pub(in crate::store) fn bands(rows: &RowSelection, height: u64) -> Vec<(u64, Vec<Range<u64>>)> {
    let mut bands: Vec<(u64, Vec<Range<u64>>)> = Vec::new();
    for range in rows.ranges() {
        let mut start = range.start;
        while start < range.end {
            let band = start / height;
            let first = band * height;
            let end = range.end.min(first.saturating_add(height));
            let part = start - first..end - first;
            match bands.last_mut() {
                Some((last, ranges)) if *last == band => ranges.push(part),
                _ => bands.push((band, vec![part])),
            }
            start = end;
        }
    }
    bands
}
