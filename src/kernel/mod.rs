//! Arrow compute over matrix rows, without I/O. Used by everything that moves rows.
//!
//! Matrix rows come as a block: entries of all rows one after another, and offsets that say where
//! each row begins.

pub(crate) mod sums;
pub(crate) mod genes;
mod zeros;
mod entries;
pub(crate) mod form;
mod normalize;
mod gather;
pub(crate) mod pieces;
mod ranks;
mod row_columns;
pub(crate) mod split;
mod blocks;
pub(crate) mod numbers;
pub(crate) mod reindex;
mod moved;
mod pairwise;

pub use blocks::{BlockRanks, Blocks};
pub(crate) use entries::{list, sparse_rows, with_indices};
pub use gather::{RowPlace, gather, owned_bytes};
pub use normalize::Normalization;
pub use pairwise::{AxisMap, Positions};
pub use ranks::{OrderCut, Ranks, ranks_by_cuts};
pub use split::SplitParts;
