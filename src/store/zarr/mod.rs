//! Zarr v2 and v3: read through the codecs of `zarrs`, written chunk by chunk through the same;
//! [`cut`] is where chunks lie in an array.

mod cut;
mod read;
mod write;

pub(crate) use read::ROOT_DOCUMENTS;
pub(super) use read::{is_zarr, open};
pub(super) use write::create;
