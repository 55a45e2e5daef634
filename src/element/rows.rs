//! Rows in any order, with repeats: what minibatches are made of.
//!
//! A [`ColumnReader`](super::ColumnReader) gives rows in the order of the object, and who wants another
//! moves them. Here the entries of sparse rows go from chunks straight to their places, in the types
//! that they have on disk; everything else is read in order and moved.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef};

use crate::element::matrix::CsrArrays;
use crate::element::{ColumnReader, MatrixReader};
use crate::error::{Error, Result};
use crate::kernel::{gather, sparse_rows};
use crate::model::{RowSelection, matrix_type};
use crate::store::{ArrayReader, ReadMetrics, Run, gather_runs};

/// A column, or a matrix, read by rows in any order. Holds 8 bytes a row of a sparse matrix.
#[derive(Debug)]
pub struct RowReader {
    field: FieldRef,
    row_bytes: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Rows whose entries are read to where they are wanted.
    Sparse(Sparse),
    /// Rows that are moved once they are read.
    Moved(Arc<dyn ColumnReader>),
}

/// A sparse matrix by row, in one part or several below each other.
#[derive(Debug)]
struct Sparse {
    /// The first row of each part, and behind them the number of all.
    starts: Vec<u64>,
    /// Pointers of each part.
    indptr: Vec<Vec<u64>>,
    parts: Vec<CsrArrays>,
    indices: Vec<Arc<dyn ArrayReader>>,
    data: Vec<Arc<dyn ArrayReader>>,
}

/// Rows that were read.
#[derive(Debug)]
pub struct Rows {
    field: FieldRef,
    kind: RowsKind,
}

#[derive(Debug)]
enum RowsKind {
    Sparse {
        /// Where each row's entries begin, and the last one's end.
        offsets: Vec<usize>,
        indices: ArrayRef,
        data: ArrayRef,
    },
    Plain(ArrayRef),
}

impl RowReader {
    /// A reader of a column's rows. Reads the pointers of a sparse matrix.
    ///
    /// # Errors
    /// [`Error::InvalidElement`] where they break their rules, and those of the store.
    pub async fn open(column: &Arc<dyn ColumnReader>, metrics: &ReadMetrics) -> Result<Self> {
        let parts = column.as_matrix().and_then(MatrixReader::csr);
        let sparse = match parts {
            Some(parts) => Sparse::open(parts, metrics).await?,
            None => None,
        };
        let of_disk = sparse
            .as_ref()
            .and_then(|sparse| sparse.field(column.field()));
        Ok(match (sparse, of_disk) {
            (Some(sparse), Some(field)) => Self {
                field,
                row_bytes: column.row_bytes(),
                kind: Kind::Sparse(sparse),
            },
            _ => Self {
                field: Arc::clone(column.field()),
                row_bytes: column.row_bytes(),
                kind: Kind::Moved(Arc::clone(column)),
            },
        })
    }

    /// The field of the rows: that of the column, but that indices of a sparse matrix may be of
    /// another integer type.
    pub fn field(&self) -> &FieldRef {
        &self.field
    }

    /// Bytes of a row in memory, on the average.
    pub fn row_bytes(&self) -> u64 {
        self.row_bytes
    }

    /// Reads rows, one after another as they are given.
    ///
    /// Only chunks that hold some of them are fetched, each once.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a row beyond the last, and as [`ColumnReader::read`].
    pub async fn read(&self, rows: &[u64], metrics: &ReadMetrics) -> Result<Rows> {
        let kind = match &self.kind {
            Kind::Sparse(sparse) => sparse.read(rows, metrics).await?,
            Kind::Moved(column) => RowsKind::Plain(moved(column.as_ref(), rows, metrics).await?),
        };
        Ok(Rows {
            field: Arc::clone(&self.field),
            kind,
        })
    }
}

impl Sparse {
    /// [`None`] where the parts are not of the same types.
    async fn open(parts: Vec<CsrArrays>, metrics: &ReadMetrics) -> Result<Option<Self>> {
        let arrays = |of: fn(&CsrArrays) -> &Arc<dyn ArrayReader>| -> Vec<_> {
            parts.iter().map(|part| Arc::clone(of(part))).collect()
        };
        let (indices, data) = (arrays(CsrArrays::indices), arrays(CsrArrays::data));
        let same = |arrays: &[Arc<dyn ArrayReader>]| {
            arrays
                .windows(2)
                .all(|pair| pair[0].info().dtype == pair[1].info().dtype)
        };
        if !same(&indices) || !same(&data) {
            return Ok(None);
        }
        let mut starts = vec![0];
        let mut indptr = Vec::with_capacity(parts.len());
        for part in &parts {
            let pointers = part.pointers(metrics).await?;
            let n_rows = pointers.len().saturating_sub(1) as u64;
            starts.push(starts.last().copied().unwrap_or_default() + n_rows);
            indptr.push(pointers);
        }
        Ok(Some(Self {
            starts,
            indptr,
            parts,
            indices,
            data,
        }))
    }

    /// The column's field with the indices' own type.
    fn field(&self, column: &Field) -> Option<FieldRef> {
        let dtype = |arrays: &[Arc<dyn ArrayReader>]| arrays.first()?.info().dtype.arrow();
        let data_type = matrix_type(dtype(&self.data)?, dtype(&self.indices)?);
        Some(Arc::new(column.clone().with_data_type(data_type)))
    }

    async fn read(&self, rows: &[u64], metrics: &ReadMetrics) -> Result<RowsKind> {
        let mut runs: Vec<Run> = Vec::with_capacity(rows.len());
        let mut offsets = Vec::with_capacity(rows.len() + 1);
        let mut end = 0usize;
        offsets.push(end);
        for row in rows {
            let (array, start, len) = self.run(*row)?;
            end += usize::try_from(len).unwrap_or(usize::MAX);
            offsets.push(end);
            if len == 0 {
                continue;
            }
            match runs.last_mut() {
                Some(last) if last.array == array && last.start + last.len == start => {
                    last.len += len;
                }
                _ => runs.push(Run { array, start, len }),
            }
        }
        let (indices, data) = futures::try_join!(
            gather_runs(&self.indices, &runs, metrics),
            gather_runs(&self.data, &runs, metrics)
        )?;
        if let Some(part) = self.parts.first() {
            part.check_indices(&indices)?;
        }
        Ok(RowsKind::Sparse {
            offsets,
            indices,
            data,
        })
    }

    /// Where a row's entries are: the part, the first one, how many.
    fn run(&self, row: u64) -> Result<(usize, u64, u64)> {
        let part = self.starts.partition_point(|start| *start <= row);
        let part = part
            .saturating_sub(1)
            .min(self.parts.len().saturating_sub(1));
        let pointers = self.starts.get(part).and_then(|start| {
            let at = usize::try_from(row - start).ok()?;
            self.indptr.get(part)?.get(at..)?.get(..2)
        });
        match (pointers, self.parts.get(part)) {
            (Some([start, end]), _) => Ok((part, *start, end - start)),
            (_, Some(part)) => {
                let len = self.starts.last().copied().unwrap_or_default();
                Err(part.out_of_range(row, len))
            }
            _ => Err(Error::IncompatibleSchemas(
                "a matrix of no parts".to_owned(),
            )),
        }
    }
}

impl Rows {
    /// The field of the rows.
    pub fn field(&self) -> &FieldRef {
        &self.field
    }

    /// Some of the rows, by their places in what was asked for. Shares the memory of all, but for the
    /// offsets of sparse rows.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] where sparse rows hold 2^31 entries or more.
    pub fn slice(&self, places: Range<usize>) -> Result<ArrayRef> {
        match &self.kind {
            RowsKind::Plain(rows) => Ok(rows.slice(places.start, places.len())),
            RowsKind::Sparse {
                offsets,
                indices,
                data,
            } => {
                let of = offsets.get(places.start..=places.end).unwrap_or(&[]);
                let first = of.first().copied().unwrap_or_default();
                let len = of.last().copied().unwrap_or_default() - first;
                let too_many = || {
                    let reason = format!(
                        "{} rows hold {len} entries, more than one list can",
                        places.len()
                    );
                    Error::IncompatibleSchemas(reason)
                };
                let offsets: Option<Vec<i32>> = of
                    .iter()
                    .map(|end| i32::try_from(end - first).ok())
                    .collect();
                let offsets = offsets.ok_or_else(too_many)?;
                let DataType::List(item) = self.field.data_type() else {
                    return Err(too_many());
                };
                let (indices, data) = (indices.slice(first, len), data.slice(first, len));
                let offsets = OffsetBuffer::new(offsets.into());
                Ok(Arc::new(sparse_rows(item, offsets, indices, data)?))
            }
        }
    }
}

/// Rows read in the order of the object, and then put into the one asked for.
async fn moved(column: &dyn ColumnReader, rows: &[u64], metrics: &ReadMetrics) -> Result<ArrayRef> {
    let mut sorted = rows.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let selection = RowSelection::from_sorted(sorted.iter().copied()).unwrap_or_default();
    let read = column.read(&selection, metrics).await?;
    let places = rows.iter().map(|row| {
        let place = sorted.binary_search(row).unwrap_or_default();
        (0, place)
    });
    gather(&[read], &places.collect::<Vec<_>>())
}
