//! Types of array elements on disk, and the Arrow types they are read as.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};

/// The type of one element of an array on disk, byte order aside (readers give native order).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// HDF5's `ENUM {FALSE, TRUE}` over int8, as h5py writes it; zarr's `bool`.
    Bool,
    /// Signed 8-bit.
    Int8,
    /// Signed 16-bit.
    Int16,
    /// Signed 32-bit.
    Int32,
    /// Signed 64-bit.
    Int64,
    /// Unsigned 8-bit.
    UInt8,
    /// Unsigned 16-bit.
    UInt16,
    /// Unsigned 32-bit.
    UInt32,
    /// Unsigned 64-bit.
    UInt64,
    /// IEEE half.
    Float16,
    /// IEEE single.
    Float32,
    /// IEEE double.
    Float64,
    /// Two singles, `{r, i}`.
    Complex64,
    /// Two doubles, `{r, i}`.
    Complex128,
    /// Text, of variable or fixed length; padding is removed on reading.
    String,
    /// A record; members in storage order.
    Struct(Vec<StructField>),
    /// A fixed-size array inside an element (legacy `obsm`).
    FixedArray(Box<Self>, u64),
    /// A reference to another object of the file, read as its path.
    Reference,
    /// A type with no meaning in AnnData, by the backend's description of it.
    Other(String),
}

/// A member of a [`DType::Struct`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StructField {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: DType,
}

impl DType {
    /// The Arrow type that elements of this type are read as, [`None`] for [`DType::Other`].
    ///
    /// Complex numbers are `Struct<re, im>`, records are structs, references are paths.
    pub fn arrow(&self) -> Option<DataType> {
        Some(match self {
            Self::Bool => DataType::Boolean,
            Self::Int8 => DataType::Int8,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
            Self::Float16 => DataType::Float16,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Complex64 => complex(DataType::Float32),
            Self::Complex128 => complex(DataType::Float64),
            Self::String | Self::Reference => DataType::Utf8,
            Self::Struct(members) => DataType::Struct(
                members
                    .iter()
                    .map(|m| Some(Field::new(&m.name, m.dtype.arrow()?, false)))
                    .collect::<Option<Fields>>()?,
            ),
            Self::FixedArray(item, len) => DataType::FixedSizeList(
                Arc::new(Field::new("item", item.arrow()?, false)),
                i32::try_from(*len).ok()?,
            ),
            Self::Other(_) => return None,
        })
    }

    /// The type on disk that an Arrow type is written as, [`None`] where there is none.
    pub fn from_arrow(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Int8 => Self::Int8,
            DataType::Int16 => Self::Int16,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::UInt8 => Self::UInt8,
            DataType::UInt16 => Self::UInt16,
            DataType::UInt32 => Self::UInt32,
            DataType::UInt64 => Self::UInt64,
            DataType::Float16 => Self::Float16,
            DataType::Float32 => Self::Float32,
            DataType::Float64 => Self::Float64,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::String,
            DataType::Struct(fields) if is_complex(fields, &DataType::Float32) => Self::Complex64,
            DataType::Struct(fields) if is_complex(fields, &DataType::Float64) => Self::Complex128,
            DataType::Struct(fields) => Self::Struct(
                fields
                    .iter()
                    .map(|f| {
                        Some(StructField {
                            name: f.name().clone(),
                            dtype: Self::from_arrow(f.data_type())?,
                        })
                    })
                    .collect::<Option<_>>()?,
            ),
            DataType::FixedSizeList(item, len) => Self::FixedArray(
                Box::new(Self::from_arrow(item.data_type())?),
                u64::try_from(*len).ok()?,
            ),
            _ => return None,
        })
    }

    /// Bytes per element in memory for fixed-width types, [`None`] for text and references.
    pub fn size(&self) -> Option<u64> {
        Some(match self {
            Self::Bool | Self::Int8 | Self::UInt8 => 1,
            Self::Int16 | Self::UInt16 | Self::Float16 => 2,
            Self::Int32 | Self::UInt32 | Self::Float32 => 4,
            Self::Int64 | Self::UInt64 | Self::Float64 | Self::Complex64 => 8,
            Self::Complex128 => 16,
            Self::FixedArray(item, len) => item.size()?.checked_mul(*len)?,
            Self::Struct(members) => members
                .iter()
                .try_fold(0u64, |sum, m| sum.checked_add(m.dtype.size()?))?,
            Self::String | Self::Reference | Self::Other(_) => return None,
        })
    }

    /// Whether the values are numbers or booleans, one machine word each.
    pub fn is_numeric(&self) -> bool {
        matches!(
            self,
            Self::Bool
                | Self::Int8
                | Self::Int16
                | Self::Int32
                | Self::Int64
                | Self::UInt8
                | Self::UInt16
                | Self::UInt32
                | Self::UInt64
                | Self::Float16
                | Self::Float32
                | Self::Float64
        )
    }

    /// Whether the values are integers.
    pub fn is_integer(&self) -> bool {
        self.is_numeric()
            && !matches!(
                self,
                Self::Bool | Self::Float16 | Self::Float32 | Self::Float64
            )
    }
}

impl fmt::Display for DType {
    /// numpy's names: `int32`, `float64`, `bool`, `complex128`, `string`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::UInt8 => "uint8",
            Self::UInt16 => "uint16",
            Self::UInt32 => "uint32",
            Self::UInt64 => "uint64",
            Self::Float16 => "float16",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Complex64 => "complex64",
            Self::Complex128 => "complex128",
            Self::String => "string",
            Self::Reference => "reference",
            Self::Struct(members) => {
                f.write_str("{")?;
                for (i, member) in members.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{}: {}", member.name, member.dtype)?;
                }
                return f.write_str("}");
            }
            Self::FixedArray(item, len) => return write!(f, "{item}[{len}]"),
            Self::Other(text) => text,
        })
    }
}

fn complex(part: DataType) -> DataType {
    DataType::Struct(Fields::from(vec![
        Field::new("re", part.clone(), false),
        Field::new("im", part, false),
    ]))
}

fn is_complex(fields: &Fields, part: &DataType) -> bool {
    matches!(&fields[..], [re, im]
        if re.name() == "re" && im.name() == "im" && re.data_type() == part && im.data_type() == part)
}
