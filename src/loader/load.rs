//! What is read at a time: the minibatches of a window.

use std::ops::Range;
use std::sync::Arc;

use super::columns::{Cells, Columns};
use super::sequence::Sequence;
use crate::error::Result;
use crate::model::RowSelection;
use crate::store::ReadMetrics;

/// Everything that reading an epoch needs.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) columns: Arc<Columns>,
    pub(super) sequence: Sequence,
    pub(super) batch_size: u64,
    pub(super) metrics: Arc<ReadMetrics>,
}

/// Minibatches that follow each other and are of one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) minibatches: Range<u64>,
}

impl Source {
    /// What is read of chosen minibatches, in their order, worked out as it is asked for.
    pub(super) fn loads(
        self: Arc<Self>,
        minibatches: RowSelection,
    ) -> impl Iterator<Item = Load> + Send {
        let (mut range, mut first) = (0, 0);
        std::iter::from_fn(move || {
            let of = minibatches.ranges().get(range)?;
            first = first.max(of.start);
            let rank = first.saturating_mul(self.batch_size);
            let end = self.sequence.window_end(rank).div_ceil(self.batch_size);
            let end = end.clamp(first + 1, of.end);
            let load = first..end;
            first = end;
            range += usize::from(end == of.end);
            Some(Load { minibatches: load })
        })
    }

    /// Reads the cells of a load, once.
    pub(super) async fn read(&self, load: &Load) -> Result<Loaded> {
        let ranks = |minibatch: u64| minibatch.saturating_mul(self.batch_size);
        let first = ranks(load.minibatches.start);
        let end = ranks(load.minibatches.end).min(self.sequence.len());
        let rows = self.sequence.rows(first..end);
        let place = |rank: u64| usize::try_from(rank.min(end) - first).unwrap_or(usize::MAX);
        let cuts = load.minibatches.clone();
        let cuts = cuts.map(|minibatch| {
            let cut = place(ranks(minibatch))..place(ranks(minibatch + 1));
            (minibatch, cut)
        });
        Ok(Loaded {
            cuts: cuts.collect(),
            cells: Arc::new(self.columns.read(rows, &self.metrics).await?),
        })
    }
}

/// What was read, and where its minibatches are.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The numbers of minibatches, and their places among the cells.
    pub(super) cuts: Vec<(u64, Range<usize>)>,
    pub(super) cells: Arc<Cells>,
}
