//! The nouns everything else is written in: element keys, locations, types on disk, row selections,
//! the metadata that Arrow fields carry, and the registry of var axes. No I/O.

mod url;
mod location;
mod pattern;
mod key;
mod dtype;
mod selection;
mod chacha;
mod groups;
mod order;
mod field;
mod axis;
mod categories;
mod frames;
mod size;
mod strategy;

pub(crate) use self::url::{is_url, shown, shown_path};
pub use axis::{AxisRegistry, VarAxis};
pub use categories::CategoryRegistry;
pub use dtype::{DType, StructField};
pub(crate) use field::value_bytes;
pub use field::{FieldMeta, MatrixKind, OBJECT_COLUMN, ROW_COLUMN, matrix_type};
pub use frames::FrameRegistry;
pub use groups::RowGroups;
pub use key::ElementKey;
pub use location::Location;
pub(crate) use location::file_path;
pub use order::RowOrder;
pub(crate) use pattern::{expand, expand_all, is_pattern};
pub use selection::RowSelection;
pub(crate) use size::{parse_size, share};
pub use strategy::MergeStrategy;
