//! HDF5: read by memory-safe code with our own parallel decode, written by the reference library.

mod read;
mod write;

pub(super) use read::{open, open_object};
pub(super) use write::create;
