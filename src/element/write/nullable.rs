//! `nullable-integer`, `nullable-boolean` and `nullable-string-array`: values and a mask.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use async_trait::async_trait;

use crate::element::write::column::Encoder;
use crate::element::write::fill::without_nulls;
use crate::element::write::place::{Place, encoding, with};
use crate::error::Result;
use crate::model::{DType, FieldMeta};
use crate::store::ArrayWriter;

#[derive(Debug)]
pub(super) struct Nullable {
    values: Box<dyn ArrayWriter>,
    mask: Box<dyn ArrayWriter>,
    place: Place,
}

impl Nullable {
    pub(super) async fn create(
        place: Place,
        data_type: &DataType,
        meta: &FieldMeta,
    ) -> Result<Self> {
        let dtype = DType::from_arrow(data_type)
            .ok_or_else(|| place.invalid(format!("no encoding for {data_type}")))?;
        let attributes = match dtype {
            DType::Bool => encoding("nullable-boolean", "0.1.0"),
            DType::String => with(
                encoding("nullable-string-array", "0.1.0"),
                "na-value",
                meta.na_value.as_deref().unwrap_or("NA"),
            ),
            _ => encoding("nullable-integer", "0.1.0"),
        };
        place.group(&attributes).await?;
        let values = place.child("values").rows(dtype, &[]).await?;
        let mask = place.child("mask").rows(DType::Bool, &[]).await?;
        Ok(Self {
            values,
            mask,
            place,
        })
    }
}

#[async_trait]
impl Encoder for Nullable {
    async fn append(&mut self, values: &ArrayRef) -> Result<()> {
        let mask = match values.logical_nulls() {
            Some(nulls) => !nulls.inner(),
            None => BooleanBuffer::new_unset(values.len()),
        };
        let values = without_nulls(values, &self.place)?;
        self.values.append(values).await?;
        self.mask
            .append(Arc::new(BooleanArray::new(mask, None)))
            .await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        self.values.finish().await?;
        self.mask.finish().await
    }
}
