//! `csr_matrix`, from lists of entries.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;

use crate::element::write::column::{Encoder, unwritable};
use crate::element::write::indptr::Indptr;
use crate::element::write::place::{Place, encoding, with};
use crate::error::{Error, Result};
use crate::model::{AxisRegistry, DType, FieldMeta};
use crate::store::ArrayWriter;

/// Row lengths become `indptr`; the lists' children go to disk as they are, without a copy.
#[derive(Debug)]
pub(super) struct Sparse {
    place: Place,
    n_cols: u64,
    indices: Box<dyn ArrayWriter>,
    data: Box<dyn ArrayWriter>,
    indptr: Indptr,
    /// Type of the indices on disk.
    index_type: DataType,
    rows: u64,
    nnz: u64,
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
        let indices = index_dtype(meta.indices.as_deref(), n_cols);
        let index_type = indices.arrow().ok_or_else(|| unwritable(field))?;
        place
            .group(&header(place.size.rows.unwrap_or(0), n_cols))
            .await?;
        let nnz = place.size.nnz;
        let data = place.child("data").member(data, nnz).await?;
        let wide = matches!(indices, DType::Int64 | DType::UInt64);
        let indices = place.child("indices").member(indices, nnz).await?;
        let indptr = Indptr::create(place.child("indptr"), wide).await?;
        Ok(Self {
            place,
            n_cols,
            indices,
            data,
            indptr,
            index_type,
            rows: 0,
            nnz: 0,
        })
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
        self.indptr.append(ends).await?;
        let (indices, data) = futures::join!(self.indices.append(indices), self.data.append(data));
        indices.and(data)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        self.data.finish().await?;
        self.indices.finish().await?;
        self.indptr.finish().await?;
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
