//! `awkward-array`: nested values of any shape, from one JSON text per row.
//!
//! `json` reads a row's text without touching its numbers, `node` collects values in the shape of
//! the form, `buffers` gives the arrays and the form that describes them. The layout is packed: a
//! `ListArray` becomes a `ListOffsetArray`, every kind of option an `IndexedOptionArray`; values
//! and type stay what they were.

mod json;
mod numbers;
mod node;
mod buffers;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use async_trait::async_trait;

use crate::element::write::awkward::json::Json;
use crate::element::write::awkward::node::Node;
use crate::element::write::column::Encoder;
use crate::element::write::place::{Place, encoding, with};
use crate::error::Result;
use crate::model::DType;
use crate::store::Extent;

/// Collects the values of all rows in memory, in binary: their number per node is known at the end.
#[derive(Debug)]
pub(super) struct Awkward {
    place: Place,
    node: Node,
    rows: u64,
}

impl Awkward {
    pub(super) fn create(place: Place, form: &str) -> Result<Self> {
        let node = Node::parse(form).map_err(|reason| place.invalid(reason))?;
        Ok(Self {
            place,
            node,
            rows: 0,
        })
    }
}

#[async_trait]
impl Encoder for Awkward {
    async fn append(&mut self, values: &ArrayRef) -> Result<()> {
        let texts = cast(values, &DataType::Utf8)?;
        let texts: &StringArray = texts.as_string();
        for text in texts {
            let pushed = match text {
                Some(text) => Json::parse(text).and_then(|value| self.node.push(&value)),
                None => self.node.push(&Json::Null),
            };
            pushed.map_err(|reason| {
                self.place
                    .invalid(format!("row {} does not fit its form: {reason}", self.rows))
            })?;
            self.rows += 1;
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        let Self { place, node, rows } = *self;
        let mut arrays = Vec::new();
        let form = node
            .finish(&mut arrays)
            .map_err(|reason| place.invalid(reason))?;
        let attributes = with(encoding("awkward-array", "0.1.0"), "form", form.to_string());
        place.group(&with(attributes, "length", rows)).await?;
        for (name, values) in arrays {
            let dtype = DType::from_arrow(values.data_type())
                .ok_or_else(|| place.invalid(format!("no encoding for {}", values.data_type())))?;
            let extent = Extent::Fixed(vec![values.len() as u64]);
            let mut array = place.child(&name).array(dtype, extent).await?;
            array.append(values).await?;
            array.finish().await?;
        }
        Ok(())
    }
}
