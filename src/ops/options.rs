//! Options of the operations that move cells.

use std::path::PathBuf;

use crate::element::Storage;
use crate::kernel::SplitParts;
use crate::model::{ElementKey, Location};
use crate::plan::Shuffle;

/// Which resources an operation may use and how it writes; the same for all of them.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Outputs written at a time; by default two more than there are cores.
    pub jobs: Option<usize>,
    /// Bytes that the work may take: fewer outputs are written at a time to stay within it. None by
    /// default.
    pub memory_limit: Option<u64>,
    /// Where scratch files go; by default the system's folder.
    pub tmpdir: Option<PathBuf>,
    /// Format, compression and chunks of the outputs; h5ad without compression by default.
    pub storage: Storage,
    /// Whether existing outputs may be replaced.
    pub overwrite: bool,
    /// Whether outputs are flushed to the device before they get their names.
    pub fsync: bool,
}

/// A column of a CSV file with one row per cell, matched on the obs index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvColumn {
    /// The file; its first line names the columns.
    pub file: PathBuf,
    /// Column with the obs names; the first one by default.
    pub join_column: Option<String>,
}

/// Genes to keep, in the order of `var`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneList(pub Vec<String>);

/// Where the cuts between outputs lie.
#[derive(Debug, Clone, PartialEq)]
pub enum Cut {
    /// Every so many cells: `{prefix}_shard_{i}.h5ad`.
    Size(u64),
    /// One output per category of an obs column: `{prefix}_{category}.h5ad`.
    Column {
        /// The categorical obs column, or the CSV's column.
        column: String,
        /// Categories whose cells go into every output and that get none of their own.
        always_include: Vec<String>,
    },
    /// Shards of about so many cells that have each category of an obs column in proportion, to one
    /// cell: `{prefix}_shard_{i}.h5ad`.
    Stratify {
        /// The categorical obs column.
        column: String,
        /// Cells of a shard at most.
        size: u64,
        /// Chooses which cells go where.
        seed: u64,
    },
    /// Parts by fractions: `{prefix}_{name}.h5ad`.
    Split {
        /// Their names and fractions.
        parts: SplitParts,
        /// A categorical obs column whose categories are not divided.
        by: Option<String>,
        /// Chooses which cells or categories go where.
        seed: u64,
    },
}

/// Names for outputs in place of the default ones: a text file with one name per line, in the
/// order of the outputs; or, when cutting by a column, lines `category,name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputNames(pub PathBuf);

/// Options of `slice`.
#[derive(Debug, Clone)]
pub struct SliceOptions {
    /// The object to cut.
    pub input: Location,
    /// What outputs' names begin with; may have folders.
    pub prefix: PathBuf,
    /// Where to cut.
    pub cut: Cut,
    /// A CSV that holds the column of [`Cut::Column`].
    pub csv: Option<CsvColumn>,
    /// SQL expression over `cells` that kept cells fulfil.
    pub predicate: Option<String>,
    /// Genes to keep; all by default.
    pub genes: Option<GeneList>,
    /// The order that cells come in; that of the input where absent.
    pub shuffle: Option<Shuffle>,
    /// Other names for the outputs.
    pub output_names: Option<OutputNames>,
    /// Resources and writing.
    pub run: RunOptions,
}

/// How many outputs a shuffle has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shards {
    /// One, under the output's name.
    One,
    /// So many, whose sizes differ by one at most: `{output}_shard_{i}.h5ad`.
    Count(u64),
    /// Of so many cells each; the last may be short.
    Size(u64),
}

/// Options of `shuffle`.
#[derive(Debug, Clone)]
pub struct ShuffleOptions {
    /// The objects, in the order that their cells are numbered in.
    pub inputs: Vec<Location>,
    /// The output; with shards, what their names begin with.
    pub output: PathBuf,
    /// How many outputs.
    pub shards: Shards,
    /// The order.
    pub shuffle: Shuffle,
    /// Genes to keep; all by default.
    pub genes: Option<GeneList>,
    /// Resources and writing.
    pub run: RunOptions,
}

/// Options of `filter`.
#[derive(Debug, Clone)]
pub struct FilterOptions {
    /// The object to filter.
    pub input: Location,
    /// The output.
    pub output: PathBuf,
    /// obs column (or column of `csv`) that says which cells to keep: bool, non-zero numbers, or
    /// the texts true, false, 1, 0 in any case.
    pub obs_column: Option<String>,
    /// A CSV that holds `obs_column`.
    pub csv: Option<CsvColumn>,
    /// SQL expression over `cells` that kept cells fulfil, besides `obs_column`.
    pub predicate: Option<String>,
    /// Genes to keep; all by default.
    pub genes: Option<GeneList>,
    /// Resources and writing.
    pub run: RunOptions,
}

/// Options of `convert`.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// The object to convert.
    pub input: Location,
    /// The object to write.
    pub output: PathBuf,
    /// Elements to leave out, with all below them: `layers/counts`, `obs/score`, `uns`.
    pub drop: Vec<ElementKey>,
    /// Matrices over genes (`X`, `layers/counts`, `raw/X`, or `all`) that are written sparse, by row.
    pub sparse: Vec<ElementKey>,
    /// Those that are written dense.
    pub dense: Vec<ElementKey>,
    /// Genes to keep; all by default.
    pub genes: Option<GeneList>,
    /// Resources and writing.
    pub run: RunOptions,
}
