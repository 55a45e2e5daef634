//! One array: created in the layout its length and compression ask for, then filled in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef};
use async_trait::async_trait;

use super::body::{Body, Job};
use super::file::Shared;
use super::raw::disk_size;
use crate::error::{BoxedError, Error, Result};
use crate::model::ElementKey;
use crate::store::{ArraySpec, ArrayWriter, Extent};

/// An array of a file being written.
#[derive(Debug)]
pub(super) struct H5ArrayWriter {
    job: Job,
    /// Rows it must get, where that is known.
    expected: Option<u64>,
    /// Elements of a row.
    row_len: u64,
    /// Rows it got.
    rows: u64,
    /// [`None`] while a call runs, and after one failed or was dropped.
    body: Option<Body>,
}

impl H5ArrayWriter {
    /// Creates the array, or, for one that grows, sees to it that it can be.
    pub(super) fn create(shared: &Arc<Shared>, key: &ElementKey, spec: ArraySpec) -> Result<Self> {
        let job = Job {
            shared: Arc::clone(shared),
            key: key.clone(),
            spec: Arc::new(spec),
        };
        let (expected, tail) = match &job.spec.extent {
            Extent::Scalar => (Some(1), &[][..]),
            Extent::Null => (Some(0), &[][..]),
            Extent::Fixed(shape) => match shape.split_first() {
                Some((rows, tail)) => (Some(*rows), tail),
                None => (Some(1), &[][..]),
            },
            Extent::Growing(tail) => (None, tail.as_slice()),
        };
        let row_len = tail
            .iter()
            .try_fold(1u64, |product, n| product.checked_mul(*n));
        let row_len = row_len.ok_or_else(|| {
            Error::invalid(
                shared.url(),
                key,
                format!("rows of lengths {tail:?} are too long"),
            )
        })?;
        if disk_size(&job.spec.dtype).is_none() {
            let reason = format!("elements of type {} cannot be written", job.spec.dtype);
            return Err(Error::invalid(shared.url(), key, reason));
        }
        let body = Some(Body::new(&job).map_err(|e| shared.failure(key, e))?);
        shared.open_arrays.fetch_add(1, Ordering::AcqRel);
        Ok(Self {
            job,
            expected,
            row_len,
            rows: 0,
            body,
        })
    }

    /// Takes what there is to work on.
    fn take(&mut self) -> Result<(Job, Body)> {
        match self.body.take() {
            Some(body) => Ok((self.job.clone(), body)),
            None => Err(self.failure("an earlier write failed".into())),
        }
    }

    fn failure(&self, source: BoxedError) -> Error {
        self.job.shared.failure(&self.job.key, source)
    }

    fn length_mismatch(&self, rows: u64, expected: u64) -> Error {
        Error::LengthMismatch {
            url: self.job.shared.url().to_owned(),
            element: self.job.key.clone(),
            what: "number of rows written".to_owned(),
            actual: rows,
            expected_by: "its extent".to_owned(),
            expected,
        }
    }
}

impl Drop for H5ArrayWriter {
    fn drop(&mut self) {
        self.job.shared.open_arrays.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl ArrayWriter for H5ArrayWriter {
    async fn append(&mut self, values: ArrayRef) -> Result<()> {
        let len = u64::try_from(values.len()).unwrap_or(u64::MAX);
        let rows = len.checked_div(self.row_len).unwrap_or(0);
        if rows.checked_mul(self.row_len) != Some(len) {
            let reason = format!("{len} values are no whole rows of {}", self.row_len);
            return Err(Error::invalid(self.job.shared.url(), &self.job.key, reason));
        }
        let total = self.rows.saturating_add(rows);
        if let Some(expected) = self.expected.filter(|expected| total > *expected) {
            return Err(self.length_mismatch(total, expected));
        }
        if len == 0 {
            return Ok(());
        }
        let (job, mut body) = self.take()?;
        let heavy = body.is_heavy_to_append(&job, &values);
        let (body, result) = run(heavy, move || {
            let result = body.append(&job, &values);
            (body, result)
        })
        .await;
        result.map_err(|e| self.failure(e))?;
        self.body = Some(body);
        self.rows = total;
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        // Of rows without elements none can be given, so none can be missing.
        if let Some(expected) = self.expected
            && self.rows != expected
            && self.row_len > 0
        {
            return Err(self.length_mismatch(self.rows, expected));
        }
        let ((job, body), rows) = (self.take()?, self.rows);
        run(body.is_heavy_to_finish(), move || body.finish(&job, rows))
            .await
            .map_err(|e| self.failure(e))
    }
}

/// Runs short work at once, long work in the background.
async fn run<T: Send + 'static>(heavy: bool, work: impl FnOnce() -> T + Send + 'static) -> T {
    if heavy {
        in_background(work).await
    } else {
        work()
    }
}

/// Runs work on a thread that may block, where there is a runtime that has one.
pub(super) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if tokio::runtime::Handle::try_current().is_err() {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking work is cancelled only when the runtime goes, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
