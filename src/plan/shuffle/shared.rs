//! What the partitions of a shuffle share: windows, each made by the first that asks for it and let go
//! by the last that needs it.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::Count;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::numbering::Numbering;
use super::scatter::{Scatter, Scattered};
use super::spec::{ShuffleSpec, ShuffleWay, bounds};
use super::window::{Collected, Window};
use crate::error::Result;
use crate::table::{Lease, Shared};

/// The windows of a shuffle.
#[derive(Default)]
pub(super) struct Windows {
    windows: Shared<Window>,
    scattered: OnceCell<Scattered>,
    /// For what a scan keeps for its partitions, and how many of them have ended.
    held: Mutex<(Option<MemoryReservation>, usize)>,
}

/// What a scan keeps is reserved while there is this, of one of its partitions.
pub(super) struct Held {
    windows: Arc<Windows>,
    partitions: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        let held = &self.windows.held;
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        held.1 += 1;
        if held.1 >= self.partitions {
            *held = (None, 0);
        }
    }
}

/// What a window is made from.
pub(super) struct Source {
    pub(super) input: Arc<dyn ExecutionPlan>,
    pub(super) spec: Arc<ShuffleSpec>,
    pub(super) context: Arc<TaskContext>,
    pub(super) spilled: Count,
    pub(super) passes: Count,
}

impl Windows {
    /// Reserves memory for so many partitions, once, until all of them have ended.
    ///
    /// # Errors
    /// What the memory pool says where it has no more.
    pub(super) fn hold(
        self: &Arc<Self>,
        bytes: u64,
        partitions: usize,
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<Held> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0.is_none() {
            let reservation = MemoryConsumer::new("ShuffleExec rows in order").register(pool);
            reservation.try_grow(usize::try_from(bytes).unwrap_or(usize::MAX))?;
            held.0 = Some(reservation);
        }
        Ok(Held {
            windows: Arc::clone(self),
            partitions,
        })
    }

    /// A window, and what lets it go when it is dropped.
    pub(super) async fn window(
        &self,
        (at, partition): (usize, usize),
        source: &Source,
    ) -> Result<(Arc<Window>, Lease<Window>)> {
        let make = async || self.make(at, source).await;
        let users = users(&source.spec, at);
        self.windows.get(at, (partition, users), make).await
    }

    async fn make(&self, at: usize, source: &Source) -> Result<Window> {
        let pool = source.context.memory_pool();
        if source.spec.way == ShuffleWay::Scatter {
            let scatter = || scatter(source);
            let scattered = self.scattered.get_or_try_init(scatter).await?;
            return scattered.window(at, pool).await;
        }
        source.passes.add(1);
        let reservation = MemoryConsumer::new("ShuffleExec window").register(pool);
        let mut collected = Collected::new(reservation);
        let mut numbering = Numbering::of(&source.spec, &source.input.schema())?;
        let range = bounds(&source.spec.windows, at);
        let mut batches = match source.spec.by_window {
            true => rows(source, (at, source.spec.windows.len() + 1))?,
            false => rows(source, (0, 1))?,
        };
        while let Some(batch) = batches.try_next().await? {
            let places = numbering.places(&batch)?;
            collected.push_within(batch, &places, range)?;
        }
        Ok(collected.finish())
    }
}

/// Partitions that a window has rows of.
fn users(spec: &ShuffleSpec, at: usize) -> usize {
    let partitions = 0..=spec.partitions.len();
    partitions
        .filter(|p| spec.windows_of(*p).contains(&at))
        .count()
}

async fn scatter(source: &Source) -> Result<Scattered> {
    source.passes.add(1);
    let (pool, schema) = (source.context.memory_pool(), source.input.schema());
    let mut scatter = Scatter::begin(&source.spec, &schema, pool, source.spilled.clone())?;
    let mut numbering = Numbering::of(&source.spec, &schema)?;
    let mut batches = rows(source, (0, 1))?;
    while let Some(batch) = batches.try_next().await? {
        let places = numbering.places(&batch)?;
        scatter.push(batch, places).await?;
    }
    scatter.finish().await
}

/// Rows of the input, of one in so many partitions from the first of them on: as they come where they
/// say their numbers, else in order.
fn rows(
    source: &Source,
    (first, step): (usize, usize),
) -> Result<BoxStream<'static, Result<arrow::array::RecordBatch>>> {
    let partitions = source.input.output_partitioning().partition_count();
    let partitions = (first..partitions).step_by(step);
    let (input, context) = (Arc::clone(&source.input), Arc::clone(&source.context));
    let open = move |partition| input.execute(partition, Arc::clone(&context));
    if source.spec.objects.is_empty() {
        let streams = stream::iter(partitions).map(open).try_flatten();
        return Ok(streams.map_err(Into::into).boxed());
    }
    let cores = source.context.session_config().target_partitions();
    let streams = stream::iter(partitions).map(move |partition| match open(partition) {
        Ok(rows) => rows,
        Err(error) => failed(error),
    });
    let streams = streams.flatten_unordered(Some(cores.max(1)));
    Ok(streams.map_err(Into::into).boxed())
}

/// A stream of nothing but an error.
fn failed(error: datafusion::error::DataFusionError) -> SendableRecordBatchStream {
    let schema = Arc::new(arrow::datatypes::Schema::empty());
    let error = stream::once(std::future::ready(Err(error)));
    Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(schema, error))
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[test]
    fn what_is_kept_for_all_partitions_is_reserved_once_until_the_last_ends() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let windows = Arc::new(Windows::default());
        for _ in 0..2 {
            let hold = || windows.hold(60, 3, &pool).unwrap();
            // One partition has ended before the last begins.
            drop(hold());
            let others = [hold(), hold()];
            assert_eq!(pool.reserved(), 60);
            let of_another = Arc::new(Windows::default());
            assert!(of_another.hold(60, 1, &pool).is_err());
            drop(others);
            assert_eq!(pool.reserved(), 0);
        }
        let _held = windows.hold(60, 3, &pool).unwrap();
        assert_eq!(pool.reserved(), 60);
    }
}
