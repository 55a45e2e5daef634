//! Zarr: read through the codecs of `zarrs`.

mod read;

pub(crate) use read::ROOT_DOCUMENTS;
pub(super) use read::{is_zarr, open};
