//! Derived columns that may hold nulls: whether they do is known only at the end.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::Field;
use async_trait::async_trait;
use std::sync::Arc;

use crate::element::write::column::Encoder;
use crate::element::write::nullable::Nullable;
use crate::element::write::place::Place;
use crate::element::write::plain::Plain;
use crate::error::Result;
use crate::model::FieldMeta;

/// Keeps the values, then writes them plainly, or with a mask if one of them was null.
///
/// Takes one value per row in memory. Columns read from files never come here: their encoding, or
/// a field that is not nullable, says how to write them.
#[derive(Debug)]
pub(super) struct Buffered {
    place: Place,
    field: Field,
    batches: Vec<ArrayRef>,
}

impl Buffered {
    pub(super) fn new(place: Place, field: &Field) -> Self {
        Self {
            place,
            field: field.clone(),
            batches: Vec::new(),
        }
    }
}

#[async_trait]
impl Encoder for Buffered {
    async fn append(&mut self, values: &ArrayRef) -> Result<()> {
        self.batches.push(Arc::clone(values));
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        let Self {
            place,
            field,
            batches,
        } = *self;
        let mut encoder: Box<dyn Encoder> = if batches.iter().any(|b| b.null_count() > 0) {
            let meta = FieldMeta::of(&field);
            Box::new(Nullable::create(place, field.data_type(), &meta).await?)
        } else {
            Box::new(Plain::create(place, &field).await?)
        };
        for batch in &batches {
            encoder.append(batch).await?;
        }
        encoder.finish().await
    }
}
