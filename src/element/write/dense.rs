//! `array` of two or more dimensions, from nested fixed-size lists.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;

use crate::element::write::column::{Encoder, unwritable};
use crate::element::write::fill::without_nulls;
use crate::element::write::place::Place;
use crate::error::Result;
use crate::model::DType;
use crate::store::ArrayWriter;

#[derive(Debug)]
pub(super) struct Dense {
    place: Place,
    dtype: DType,
    /// Lengths after the first axis.
    row_shape: Vec<u64>,
    /// [`None`] where a row holds no values: how many rows there are is then known only by
    /// counting, since nothing is appended.
    array: Option<Box<dyn ArrayWriter>>,
    rows: u64,
}

impl Dense {
    pub(super) async fn create(mut place: Place, field: &Field) -> Result<Self> {
        let mut row_shape = Vec::new();
        let mut data_type = field.data_type();
        while let DataType::FixedSizeList(item, len) = data_type {
            row_shape.push(u64::try_from(*len).map_err(|_| unwritable(field))?);
            data_type = item.data_type();
        }
        let dtype = match DType::from_arrow(data_type) {
            Some(dtype) if !matches!(dtype, DType::Struct(_)) => dtype,
            _ => return Err(unwritable(field)),
        };
        if is_of_cells(&place) {
            let width = dtype.size().unwrap_or(8);
            let row_bytes = row_shape.iter().fold(width, |p, n| p.saturating_mul(*n));
            place.pieces = place.storage.cells.dense(place.size.rows, row_bytes);
        }
        let array = if row_shape.contains(&0) {
            None
        } else {
            Some(place.rows(dtype.clone(), &row_shape).await?)
        };
        Ok(Self {
            place,
            dtype,
            row_shape,
            array,
            rows: 0,
        })
    }
}

/// Whether the rows of a matrix are cells.
fn is_of_cells(place: &Place) -> bool {
    let mut parts = place.key.as_str().split('/');
    match parts.next() {
        Some("X" | "layers" | "obsm" | "obsp") => true,
        // annbatch leaves it to zarr-python.
        Some("raw") => !place.storage.like_annbatch && parts.next() == Some("X"),
        _ => false,
    }
}

#[async_trait]
impl Encoder for Dense {
    async fn append(&mut self, values: &ArrayRef) -> Result<()> {
        self.rows += values.len() as u64;
        let Some(array) = &mut self.array else {
            return Ok(());
        };
        let mut flat = Arc::clone(values);
        while let Some(list) = flat.as_fixed_size_list_opt() {
            if list.null_count() > 0 {
                return Err(self.place.invalid(format!(
                    "{} of {} rows are null, which a dense array cannot hold",
                    list.null_count(),
                    list.len()
                )));
            }
            flat = Arc::clone(list.values());
        }
        if flat.null_count() > 0 && !flat.data_type().is_floating() {
            return Err(self.place.invalid(format!(
                "{} values of type {} are null, which a dense array cannot hold",
                flat.null_count(),
                flat.data_type()
            )));
        }
        array.append(without_nulls(&flat, &self.place)?).await
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        let array = match self.array.take() {
            Some(array) => array,
            None => {
                self.place.size.rows = Some(self.rows);
                self.place.rows(self.dtype, &self.row_shape).await?
            }
        };
        array.finish().await
    }
}
