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
use crate::kernel::{gather, sparse_rows, with_indices};
use crate::model::{RowSelection, matrix_type, value_bytes};
use crate::store::{ArrayReader, ReadMetrics, Run, gather_positions, gather_runs, warm};

/// Rows from which on the parts of a matrix are read one after another, and indices are kept in two bytes
/// where they fit and are stored in more.
const MANY_ROWS: usize = 1 << 16;

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

/// Rows that were read, and are put together by [`RowReader::array`].
#[derive(Debug)]
pub struct Rows(RowsKind);

#[derive(Debug)]
enum RowsKind {
    Sparse {
        lens: Vec<u64>,
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
            _ => Self::moving(column),
        })
    }

    /// A reader that holds nothing: rows are read in the order of the object, and then moved.
    pub(crate) fn moving(column: &Arc<dyn ColumnReader>) -> Self {
        Self {
            field: Arc::clone(column.field()),
            row_bytes: column.row_bytes(),
            kind: Kind::Moved(Arc::clone(column)),
        }
    }

    /// The same rows with the column's own type: indices that have another on disk are cast.
    #[must_use]
    pub(crate) fn of_type(self, field: &FieldRef) -> Self {
        Self {
            field: Arc::clone(field),
            ..self
        }
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

    /// Prepares for reading most of the rows in another order than the object's.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn warm(&self) -> Result<()> {
        match &self.kind {
            Kind::Sparse(sparse) => {
                warm(&sparse.indices).await?;
                warm(&sparse.data).await
            }
            Kind::Moved(_) => Ok(()),
        }
    }

    /// Bytes of each of these rows in memory. Reads nothing, but of a matrix that is held by no row
    /// its lengths.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a row beyond the last, and those of the store.
    pub(crate) async fn sizes(&self, rows: &[u64], metrics: &ReadMetrics) -> Result<Vec<u64>> {
        match &self.kind {
            Kind::Sparse(sparse) => {
                let entry = entry_bytes(&self.field);
                let sizes = rows.iter().map(|row| {
                    let (_, _, len) = sparse.run(*row)?;
                    Ok(len.saturating_mul(entry).saturating_add(4))
                });
                sizes.collect()
            }
            Kind::Moved(column) => match column.as_matrix().filter(|m| m.shape().nnz.is_some()) {
                Some(matrix) => {
                    let entry = entry_bytes(&self.field);
                    let (sorted, selection) = in_order(rows);
                    let offsets = matrix.offsets(&selection, metrics).await?;
                    let size = |row| {
                        let at = sorted.binary_search(row).unwrap_or_default();
                        let ends = offsets.get(at..).and_then(|rest| rest.get(..2));
                        let len = ends.map_or(0, |ends| ends[1].saturating_sub(ends[0]));
                        len.saturating_mul(entry).saturating_add(4)
                    };
                    Ok(rows.iter().map(size).collect())
                }
                None => Ok(vec![self.row_bytes; rows.len()]),
            },
        }
    }

    /// Reads rows as they are given, in one part for each of the ranges of their places, which follow
    /// each other. Parts share no memory.
    ///
    /// Only chunks that hold some of the rows are fetched, each once.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a row beyond the last, [`Error::InvalidElement`] for a position that is
    /// found not to be below the number of columns as it is read, and as [`ColumnReader::read`].
    pub async fn read(
        &self,
        rows: &[u64],
        parts: &[Range<usize>],
        metrics: &ReadMetrics,
    ) -> Result<Vec<Rows>> {
        match &self.kind {
            Kind::Sparse(sparse) => sparse.read(rows, parts, metrics).await,
            Kind::Moved(column) => {
                let (sorted, selection) = in_order(rows);
                let read = [column.read(&selection, metrics).await?];
                let parts = parts.iter().map(|part| {
                    let places = rows.get(part.clone()).unwrap_or(&[]).iter();
                    let places = places.map(|row| (0, sorted.binary_search(row).unwrap_or(0)));
                    let moved = gather(&read, &places.collect::<Vec<_>>())?;
                    Ok(Rows(RowsKind::Plain(moved)))
                });
                parts.collect()
            }
        }
    }

    /// Rows that this reader read, as an array of its [`field`](Self::field).
    ///
    /// # Errors
    /// [`Error::OutOfRange`] where an index is not below the number of columns,
    /// [`Error::IncompatibleSchemas`] where sparse rows hold 2^31 entries or more.
    pub fn array(&self, rows: Rows) -> Result<ArrayRef> {
        let (lens, indices, data) = match rows.0 {
            RowsKind::Plain(rows) => return Ok(rows),
            RowsKind::Sparse {
                lens,
                indices,
                data,
            } => (lens, indices, data),
        };
        if let Kind::Sparse(sparse) = &self.kind
            && let Some(part) = sparse.widest()
        {
            part.check_indices(&indices)?;
        }
        let mut end = 0u64;
        let ends = lens.iter().map(|len| {
            end += len;
            i32::try_from(end).ok()
        });
        let offsets: Option<Vec<i32>> = std::iter::once(Some(0)).chain(ends).collect();
        let Some(offsets) = offsets else {
            let entries: u64 = lens.iter().sum();
            return Err(Error::IncompatibleSchemas(format!(
                "{} rows hold {entries} entries, more than one list can",
                lens.len()
            )));
        };
        let item = matrix_type(data.data_type().clone(), indices.data_type().clone());
        let DataType::List(item) = item else {
            return Err(Error::IncompatibleSchemas("rows are no lists".to_owned()));
        };
        let offsets = OffsetBuffer::new(offsets.into());
        let rows = sparse_rows(&item, offsets, indices, data)?;
        with_indices(Arc::new(rows), self.field.data_type())
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

    /// The part of most columns: of cells over different genes, who brings those together checks each
    /// row against its own part.
    fn widest(&self) -> Option<&CsrArrays> {
        self.parts.iter().max_by_key(|part| part.n_cols())
    }

    /// The column's field with the indices' own type.
    fn field(&self, column: &Field) -> Option<FieldRef> {
        let dtype = |arrays: &[Arc<dyn ArrayReader>]| arrays.first()?.info().dtype.arrow();
        let data_type = matrix_type(dtype(&self.data)?, dtype(&self.indices)?);
        Some(Arc::new(column.clone().with_data_type(data_type)))
    }

    async fn read(
        &self,
        rows: &[u64],
        parts: &[Range<usize>],
        metrics: &ReadMetrics,
    ) -> Result<Vec<Rows>> {
        let mut runs = Vec::with_capacity(parts.len());
        let mut lens = Vec::with_capacity(parts.len());
        for part in parts {
            let rows = rows.get(part.clone()).unwrap_or(&[]);
            let (of_part, lens_of_part) = self.runs(rows)?;
            runs.push(of_part);
            lens.push(lens_of_part);
        }
        let runs = runs.into();
        let is_many = rows.len() >= MANY_ROWS;
        let n_cols = self.widest().map(CsrArrays::n_cols);
        let below = n_cols.filter(|_| is_many);
        let indices = gather_positions(&self.indices, &runs, below, metrics);
        let data = gather_runs(&self.data, &runs, metrics);
        // Each is read on all cores, and takes memory for its rows' places.
        let (indices, data) = match is_many {
            true => (indices.await?, data.await?),
            false => futures::try_join!(indices, data)?,
        };
        let parts = lens.into_iter().zip(indices).zip(data);
        let parts = parts.map(|((lens, indices), data)| {
            Rows(RowsKind::Sparse {
                lens,
                indices,
                data,
            })
        });
        Ok(parts.collect())
    }

    /// Where rows' entries are, those that follow each other together, and how many each row has.
    fn runs(&self, rows: &[u64]) -> Result<(Vec<Run>, Vec<u64>)> {
        let mut runs: Vec<Run> = Vec::with_capacity(rows.len());
        let mut lens = Vec::with_capacity(rows.len());
        for row in rows {
            let (array, start, len) = self.run(*row)?;
            lens.push(len);
            match runs.last_mut() {
                _ if len == 0 => {}
                Some(last) if last.array == array && last.start + last.len == start => {
                    last.len += len;
                }
                _ => runs.push(Run { array, start, len }),
            }
        }
        Ok((runs, lens))
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

/// Rows in the order of the object, each once.
fn in_order(rows: &[u64]) -> (Vec<u64>, RowSelection) {
    let mut sorted = rows.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let selection = RowSelection::from_sorted(sorted.iter().copied()).unwrap_or_default();
    (sorted, selection)
}

/// Bytes of an entry of sparse rows.
fn entry_bytes(rows: &Field) -> u64 {
    match rows.data_type() {
        DataType::List(item) => value_bytes(item.data_type()),
        _ => 0,
    }
}
