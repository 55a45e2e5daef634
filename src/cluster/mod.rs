//! Plans as bytes, so that they can run on other machines.
//!
//! [`AnnDataPhysicalCodec`] and [`AnnDataLogicalCodec`] wrap another codec (DataFusion's default,
//! or Ballista's) and forward everything that is not ours; messages of ours begin with a tag,
//! because a wrapping codec is also shown foreign bytes. [`WholeInputs`] tells Ballista which nodes
//! take all of their input; `tests/ballista` runs slices, shuffles and merges there.

mod message;
mod nodes;
mod physical;
mod logical;
mod whole;

pub use logical::AnnDataLogicalCodec;
pub use physical::AnnDataPhysicalCodec;
pub use whole::{WholeInputs, whole_inputs};
