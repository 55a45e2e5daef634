//! Arrays and scalars.

use crate::element::write::place::{Place, array_encoding, encoding};
use crate::element::write::tree::{TreeCopy, text};
use crate::error::Result;
use crate::model::{DType, ElementKey, RowSelection};
use crate::store::{ArrayInfo, ArrayReader, ArrayWriter, Attributes, Extent};

/// Bytes of a block of rows.
const BLOCK_BYTES: u64 = 4 << 20;
/// What one text is taken to need.
const TEXT_BYTES: u64 = 64;

impl TreeCopy {
    pub(super) fn place(&self, to: &ElementKey) -> Place {
        Place {
            key: to.clone(),
            ..Place::root(&self.writer, self.options.storage)
        }
    }

    pub(super) async fn array(
        &self,
        from: &ElementKey,
        to: &ElementKey,
        attributes: &Attributes,
    ) -> Result<()> {
        match text(attributes, "encoding-type") {
            "" | "array" | "string-array" | "rec-array" | "numeric-scalar" | "string" | "bytes"
            | "null" => {}
            _ => return Err(self.unsupported(from, attributes)),
        }
        let reader = self.store.array(from).await?;
        let info = reader.info();
        let place = self.place(to);
        if info.null || text(attributes, "encoding-type") == "null" {
            return place.null().await;
        }
        self.check(info)?;
        // Before 0.7 one text was an array of one, which anndata reads as text.
        let one_text = info.fixed_text && info.shape == [1] && attributes.is_empty();
        let extent = if info.shape.is_empty() || one_text {
            Extent::Scalar
        } else {
            Extent::Fixed(info.shape.clone())
        };
        let tag = match (&info.dtype, &extent) {
            (DType::String, Extent::Scalar) => "string",
            (DType::Struct(_), _) | (_, Extent::Fixed(_)) => array_encoding(&info.dtype),
            _ => "numeric-scalar",
        };
        let attributes = encoding(tag, "0.2.0");
        if place.writer.link(to, reader.as_ref(), &attributes).await? {
            return Ok(());
        }
        let array = place.tagged(info.dtype.clone(), extent, attributes).await?;
        self.stream(reader.as_ref(), array).await
    }

    /// Copies a member of a sparse group: no tags, open for appending.
    pub(super) async fn sparse_member(&self, from: &ElementKey, to: &ElementKey) -> Result<()> {
        let reader = self.store.array(from).await?;
        let info = reader.info();
        if info.shape.len() != 1 {
            let shape = &info.shape;
            return Err(self.invalid(from, format!("a shape of {shape:?} where one axis belongs")));
        }
        self.check(info)?;
        let none = Attributes::new();
        if self.writer.link(to, reader.as_ref(), &none).await? {
            return Ok(());
        }
        let array = self
            .place(to)
            .member(info.dtype.clone(), Some(info.len()))
            .await?;
        self.stream(reader.as_ref(), array).await
    }

    fn check(&self, info: &ArrayInfo) -> Result<()> {
        match (&info.dtype, info.dtype.arrow()) {
            (DType::Reference, _) | (_, None) => Err(self.invalid(
                &info.key,
                format!("type {} has no meaning in AnnData", info.dtype),
            )),
            _ => Ok(()),
        }
    }

    async fn stream(
        &self,
        reader: &dyn ArrayReader,
        mut array: Box<dyn ArrayWriter>,
    ) -> Result<()> {
        let info = reader.info();
        let row_len = info
            .row_len()
            .ok_or_else(|| self.invalid(&info.key, format!("a shape of {:?}", info.shape)))?;
        let row_bytes = row_len.saturating_mul(info.dtype.size().unwrap_or(TEXT_BYTES));
        let block = (BLOCK_BYTES / row_bytes.max(1)).max(1);
        let rows = if row_len == 0 { 0 } else { info.len() };
        let mut start = 0;
        while start < rows {
            let end = start.saturating_add(block).min(rows);
            let values = reader
                .read(&RowSelection::range(start..end), &self.metrics)
                .await?;
            array.append(values).await?;
            start = end;
        }
        array.finish().await
    }
}
