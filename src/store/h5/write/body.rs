//! Where the values of an array go, decided by its length, its type and its compression.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::Buffer;

use super::chunks::{Chunks, Filter};
use super::dataset::Layout;
use super::direct::Direct;
use super::file::Shared;
use super::grid::{ChunkTarget, Grid};
use super::raw::disk_size;
use crate::model::ElementKey;
use crate::store::encode::{self, RawResult, Twin, encode};
use crate::store::{ArraySpec, Compression, Extent};

/// Bytes from which on work leaves the thread that runs the caller's tasks.
const HEAVY_BYTES: u64 = 1 << 18;
/// The same where bytes go to their place as they are: another core would have to fetch them.
const HEAVY_COPY: u64 = 1 << 20;
/// Texts from which on it leaves that thread, too.
const HEAVY_TEXTS: usize = 16_384;
/// Texts of a growing array that are kept before it is created as a growing one.
const KEPT_TEXTS: u64 = 16_384;

/// What the work on an array needs to know of it.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) shared: Arc<Shared>,
    pub(super) key: ElementKey,
    pub(super) spec: Arc<ArraySpec>,
    pub(super) twin: Arc<Twin<Filter>>,
}

/// An array's values on their way.
#[derive(Debug)]
pub(super) struct H5Body {
    job: Job,
    body: Body,
}

impl H5Body {
    /// Creates the array, unless its length is not known yet.
    pub(super) fn new(job: Job) -> RawResult<Self> {
        let body = Body::new(&job)?;
        Ok(Self { job, body })
    }
}

impl encode::Body for H5Body {
    fn append(&mut self, values: &ArrayRef) -> RawResult<()> {
        self.body.append(&self.job, values)
    }

    fn finish(self, rows: u64) -> RawResult<()> {
        self.body.finish(&self.job, rows)
    }

    fn is_heavy_to_append(&self, values: &ArrayRef) -> bool {
        self.body.is_heavy_to_append(&self.job, values)
    }

    fn until_wait(&self, values: &ArrayRef) -> usize {
        self.body.until_wait(&self.job, values)
    }

    fn make_room(&mut self) -> RawResult<()> {
        match &mut self.body {
            Body::Direct(direct) => direct.make_room(),
            _ => Ok(()),
        }
    }

    fn is_heavy_to_finish(&self) -> bool {
        self.body.is_heavy_to_finish()
    }
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
}

impl Body {
    /// Creates the array, unless its length is not known yet.
    fn new(job: &Job) -> RawResult<Self> {
        match &job.spec.extent {
            Extent::Scalar => job.place(Some(&[])),
            Extent::Null => job.place(None),
            Extent::Fixed(shape) => job.place(Some(shape)),
            Extent::Growing(_) => Ok(Self::Kept {
                values: Vec::new(),
                size: 0,
            }),
        }
    }

    /// Takes the next values.
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
            Self::Direct(direct) => direct.append(&job.encode(values)?),
            Self::Chunks(chunks) => chunks.append(&job.encode(values)?),
        }
    }

    /// Writes what is left; `rows` is what was appended.
    fn finish(self, job: &Job, rows: u64) -> RawResult<()> {
        match self {
            Self::Empty | Self::Direct(_) => Ok(()),
            Self::Chunks(chunks) => chunks.finish(rows),
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

    /// Whether appending the values takes long.
    fn is_heavy_to_append(&self, job: &Job, values: &ArrayRef) -> bool {
        let Some(size) = job.spec.dtype.size() else {
            let bytes = u64::try_from(values.get_buffer_memory_size()).unwrap_or(u64::MAX);
            return values.len() >= HEAVY_TEXTS || bytes >= HEAVY_COPY;
        };
        let bytes = size.saturating_mul(u64::try_from(values.len()).unwrap_or(u64::MAX));
        match self {
            Self::Direct(direct) => bytes >= HEAVY_COPY || direct.waits_with(bytes),
            _ => bytes >= HEAVY_BYTES,
        }
    }

    /// How many of the values are taken before the device has to be waited for. Those are copied by the
    /// thread that has just read them: another core would have to fetch them.
    fn until_wait(&self, job: &Job, values: &ArrayRef) -> usize {
        let (Self::Direct(direct), Some(size)) = (self, job.spec.dtype.size()) else {
            return values.len();
        };
        let bytes = size.saturating_mul(u64::try_from(values.len()).unwrap_or(u64::MAX));
        match bytes < HEAVY_COPY {
            true => usize::try_from(direct.until_wait(bytes) / size.max(1)).unwrap_or(usize::MAX),
            false => values.len(),
        }
    }

    /// Whether finishing takes long.
    fn is_heavy_to_finish(&self) -> bool {
        match self {
            Self::Kept { size, .. } => *size > HEAVY_BYTES / 4,
            Self::Chunks(_) => true,
            Self::Empty | Self::Direct(_) => false,
        }
    }
}

impl Job {
    /// The bytes of values on disk; texts go to the file's heap, and their places there are it.
    fn encode(&self, values: &ArrayRef) -> RawResult<Buffer> {
        encode(&self.spec.dtype, values, &|texts| {
            self.shared.put_texts(texts)
        })
    }

    /// What an element adds to the size of what is kept.
    fn kept_weight(&self) -> u64 {
        self.spec.dtype.size().unwrap_or(1)
    }

    /// The size from which on nothing is kept any more.
    fn kept_limit(&self) -> u64 {
        match self.spec.dtype.size() {
            None => KEPT_TEXTS,
            Some(_) => self.target().bytes(),
        }
    }

    /// How large the array's chunks shall be.
    fn target(&self) -> ChunkTarget {
        match &self.spec.extent {
            _ if self.spec.compression != Compression::None => ChunkTarget::compressed(),
            // Columns that grow are many, and each holds back a chunk.
            Extent::Growing(tail) if tail.is_empty() && !self.spec.appendable => {
                ChunkTarget::compressed()
            }
            _ => ChunkTarget::plain(),
        }
    }

    /// Creates the array at its full length: `Some(&[])` is a scalar, [`None`] a null.
    fn place(&self, shape: Option<&[u64]>) -> RawResult<Body> {
        let spec = &*self.spec;
        let size = disk_size(&spec.dtype).unwrap_or(0);
        let elements = shape
            .unwrap_or(&[0])
            .iter()
            .try_fold(1u64, |p, n| p.checked_mul(*n));
        let bytes = elements
            .and_then(|n| n.checked_mul(size))
            .ok_or("the array is too large")?;
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
                reserved: !compressed,
            }))?;
            if compressed {
                let rows = Some(*rows);
                return Ok(Body::Chunks(Chunks::new(
                    dataset,
                    grid,
                    spec.compression,
                    Arc::clone(&self.twin),
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
            reserved: true,
        }))?;
        if bytes == 0 {
            dataset.close()?;
            return Ok(Body::Empty);
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
        let size = disk_size(&spec.dtype).unwrap_or(0);
        let grid = Grid::new(None, tail, size, self.target());
        let dataset = self.create(Some(Layout {
            shape: &grid.shape(0),
            chunk: Some(grid.chunk()),
            unlimited: true,
            reserved: false,
        }))?;
        Ok(Body::Chunks(Chunks::new(
            dataset,
            grid,
            spec.compression,
            Arc::clone(&self.twin),
            None,
        )))
    }
}
