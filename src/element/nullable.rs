//! `nullable-integer`, `nullable-boolean`, `nullable-string-array`: values beside a mask.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::{cast, nullif};
use arrow::datatypes::{DataType, Field, FieldRef};
use async_trait::async_trait;

use crate::element::ColumnReader;
use crate::element::column::Values;
use crate::element::node::{Encoding, Node};
use crate::error::{Error, Result};
use crate::model::{ElementKey, FieldMeta, RowSelection};
use crate::store::ReadMetrics;

/// A column of `values` where `mask` (true = missing) says null.
#[derive(Debug)]
pub(crate) struct NullableColumn {
    field: FieldRef,
    key: ElementKey,
    values: Values,
    mask: Values,
}

impl NullableColumn {
    /// Opens the group at `node`.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] where the mask has another length than the values.
    pub(crate) async fn open(node: &Node, name: &str, encoding: Encoding) -> Result<Self> {
        let (values, mask) = futures::try_join!(node.member("values"), node.member("mask"))?;
        let (values, mask) = (Values::of_array(values), Values::of_array(mask));
        for (name, member) in [("values", &values), ("mask", &mask)] {
            if !member.dims().is_empty() {
                return Err(node.invalid(format!("{name} has {} axes", member.dims().len() + 1)));
            }
        }
        if values.len() != mask.len() {
            return Err(Error::LengthMismatch {
                url: node.store.url().to_owned(),
                element: node.key.child("mask"),
                what: "its length".to_owned(),
                actual: mask.len(),
                expected_by: "values".to_owned(),
                expected: values.len(),
            });
        }
        let na_value = (encoding == Encoding::NullableString)
            .then(|| node.text("na-value").unwrap_or("NA").to_owned());
        let meta = FieldMeta {
            encoding: Some(encoding.name().to_owned()),
            na_value,
            ..FieldMeta::default()
        };
        let data_type = values.data_type(node.store.as_ref())?;
        Ok(Self {
            field: Arc::new(meta.apply(Field::new(name, data_type, true))),
            key: node.key.clone(),
            values,
            mask,
        })
    }
}

#[async_trait]
impl ColumnReader for NullableColumn {
    fn field(&self) -> &FieldRef {
        &self.field
    }

    fn key(&self) -> &ElementKey {
        &self.key
    }

    fn len(&self) -> u64 {
        self.values.len()
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        let (values, mask) = futures::try_join!(
            self.values.read(rows, metrics),
            self.mask.read(rows, metrics)
        )?;
        let mask = cast(&mask, &DataType::Boolean)?;
        let mask = mask.as_boolean();
        // A column without missing values gets no null buffer, which kernels are faster without.
        if mask.true_count() == 0 {
            return Ok(values);
        }
        Ok(nullif(&values, mask)?)
    }

    fn row_bytes(&self) -> u64 {
        self.values.row_bytes()
    }
}
