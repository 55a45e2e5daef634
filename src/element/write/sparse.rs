//! `csr_matrix`, from lists of entries.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;

use crate::element::write::column::{Encoder, unwritable};
use crate::element::write::indptr::Indptr;
use crate::element::write::place::{Place, encoding, with};
use crate::element::write::storage::{Entries, narrowest};
use crate::error::{Error, Result};
use crate::model::{AxisRegistry, DType, FieldMeta};
use crate::store::ArrayWriter;

/// Row lengths become `indptr`; the lists' children go to disk as they are, without a copy.
#[derive(Debug)]
pub(super) struct Sparse {
    place: Place,
    n_cols: u64,
    data: DType,
    indices: DType,
    /// [`None`] where they are cut by the average of a row that nobody has seen yet.
    members: Option<Members>,
    /// Type of the indices on disk.
    index_type: DataType,
    rows: u64,
    nnz: u64,
}

/// The arrays of the matrix.
#[derive(Debug)]
struct Members {
    indices: Box<dyn ArrayWriter>,
    data: Box<dyn ArrayWriter>,
    indptr: Indptr,
}

impl Sparse {
    pub(super) async fn create(place: Place, field: &Field, meta: &FieldMeta) -> Result<Self> {
        let DataType::List(item) = field.data_type() else {
            return Err(unwritable(field));
        };
        let DataType::Struct(members) = item.data_type() else {
            return Err(unwritable(field));
        };
        let data = members
            .get(1)
            .and_then(|data| DType::from_arrow(data.data_type()))
            .filter(|dtype| !matches!(dtype, DType::String | DType::FixedArray(_, _)))
            .ok_or_else(|| unwritable(field))?;
        let n_cols = n_cols(field, meta)?;
        let indices = match place.storage.like_annbatch {
            true => narrowest(n_cols),
            false => index_dtype(meta.indices.as_deref(), n_cols),
        };
        let index_type = indices.arrow().ok_or_else(|| unwritable(field))?;
        place
            .group(&header(place.size.rows.unwrap_or(0), n_cols))
            .await?;
        let mut sparse = Self {
            place,
            n_cols,
            data,
            indices,
            members: None,
            index_type,
            rows: 0,
            nnz: 0,
        };
        let size = sparse.place.size;
        match (sparse.place.storage.cells.is_auto(), size.rows, size.nnz) {
            (true, ..) => sparse.begin(None).await?,
            (false, Some(rows), Some(nnz)) => sparse.begin(Some((rows, nnz))).await?,
            (false, ..) => {}
        }
        Ok(sparse)
    }

    /// Creates the members, cut as the rows and entries say that are all there are, or the first.
    async fn begin(&mut self, entries: Option<(u64, u64)>) -> Result<()> {
        let mut place = self.place.clone();
        let nnz = place.size.nnz;
        let width = |dtype: &DType| dtype.size().unwrap_or(8);
        place.pieces = entries.and_then(|(rows, entries)| {
            place.storage.cells.sparse(Entries {
                rows,
                nnz: entries,
                all: nnz.is_some(),
                bytes: entries
                    .saturating_mul(width(&self.data) + width(&self.indices))
                    .saturating_add(rows.saturating_add(1).saturating_mul(4)),
            })
        });
        let wide =
            matches!(self.indices, DType::Int64 | DType::UInt64) && !place.storage.like_annbatch;
        let (data, indices) = (self.data.clone(), self.indices.clone());
        let mut indptr = place.child("indptr");
        if !place.storage.like_annbatch {
            // It has an element per row, however few entries those have.
            indptr.pieces = None;
        }
        self.members = Some(Members {
            data: place.child("data").member(data, nnz).await?,
            indices: place.child("indices").member(indices, nnz).await?,
            indptr: Indptr::create(indptr, wide).await?,
        });
        Ok(())
    }

    fn members(&mut self) -> Result<&mut Members> {
        let place = &self.place;
        self.members
            .as_mut()
            .ok_or_else(|| place.invalid("its members were not begun"))
    }
}

#[async_trait]
impl Encoder for Sparse {
    async fn append(&mut self, values: &ArrayRef) -> Result<()> {
        let list = values.as_list_opt::<i32>().ok_or_else(|| {
            self.place
                .invalid(format!("rows of type {}", values.data_type()))
        })?;
        if list.null_count() > 0 {
            return Err(self.place.invalid(format!(
                "{} of {} rows are null, which a sparse matrix cannot hold",
                list.null_count(),
                list.len()
            )));
        }
        let offsets = list.value_offsets();
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
            return Ok(());
        };
        let start = usize::try_from(*first).unwrap_or_default();
        let len = usize::try_from(last - first).unwrap_or_default();
        let entries = list.values().as_struct();
        let indices = entries.column(0).slice(start, len);
        let data = entries.column(1).slice(start, len);
        if entries.null_count() + indices.null_count() + data.null_count() > 0 {
            return Err(self.place.invalid("stored entries are null"));
        }
        let indices = if *indices.data_type() == self.index_type {
            indices
        } else {
            let exact = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            cast_with_options(&indices, &self.index_type, &exact)?
        };
        // Offsets of a list array never decrease, so the differences are not negative.
        let before = self.nnz;
        let ends: Vec<u64> = offsets
            .iter()
            .skip(1)
            .map(|end| before + u64::try_from(end - first).unwrap_or_default())
            .collect();
        self.rows += list.len() as u64;
        self.nnz += len as u64;
        if self.members.is_none() {
            self.begin(Some((self.rows, self.nnz))).await?;
        }
        let members = self.members()?;
        members.indptr.append(ends).await?;
        let (indices, data) =
            futures::join!(members.indices.append(indices), members.data.append(data));
        indices.and(data)
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        if self.members.is_none() {
            self.begin(Some((self.rows, self.nnz))).await?;
        }
        if let Some(members) = self.members.take() {
            members.data.finish().await?;
            members.indices.finish().await?;
            members.indptr.finish().await?;
        }
        if self.place.size.rows != Some(self.rows) {
            self.place
                .writer
                .set_attributes(&self.place.key, &header(self.rows, self.n_cols))
                .await?;
        }
        Ok(())
    }
}

fn header(rows: u64, n_cols: u64) -> crate::store::Attributes {
    with(encoding("csr_matrix", "0.1.0"), "shape", vec![rows, n_cols])
}

/// How many columns the matrix has: by its width, else by its axis.
fn n_cols(field: &Field, meta: &FieldMeta) -> Result<u64> {
    if let Some(width) = meta.width {
        return Ok(width);
    }
    let axis = meta
        .axis
        .as_deref()
        .and_then(|id| AxisRegistry::global().get(id));
    match axis {
        Some(axis) => Ok(axis.len() as u64),
        None => Err(Error::IncompatibleSchemas(format!(
            "matrix column '{}' has lost its genes on the way through the query, so it cannot be written",
            field.name()
        ))),
    }
}

/// The width that the indices had, where it holds every column; int32 else, and int64 from 2^31
/// columns on.
fn index_dtype(recorded: Option<&str>, n_cols: u64) -> DType {
    let last = n_cols.saturating_sub(1);
    let (dtype, max) = match recorded {
        Some("int8") => (DType::Int8, 0x7f),
        Some("uint8") => (DType::UInt8, 0xff),
        Some("int16") => (DType::Int16, 0x7fff),
        Some("uint16") => (DType::UInt16, 0xffff),
        Some("uint32") => (DType::UInt32, 0xffff_ffff),
        Some("uint64") => (DType::UInt64, u64::MAX),
        Some("int64") => (DType::Int64, u64::MAX >> 1),
        _ => (DType::Int32, 0x7fff_ffff),
    };
    if last <= max { dtype } else { DType::Int64 }
}
