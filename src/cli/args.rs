//! The arguments, as clap parses them. No logic.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use super::collection::CollectionCommand;
use super::loader::LoaderArgs;
use super::order::{ShuffleArgs, SliceOrderArgs};
use super::serve::ServeArgs;
use super::size::parse_limit;
use crate::element::Amount;
use crate::model::parse_size;
use crate::plan::merge::{FillValue, Join, MergeAxis};
use crate::sink::StorageChoice;

/// What names an object.
const OBJECT: &str = "An .h5ad file, a .zarr folder or .zarr.zip, a URL of one (s3://, gs://, az://, \
                      http(s)://), an object inside one (x.h5mu#mod/rna), or a collection: a folder or \
                      group of dataset_{i}, or a pattern in quotes ('parts/*.h5ad')";

/// Cut, filter and query AnnData files that do not fit in memory.
#[derive(Debug, Parser)]
#[command(
    name = "annfusion",
    version,
    about,
    max_term_width = 100,
    propagate_version = true
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Arguments of every command.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Global {
    /// Print no progress and no summary; errors still go to standard error.
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
    /// Log what happens inside to standard error (RUST_LOG narrows it).
    #[arg(long, global = true)]
    pub(super) debug: bool,
    /// Print the report as JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show an object's elements: shape, type, encoding, chunks, filter, bytes.
    Inspect(InspectArgs),
    /// Ask questions in SQL: `annfusion query pbmc.h5ad 'SELECT count(*) FROM obs'`.
    Query(QueryArgs),
    /// Cut an object into shards of N cells, or into one file per category.
    Slice(Box<SliceArgs>),
    /// Bring the cells of one or several objects into a random order, all of them, exactly.
    Shuffle(ShuffleArgs),
    /// Keep the cells (and genes) that meet a condition.
    Filter(FilterArgs),
    /// Put objects together as one, as anndata.concat does, out of core.
    Merge(MergeArgs),
    /// Make collections for training, add to one, or show what is in it.
    #[command(subcommand)]
    Collection(CollectionCommand),
    /// Write an object in another format, layout or choice of elements.
    Convert(ConvertArgs),
    /// Load minibatches as training would, and say how fast they come.
    Loader(Box<LoaderArgs>),
    /// Serve minibatches and SQL to Arrow Flight clients.
    Serve(Box<ServeArgs>),
    /// Make a synthetic object whose counts look like counts.
    Synth(SynthArgs),
    /// Check that an object is sound, or that two objects are equal.
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[arg(help = OBJECT)]
    pub(super) input: String,
}

#[derive(Debug, Args)]
pub(super) struct QueryArgs {
    /// Files and URLs (`pbmc.h5ad`, `name=store.zarr`, `x.h5mu#mod/rna`, `s3://bucket/x.zarr`), then
    /// the SQL unless -f is given. A folder or a pattern in quotes is a collection, opened as one.
    #[arg(value_name = "FILE|SQL", required_unless_present = "file")]
    pub(super) inputs: Vec<String>,
    /// Read the SQL from a file (- for standard input).
    #[arg(long, short, value_name = "FILE.sql")]
    pub(super) file: Option<PathBuf>,
    /// How the result is written; from the ending of --output where that is given.
    #[arg(long, value_enum)]
    pub(super) format: Option<Format>,
    /// Write the result to a file.
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Replace the file of --output if it exists.
    #[arg(long, requires = "output")]
    pub(super) overwrite: bool,
    /// Show at most so many rows in a table; 0 shows all.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(super) rows: usize,
    /// Bound the memory of the query, such as 2GB (no bound).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(super) memory_limit: Option<u64>,
    /// Threads that work at once (one per CPU).
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) jobs: Option<u16>,
}

/// Forms of a query's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns for reading.
    Table,
    /// Comma-separated values with a header; nested values as JSON.
    Csv,
    /// One JSON array.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// An Arrow IPC stream.
    Arrow,
}

/// How outputs are stored.
#[derive(Debug, Clone, Args)]
pub(super) struct StorageArgs {
    /// Compression of what is written: none (the default of h5ad), gzip or lzf of h5ad; none, zstd
    /// (the default of zarr), blosc-lz4, blosc-zstd or gzip of zarr.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(StorageChoice::COMPRESSIONS), hide_possible_values = true)]
    pub(super) compression: Option<String>,
    /// Level of gzip, 1 to 9 (4), of zstd, 0 to 22 (0: zstd's own default), or of blosc, 0 to 9 (5).
    /// Of an h5ad, an array whose beginning level 1 of gzip makes as small is written at that.
    #[arg(long, value_name = "N")]
    pub(super) level: Option<u8>,
    /// Version of zarr: 3 or 2 (3).
    #[arg(long, value_name = "2|3", value_parser = clap::value_parser!(u8).range(2..=3))]
    pub(super) zarr_version: Option<u8>,
    /// Write each chunk of a zarr store as a file of its own.
    #[arg(long)]
    pub(super) no_shards: bool,
    /// Chunks of matrices in a zarr store: cells, as 64, or their decoded bytes, as 1MiB (1MiB). Of
    /// a sparse matrix the average cell counts.
    #[arg(long, value_name = "CELLS|SIZE", value_parser = Amount::parse, allow_hyphen_values = true)]
    pub(super) chunk_size: Option<Amount>,
    /// Shards of matrices in a zarr store, cut to whole chunks (1GiB).
    #[arg(long, value_name = "CELLS|SIZE", value_parser = Amount::parse, allow_hyphen_values = true)]
    pub(super) shard_size: Option<Amount>,
    /// Store as annbatch's write_sharded does: 64 cells a chunk, 1 GiB a shard, blosc, narrow indices.
    #[arg(long, value_name = "annbatch", value_parser = ["annbatch"], hide_possible_values = true)]
    pub(super) layout: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(super) struct CsvArgs {
    /// A CSV file with one row per cell, joined to obs: where the column of --obs-column is.
    #[arg(long, value_name = "PATH", requires = "obs_column")]
    pub(super) csv_file: Option<PathBuf>,
    /// The CSV's column that holds the cell names (its first).
    #[arg(long, value_name = "COLUMN", requires = "csv_file")]
    pub(super) join_column: Option<String>,
}

/// What both `slice` and `filter` take.
#[derive(Debug, Clone, Args)]
pub(super) struct WriteArgs {
    #[command(flatten)]
    pub(super) csv: CsvArgs,
    /// Keep only cells for which this SQL condition over `cells` is true.
    #[arg(long = "where", value_name = "EXPR")]
    pub(super) predicate: Option<String>,
    /// Keep only these genes, in the order of the object: a file with one name a line, or a list with
    /// commas.
    #[arg(long, value_name = "FILE|LIST")]
    pub(super) genes: Option<String>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// What every command takes that writes objects.
#[derive(Debug, Clone, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) storage: StorageArgs,
    /// Replace outputs that exist. In a bucket the old store is removed when the first value of the
    /// new one is stored: if writing fails after that, it is lost.
    #[arg(long)]
    pub(super) overwrite: bool,
    /// Outputs written at a time (two more than CPUs).
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) jobs: Option<u16>,
    /// Memory the work may take, such as 16GB (10^9) or 16GiB (2^30); fewer outputs are written at a
    /// time to stay within it. No limit by default, and a fixed small amount is used.
    #[arg(long, value_name = "SIZE", value_parser = parse_limit)]
    pub(super) memory_limit: Option<u64>,
    /// Folder for temporary files (the system's).
    #[arg(long, value_name = "PATH")]
    pub(super) tmpdir: Option<PathBuf>,
    /// Flush every output to the device before it gets its name.
    #[arg(long)]
    pub(super) fsync: bool,
    /// Print the plan and do nothing.
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) explain: bool,
    /// Say what would be written, how large, and do nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct SliceArgs {
    #[arg(help = OBJECT)]
    pub(super) input: String,
    /// Outputs are PREFIX_shard_0.h5ad, ..., or PREFIX_<category>.h5ad; .zarr with --zarr.
    pub(super) prefix: String,
    /// Write zarr stores instead of h5ad files.
    #[arg(long)]
    pub(super) zarr: bool,
    /// Cells per shard.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) size: u64,
    /// One file per category of this obs column (or CSV column) instead of shards of N cells.
    #[arg(long, value_name = "COLUMN")]
    pub(super) obs_column: Option<String>,
    /// Categories that go into every output and get none of their own.
    #[arg(long, value_name = "VALUE", num_args = 1.., requires = "obs_column")]
    pub(super) always_include: Vec<String>,
    /// A file with one output name a line, used in order instead of PREFIX_shard_<i>.
    #[arg(long, value_name = "FILE")]
    pub(super) output_names: Option<PathBuf>,
    #[command(flatten)]
    pub(super) order: SliceOrderArgs,
    #[command(flatten)]
    pub(super) write: WriteArgs,
}

#[derive(Debug, Args)]
#[command(group(
    ArgGroup::new("kept")
        .args(["obs_column", "predicate", "genes"])
        .multiple(true)
        .required(true)
))]
pub(super) struct FilterArgs {
    #[arg(help = OBJECT)]
    pub(super) input: String,
    /// The .h5ad file or .zarr store to write; a store may be a URL: s3://bucket/x.zarr.
    pub(super) output: PathBuf,
    /// Keep cells where this obs (or CSV) column is true: bool, number but 0, or the text true or 1.
    #[arg(long, value_name = "COLUMN")]
    pub(super) obs_column: Option<String>,
    #[command(flatten)]
    pub(super) write: WriteArgs,
}

#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// The objects to merge, in order; quoted patterns such as 'parts/*.h5ad' expand by name. Without
    /// --output, the first is the .h5ad file or .zarr store to write.
    #[arg(value_name = "INPUT", required = true)]
    pub(super) paths: Vec<String>,
    /// The .h5ad file or .zarr store to write.
    #[arg(long, short, value_name = "OUTPUT")]
    pub(super) output: Option<PathBuf>,
    /// What to keep of genes, obs columns, layers and obsm that not all objects have: inner nothing,
    /// outer all.
    #[arg(long, value_name = "inner|outer", default_value = "outer")]
    pub(super) join: Join,
    /// Which columns of var, and elements of varm and varp, to keep: the first object's that has it,
    /// one that is the same in all, or unique among those that have it, or only in one; or none.
    #[arg(long, value_name = "STRATEGY", default_value = "first", value_parser = ["same", "unique", "first", "only", "none"])]
    pub(super) merge: String,
    /// The same for uns, dict by dict.
    #[arg(long, value_name = "STRATEGY", default_value = "first", value_parser = ["same", "unique", "first", "only", "none"])]
    pub(super) uns_merge: String,
    /// Add an obs column that says which object a cell came from.
    #[arg(long, value_name = "COLUMN")]
    pub(super) label: Option<String>,
    /// What the objects are called there, separated by commas (0,1,...).
    #[arg(long, value_name = "LIST")]
    pub(super) keys: Option<String>,
    /// Put this and the object's key behind the names of cells.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) index_unique: Option<String>,
    /// What stands in matrices where an object has no value (0 if sparse, NaN if dense).
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(super) fill_value: Option<FillValue>,
    /// Keep obsp, as blocks on a diagonal.
    #[arg(long)]
    pub(super) pairwise: bool,
    /// Put objects below each other (obs) or beside each other (var).
    #[arg(long, value_name = "obs|var", default_value = "obs")]
    pub(super) axis: MergeAxis,
    /// Match genes by a column of var instead of var_names.
    #[arg(long, value_name = "COLUMN")]
    pub(super) align_on: Option<String>,
    /// Leave out an element and all below it, such as layers/counts, obs/score or uns.
    #[arg(long, value_name = "ELEMENT")]
    pub(super) drop: Vec<String>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

#[derive(Debug, Args)]
pub(super) struct ConvertArgs {
    #[arg(help = OBJECT)]
    pub(super) input: String,
    /// The .h5ad file or .zarr store to write; a store may be a URL: s3://bucket/x.zarr. With --virtual
    /// a .json.
    pub(super) output: PathBuf,
    /// Write references to an h5ad instead of its data: a kerchunk JSON that fsspec and zarr-python
    /// open over the file, which must stay where it is.
    #[arg(long = "virtual", conflicts_with_all = [
        "genes", "compression", "level", "zarr_version", "no_shards", "chunk_size", "shard_size",
        "layout", "jobs", "memory_limit", "tmpdir", "explain", "dry_run", "sparse", "dense"])]
    pub(super) references: bool,
    /// Write a dense matrix as csr_matrix, as scipy makes one of it: X, layers/counts, raw/X or all.
    #[arg(long, value_name = "ELEMENT")]
    pub(super) sparse: Vec<String>,
    /// Write a sparse matrix with all its zeros: X, layers/counts, raw/X or all.
    #[arg(long, value_name = "ELEMENT")]
    pub(super) dense: Vec<String>,
    /// Leave out an element and all below it, such as layers/counts, obs/score or uns.
    #[arg(long, value_name = "ELEMENT")]
    pub(super) drop: Vec<String>,
    /// Keep only these genes, in the order of the object: a file with one name a line, or a list with
    /// commas.
    #[arg(long, value_name = "FILE|LIST")]
    pub(super) genes: Option<String>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

#[derive(Debug, Args)]
pub(super) struct SynthArgs {
    /// The .h5ad file or .zarr store to write; a store may be a URL: s3://bucket/x.zarr.
    pub(super) output: PathBuf,
    /// Cells.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(super) n_obs: u64,
    /// Genes.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) n_vars: u32,
    /// Stored genes per cell, on the average (a tenth of the genes, at most 1500).
    #[arg(long, value_name = "N")]
    pub(super) mean_genes: Option<f64>,
    /// Cell types.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) cell_types: u16,
    /// The same seed gives the same object.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
    #[command(flatten)]
    pub(super) storage: StorageArgs,
    /// Replace the output if it exists. In a bucket the old store is removed when the first value of
    /// the new one is stored: if writing fails after that, it is lost.
    #[arg(long)]
    pub(super) overwrite: bool,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[arg(help = OBJECT)]
    pub(super) first: String,
    /// The object it should equal; without it, the first is checked by itself.
    pub(super) second: Option<String>,
    /// Stop after so many findings.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(super) max_findings: usize,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn annslicer_command_lines_parse() {
        for line in [
            "annfusion slice in.h5ad out --size 500 -j 2 --memory-limit 16GB --tmpdir /tmp",
            "annfusion slice in.h5ad out --obs-column g --always-include a b --compression gzip",
            "annfusion slice in.h5ad out --csv-file m.csv --join-column c --obs-column g",
            "annfusion slice in.h5ad out --size 500 --shuffle --seed 3 --jobs 2",
            "annfusion filter in.h5ad out.h5ad --obs-column keep --csv-file m.csv",
            "annfusion --debug slice in.h5ad out",
            "annfusion merge out.h5ad a.h5ad b.h5ad",
            "annfusion merge out.zarr parts/*.h5ad --join inner",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
        assert!(Cli::try_parse_from(["annfusion", "slice", "in.h5ad"]).is_err());
    }

    #[test]
    fn arguments_that_would_be_ignored_are_refused() {
        for line in [
            "annfusion slice in.h5ad out --csv-file m.csv",
            "annfusion slice in.h5ad out --obs-column g --join-column c",
            "annfusion slice in.h5ad out --always-include a",
            "annfusion filter in.h5ad out.h5ad --genes a --csv-file m.csv",
            "annfusion filter in.h5ad out.h5ad",
            "annfusion query in.h5ad q --overwrite",
            "annfusion slice in.h5ad out --by donor",
            "annfusion slice in.h5ad out --split a=0.5,b=0.5 --stratify c",
            "annfusion shuffle in.h5ad -o out.h5ad --shards 2 --size 3",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
        for keep in ["--obs-column k", "--where true", "--genes a,b"] {
            let line = format!("annfusion filter in.h5ad out.h5ad {keep}");
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }
}
