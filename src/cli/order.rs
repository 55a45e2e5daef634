//! Arguments that say in which order cells come.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::args::RunArgs;
use crate::plan::{Shuffle, ShuffleWay};

/// `--shuffle` of `slice`.
#[derive(Debug, Clone, Args)]
pub(super) struct SliceOrderArgs {
    /// Assign cells to shards at random: an exact shuffle of all cells, each shard in its order. With
    /// --obs-column the cells of each output are shuffled.
    #[arg(long)]
    pub(super) shuffle: bool,
    #[command(flatten)]
    pub(super) how: OrderArgs,
}

impl SliceOrderArgs {
    /// What --shuffle asks for.
    pub(super) fn how(&self) -> Shuffle {
        self.how.shuffle()
    }
}

/// Which order, and how it is made.
#[derive(Debug, Clone, Args)]
pub(super) struct OrderArgs {
    /// The same seed and input give the same order, whatever the memory and the threads (0).
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How rows are brought into their order, where it is not to be chosen; changes no result.
    #[arg(long, value_name = "WAY", hide = true, value_parser = PossibleValuesParser::new(ShuffleWay::ALL.map(ShuffleWay::name)))]
    shuffle_way: Option<String>,
}

impl OrderArgs {
    /// The order asked for.
    pub(super) fn shuffle(&self) -> Shuffle {
        Shuffle {
            seed: self.seed.unwrap_or_default(),
            block: None,
            way: self.shuffle_way.as_ref().and_then(|way| way.parse().ok()),
        }
    }
}

/// Arguments of `shuffle`.
#[derive(Debug, Args)]
pub(super) struct ShuffleArgs {
    /// Objects whose cells have the same columns over the same genes: .h5ad files, .zarr folders,
    /// .zarr.zip, objects inside one (x.h5mu#mod/rna), or patterns in quotes ('parts/*.h5ad').
    #[arg(required = true)]
    pub(super) inputs: Vec<String>,
    /// The .h5ad file or .zarr store to write; with --shards or --size, OUT_shard_0.h5ad, ....
    #[arg(long, short, value_name = "OUT")]
    pub(super) output: PathBuf,
    /// Write so many outputs, equal in size to one cell.
    #[arg(long, value_name = "N", conflicts_with = "size", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) shards: Option<u64>,
    /// Write outputs of so many cells.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) size: Option<u64>,
    #[command(flatten)]
    pub(super) how: OrderArgs,
    /// Keep only these genes: a file with one name a line, or a list with commas.
    #[arg(long, value_name = "FILE|LIST")]
    pub(super) genes: Option<String>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}
