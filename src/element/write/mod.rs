//! Arrow columns → elements on disk, in the current encodings, batch after batch.
//!
//! [`ColumnWriter`] picks the encoding from the field: its type and what its
//! [`FieldMeta`](crate::model::FieldMeta) remembers of the element it was read from. One file per
//! encoding, each an `Encoder`. [`copy_tree`] takes `uns`, which is no column, from one store to
//! another.
//!
//! # Invariants
//! - What came from a file keeps its encoding; derived columns are written plainly (see `column`).
//! - Nothing but a derived column that may hold nulls, or a categorical whose categories are not
//!   known yet, is held in memory beyond one batch: one value, or one code, per row.

mod column;
mod storage;
mod place;
mod fill;
mod plain;
mod nullable;
mod buffered;
mod cast;
mod categorical;
mod sparse;
mod indptr;
mod dense;
mod frame;
mod awkward;
mod tree;

pub use column::{ColumnSize, ColumnWriter};
pub(crate) use frame::{FrameWriter, stored_name};
pub(crate) use place::{Place, encoding};
pub use storage::{Amount, CellCut, Storage};
pub use tree::{CopyOptions, copy_tree};
