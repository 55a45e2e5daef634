//! How outputs are stored, from arguments.

use super::args::StorageArgs;
use crate::element::Storage;
use crate::error::Result;
use crate::sink::StorageChoice;
use crate::store::Format;

/// The storage that the arguments ask for, in a format whose version and shards are still open.
///
/// # Errors
/// [`Error::InvalidOption`](crate::Error::InvalidOption) where they exclude each other.
pub(super) fn storage(args: &StorageArgs, format: Format) -> Result<Storage> {
    let choice = StorageChoice {
        compression: args.compression.clone(),
        level: args.level,
        zarr_version: args.zarr_version,
        sharded: args.no_shards.then_some(false),
        chunk_size: args.chunk_size,
        shard_size: args.shard_size,
        annbatch: args.layout.is_some(),
    };
    choice.in_format(format)
}
