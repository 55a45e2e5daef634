//! Types that Arrow has and AnnData has not, written as the nearest that it has.

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::Field;
use async_trait::async_trait;

use crate::element::write::column::Encoder;
use crate::error::Result;

/// Dates and times as text, decimals as float64.
#[derive(Debug)]
pub(super) struct Cast {
    inner: Box<dyn Encoder>,
    target: Field,
}

impl Cast {
    pub(super) fn new(inner: Box<dyn Encoder>, target: Field) -> Self {
        Self { inner, target }
    }
}

#[async_trait]
impl Encoder for Cast {
    async fn append(&mut self, values: &ArrayRef) -> Result<()> {
        let values = cast(values, self.target.data_type())?;
        self.inner.append(&values).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        self.inner.finish().await
    }
}
