//! Arrays that are filled with whole rows, in order.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef};
use async_trait::async_trait;

use super::RawResult;
use super::blocking::in_background;
use crate::error::{BoxedError, Error, Result};
use crate::model::ElementKey;
use crate::store::remote::names_its_key;
use crate::store::{ArrayWriter, Extent};

/// The arrays of a store that are not finished, counted.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct OpenArrays(Arc<AtomicUsize>);

impl OpenArrays {
    /// Whether all are finished.
    ///
    /// # Errors
    /// How many are not.
    pub(in crate::store) fn check(&self) -> RawResult<()> {
        match self.0.load(Ordering::Acquire) {
            0 => Ok(()),
            open => Err(format!("{open} arrays are not finished").into()),
        }
    }
}

/// Where an array is, for messages, and which store counts it.
#[derive(Debug, Clone)]
pub(in crate::store) struct ArrayPlace {
    /// What errors call the kind of store.
    pub(in crate::store) store: &'static str,
    /// What they call the store.
    pub(in crate::store) url: String,
    /// The array's path.
    pub(in crate::store) key: ElementKey,
    /// What counts it.
    pub(in crate::store) open_arrays: OpenArrays,
}

impl ArrayPlace {
    fn failure(&self, source: BoxedError) -> Error {
        let path = match names_its_key(source.as_ref()) {
            true => self.url.clone(),
            false => format!("{}: {}", self.url, self.key),
        };
        Error::store(self.store, path, source)
    }

    fn invalid(&self, reason: String) -> Error {
        Error::invalid(&self.url, &self.key, reason)
    }
}

/// What a store does with the rows of one array.
pub(in crate::store) trait Body: fmt::Debug + Send + Sized + 'static {
    /// Takes the next rows, at least one value.
    fn append(&mut self, values: &ArrayRef) -> RawResult<()>;

    /// Writes what is left; `rows` is what was appended.
    fn finish(self, rows: u64) -> RawResult<()>;

    /// Whether appending the values takes long.
    fn is_heavy_to_append(&self, values: &ArrayRef) -> bool;

    /// How many of the values can be appended before there is something to wait for, which
    /// [`Body::make_room`] does; all where appending is one piece of work.
    fn until_wait(&self, values: &ArrayRef) -> usize {
        values.len()
    }

    /// Does what the next values would wait for.
    fn make_room(&mut self) -> RawResult<()> {
        Ok(())
    }

    /// Whether finishing takes long.
    fn is_heavy_to_finish(&self) -> bool;
}

/// Elements of a row of these lengths.
///
/// # Errors
/// Where their product overflows.
fn row_len(tail: &[u64]) -> RawResult<u64> {
    let product = tail
        .iter()
        .try_fold(1u64, |product, n| product.checked_mul(*n));
    product.ok_or_else(|| format!("rows of lengths {tail:?} are too long").into())
}

/// An array of a store being written: counts rows, and keeps long work from the caller's thread.
#[derive(Debug)]
pub(in crate::store) struct RowWriter<B> {
    place: ArrayPlace,
    /// Rows it must get, where that is known.
    expected: Option<u64>,
    /// Elements of a row.
    row_len: u64,
    /// Rows it got.
    rows: u64,
    /// [`None`] while a call runs, and after one failed or was dropped.
    body: Option<B>,
}

impl<B: Body> RowWriter<B> {
    /// Creates the array by `create`.
    pub(in crate::store) fn create(
        place: ArrayPlace,
        extent: &Extent,
        create: impl FnOnce() -> RawResult<B>,
    ) -> Result<Self> {
        let (expected, tail) = match extent {
            Extent::Scalar => (Some(1), &[][..]),
            Extent::Null => (Some(0), &[][..]),
            Extent::Fixed(shape) => match shape.split_first() {
                Some((rows, tail)) => (Some(*rows), tail),
                None => (Some(1), &[][..]),
            },
            Extent::Growing(tail) => (None, tail.as_slice()),
        };
        let row_len = row_len(tail).map_err(|e| place.invalid(e.to_string()))?;
        let body = Some(create().map_err(|e| place.failure(e))?);
        place.open_arrays.0.fetch_add(1, Ordering::AcqRel);
        Ok(Self {
            place,
            expected,
            row_len,
            rows: 0,
            body,
        })
    }

    /// Takes what there is to work on.
    fn take(&mut self) -> Result<B> {
        let body = self.body.take();
        body.ok_or_else(|| self.place.failure("an earlier write failed".into()))
    }

    fn length_mismatch(&self, rows: u64, expected: u64) -> Error {
        Error::LengthMismatch {
            url: self.place.url.clone(),
            element: self.place.key.clone(),
            what: "number of rows written".to_owned(),
            actual: rows,
            expected_by: "its extent".to_owned(),
            expected,
        }
    }
}

impl<B> Drop for RowWriter<B> {
    fn drop(&mut self) {
        self.place.open_arrays.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl<B: Body> ArrayWriter for RowWriter<B> {
    async fn append(&mut self, values: ArrayRef) -> Result<()> {
        let len = u64::try_from(values.len()).unwrap_or(u64::MAX);
        let rows = len.checked_div(self.row_len).unwrap_or(0);
        if rows.checked_mul(self.row_len) != Some(len) {
            let reason = format!("{len} values are no whole rows of {}", self.row_len);
            return Err(self.place.invalid(reason));
        }
        let total = self.rows.saturating_add(rows);
        if let Some(expected) = self.expected.filter(|expected| total > *expected) {
            return Err(self.length_mismatch(total, expected));
        }
        if len == 0 {
            return Ok(());
        }
        let mut body = self.take()?;
        let mut values = values;
        loop {
            let n_now = body.until_wait(&values);
            if n_now >= values.len() {
                break;
            }
            let done = match n_now {
                0 => Ok(()),
                n => body.append(&values.slice(0, n)),
            };
            done.map_err(|e| self.place.failure(e))?;
            values = values.slice(n_now, values.len() - n_now);
            let result;
            (body, result) = in_background(move || {
                let result = body.make_room();
                (body, result)
            })
            .await;
            result.map_err(|e| self.place.failure(e))?;
        }
        let heavy = body.is_heavy_to_append(&values);
        let (body, result) = run(heavy, move || {
            let result = body.append(&values);
            (body, result)
        })
        .await;
        result.map_err(|e| self.place.failure(e))?;
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
        let (body, rows) = (self.take()?, self.rows);
        run(body.is_heavy_to_finish(), move || body.finish(rows))
            .await
            .map_err(|e| self.place.failure(e))
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    /// Takes so many values between waits.
    const ROOM: usize = 100;

    #[derive(Debug, Default)]
    struct Bounded {
        filled: usize,
        got: Arc<Mutex<Vec<i64>>>,
    }

    impl Body for Bounded {
        fn append(&mut self, values: &ArrayRef) -> RawResult<()> {
            self.filled += values.len();
            if self.filled > ROOM {
                return Err(format!("{} values without a wait", self.filled).into());
            }
            let values = values.as_primitive::<Int64Type>().values();
            self.got.lock().unwrap().extend(values);
            Ok(())
        }

        fn finish(self, _: u64) -> RawResult<()> {
            Ok(())
        }

        fn is_heavy_to_append(&self, _: &ArrayRef) -> bool {
            false
        }

        fn until_wait(&self, values: &ArrayRef) -> usize {
            values.len().min(ROOM - self.filled)
        }

        fn make_room(&mut self) -> RawResult<()> {
            // As of a device that takes whole blocks.
            self.filled %= 7;
            Ok(())
        }

        fn is_heavy_to_finish(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn values_are_taken_in_order_between_waits() {
        let place = ArrayPlace {
            store: "test",
            url: "here".to_owned(),
            key: ElementKey::from("x"),
            open_arrays: OpenArrays::default(),
        };
        let body = Bounded::default();
        let got = Arc::clone(&body.got);
        let extent = Extent::Fixed(vec![10_000]);
        let mut writer = Box::new(RowWriter::create(place, &extent, || Ok(body)).unwrap());
        let mut at = 0;
        for len in [1, 99, 100, 101, 1, 350, 9348] {
            let values = Int64Array::from_iter_values(at..at + len);
            writer.append(Arc::new(values)).await.unwrap();
            at += len;
        }
        writer.finish().await.unwrap();
        assert_eq!(*got.lock().unwrap(), (0..10_000).collect::<Vec<_>>());
    }
}
