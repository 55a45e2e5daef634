//! The nouns everything else is written in: element keys, locations, types on disk, row selections,
//! the metadata that Arrow fields carry, and the registry of var axes. No I/O.

mod location;
mod pattern;
mod key;
mod dtype;
mod selection;
mod field;
mod axis;
mod categories;
mod size;
mod strategy;

pub use axis::{AxisRegistry, VarAxis};
pub use categories::CategoryRegistry;
pub use dtype::{DType, StructField};
pub use field::{FieldMeta, MatrixKind, OBJECT_COLUMN, ROW_COLUMN, matrix_type};
pub use key::ElementKey;
pub use location::Location;
pub(crate) use location::file_path;
pub(crate) use pattern::expand;
pub use selection::RowSelection;
pub(crate) use size::parse_size;
pub use strategy::MergeStrategy;
