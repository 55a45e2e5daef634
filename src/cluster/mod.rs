//! Plans as bytes, so that they can run on other machines.
//!
//! [`AnnDataPhysicalCodec`] and [`AnnDataLogicalCodec`] wrap another codec (DataFusion's default,
//! or Ballista's) and forward everything that is not ours; messages of ours begin with a tag,
//! because a wrapping codec is also shown foreign bytes.

mod message;
mod nodes;
mod physical;
mod logical;

pub use logical::AnnDataLogicalCodec;
pub use physical::AnnDataPhysicalCodec;
