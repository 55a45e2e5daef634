//! AnnData encodings: disk arrays ⇄ Arrow arrays. Never sees SQL.
//!
//! Everything aligned to an axis (obs columns, `X`, layers, `obsm`,
//! …) is a [`ColumnReader`] that gives one Arrow column for selected rows; a [`MatrixReader`]
//! also tells row lengths and gives the parts of sparse rows. [`ColumnWriter`] is the way back.

mod api;
mod write;

pub use api::{ColumnReader, ElementInfo, EntryParts, MatrixReader, MatrixShape};
pub use write::{ColumnSize, ColumnWriter, CopyOptions, copy_tree};
pub(crate) use write::{FrameWriter, Place, attributes, encoding};
