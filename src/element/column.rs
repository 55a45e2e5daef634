//! Columns held by one array (`array`, `string-array`), and the choice of a reader for any column
//! of a data frame.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use async_trait::async_trait;

use crate::element::ColumnReader;
use crate::element::categorical::CategoricalColumn;
use crate::element::node::{Encoding, Node};
use crate::element::nullable::NullableColumn;
use crate::error::{Error, Result};
use crate::model::{DType, ElementKey, FieldMeta, RowSelection};
use crate::store::{ArrayReader, ReadMetrics, Store};

/// What text is taken to need per value before it is read: an offset and a short name.
const TEXT_BYTES: u64 = 40;

/// Opens the column at `node`, whatever its encoding, as a field called `name`.
///
/// # Errors
/// [`Error::UnsupportedEncoding`] where the encoding is not that of a column,
/// [`Error::InvalidElement`] where it breaks its rules.
pub(crate) async fn open(node: &Node, name: &str) -> Result<Arc<dyn ColumnReader>> {
    match node.encoding().await? {
        Encoding::Categorical => Ok(Arc::new(CategoricalColumn::open(node, name).await?)),
        encoding => open_plain(node, name, encoding).await,
    }
}

/// Opens a column that is not categorical: what categories themselves may be.
pub(crate) async fn open_plain(
    node: &Node,
    name: &str,
    encoding: Encoding,
) -> Result<Arc<dyn ColumnReader>> {
    match encoding {
        Encoding::Array | Encoding::StringArray => {
            Ok(Arc::new(ArrayColumn::open(node, name).await?))
        }
        Encoding::NullableInteger | Encoding::NullableBoolean | Encoding::NullableString => {
            Ok(Arc::new(NullableColumn::open(node, name, encoding).await?))
        }
        _ => Err(node.unsupported()),
    }
}

/// Where the values of a column are: an array, or a member of an array of records (before 0.7).
#[derive(Debug, Clone)]
pub(crate) struct Values {
    array: Arc<dyn ArrayReader>,
    member: Option<usize>,
    /// Type of one value, fixed arrays unwrapped.
    dtype: DType,
    /// Lengths of the axes after the first, those of fixed arrays included.
    dims: Vec<u64>,
}

impl Values {
    /// The values of a whole array.
    pub(crate) fn of_array(array: Arc<dyn ArrayReader>) -> Self {
        let info = array.info();
        let mut dims: Vec<u64> = info.shape.iter().skip(1).copied().collect();
        let dtype = unwrap_fixed(&info.dtype, &mut dims);
        Self {
            array,
            member: None,
            dtype,
            dims,
        }
    }

    /// The members of an array of records, with their names; [`None`] for another array.
    pub(crate) fn of_records(array: &Arc<dyn ArrayReader>) -> Option<Vec<(String, Self)>> {
        let (DType::Struct(members), 1) = (&array.info().dtype, array.info().shape.len()) else {
            return None;
        };
        let members = members.iter().enumerate().map(|(at, member)| {
            let mut dims = Vec::new();
            let dtype = unwrap_fixed(&member.dtype, &mut dims);
            let values = Self {
                array: Arc::clone(array),
                member: Some(at),
                dtype,
                dims,
            };
            (member.name.clone(), values)
        });
        Some(members.collect())
    }

    /// Type of one value.
    pub(crate) fn dtype(&self) -> &DType {
        &self.dtype
    }

    /// Lengths of the axes after the first.
    pub(crate) fn dims(&self) -> &[u64] {
        &self.dims
    }

    /// Length of the first axis.
    pub(crate) fn len(&self) -> u64 {
        self.array.info().len()
    }

    /// The Arrow type of one value.
    ///
    /// # Errors
    /// [`Error::UnsupportedEncoding`]-like [`Error::InvalidElement`] where there is none.
    pub(crate) fn data_type(&self, store: &dyn Store) -> Result<DataType> {
        self.dtype.arrow().ok_or_else(|| {
            let reason = format!("values of type {} have no meaning in AnnData", self.dtype);
            Error::invalid(store.url(), &self.array.info().key, reason)
        })
    }

    /// Reads the selected rows, flattened row-major.
    pub(crate) async fn read(
        &self,
        rows: &RowSelection,
        metrics: &ReadMetrics,
    ) -> Result<ArrayRef> {
        let mut values = self.array.read(rows, metrics).await?;
        if let Some(at) = self.member {
            values = Arc::clone(values.as_struct().column(at));
        }
        while let Some(list) = values.as_fixed_size_list_opt() {
            values = Arc::clone(list.values());
        }
        Ok(values)
    }

    /// Whether they are compressed on disk.
    pub(crate) fn is_compressed(&self) -> bool {
        !self.array.info().filters.is_empty()
    }

    /// Bytes one row takes in memory on the average.
    pub(crate) fn row_bytes(&self) -> u64 {
        let width = self
            .dims
            .iter()
            .fold(1u64, |product, n| product.saturating_mul(*n));
        value_bytes(&self.dtype).saturating_mul(width)
    }
}

/// Bytes one value takes in memory, on the average where lengths vary.
fn value_bytes(dtype: &DType) -> u64 {
    match dtype {
        DType::Struct(members) => members.iter().map(|m| value_bytes(&m.dtype)).sum(),
        DType::FixedArray(item, len) => value_bytes(item).saturating_mul(*len),
        other => other.size().unwrap_or(TEXT_BYTES),
    }
}

fn unwrap_fixed(dtype: &DType, dims: &mut Vec<u64>) -> DType {
    match dtype {
        DType::FixedArray(item, len) => {
            dims.push(*len);
            unwrap_fixed(item, dims)
        }
        other => other.clone(),
    }
}

/// A column that is one array of numbers, booleans, text or complex numbers.
#[derive(Debug)]
pub(crate) struct ArrayColumn {
    field: FieldRef,
    key: ElementKey,
    values: Values,
}

impl ArrayColumn {
    /// Opens the array at `node`.
    pub(crate) async fn open(node: &Node, name: &str) -> Result<Self> {
        let values = Values::of_array(node.array().await?);
        Self::try_new(node.store.as_ref(), &node.key, name, values)
    }

    /// A column over `values`.
    ///
    /// # Errors
    /// [`Error::InvalidElement`] where there is more or less than one value per row.
    pub(crate) fn try_new(
        store: &dyn Store,
        key: &ElementKey,
        name: &str,
        values: Values,
    ) -> Result<Self> {
        if values.array.info().shape.len() != 1 || !values.dims().is_empty() {
            let scalar = values.array.info().shape.is_empty();
            let axes = values.dims().len() + usize::from(!scalar);
            let reason = format!("a column has one axis, this array has {axes}");
            return Err(Error::invalid(store.url(), key, reason));
        }
        let encoding = match values.dtype() {
            DType::String | DType::Reference => Encoding::StringArray,
            _ => Encoding::Array,
        };
        let meta = FieldMeta {
            encoding: Some(encoding.name().to_owned()),
            ..FieldMeta::default()
        };
        let field = meta.apply(Field::new(name, values.data_type(store)?, false));
        Ok(Self {
            field: Arc::new(field),
            key: key.clone(),
            values,
        })
    }
}

#[async_trait]
impl ColumnReader for ArrayColumn {
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
        self.values.read(rows, metrics).await
    }

    fn row_bytes(&self) -> u64 {
        self.values.row_bytes()
    }
}
