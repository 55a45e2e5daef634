//! What only the reference library reads.

use super::array::{Core, FileInfo};
use super::fault::Fault;
use super::output::Bytes;
use crate::model::RowSelection;

/// Reads the elements of rows as they are on disk.
pub(super) fn read_rows(core: &Core, _rows: &RowSelection) -> Result<Bytes, Fault> {
    Err(Fault::Unsupported(format!("{:?}", core.storage)))
}

/// The paths of objects by their addresses.
pub(super) fn names(_file: &FileInfo, _addresses: Vec<u64>) -> Result<Vec<String>, Fault> {
    Err(Fault::Unsupported("object references".into()))
}

/// The path that an attribute refers to, or the list of them.
pub(super) fn reference_attribute(
    _file: &FileInfo,
    _key: &crate::model::ElementKey,
    _name: &str,
) -> Result<serde_json::Value, Fault> {
    Err(Fault::Unsupported("object references".into()))
}
