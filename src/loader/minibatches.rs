//! An epoch's minibatches, read ahead.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::load::{Loaded, Source};
use super::position::Position;
use crate::error::{Error, Result};
use crate::model::RowSelection;

/// Cells for a step of training.
#[derive(Debug, Clone)]
pub struct Minibatch {
    /// Its number in the epoch.
    pub number: u64,
    /// The cells, a row each. Rows of sparse matrices are lists of `indices`, in the type that they
    /// have on disk, and `data`; they share memory with other minibatches of their window.
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
    /// Reads chosen minibatches, `ahead` windows at a time. Within a runtime.
    pub(super) fn start(
        source: Arc<Source>,
        minibatches: &RowSelection,
        ahead: usize,
        position: Position,
    ) -> Self {
        let (sender, receiver) = channel(1);
        Self {
            receiver,
            position,
            left: minibatches.len(),
            _reading: SpawnedTask::spawn(read(source, minibatches.clone(), ahead, sender)),
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
                self.position.add(minibatch.number);
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

async fn read(
    source: Arc<Source>,
    minibatches: RowSelection,
    ahead: usize,
    sender: Sender<Result<Minibatch>>,
) {
    let of_loads = Arc::clone(&source);
    let loads = Arc::clone(&source).loads(minibatches);
    let reads = stream::iter(loads).map(move |load| {
        let source = Arc::clone(&of_loads);
        spawned(async move { source.read(&load).await })
    });
    let cuts = reads.buffered(ahead.max(1)).map_ok(|loaded| {
        let Loaded { cuts, cells } = loaded;
        stream::iter(
            cuts.into_iter()
                .map(move |cut| Ok((cut, Arc::clone(&cells)))),
        )
    });
    // What has to be computed is computed for two at a time; cutting alone costs nothing.
    let at_a_time = if source.columns.change() { 2 } else { 1 };
    let minibatches = cuts.try_flatten().map_ok(|((number, cut), cells)| {
        let source = Arc::clone(&source);
        let make = move || {
            let batch = source.columns.batch(&cells, cut)?;
            Ok(Minibatch { number, batch })
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
