//! What Arrow fields say beyond their type, so that a plan's output can be written as it was read.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use serde::{Deserialize, Serialize};

/// Hidden column with the location of the object a row came from (`Dictionary<Int32, Utf8>`).
pub const OBJECT_COLUMN: &str = "__object";
/// Hidden column with the row's position in that object (Int64).
pub const ROW_COLUMN: &str = "__row";

/// Metadata of a field: every key is optional, absent ones mean "write it plainly".
///
/// Plan nodes drop metadata freely, so nothing that would lose data may depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldMeta {
    /// Id of the var axis of a matrix column, see [`crate::model::AxisRegistry`].
    pub axis: Option<String>,
    /// Id of the data frame of those genes, where no object has it, see
    /// [`crate::model::FrameRegistry`].
    pub var: Option<String>,
    /// `encoding-type` on disk, such as `nullable-string-array` or `csr_matrix`.
    pub encoding: Option<String>,
    /// The element's own name where the column had to be renamed (an obs column called `X`).
    pub name: Option<String>,
    /// Whether a categorical is ordered.
    pub ordered: Option<bool>,
    /// Name of the index (`obs_names` only) as `_index` holds it.
    pub index_name: Option<String>,
    /// Width of CSR `indices` on disk as numpy spells it: `int64`, `uint16`.
    pub indices: Option<String>,
    /// Awkward form (JSON) of a column held as JSON text.
    pub form: Option<String>,
    /// `na-value` of a nullable string array, or of categories that are one: `NA` or `NaN`.
    pub na_value: Option<String>,
    /// Number of columns of a matrix row (`n_vars`, or the width of a sparse `obsm`).
    pub width: Option<u64>,
    /// Categories of a categorical (the id under which the session keeps them).
    pub categories: Option<String>,
    /// Location of the object that all rows come from (`__object` only): a selection without rows
    /// has no value that says it.
    pub object: Option<String>,
}

const PREFIX: &str = "annfusion.";

impl FieldMeta {
    /// What a field says.
    pub fn of(field: &Field) -> Self {
        let get = |key: &str| field.metadata().get(&format!("{PREFIX}{key}")).cloned();
        Self {
            axis: get("axis"),
            var: get("var"),
            encoding: get("encoding"),
            name: get("name"),
            ordered: get("ordered").map(|v| v == "true"),
            index_name: get("index_name"),
            indices: get("indices"),
            form: get("form"),
            na_value: get("na_value"),
            width: get("width").and_then(|v| v.parse().ok()),
            categories: get("categories"),
            object: get("object"),
        }
    }

    /// The field with this metadata in place of what it said before; other keys stay.
    pub fn apply(self, field: Field) -> Field {
        let mut metadata: HashMap<String, String> = field
            .metadata()
            .iter()
            .filter(|(key, _)| !key.starts_with(PREFIX))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let pairs = [
            ("axis", self.axis),
            ("var", self.var),
            ("encoding", self.encoding),
            ("name", self.name),
            ("ordered", self.ordered.map(|v| v.to_string())),
            ("index_name", self.index_name),
            ("indices", self.indices),
            ("form", self.form),
            ("na_value", self.na_value),
            ("width", self.width.map(|v| v.to_string())),
            ("categories", self.categories),
            ("object", self.object),
        ];
        for (key, value) in pairs {
            if let Some(value) = value {
                metadata.insert(format!("{PREFIX}{key}"), value);
            }
        }
        field.with_metadata(metadata)
    }
}

/// How a matrix row is held in Arrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MatrixKind {
    /// `List<Struct<indices: Int32 | Int64, data>>`: the stored entries of a sparse row.
    Sparse,
    /// `FixedSizeList<data>` (nested for more dimensions): every value of a dense row.
    Dense,
}

impl MatrixKind {
    /// Which kind a column of this type is, [`None`] where it is no matrix.
    pub fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::List(item) => match item.data_type() {
                DataType::Struct(fields)
                    if fields.len() == 2
                        && fields[0].name() == "indices"
                        && fields[1].name() == "data" =>
                {
                    Some(Self::Sparse)
                }
                _ => None,
            },
            DataType::FixedSizeList(_, _) => Some(Self::Dense),
            _ => None,
        }
    }
}

/// Bytes of a value in memory: of all that a dense row holds; 16 where the type does not say.
pub(crate) fn value_bytes(data_type: &DataType) -> u64 {
    match data_type {
        DataType::FixedSizeList(item, size) => {
            value_bytes(item.data_type()).saturating_mul(u64::try_from(*size).unwrap_or(0))
        }
        DataType::Struct(parts) => parts.iter().map(|part| value_bytes(part.data_type())).sum(),
        other => other.primitive_width().map_or(16, |width| width as u64),
    }
}

/// The Arrow type of sparse rows with `data` of the given type and Int32 (or, `wide`, Int64)
/// indices.
pub fn matrix_type(data: DataType, indices: DataType) -> DataType {
    let entries = DataType::Struct(Fields::from(vec![
        Field::new("indices", indices, false),
        Field::new("data", data, false),
    ]));
    DataType::List(Arc::new(Field::new("item", entries, false)))
}
