//! What is read at a time: the minibatches of a window.

use std::ops::Range;
use std::sync::Arc;

use super::columns::{Cells, Columns};
use super::sequence::Sequence;
use super::share::Share;
use crate::error::Result;
use crate::model::RowSelection;
use crate::store::ReadMetrics;

/// Everything that reading an epoch needs.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) columns: Arc<Columns>,
    pub(super) sequence: Sequence,
    pub(super) metrics: Arc<ReadMetrics>,
}

/// Minibatches that are read together: of each the places of its cells in the order.
pub(super) type Load = Vec<Vec<Range<u64>>>;

impl Source {
    /// The minibatches of a share, those that follow each other in a window together; worked out as they
    /// are asked for.
    pub(super) fn loads(self: Arc<Self>, share: Share) -> impl Iterator<Item = Load> + Send {
        let mut minibatches = share.minibatches().peekable();
        std::iter::from_fn(move || {
            let first = minibatches.next()?;
            let mut end = match first.as_slice() {
                [cells] => Some((cells.end, self.sequence.window_end(cells.start))),
                _ => None,
            };
            let mut load = vec![first];
            while let Some((last, window)) = end {
                let follows = |next: &Vec<Range<u64>>| matches!(next.as_slice(), [cells] if cells.start == last && cells.end <= window);
                let Some(next) = minibatches.next_if(follows) else {
                    break;
                };
                end = next.last().map(|cells| (cells.end, window));
                load.push(next);
            }
            Some(load)
        })
    }

    /// Reads the cells of a load, once: of each of its minibatches which and what they are.
    pub(super) async fn read(&self, load: &Load) -> Result<Vec<(RowSelection, Cells)>> {
        let (mut rows, mut cuts) = (Vec::new(), Vec::with_capacity(load.len()));
        for minibatch in load {
            let start = rows.len();
            for cells in minibatch {
                rows.extend(self.sequence.rows(cells.clone()));
            }
            cuts.push(start..rows.len());
        }
        let cells = self.columns.read(&rows, &cuts, &self.metrics).await?;
        let places = load.iter();
        let places = places.map(|minibatch| RowSelection::from_ranges(minibatch.iter().cloned()));
        Ok(places.zip(cells).collect())
    }
}
