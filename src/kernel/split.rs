//! Splitting cells into named parts by fractions, cell by cell or group by group.

use std::str::FromStr;

use super::Ranks;
use crate::error::{Error, Result};
use crate::model::{RowOrder, RowSelection};

/// How far the sum of fractions may be from one: they are typed with a few digits.
const SLACK: f64 = 1e-6;

/// Parts at most.
const MOST_PARTS: usize = 1000;

/// Named parts and their fractions, which add up to one.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitParts(Vec<(String, f64)>);

impl SplitParts {
    /// Parts of these fractions.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] where fractions are not above 0 or do not add up to one, or two parts
    /// have one name.
    pub fn try_new(parts: Vec<(String, f64)>) -> Result<Self> {
        let bad = |reason: String| Err(Error::option("split", reason));
        if parts.len() > MOST_PARTS {
            return bad(format!("{} parts are more than {MOST_PARTS}", parts.len()));
        }
        for (at, (name, fraction)) in parts.iter().enumerate() {
            if name.is_empty() || parts[..at].iter().any(|(other, _)| other == name) {
                return bad(format!("'{name}' is no name for a part, or that of two"));
            }
            if !(*fraction > 0.0 && fraction.is_finite()) {
                return bad(format!("{name}={fraction} is not a fraction above 0"));
            }
        }
        let sum: f64 = parts.iter().map(|(_, fraction)| fraction).sum();
        if (sum - 1.0).abs() > SLACK {
            return bad(format!("the fractions add up to {sum}, not to 1"));
        }
        Ok(Self(parts))
    }

    /// The names, in order.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The names and fractions, in order.
    pub fn parts(&self) -> &[(String, f64)] {
        &self.0
    }

    /// Where the parts of `n` cells end.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of a count, rounded to a cell"
    )]
    fn ends(&self, n: u64) -> Vec<u64> {
        let mut sum = 0.0;
        let ends = self.0.iter().map(|(_, fraction)| {
            sum += fraction;
            ((sum * n as f64).round() as u64).min(n)
        });
        let mut ends: Vec<u64> = ends.collect();
        if let Some(last) = ends.last_mut() {
            *last = n;
        }
        ends
    }
}

impl FromStr for SplitParts {
    type Err = Error;

    /// `train=0.8,val=0.1,test=0.1`.
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split(',').map(|part| {
            let fraction = part.split_once('=').and_then(|(name, fraction)| {
                Some((name.trim().to_owned(), fraction.trim().parse().ok()?))
            });
            fraction.ok_or_else(|| {
                Error::option("split", format!("'{part}' is not of the form name=0.8"))
            })
        });
        Self::try_new(parts.collect::<Result<_>>()?)
    }
}

/// Parts of the kept cells, chosen at random, with sizes exact to a cell.
pub(crate) fn cells(parts: &SplitParts, kept: &RowSelection, order: RowOrder) -> Vec<RowSelection> {
    let ranks = Ranks::new(order, kept.clone());
    let mut start = 0;
    let parts = parts.ends(kept.len()).into_iter().map(|end| {
        let mut rows = ranks.rows(start..end);
        rows.sort_unstable();
        start = end;
        RowSelection::from_sorted(rows).unwrap_or_default()
    });
    parts.collect()
}

/// Parts that have their fraction of every group, to a cell. Cells of no group are one.
pub(crate) fn stratified(
    parts: &SplitParts,
    groups: &[RowSelection],
    kept: &RowSelection,
    order: &RowOrder,
) -> Vec<RowSelection> {
    let all = RowSelection::from_ranges(groups.iter().flat_map(|g| g.ranges().iter().cloned()));
    let without = kept.without(&all);
    let mut ranges = vec![Vec::new(); parts.0.len()];
    for group in groups.iter().chain(std::iter::once(&without)) {
        let of_group = cells(parts, &group.intersect(kept), order.clone());
        for (ranges, rows) in ranges.iter_mut().zip(of_group) {
            ranges.extend(rows.ranges().iter().cloned());
        }
    }
    ranges.into_iter().map(RowSelection::from_ranges).collect()
}

/// Parts of whole groups: groups come in a random order, and each goes to the part that lacks the most
/// cells. Cells of no group are one.
pub(crate) fn groups(
    parts: &SplitParts,
    groups: &[RowSelection],
    kept: &RowSelection,
    order: RowOrder,
) -> Vec<RowSelection> {
    let all = RowSelection::from_ranges(groups.iter().flat_map(|g| g.ranges().iter().cloned()));
    let without = kept.without(&all);
    let groups = groups.iter().chain(std::iter::once(&without));
    let groups: Vec<RowSelection> = groups.map(|group| group.intersect(kept)).collect();
    let keys = order.keys_of((0..groups.len() as u64).map(|group| u64::MAX - group));
    let mut sequence: Vec<(u64, &RowSelection)> = keys.zip(&groups).collect();
    sequence.sort_by_key(|(key, _)| *key);
    let mut start = 0;
    let mut lacks: Vec<u64> = Vec::new();
    for end in parts.ends(kept.len()) {
        lacks.push(end - start);
        start = end;
    }
    let mut ranges = vec![Vec::new(); lacks.len()];
    for (_, group) in sequence {
        // The first of those that lack as much.
        let most = (0..lacks.len()).rev().max_by_key(|part| lacks[*part]);
        let Some(part) = most else { break };
        lacks[part] = lacks[part].saturating_sub(group.len());
        ranges[part].extend(group.ranges().iter().cloned());
    }
    ranges.into_iter().map(RowSelection::from_ranges).collect()
}

/// How far a part of whole groups may be from its fraction before that is said.
const NEAR: f64 = 0.01;

/// What to say of parts that are not what was asked for, since groups stay whole.
#[expect(clippy::cast_precision_loss, reason = "a fraction, for a message")]
pub(crate) fn missed(parts: &SplitParts, cells: &[RowSelection]) -> Option<String> {
    let all = cells.iter().map(RowSelection::len).sum::<u64>().max(1);
    let shares = parts.0.iter().zip(cells).map(|((name, asked), cells)| {
        let share = cells.len() as f64 / all as f64;
        (name, *asked, share)
    });
    let missed = shares.filter(|(_, asked, share)| (share - asked).abs() > NEAR);
    let missed = missed.map(|(name, asked, share)| {
        let percent = |part: f64| (part * 1000.0).round() / 10.0;
        format!(
            "{name} has {} % of the cells instead of {} %",
            percent(share),
            percent(asked)
        )
    });
    let missed: Vec<String> = missed.collect();
    (!missed.is_empty()).then(|| format!("groups stay whole: {}", missed.join(", ")))
}

/// What to say of parts that got no cell.
pub(crate) fn empty(parts: &SplitParts, cells: &[RowSelection]) -> Option<String> {
    let names = parts.names();
    let empty = names
        .iter()
        .zip(cells)
        .filter(|(_, cells)| cells.is_empty());
    let empty: Vec<&str> = empty.map(|(name, _)| name.as_str()).collect();
    (!empty.is_empty()).then(|| format!("no cells for {}", empty.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_exact_and_hold_every_cell_once() {
        let parts: SplitParts = "train=0.8,val=0.1,test=0.1".parse().unwrap();
        let kept = RowSelection::from_ranges([3..50, 60..1000]);
        let cells = cells(&parts, &kept, RowOrder::new(3));
        let sizes: Vec<u64> = cells.iter().map(RowSelection::len).collect();
        assert_eq!(sizes, [790, 98, 99]);
        let all = cells.iter().flat_map(|part| part.ranges().iter().cloned());
        assert_eq!(RowSelection::from_ranges(all), kept);
    }

    #[test]
    fn parts_have_their_share_of_every_group() {
        let parts: SplitParts = "a=0.75,b=0.25".parse().unwrap();
        let groups = [
            RowSelection::range(0..40),
            RowSelection::from_ranges([50..52, 60..70]),
        ];
        let kept = RowSelection::from_ranges([0..36, 44..100]);
        let split = stratified(&parts, &groups, &kept, &RowOrder::new(5));
        let of = |part: usize, group: &RowSelection| split[part].intersect(group).len();
        assert_eq!([of(0, &groups[0]), of(1, &groups[0])], [27, 9]);
        assert_eq!([of(0, &groups[1]), of(1, &groups[1])], [9, 3]);
        assert_eq!(split[0].len() + split[1].len(), kept.len());
        assert!(split[0].intersect(&split[1]).is_empty());
    }

    #[test]
    fn groups_stay_whole() {
        let parts: SplitParts = "a=0.5, b=0.5".parse().unwrap();
        let groups_of: Vec<_> = (0..10)
            .map(|g| RowSelection::range(g * 9..g * 9 + 9))
            .collect();
        let kept = RowSelection::all(95);
        let split = groups(&parts, &groups_of, &kept, RowOrder::new(1));
        for group in &groups_of {
            let here = split
                .iter()
                .filter(|part| !part.intersect(group).is_empty());
            assert_eq!(here.count(), 1);
        }
        assert_eq!(split.iter().map(RowSelection::len).sum::<u64>(), 95);
        assert!(split.iter().all(|part| (36..60).contains(&part.len())));
        let said = missed(&parts, &split).unwrap();
        assert!(said.contains("instead of 50 %"), "{said}");
        let halves = [RowSelection::all(50), RowSelection::all(51)];
        assert_eq!(missed(&parts, &halves), None);
    }

    #[test]
    fn fractions_that_do_not_add_up_are_refused() {
        for bad in [
            "a=0.5",
            "a=0.5,b=0.6",
            "a=1,a=0",
            "a",
            "a=0.5,a=0.5",
            "a=nan,b=1",
        ] {
            assert!(bad.parse::<SplitParts>().is_err(), "{bad}");
        }
    }
}
