//! Zarr v2 and v3: read through the codecs of `zarrs`, written chunk by chunk through the same;
//! [`cut`] is where chunks lie in an array, [`shard`] where they lie in a shard.

mod cut;
mod shard;
mod read;
mod write;

pub(super) use read::{is_zarr, open, open_remote, remote_tag};
pub(super) use write::{create, create_references};

/// Documents that describe nodes, the one that says most of a store's version first. No node is
/// called like one of them.
pub(crate) const DOCUMENTS: [&str; 5] =
    ["zarr.json", ".zmetadata", ".zgroup", ".zarray", ".zattrs"];
