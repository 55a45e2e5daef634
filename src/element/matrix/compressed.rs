//! What both sparse layouts share: `indptr`, `indices` and `data`, where the major axis is rows for
//! CSR and columns for CSC.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, UInt64Type};

use crate::element::node::Node;
use crate::element::{EntryParts, MatrixShape};
use crate::error::{Error, Result};
use crate::kernel::sparse_rows;
use crate::model::{ElementKey, FieldMeta, MatrixKind, RowSelection, VarAxis, matrix_type};
use crate::store::{ArrayReader, ReadMetrics, largest};

/// The three arrays of a sparse matrix, lengths checked against each other.
#[derive(Debug, Clone)]
pub(crate) struct Compressed {
    pub(crate) url: String,
    pub(crate) key: ElementKey,
    pub(crate) n_major: u64,
    pub(crate) n_minor: u64,
    pub(crate) nnz: u64,
    indptr: Arc<dyn ArrayReader>,
    indices: Arc<dyn ArrayReader>,
    data: Arc<dyn ArrayReader>,
}

/// The arrays of a sparse matrix by row, for whoever reads entries to places of their own.
#[derive(Debug, Clone)]
pub struct CsrArrays(Compressed);

impl CsrArrays {
    pub(super) fn new(arrays: &Compressed) -> Self {
        Self(arrays.clone())
    }

    /// The positions of entries in their rows, as they are on disk.
    pub(crate) fn indices(&self) -> &Arc<dyn ArrayReader> {
        &self.0.indices
    }

    /// Columns, which all positions have to be below.
    pub(crate) fn n_cols(&self) -> u64 {
        self.0.n_minor
    }

    /// The values of entries.
    pub(crate) fn data(&self) -> &Arc<dyn ArrayReader> {
        &self.0.data
    }

    /// All pointers: where each row begins, and the last one ends.
    ///
    /// # Errors
    /// [`Error::InvalidElement`] where they decrease, start elsewhere than at 0 or lead beyond the
    /// last.
    pub(crate) async fn pointers(&self, metrics: &ReadMetrics) -> Result<Vec<u64>> {
        let all = RowSelection::all(self.0.n_major + 1);
        let indptr = self.0.indptr.read(&all, metrics).await?;
        self.0.checked_indptr(&all, &indptr)
    }

    /// Whether all are below the number of columns.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] where one is not.
    pub(crate) fn check_indices(&self, indices: &ArrayRef) -> Result<()> {
        self.0.check_indices(indices)
    }

    /// An [`Error::OutOfRange`] for a row of this matrix.
    pub(crate) fn out_of_range(&self, row: u64, len: u64) -> Error {
        self.0.out_of_range(i128::from(row), len)
    }
}

/// Where the entries of selected rows are.
#[derive(Debug)]
pub(crate) struct Spans {
    /// Running sums of the rows' lengths, from 0.
    pub(crate) offsets: Vec<u64>,
    /// The entries, as rows of `indices` and `data`.
    pub(crate) entries: RowSelection,
}

impl Compressed {
    /// Opens the group at `node`, whose major axis is its rows or (`csc`) its columns.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] where `indptr` and `shape` disagree, [`Error::InvalidElement`]
    /// where the last pointer leads beyond `indices` or `data`, or nowhere because chunks of `indptr`
    /// are lost.
    pub(crate) async fn open(node: &Node, csc: bool) -> Result<Self> {
        let [n_rows, n_cols] = node.sparse_shape()?;
        let (n_major, n_minor) = if csc {
            (n_cols, n_rows)
        } else {
            (n_rows, n_cols)
        };
        let (indptr, indices, data) = futures::try_join!(
            node.member("indptr"),
            node.member("indices"),
            node.member("data")
        )?;
        for (name, array) in [("indptr", &indptr), ("indices", &indices), ("data", &data)] {
            let info = array.info();
            if info.shape.len() != 1 || info.null {
                return Err(node.invalid(format!("{name} has {} axes, not one", info.shape.len())));
            }
            if name != "data" && !info.dtype.is_integer() {
                return Err(node.invalid(format!("{name} are {}, not integers", info.dtype)));
            }
        }
        let pointers = n_major.saturating_add(1);
        if indptr.info().len() != pointers {
            return Err(Error::LengthMismatch {
                url: node.store.url().to_owned(),
                element: node.key.clone(),
                what: "the length of indptr".to_owned(),
                actual: indptr.info().len(),
                expected_by: "shape".to_owned(),
                expected: pointers,
            });
        }
        // What stands behind the last pointer belongs to no row: scipy does not look at it either.
        let last = last_pointer(indptr.as_ref()).await?;
        let nnz = u64::try_from(last).map_err(|_| {
            node.invalid(format!(
                "indptr of row {n_major} is {last}, neither 0 nor above"
            ))
        })?;
        for (name, array) in [("data", &data), ("indices", &indices)] {
            let len = array.info().len();
            if nnz > len {
                return Err(node.invalid(format!(
                    "indptr at {n_major} is {nnz}, but {name} hold {len} entries"
                )));
            }
        }
        if nnz < indices.info().len()
            && let Some(chunks) = indptr.missing_chunks().await?
            && chunks.missing > 0
        {
            // The fill value of pointers would make rows empty.
            return Err(node.invalid(format!(
                "indptr at {n_major} is {nnz}, but indices hold {} entries, and of indptr {chunks}",
                indices.info().len(),
            )));
        }
        Ok(Self {
            url: node.store.url().to_owned(),
            key: node.key.clone(),
            n_major,
            n_minor,
            nnz,
            indptr,
            indices,
            data,
        })
    }

    /// Whether entries are compressed.
    pub(crate) fn is_compressed(&self) -> bool {
        let mut arrays = [&self.indices, &self.data].into_iter();
        arrays.any(|array| !array.info().filters.is_empty())
    }

    /// A matrix by column over arrays at hand, unchecked.
    #[cfg(test)]
    pub(crate) fn for_test(shape: [u64; 2], arrays: [Arc<dyn ArrayReader>; 3]) -> Self {
        let [indptr, indices, data] = arrays;
        Self {
            url: "test".to_owned(),
            key: ElementKey::new("X"),
            n_major: shape[1],
            n_minor: shape[0],
            nnz: data.info().len(),
            indptr,
            indices,
            data,
        }
    }

    /// Shape for [`MatrixReader`](crate::element::MatrixReader).
    pub(crate) fn shape(&self, csc: bool) -> MatrixShape {
        let (n_rows, n_cols) = if csc {
            (self.n_minor, self.n_major)
        } else {
            (self.n_major, self.n_minor)
        };
        MatrixShape {
            kind: MatrixKind::Sparse,
            n_rows,
            n_cols,
            nnz: Some(self.nnz),
            data: self.data.info().dtype.clone(),
            indices: Some(self.indices.info().dtype.clone()),
            csc,
        }
    }

    /// The field of the matrix's rows.
    ///
    /// # Errors
    /// [`Error::InvalidElement`] where the values have no Arrow type.
    pub(crate) fn field(
        &self,
        name: &str,
        encoding: &str,
        axis: Option<&Arc<VarAxis>>,
        n_cols: u64,
    ) -> Result<FieldRef> {
        let data = self.data_type()?;
        let meta = FieldMeta {
            axis: axis.map(|axis| axis.id().to_owned()),
            encoding: Some(encoding.to_owned()),
            indices: Some(self.indices.info().dtype.to_string()),
            width: Some(n_cols),
            ..FieldMeta::default()
        };
        let data_type = matrix_type(data, index_type(n_cols));
        Ok(Arc::new(meta.apply(Field::new(name, data_type, false))))
    }

    /// The Arrow type of the values.
    ///
    /// # Errors
    /// [`Error::InvalidElement`] where there is none.
    pub(crate) fn data_type(&self) -> Result<DataType> {
        let dtype = &self.data.info().dtype;
        dtype
            .arrow()
            .ok_or_else(|| self.invalid(format!("data are {dtype}")))
    }

    /// Bytes of an average row in memory.
    pub(crate) fn row_bytes(&self, n_rows: u64, n_cols: u64) -> u64 {
        let index = if index_type(n_cols) == DataType::Int64 {
            8
        } else {
            4
        };
        let entry = index + self.data.info().dtype.size().unwrap_or(8);
        4 + self.nnz.saturating_mul(entry) / n_rows.max(1)
    }

    /// Where the entries of the selected rows (columns, for CSC) are. Reads only their `indptr`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a row beyond the axis, [`Error::InvalidElement`] where `indptr`
    /// decreases, starts below 0 or leads beyond its last pointer.
    pub(crate) async fn spans(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<Spans> {
        if rows.end() > self.n_major {
            return Err(self.out_of_range(i128::from(rows.end()) - 1, self.n_major));
        }
        let ends = rows.ranges().iter().map(|r| r.start..r.end + 1);
        let wanted = RowSelection::from_ranges(ends);
        if wanted.is_empty() {
            return Ok(Spans {
                offsets: vec![0],
                entries: RowSelection::default(),
            });
        }
        let indptr = self.indptr.read(&wanted, metrics).await?;
        let indptr = self.checked_indptr(&wanted, &indptr)?;
        let mut offsets = Vec::with_capacity(indptr.len());
        offsets.push(0);
        let mut entries = Vec::with_capacity(rows.ranges().len());
        let mut total = 0;
        let (mut holder, mut base) = (wanted.ranges().iter(), 0);
        let mut current = holder.next();
        for range in rows.ranges() {
            while let Some(run) = current.filter(|run| run.end <= range.start) {
                base += run.end - run.start;
                current = holder.next();
            }
            let start = base + range.start - current.map_or(0, |run| run.start);
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let pointers = indptr.get(start..).and_then(|rest| rest.get(..=len));
            let [first, rest @ ..] = pointers.unwrap_or_default() else {
                return Err(self.invalid(format!("indptr ends before row {}", range.end)));
            };
            offsets.extend(rest.iter().map(|pointer| total + (pointer - first)));
            let last = rest.last().unwrap_or(first);
            total += last - first;
            entries.push(*first..*last);
        }
        Ok(Spans {
            offsets,
            entries: RowSelection::from_ranges(entries),
        })
    }

    /// Pointers that never decrease and never lead beyond the last one.
    fn checked_indptr(&self, rows: &RowSelection, indptr: &ArrayRef) -> Result<Vec<u64>> {
        // Values beyond i64 become null, which the loop below meets as a value beyond the data.
        let wide = cast(indptr, &DataType::Int64)?;
        let wide = wide.as_primitive::<Int64Type>();
        let mut pointers = Vec::with_capacity(wide.len());
        let mut previous = 0;
        for (row, pointer) in rows.iter().zip(wide.iter()) {
            let pointer = pointer.unwrap_or(i64::MAX);
            let checked = u64::try_from(pointer)
                .map_err(|_| self.invalid(format!("indptr of row {row} is {pointer}, below 0")))?;
            if checked > self.nnz {
                let nnz = self.nnz;
                return Err(self.invalid(format!(
                    "indptr at {row} is {checked}, but the last pointer is {nnz}"
                )));
            }
            if checked < previous {
                return Err(self.invalid(format!(
                    "indptr decreases at {row}, from {previous} to {checked}"
                )));
            }
            if row == 0 && checked != 0 {
                return Err(self.invalid(format!("indptr starts at {checked}, not at 0")));
            }
            previous = checked;
            pointers.push(checked);
        }
        if pointers.len() != usize::try_from(rows.len()).unwrap_or(usize::MAX) {
            let reason = format!("indptr gave {} of {} values", pointers.len(), rows.len());
            return Err(self.invalid(reason));
        }
        Ok(pointers)
    }

    /// Reads the wanted parts of entries, both at once; indices are checked against the minor axis
    /// and given as `index_type`.
    pub(crate) async fn entries(
        &self,
        entries: &RowSelection,
        parts: EntryParts,
        metrics: &ReadMetrics,
    ) -> Result<(Option<ArrayRef>, Option<ArrayRef>)> {
        let indices = async {
            match parts.indices {
                false => Ok(None),
                true if entries.is_empty() => Ok(Some(new_empty_array(&index_type(self.n_minor)))),
                true => {
                    let read = self.indices.read_positions(entries, metrics).await;
                    let (indices, largest) = read?;
                    self.checked_indices(&indices, largest).map(Some)
                }
            }
        };
        let data = async {
            match parts.data {
                false => Ok(None),
                true => self.data.read(entries, metrics).await.map(Some),
            }
        };
        futures::try_join!(indices, data)
    }

    fn check_indices(&self, indices: &ArrayRef) -> Result<()> {
        self.check_largest(indices, largest(indices))
    }

    /// Whether all are below the minor axis, by the largest of them.
    fn check_largest(&self, indices: &ArrayRef, largest: Option<u64>) -> Result<()> {
        match largest.is_some_and(|largest| largest >= self.n_minor) {
            true => Err(self.out_of_range(worst_index(indices, self.n_minor), self.n_minor)),
            false => Ok(()),
        }
    }

    /// Indices below the minor axis as Int32 (Int64 from 2^31 on); Int32 on disk is not copied.
    fn checked_indices(&self, indices: &ArrayRef, largest: Option<u64>) -> Result<ArrayRef> {
        self.check_largest(indices, largest)?;
        let wanted = index_type(self.n_minor);
        if *indices.data_type() == wanted {
            return Ok(Arc::clone(indices));
        }
        Ok(cast(indices, &wanted)?)
    }

    /// An [`Error::InvalidElement`] for this matrix.
    pub(crate) fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::invalid(&self.url, &self.key, reason)
    }

    /// An [`Error::OutOfRange`] for this matrix.
    pub(crate) fn out_of_range(&self, position: i128, len: u64) -> Error {
        Error::OutOfRange {
            url: self.url.clone(),
            element: self.key.clone(),
            position,
            len,
        }
    }
}

/// The last of the pointers of a sparse matrix; beyond 2^63 they are taken as 2^63 - 1.
///
/// # Errors
/// The store's, and [`Error::Arrow`] for pointers that are no numbers.
pub(crate) async fn last_pointer(indptr: &dyn ArrayReader) -> Result<i64> {
    let Some(last) = indptr.info().len().checked_sub(1) else {
        return Ok(0);
    };
    let rows = RowSelection::range(last..last + 1);
    let pointer = indptr.read(&rows, &ReadMetrics::default()).await?;
    let wide = cast(&pointer, &DataType::Int64)?;
    let wide = wide.as_primitive::<Int64Type>();
    Ok(wide.iter().next().flatten().unwrap_or(i64::MAX))
}

/// The Arrow type of indices below `n_cols`.
pub(crate) fn index_type(n_cols: u64) -> DataType {
    if n_cols >= 1 << 31 {
        DataType::Int64
    } else {
        DataType::Int32
    }
}

/// Sparse rows as one list array around the entries, without a copy.
///
/// # Errors
/// [`Error::InvalidElement`] where the rows hold more entries than one list array can.
pub(crate) fn list_of_rows(
    field: &FieldRef,
    url: &str,
    key: &ElementKey,
    offsets: &[u64],
    indices: ArrayRef,
    data: ArrayRef,
) -> Result<ArrayRef> {
    let offsets: Option<Vec<i32>> = offsets.iter().map(|o| i32::try_from(*o).ok()).collect();
    let offsets = offsets.ok_or_else(|| {
        let reason = "the rows asked for at once hold more than 2^31 - 1 entries";
        Error::invalid(url, key, reason)
    })?;
    let DataType::List(item) = field.data_type() else {
        return Err(Error::invalid(url, key, "not a sparse matrix"));
    };
    let offsets = OffsetBuffer::new(offsets.into());
    Ok(Arc::new(sparse_rows(item, offsets, indices, data)?))
}

/// The first index that is negative or not below `n`, for a message.
fn worst_index(indices: &ArrayRef, n: u64) -> i128 {
    let first = |wide: &dyn Array| {
        let bad = |v: &i128| *v < 0 || *v >= i128::from(n);
        match wide.data_type() {
            DataType::UInt64 => {
                let values = wide.as_primitive::<UInt64Type>().values();
                values.iter().map(|v| i128::from(*v)).find(bad)
            }
            _ => {
                let values = wide.as_primitive::<Int64Type>().values();
                values.iter().map(|v| i128::from(*v)).find(bad)
            }
        }
    };
    let wide = match indices.data_type() {
        DataType::UInt64 => Ok(Arc::clone(indices)),
        _ => cast(indices, &DataType::Int64),
    };
    wide.ok().and_then(|wide| first(&wide)).unwrap_or(-1)
}
