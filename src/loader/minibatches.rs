//! An epoch's minibatches, read ahead.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::load::Source;
use super::position::Position;
use super::share::Share;
use crate::error::{Error, Result};
use crate::model::RowSelection;

/// Cells for a step of training.
#[derive(Debug, Clone)]
pub struct Minibatch {
    /// The places of its cells in the order of the epoch, as a set: what fills a padded one up counts once.
    pub cells: RowSelection,
    /// The cells, a row each. Rows of sparse matrices are lists of `indices`, in the type that they
    /// have on disk, and `data`.
    pub batch: RecordBatch,
}

/// Minibatches of an epoch, in their order. Reading goes on while one is used, and ends when this is
/// dropped.
#[derive(Debug)]
pub struct Minibatches {
    receiver: Receiver<Result<Minibatch>>,
    position: Position,
    left: u64,
    _reading: SpawnedTask<()>,
}

impl Minibatches {
    /// Reads the minibatches of a share, `ahead` windows at a time. Within a runtime.
    pub(super) fn start(
        source: Arc<Source>,
        share: Share,
        ahead: usize,
        position: Position,
    ) -> Self {
        let (sender, receiver) = channel(1);
        Self {
            receiver,
            position,
            left: share.len(),
            _reading: SpawnedTask::spawn(read(source, share, ahead, sender)),
        }
    }

    /// The next minibatch; [`None`] at the end.
    ///
    /// # Errors
    /// Those of reading; nothing comes after one.
    pub async fn next(&mut self) -> Option<Result<Minibatch>> {
        let next = self.receiver.recv().await;
        match &next {
            Some(Ok(minibatch)) => {
                self.position.add(&minibatch.cells);
                self.left = self.left.saturating_sub(1);
            }
            Some(Err(_)) => self.left = 0,
            None if self.left > 0 => {
                self.left = 0;
                let reason = "reading ended before its time";
                return Some(Err(Error::store("task", "loader", reason)));
            }
            None => {}
        }
        next
    }

    /// How many are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// What of the epoch is done, with all that has been given out.
    pub fn position(&self) -> &Position {
        &self.position
    }
}

async fn read(source: Arc<Source>, share: Share, ahead: usize, sender: Sender<Result<Minibatch>>) {
    let of_loads = Arc::clone(&source);
    let loads = Arc::clone(&source).loads(share);
    let reads = stream::iter(loads).map(move |load| {
        let source = Arc::clone(&of_loads);
        spawned(async move { source.read(&load).await })
    });
    let loaded = reads.buffered(ahead.max(1));
    let cells = loaded.map_ok(|loaded| stream::iter(loaded.into_iter().map(Ok)));
    // What has to be computed is computed for two at a time; putting parts together costs nothing.
    let at_a_time = if source.columns.change() { 2 } else { 1 };
    let minibatches = cells.try_flatten().map_ok(|(places, read)| {
        let source = Arc::clone(&source);
        let make = move || {
            let batch = source.columns.batch(read)?;
            Ok(Minibatch {
                cells: places,
                batch,
            })
        };
        async move {
            match at_a_time {
                1 => make(),
                _ => spawned(async move { make() }).await,
            }
        }
    });
    let mut minibatches = std::pin::pin!(minibatches.try_buffered(at_a_time));
    while let Some(minibatch) = minibatches.next().await {
        let is_last = minibatch.is_err();
        // Who is gone does not need it.
        if sender.send(minibatch).await.is_err() || is_last {
            return;
        }
    }
}

/// Work as a task of its own, so that several go on at a time.
async fn spawned<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match SpawnedTask::spawn(work).join().await {
        Ok(done) => done,
        Err(stopped) => Err(Error::store("task", "loader", stopped)),
    }
}
