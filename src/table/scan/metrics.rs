//! What EXPLAIN ANALYZE says of a scan.

use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};

use crate::store::ReadMetrics;

/// Counts of one partition.
#[derive(Debug)]
pub(crate) struct ScanMetrics {
    /// Filled by the readers.
    pub(crate) reads: ReadMetrics,
    reported: (AtomicU64, AtomicU64),
    bytes_read: Count,
    chunks_decoded: Count,
    rows_kept: Count,
}

impl ScanMetrics {
    pub(crate) fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let counter = |name: &'static str| MetricBuilder::new(metrics).counter(name, partition);
        Self {
            reads: ReadMetrics::default(),
            reported: Default::default(),
            bytes_read: counter("bytes_read"),
            chunks_decoded: counter("chunks_decoded"),
            rows_kept: counter("rows_kept"),
        }
    }

    /// Adds rows that satisfied the predicate.
    pub(super) fn add_rows(&self, rows: usize) {
        self.rows_kept.add(rows);
    }

    /// Passes on what the readers counted since the last time.
    pub(crate) fn report(&self) {
        let since = |now: u64, reported: &AtomicU64| {
            let before = reported.swap(now, Ordering::Relaxed);
            usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX)
        };
        self.bytes_read
            .add(since(self.reads.bytes(), &self.reported.0));
        self.chunks_decoded
            .add(since(self.reads.chunks(), &self.reported.1));
    }
}

impl Drop for ScanMetrics {
    /// A scan that is cancelled, as under a LIMIT, still says what it read.
    fn drop(&mut self) {
        self.report();
    }
}
