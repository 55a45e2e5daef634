//! What a caller says of an object to be written.

use std::collections::HashMap;
use std::path::Path;

use crate::element::{ColumnSize, Storage};
use crate::model::ElementKey;
use crate::store::WriteTarget;

/// How an object is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkOptions {
    /// Format, compression and chunks; an h5ad without compression by default.
    pub storage: Storage,
    /// Elements of the source that are left out, beyond what the batches leave out.
    pub drop: Vec<ElementKey>,
    /// Whether an existing file may be replaced; refused by default.
    pub overwrite: bool,
    /// Whether the file is flushed to the device before it gets its name; not by default.
    pub fsync: bool,
    /// Bytes of all objects that are written together, where known; see
    /// [`WriteTarget`](crate::store::WriteTarget).
    pub run_bytes: u64,
}

impl SinkOptions {
    /// The store of an object.
    pub(super) fn object(&self, path: &Path) -> WriteTarget {
        WriteTarget {
            path: path.to_owned(),
            format: self.storage.format,
            overwrite: self.overwrite,
            fsync: self.fsync,
            run_bytes: self.run_bytes,
            consolidated: true,
        }
    }

    /// The store of a collection, whose root says nothing of its members.
    pub(super) fn collection(&self, path: &Path) -> WriteTarget {
        WriteTarget {
            consolidated: false,
            ..self.object(path)
        }
    }
}

/// What is known of an object's size before its first row: arrays of known size are laid out once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectSize {
    /// Rows, where known.
    pub rows: Option<u64>,
    /// Stored entries of sparse columns (`X`, `layers_counts`), where known.
    pub nnz: HashMap<String, u64>,
    /// Id of the axis of genes (see [`AxisRegistry`](crate::model::AxisRegistry)), for objects
    /// that have no matrix to say it.
    pub axis: Option<String>,
}

impl ObjectSize {
    /// What is known of one column.
    pub fn column(&self, name: &str) -> ColumnSize {
        ColumnSize {
            rows: self.rows,
            nnz: self.nnz.get(name).copied(),
        }
    }
}
