//! Several objects as one: `anndata.concat`, on disk. Not SQL's `MERGE`.
//!
//! A [`MergeSpec`] says what is merged and how. [`MergeOutline`] is what that means for the objects
//! at hand: the target's columns and their types, where each object's genes stand among the merged
//! ones, what becomes of every element; no row is read for it. [`MergeExec`] runs the objects' scans
//! and adapts each batch. [`MergeTable`] is the merge as a table of SQL. What stands beside the rows
//! (`var`, `uns` and the like) is merged in `rest`, for the sink to write.
//!
//! # Invariants
//! - The rows of an object come before those of the next, in their order.
//! - Types are promoted, never narrowed; what has no type in common is text, with a word to the user.
//! - An object whose genes are the merged ones has its rows handed on untouched.
//! - A merge is as good as an object to what comes after it: `__object` names the merge, `__row` is
//!   the row's place in it, and `obsp` are cut by that.

mod spec;
mod promote;
mod natsort;
mod categories;
mod columns;
mod matrices;
mod axis;
mod genes;
mod targets;
mod adapt;
mod outline;
mod spread;
mod aligned;
mod equality;
mod blocks;
mod side_by_side;
mod beside;
mod rest;
mod lane;
mod exec;
mod table;

pub(crate) use axis::JoinedAxis;
pub use exec::{MergeExec, MergeOutput};
pub use outline::MergeOutline;
pub use spec::{FillValue, Join, MergeAxis, MergeSpec};
pub use table::MergeTable;
