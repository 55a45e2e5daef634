//! Options of collections.

use std::path::PathBuf;

use crate::element::{Amount, Storage};
use crate::model::{ElementKey, Location, MergeStrategy};
use crate::ops::{GeneList, RunOptions};
use crate::plan::ShuffleWay;
use crate::plan::merge::Join;

/// In which order cells come to stand in a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectionOrder {
    /// Blocks of adjacent cells of all inputs are dealt out to datasets at random, and the cells of a
    /// dataset are shuffled exactly: annbatch's procedure.
    Blocks {
        /// Cells of a block.
        size: u64,
    },
    /// All cells of all inputs are shuffled exactly.
    Exact,
    /// That of the inputs.
    Kept,
}

/// Options of [`create`](super::create()).
#[derive(Debug, Clone)]
pub struct CollectionOptions {
    /// The objects, in the order that their cells are numbered in.
    pub inputs: Vec<Location>,
    /// The collection: a zarr store.
    pub output: PathBuf,
    /// What is kept of genes, columns and elements that not all inputs have.
    pub join: Join,
    /// Which elements aligned to genes are kept where inputs are several.
    pub merge: Option<MergeStrategy>,
    /// Which elements of `uns` are kept where inputs are several.
    pub uns_merge: Option<MergeStrategy>,
    /// Genes to keep; all by default.
    pub genes: Option<GeneList>,
    /// Elements that are left out, with all below them.
    pub drop: Vec<ElementKey>,
    /// Stands between a cell's name and its input's number, where names get one at all.
    pub index_unique: Option<String>,
    /// Cells of a dataset at most: by count, or by what they take in memory. Cut to whole blocks.
    pub dataset_size: Amount,
    /// The order.
    pub order: CollectionOrder,
    /// Obs columns that the cells of a dataset are sorted by; cells with the same values are in the
    /// order asked for.
    pub groupby: Vec<String>,
    /// How rows are brought into it, which changes nothing of it; chosen by default.
    pub way: Option<ShuffleWay>,
    /// The same seed and inputs give the same collection.
    pub seed: u64,
    /// Resources and writing.
    pub run: RunOptions,
}

impl CollectionOptions {
    /// Cells of a block unless others are asked for.
    pub const BLOCK: u64 = 1000;
    /// Cells of a dataset unless others are asked for.
    pub const DATASET: Amount = Amount::Bytes(20 << 30);

    /// A collection of these objects with annbatch's defaults.
    pub fn new(inputs: Vec<Location>, output: impl Into<PathBuf>) -> Self {
        Self {
            inputs,
            output: output.into(),
            join: Join::Outer,
            merge: None,
            uns_merge: None,
            genes: None,
            drop: Vec::new(),
            index_unique: None,
            dataset_size: Self::DATASET,
            order: CollectionOrder::Blocks { size: Self::BLOCK },
            groupby: Vec::new(),
            way: None,
            seed: 0,
            run: RunOptions {
                storage: Storage::annbatch(),
                ..RunOptions::default()
            },
        }
    }
}
