//! `array` and `string-array` of one value per row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;

use crate::element::write::column::{Encoder, unwritable};
use crate::element::write::fill::without_nulls;
use crate::element::write::place::Place;
use crate::error::Result;
use crate::model::DType;
use crate::store::ArrayWriter;

/// Numbers, booleans, text. Floats take nulls as NaN (there is no nullable float on disk); the
/// others refuse them, since a 0 that was a null would be a lie.
#[derive(Debug)]
pub(super) struct Plain {
    array: Box<dyn ArrayWriter>,
    place: Place,
}

impl Plain {
    pub(super) async fn create(place: Place, field: &Field) -> Result<Self> {
        let dtype = DType::from_arrow(field.data_type()).ok_or_else(|| unwritable(field))?;
        let array = place.rows(dtype, &[]).await?;
        Ok(Self { array, place })
    }
}

#[async_trait]
impl Encoder for Plain {
    async fn append(&mut self, values: &ArrayRef) -> Result<()> {
        let values = match values.data_type() {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                without_nulls(values, &self.place)?
            }
            _ if values.null_count() == 0 => Arc::clone(values),
            other => {
                return Err(self.place.invalid(format!(
                    "a column of type {other} that says it has no nulls has {}",
                    values.null_count()
                )));
            }
        };
        self.array.append(values).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        self.array.finish().await
    }
}
