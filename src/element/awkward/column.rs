//! The reader of an awkward array: its arrays are read once, rows are spelt out as they are asked
//! for.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef};
use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::element::ColumnReader;
use crate::element::awkward::content::{Arrays, Content};
use crate::element::awkward::form::Form;
use crate::element::column::Values;
use crate::element::node::{Encoding, Node};
use crate::error::{Error, Result};
use crate::model::{ElementKey, FieldMeta, RowSelection};
use crate::store::ReadMetrics;

/// An awkward array as JSON text. Reading any row costs reading all arrays, the first time.
#[derive(Debug)]
pub(crate) struct AwkwardColumn {
    field: FieldRef,
    key: ElementKey,
    url: String,
    len: u64,
    form: Form,
    arrays: Vec<(String, Values)>,
    content: OnceCell<Content>,
}

impl AwkwardColumn {
    /// Opens the group at `node`.
    ///
    /// # Errors
    /// [`Error::InvalidElement`] where `form` or `length` is missing or is not understood.
    pub(crate) async fn open(node: &Node, name: &str) -> Result<Self> {
        let text = node
            .text("form")
            .ok_or_else(|| node.invalid("attribute form is missing"))?;
        let form = Form::parse(text).map_err(|reason| node.invalid(reason))?;
        let len = node.attributes.get("length").and_then(Value::as_u64);
        let len = len.ok_or_else(|| node.invalid("attribute length is missing"))?;
        let mut arrays = Vec::new();
        for child in node.children().await? {
            let values = Values::of_array(node.member(&child).await?);
            arrays.push((child, values));
        }
        let meta = FieldMeta {
            encoding: Some(Encoding::Awkward.name().to_owned()),
            form: Some(text.to_owned()),
            ..FieldMeta::default()
        };
        Ok(Self {
            field: Arc::new(meta.apply(Field::new(name, DataType::Utf8, true))),
            key: node.key.clone(),
            url: node.store.url().to_owned(),
            len,
            form,
            arrays,
            content: OnceCell::new(),
        })
    }

    async fn load(&self, metrics: &ReadMetrics) -> Result<Content> {
        let mut arrays = Arrays::with_capacity(self.arrays.len());
        for (name, values) in &self.arrays {
            let rows = RowSelection::all(values.len());
            arrays.insert(name.clone(), values.read(&rows, metrics).await?);
        }
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        Content::of(&self.form, len, &arrays).map_err(|reason| self.invalid(reason))
    }

    fn invalid(&self, reason: String) -> Error {
        Error::invalid(&self.url, &self.key, reason)
    }
}

#[async_trait]
impl ColumnReader for AwkwardColumn {
    fn field(&self) -> &FieldRef {
        &self.field
    }

    fn key(&self) -> &ElementKey {
        &self.key
    }

    fn len(&self) -> u64 {
        self.len
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        if rows.end() > self.len {
            return Err(Error::OutOfRange {
                url: self.url.clone(),
                element: self.key.clone(),
                position: i128::from(rows.end()) - 1,
                len: self.len,
            });
        }
        let content = self.content.get_or_try_init(|| self.load(metrics)).await?;
        let mut texts = StringBuilder::new();
        let mut text = String::new();
        let mut total = 0usize;
        for row in rows.iter() {
            let row = usize::try_from(row).unwrap_or(usize::MAX);
            if content.is_missing(row) {
                texts.append_null();
                continue;
            }
            text.clear();
            content
                .write(row, &mut text)
                .map_err(|reason| self.invalid(reason))?;
            total = total.saturating_add(text.len());
            if i32::try_from(total).is_err() {
                let reason = "the rows asked for at once take more than 2^31 - 1 bytes as text";
                return Err(self.invalid(reason.to_owned()));
            }
            texts.append_value(&text);
        }
        Ok(Arc::new(texts.finish()))
    }

    fn row_bytes(&self) -> u64 {
        // A value takes about twice its bytes as text.
        let bytes = self.arrays.iter().map(|(_, values)| {
            values
                .len()
                .saturating_mul(values.row_bytes())
                .saturating_mul(2)
        });
        bytes.fold(0, u64::saturating_add) / self.len.max(1) + 8
    }
}
