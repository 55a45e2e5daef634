//! Arrow compute over matrix rows, without I/O. Used by everything that moves rows.

mod pairwise;

pub use pairwise::{AxisMap, Positions};
