//! One array: created in the layout its length and compression ask for, then filled in order.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef};
use async_trait::async_trait;
use hdf5::globals as h5;
use hdf5_sys::h5d::{H5D_alloc_time_t, H5D_fill_time_t, H5Dclose, H5Dcreate2};
use hdf5_sys::h5p::{
    H5Pclose, H5Pcreate, H5Pset_alloc_time, H5Pset_chunk, H5Pset_deflate, H5Pset_fill_time,
    H5Pset_filter, H5Pset_obj_track_times,
};
use hdf5_sys::h5s::{H5S_UNLIMITED, H5S_class_t, H5Sclose, H5Screate, H5Screate_simple};
use hdf5_sys::h5z::H5Z_FLAG_OPTIONAL;

use super::chunks::Chunks;
use super::direct::Direct;
use super::encode::encode;
use super::file::Shared;
use super::grid::{ChunkTarget, Grid};
use super::raw::{Handle, RawResult, c_name, check, locked, memory_size, memory_type};
use super::records::Records;
use crate::error::{Error, Result};
use crate::model::ElementKey;
use crate::store::{ArraySpec, ArrayWriter, Compression, Extent};

/// The number under which h5py registers LZF.
const LZF_FILTER: i32 = 32000;
/// Bytes from which on work leaves the thread that runs the caller's tasks.
const HEAVY_BYTES: u64 = 1 << 18;
/// Texts from which on it does; they cost about half a microsecond each.
const HEAVY_TEXTS: usize = 2048;
/// Elements of a growing array of text that are kept before it is created as a growing one.
const KEPT_TEXTS: u64 = 16_384;
/// Bytes of another growing array that are kept, appendable ones (they are few and large) aside.
const KEPT_BYTES: u64 = 1 << 18;

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

/// What the work on an array needs to know of it.
#[derive(Debug, Clone)]
struct Job {
    shared: Arc<Shared>,
    key: ElementKey,
    spec: Arc<ArraySpec>,
}

/// How a dataset is laid out.
#[derive(Debug, Clone, Copy)]
struct Layout<'a> {
    /// Lengths; none for a scalar.
    shape: &'a [u64],
    /// Lengths of a chunk, [`None`] for one run of bytes.
    chunk: Option<&'a [u64]>,
    /// Whether the first axis may grow, now or later.
    unlimited: bool,
    /// Whether room is reserved for all of it, to be filled without the library.
    reserved: bool,
}

/// Where the array's values go.
#[derive(Debug)]
enum Body {
    /// Nowhere: no element, or nothing left to come.
    Empty,
    /// Kept, since a growing array that stays short is better made when its length is known.
    Kept { values: Vec<ArrayRef>, size: u64 },
    /// To places in the file.
    Direct(Direct),
    /// To the library, chunk by chunk.
    Chunks(Chunks),
    /// To the library, element by element.
    Records(Records),
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
        if memory_size(&job.spec.dtype).is_none() {
            let reason = format!("elements of type {} cannot be written", job.spec.dtype);
            return Err(Error::invalid(shared.url(), key, reason));
        }
        let body = match &job.spec.extent {
            Extent::Scalar => job.place(Some(&[])),
            Extent::Null => job.place(None),
            Extent::Fixed(shape) => job.place(Some(shape)),
            Extent::Growing(_) => Ok(Body::Kept {
                values: Vec::new(),
                size: 0,
            }),
        };
        let body = Some(body.map_err(|e| shared.failure(key, e))?);
        shared.open_arrays.fetch_add(1, Ordering::AcqRel);
        Ok(Self {
            job,
            expected,
            row_len,
            rows: 0,
            body,
        })
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
        let Some(mut body) = self.body.take() else {
            return Err(self
                .job
                .shared
                .failure(&self.job.key, "an earlier write failed".into()));
        };
        let job = self.job.clone();
        let (body, result) = run(job.is_heavy(values.len()), move || {
            let result = body.append(&job, &values);
            (body, result)
        })
        .await;
        result.map_err(|e| self.job.shared.failure(&self.job.key, e))?;
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
        let Some(body) = self.body.take() else {
            return Err(self
                .job
                .shared
                .failure(&self.job.key, "an earlier write failed".into()));
        };
        let (job, rows) = (self.job.clone(), self.rows);
        run(body.is_heavy_to_finish(), move || body.finish(&job, rows))
            .await
            .map_err(|e| self.job.shared.failure(&self.job.key, e))
    }
}

/// Runs work, on another thread where it is long and there is a runtime that has one.
pub(super) async fn run<T: Send + 'static>(
    heavy: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if !heavy || tokio::runtime::Handle::try_current().is_err() {
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

impl Body {
    fn append(&mut self, job: &Job, values: &ArrayRef) -> RawResult<()> {
        match self {
            Self::Empty => Err("there is no room for values".into()),
            Self::Kept { values: kept, size } => {
                let len = u64::try_from(values.len())?;
                *size = size.saturating_add(len.saturating_mul(job.kept_weight()));
                kept.push(Arc::clone(values));
                if *size > job.kept_limit() {
                    let kept = std::mem::take(kept);
                    *self = job.grow()?;
                    kept.iter()
                        .try_for_each(|values| self.append(job, values))?;
                }
                Ok(())
            }
            Self::Direct(direct) => direct.append(&encode(&job.spec.dtype, values)?),
            Self::Chunks(chunks) => chunks.append(&encode(&job.spec.dtype, values)?),
            Self::Records(records) => records.append(values),
        }
    }

    fn finish(self, job: &Job, rows: u64) -> RawResult<()> {
        match self {
            Self::Empty | Self::Direct(_) => Ok(()),
            Self::Chunks(chunks) => chunks.finish(rows),
            Self::Records(records) => records.finish(),
            Self::Kept { values, .. } => {
                let mut shape = vec![rows];
                if let Extent::Growing(tail) = &job.spec.extent {
                    shape.extend_from_slice(tail);
                }
                let mut body = job.place(Some(&shape))?;
                values
                    .iter()
                    .try_for_each(|values| body.append(job, values))?;
                body.finish(job, rows)
            }
        }
    }

    fn is_heavy_to_finish(&self) -> bool {
        match self {
            Self::Kept { size, .. } => *size > HEAVY_BYTES / 4,
            Self::Chunks(_) => true,
            Self::Empty | Self::Direct(_) | Self::Records(_) => false,
        }
    }
}

impl Job {
    /// Whether appending so many elements takes long.
    fn is_heavy(&self, len: usize) -> bool {
        match self.spec.dtype.size() {
            Some(size) => {
                size.saturating_mul(u64::try_from(len).unwrap_or(u64::MAX)) >= HEAVY_BYTES
            }
            None => len >= HEAVY_TEXTS,
        }
    }

    /// What an element adds to the size of what is kept.
    fn kept_weight(&self) -> u64 {
        self.spec.dtype.size().unwrap_or(1)
    }

    /// The size from which on nothing is kept any more.
    fn kept_limit(&self) -> u64 {
        match self.spec.dtype.size() {
            None => KEPT_TEXTS,
            Some(_) if self.spec.appendable => self.target().bytes(),
            Some(_) => KEPT_BYTES,
        }
    }

    fn target(&self) -> ChunkTarget {
        match (&self.spec.extent, self.spec.compression) {
            // Columns that grow are many, and each holds back a chunk.
            (Extent::Growing(_), Compression::None) if !self.spec.appendable => {
                ChunkTarget::compressed()
            }
            (_, Compression::None) => ChunkTarget::plain(),
            _ => ChunkTarget::compressed(),
        }
    }

    /// Creates the array at its full length: `Some(&[])` is a scalar, [`None`] a null.
    fn place(&self, shape: Option<&[u64]>) -> RawResult<Body> {
        let spec = &*self.spec;
        let size = u64::try_from(memory_size(&spec.dtype).unwrap_or(0))?;
        let elements = shape
            .unwrap_or(&[0])
            .iter()
            .try_fold(1u64, |p, n| p.checked_mul(*n));
        let bytes = elements
            .and_then(|n| n.checked_mul(size))
            .ok_or("the array is too large")?;
        let has_text = spec.dtype.size().is_none();
        let chunked = shape.and_then(|s| s.split_first()).filter(|(_, tail)| {
            !tail.contains(&0)
                && (spec.appendable || (spec.compression != Compression::None && bytes > 0))
        });
        if let Some((rows, tail)) = chunked {
            let grid = Grid::new(Some(*rows), tail, size, self.target());
            let compressed = spec.compression != Compression::None;
            let dataset = self.create(Some(Layout {
                shape: &grid.shape(*rows),
                chunk: Some(grid.chunk()),
                unlimited: spec.appendable,
                reserved: !compressed && !has_text,
            }))?;
            if has_text {
                return Ok(Body::Records(Records::new(
                    dataset,
                    spec.dtype.clone(),
                    shape,
                    false,
                )?));
            }
            if compressed {
                let rows = Some(*rows);
                return Ok(Body::Chunks(Chunks::new(
                    dataset,
                    grid,
                    spec.compression,
                    rows,
                )));
            }
            let file = self.shared.bytes();
            let direct = Direct::chunked(file, &dataset, &grid, *rows)?;
            dataset.close()?;
            return Ok(Body::Direct(direct));
        }
        let dataset = self.create(shape.map(|shape| Layout {
            shape,
            chunk: None,
            unlimited: false,
            reserved: !has_text,
        }))?;
        if bytes == 0 {
            dataset.close()?;
            return Ok(Body::Empty);
        }
        if has_text {
            return Ok(Body::Records(Records::new(
                dataset,
                spec.dtype.clone(),
                shape,
                false,
            )?));
        }
        let direct = Direct::contiguous(self.shared.bytes(), &dataset, bytes)?;
        dataset.close()?;
        Ok(Body::Direct(direct))
    }

    /// Creates the array empty, to grow along its first axis.
    fn grow(&self) -> RawResult<Body> {
        let spec = &*self.spec;
        let Extent::Growing(tail) = &spec.extent else {
            return Err("only a growing array can be made to grow".into());
        };
        let size = u64::try_from(memory_size(&spec.dtype).unwrap_or(0))?;
        let grid = Grid::new(None, tail, size, self.target());
        let dataset = self.create(Some(Layout {
            shape: &grid.shape(0),
            chunk: Some(grid.chunk()),
            unlimited: true,
            reserved: false,
        }))?;
        Ok(if spec.dtype.size().is_none() {
            let shape = grid.shape(0);
            Body::Records(Records::new(
                dataset,
                spec.dtype.clone(),
                Some(&shape),
                true,
            )?)
        } else {
            Body::Chunks(Chunks::new(dataset, grid, spec.compression, None))
        })
    }

    /// Creates the dataset with its attributes; without a layout, one without elements.
    fn create(&self, layout: Option<Layout<'_>>) -> RawResult<Handle> {
        let spec = &*self.spec;
        let name = c_name(self.key.as_str())?;
        locked(|| {
            let (space, list) = (space(layout)?, self.creation_list(layout)?);
            let dtype = memory_type(&spec.dtype)?;
            let (file, links) = (self.shared.file()?, self.shared.links());
            // SAFETY: all identifiers are open and the name ends in NUL.
            let dataset = Handle::new(
                unsafe {
                    H5Dcreate2(
                        file,
                        name.as_ptr(),
                        dtype.id(),
                        space.id(),
                        links,
                        list.id(),
                        0,
                    )
                },
                H5Dclose,
            )?;
            self.shared
                .attributes()
                .write(dataset.id(), &spec.attributes)?;
            Ok(dataset)
        })
    }

    /// How the dataset is stored. Under the lock.
    fn creation_list(&self, layout: Option<Layout<'_>>) -> RawResult<Handle> {
        // SAFETY: a list of our own; lengths are passed with their number.
        unsafe {
            let list = Handle::new(H5Pcreate(*h5::H5P_DATASET_CREATE), H5Pclose)?;
            let id = list.id();
            check(H5Pset_obj_track_times(id, 0))?;
            let Some(layout) = layout else {
                return Ok(list);
            };
            if let Some(chunk) = layout.chunk {
                check(H5Pset_chunk(
                    id,
                    i32::try_from(chunk.len())?,
                    chunk.as_ptr(),
                ))?;
                match self.spec.compression {
                    Compression::None => {}
                    Compression::Gzip(level) => check(H5Pset_deflate(id, u32::from(level)))?,
                    Compression::Lzf => {
                        let flags = H5Z_FLAG_OPTIONAL;
                        check(H5Pset_filter(id, LZF_FILTER, flags, 0, ptr::null()))?;
                    }
                }
            }
            if layout.reserved {
                check(H5Pset_alloc_time(
                    id,
                    H5D_alloc_time_t::H5D_ALLOC_TIME_EARLY,
                ))?;
            }
            // The library fills arrays of text in any case: their elements are places on a heap.
            if self.spec.dtype.size().is_some() {
                check(H5Pset_fill_time(id, H5D_fill_time_t::H5D_FILL_TIME_NEVER))?;
            }
            Ok(list)
        }
    }
}

/// A dataspace. Under the lock.
fn space(layout: Option<Layout<'_>>) -> RawResult<Handle> {
    // SAFETY: as many lengths are passed as the rank says.
    let id = match layout {
        None => unsafe { H5Screate(H5S_class_t::H5S_NULL) },
        Some(Layout { shape: [], .. }) => unsafe { H5Screate(H5S_class_t::H5S_SCALAR) },
        Some(Layout {
            shape, unlimited, ..
        }) => {
            let mut most = shape.to_vec();
            if unlimited {
                most[0] = H5S_UNLIMITED;
            }
            let rank = i32::try_from(shape.len())?;
            unsafe { H5Screate_simple(rank, shape.as_ptr(), most.as_ptr()) }
        }
    };
    Handle::new(id, H5Sclose)
}
