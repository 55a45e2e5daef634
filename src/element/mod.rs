//! AnnData encodings: disk arrays ⇄ Arrow arrays. Never sees SQL.
//!
//! [`AnnData`] is an open object. Everything aligned to an axis (obs columns, `X`, layers, `obsm`,
//! …) is a [`ColumnReader`] that gives one Arrow column for selected rows; a [`MatrixReader`]
//! also tells row lengths and gives the parts of sparse rows. [`ColumnWriter`] is the way back.
//!
//! One file per encoding; `node` says which encoding a node has, `legacy` knows what older files
//! keep elsewhere.
//!
//! # Invariants
//! - An open object's lengths agree: every element is as long as its axis.
//! - Keys of readers are paths in the store; keys of [`ElementInfo`] are below the object's root.

mod api;
mod object;
mod cache;
mod node;
mod frame;
mod index;
mod column;
mod categorical;
mod nullable;
mod missing;
mod matrix;
mod awkward;
mod aligned;
mod legacy;
mod info;
mod uns;
mod strays;
mod losses;
mod json;
mod scratch;
mod held;
mod stacked;
mod memory;
mod uns_merge;
mod rows;
mod write;

pub use api::{ColumnReader, ElementInfo, EntryParts, MatrixReader, MatrixShape};
pub(crate) use categorical::fault_of_categories;
pub use frame::Frame;
pub(crate) use held::HeldColumn;
pub(crate) use index::as_text;
pub use info::inspect_elements;
pub(crate) use losses::lost_nodes;
pub use matrix::CsrArrays;
pub(crate) use memory::{MemoryColumn, entries, offsets};
pub(crate) use object::Cells;
pub use object::{AnnData, Raw};
pub use rows::{RowReader, Rows};
pub use scratch::set_tmpdir;
pub(crate) use scratch::{scratch_file, scratch_folder, scratch_space};
pub(crate) use strays::not_written;
pub use uns::{UnsLeaf, uns_leaves};
pub(crate) use uns_merge::{UnsNode, UnsSource, merge_uns, write_uns};
pub use write::{Amount, CellCut, ColumnSize, ColumnWriter, CopyOptions, Storage, copy_tree};
pub(crate) use write::{FrameWriter, Place, encoding, stored_name};
