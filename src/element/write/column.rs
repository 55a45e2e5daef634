//! The way from a field to an encoder.

use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;

use crate::element::write::awkward::Awkward;
use crate::element::write::buffered::Buffered;
use crate::element::write::cast::Cast;
use crate::element::write::categorical::Categorical;
use crate::element::write::dense::Dense;
use crate::element::write::frame::FrameWriter;
use crate::element::write::nullable::Nullable;
use crate::element::write::place::Place;
use crate::element::write::plain::Plain;
use crate::element::write::sparse::Sparse;
use crate::element::write::storage::Storage;
use crate::error::{Error, Result};
use crate::model::{DType, ElementKey, FieldMeta, MatrixKind};
use crate::store::StoreWriter;

/// What is known of a column's size before its first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ColumnSize {
    /// Rows; [`None`] lets the element grow.
    pub rows: Option<u64>,
    /// Stored entries, of a sparse matrix; [`None`] lets its members grow.
    pub nnz: Option<u64>,
}

/// How one encoding is written. Batches come in row order.
#[async_trait]
pub(super) trait Encoder: fmt::Debug + Send {
    async fn append(&mut self, values: &ArrayRef) -> Result<()>;
    async fn finish(self: Box<Self>) -> Result<()>;
}

/// Writes an Arrow column as one element.
///
/// | Arrow | written as |
/// |---|---|
/// | integers, booleans | `array`; `nullable-integer`, `nullable-boolean` where read as such, or derived and with nulls |
/// | floats, complex | `array`, nulls as NaN |
/// | JSON text with an awkward form | `awkward-array` |
/// | text | `string-array`; `nullable-string-array` where read as such, or derived and with nulls |
/// | `Dictionary` | `categorical`, codes as narrow as pandas has them |
/// | `List<Struct<indices, data>>` | `csr_matrix` |
/// | `FixedSizeList` | `array` of two or more dimensions |
/// | `Struct` | `dataframe`, the first field being its index |
/// | `Date`, `Time`, `Timestamp` | `string-array` |
/// | `Decimal` | `array` of float64 |
#[derive(Debug)]
pub struct ColumnWriter {
    encoder: Box<dyn Encoder>,
}

impl ColumnWriter {
    /// Creates the element at `key`, whose parent exists, for a column of this field.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where no encoding holds the field's type, or a matrix has
    /// lost the number of its columns; [`Error::Store`] where the element cannot be created.
    pub async fn create(
        writer: &Arc<dyn StoreWriter>,
        key: &ElementKey,
        field: &Field,
        size: ColumnSize,
        storage: Storage,
    ) -> Result<Self> {
        let place = Place {
            key: key.clone(),
            size,
            ..Place::root(writer, storage)
        };
        Self::at(place, field).await
    }

    /// As [`create`](Self::create), at a place.
    pub(crate) async fn at(place: Place, field: &Field) -> Result<Self> {
        // Boxed, because a data frame's columns are columns again.
        let encoder = Box::pin(encoder(place, field)).await?;
        Ok(Self { encoder })
    }

    /// Appends a batch of rows.
    ///
    /// # Errors
    /// [`Error::InvalidElement`] where the encoding cannot hold a value (a null in a column that
    /// says it has none); [`Error::Store`] where writing fails.
    pub async fn append(&mut self, values: &ArrayRef) -> Result<()> {
        self.encoder.append(values).await
    }

    /// Completes the element.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] where fewer or more rows came than the size said.
    pub async fn finish(self) -> Result<()> {
        self.encoder.finish().await
    }
}

async fn encoder(place: Place, field: &Field) -> Result<Box<dyn Encoder>> {
    let meta = FieldMeta::of(field);
    let data_type = field.data_type();
    // The type decides and the metadata only refines: a cast may have kept the metadata of what
    // it changed.
    let nullable = meta
        .encoding
        .as_deref()
        .is_some_and(|encoding| encoding.starts_with("nullable-"));
    if let (Some(form), true) = (&meta.form, is_text(data_type)) {
        return Ok(Box::new(Awkward::create(place, form)?));
    }
    Ok(match data_type {
        data_type
            if is_text(data_type) || data_type.is_integer() || *data_type == DataType::Boolean =>
        {
            simple(place, field, nullable, &meta).await?
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            Box::new(Plain::create(place, field).await?)
        }
        DataType::Dictionary(_, values) => Box::new(Categorical::create(place, values, &meta)?),
        DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(_, _) => cast(place, field, DataType::Utf8).await?,
        DataType::Decimal32(_, _)
        | DataType::Decimal64(_, _)
        | DataType::Decimal128(_, _)
        | DataType::Decimal256(_, _) => cast(place, field, DataType::Float64).await?,
        data_type if MatrixKind::of(data_type) == Some(MatrixKind::Sparse) => {
            Box::new(Sparse::create(place, field, &meta).await?)
        }
        DataType::FixedSizeList(_, _) => Box::new(Dense::create(place, field).await?),
        DataType::Struct(fields) => match DType::from_arrow(data_type) {
            Some(DType::Complex64 | DType::Complex128) => {
                Box::new(Plain::create(place, field).await?)
            }
            _ => Box::new(FrameWriter::of_struct(place, fields).await?),
        },
        _ => return Err(unwritable(field)),
    })
}

/// A column of single values, text, integers or booleans.
async fn simple(
    place: Place,
    field: &Field,
    nullable: bool,
    meta: &FieldMeta,
) -> Result<Box<dyn Encoder>> {
    Ok(if nullable {
        Box::new(Nullable::create(place, field.data_type(), meta).await?)
    } else if field.is_nullable() {
        Box::new(Buffered::new(place, field))
    } else {
        Box::new(Plain::create(place, field).await?)
    })
}

async fn cast(place: Place, field: &Field, to: DataType) -> Result<Box<dyn Encoder>> {
    let target = Field::new(field.name(), to, field.is_nullable());
    let inner = Box::pin(encoder(place, &target)).await?;
    Ok(Box::new(Cast::new(inner, target)))
}

/// Whether values are text, in any of Arrow's layouts.
pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// The error for a type that no encoding holds.
pub(super) fn unwritable(field: &Field) -> Error {
    let cast = match field.data_type() {
        DataType::Null => "CAST(… AS VARCHAR), or the type meant".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => {
            "CAST(… AS BIGINT) or CAST(… AS VARCHAR)".to_owned()
        }
        DataType::List(_) | DataType::LargeList(_) => {
            "array_to_string(…, ',') or one column per item".to_owned()
        }
        _ => "CAST(… AS VARCHAR)".to_owned(),
    };
    Error::IncompatibleSchemas(format!(
        "column '{}' is of type {}, which AnnData has no encoding for: use {cast}",
        field.name(),
        field.data_type()
    ))
}
