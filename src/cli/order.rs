//! Arguments that say in which order cells come.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use super::args::RunArgs;
use crate::error::{Error, Result};
use crate::ops::{Cut, SplitParts};
use crate::plan::{Shuffle, ShuffleWay};

/// Cells of a block of a block shuffle.
const BLOCK: u64 = 64;

/// `--shuffle` of `slice`.
#[derive(Debug, Clone, Args)]
pub(super) struct SliceOrderArgs {
    /// Assign cells to shards at random: an exact shuffle of all cells, each shard in its order. With
    /// --obs-column the cells of each output are shuffled.
    #[arg(long)]
    pub(super) shuffle: bool,
    /// Shards of N cells that each have the categories of this obs column in proportion, exact to one
    /// cell; which cells, the seed says.
    #[arg(long, value_name = "COLUMN", conflicts_with_all = ["obs_column", "split"])]
    stratify: Option<String>,
    /// Parts instead of shards: train=0.8,val=0.1,test=0.1 gives PREFIX_train.h5ad, ...; which cells,
    /// the seed says.
    #[arg(long, value_name = "NAME=F,...", conflicts_with_all = ["obs_column", "size"])]
    split: Option<SplitParts>,
    /// Keep the cells of each category of this obs column, such as a donor, in one part of --split.
    #[arg(long, value_name = "COLUMN", requires = "split")]
    by: Option<String>,
    #[command(flatten)]
    how: OrderArgs,
}

impl SliceOrderArgs {
    /// Where to cut: every so many cells, unless --stratify or --split say otherwise.
    pub(super) fn cut(self, size: u64) -> Cut {
        let seed = self.how.seed.unwrap_or_default();
        match (self.stratify, self.split) {
            (Some(column), _) => Cut::Stratify { column, size, seed },
            (None, Some(parts)) => Cut::Split {
                parts,
                by: self.by,
                seed,
            },
            (None, None) => Cut::Size(size),
        }
    }

    /// What to say of a seed that nothing asks for.
    pub(super) fn idle_seed(&self) -> Option<&'static str> {
        let is_idle = self.how.seed.is_some()
            && !self.shuffle
            && self.stratify.is_none()
            && self.split.is_none();
        is_idle.then_some("--seed changes nothing without --shuffle, --stratify or --split")
    }

    /// What --shuffle asks for.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for options of a shuffle without one, or of another mode.
    pub(super) fn how(&self) -> Result<Option<Shuffle>> {
        let lost = match (self.how.mode, self.how.block_size) {
            (Some(_), _) => Some("--mode"),
            (None, Some(_)) => Some("--block-size"),
            (None, None) => None,
        };
        match (self.shuffle, lost) {
            (true, _) => self.how.shuffle().map(Some),
            (false, Some(option)) => Err(Error::option(option, "it goes with --shuffle")),
            (false, None) => Ok(None),
        }
    }
}

/// Which order, and how it is made.
#[derive(Debug, Clone, Args)]
pub(super) struct OrderArgs {
    /// The same seed and input give the same order, whatever the memory and the threads (0).
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// exact (without this) gives every order the same chance; block reads less: blocks of adjacent
    /// cells in a random order, and then the cells of some blocks at a time.
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Cells of a block of --mode block (64).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    block_size: Option<u64>,
    /// How rows are brought into their order, where it is not to be chosen; changes no result.
    #[arg(long, value_name = "WAY", hide = true, value_parser = PossibleValuesParser::new(ShuffleWay::ALL.map(ShuffleWay::name)))]
    shuffle_way: Option<String>,
}

impl OrderArgs {
    /// The order asked for.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a block size of a mode that has no blocks.
    pub(super) fn shuffle(&self) -> Result<Shuffle> {
        let block = match (self.mode, self.block_size) {
            (Some(Mode::Block), size) => Some(size.unwrap_or(BLOCK)),
            (_, None) => None,
            (_, Some(_)) => return Err(Error::option("--block-size", "it goes with --mode block")),
        };
        Ok(Shuffle {
            seed: self.seed.unwrap_or_default(),
            block,
            way: self.shuffle_way.as_ref().and_then(|way| way.parse().ok()),
        })
    }
}

/// How random an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Exact,
    Block,
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
    /// Keep only these genes, in the order of the object: a file with one name a line, or a list with
    /// commas.
    #[arg(long, value_name = "FILE|LIST")]
    pub(super) genes: Option<String>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}
