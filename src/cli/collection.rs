//! `annfusion collection`: its arguments, and what its subcommands do.

use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};

use super::args::Global;
use super::print::{print, print_json};
use super::progress::Reporter;
use super::run::{Failure, Outcome};
use super::size::{parse_limit, show_bytes, show_count};
use super::write::{Mode, finish, genes};
use crate::element::Amount;
use crate::error::Result;
use crate::model::{ElementKey, Location, expand_all};
use crate::ops::{self, CollectionInfo, CollectionOptions, CollectionOrder, RunOptions};
use crate::plan::ShuffleWay;
use crate::plan::merge::Join;
use crate::sink::StorageChoice;
use crate::store::Format;

/// What is done to a collection.
#[derive(Debug, Subcommand)]
pub(super) enum CollectionCommand {
    /// Make a collection for training from the cells of any objects, in random order.
    Create(Box<CreateArgs>),
    /// Add the cells of further objects to a collection: they are spread over its datasets, which are
    /// shuffled anew, and the collection is replaced once all is written. Its genes stay.
    Add(Box<AddArgs>),
    /// Show a collection's datasets: cells, entries, chunks, bytes.
    Info(InfoArgs),
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// The zarr store to write; may be a URL: s3://bucket/x.zarr.
    output: PathBuf,
    /// The objects, in order; quoted patterns such as 'parts/*.h5ad' expand by name. Their genes and
    /// columns may differ.
    #[arg(required = true)]
    inputs: Vec<String>,
    /// Cells of a dataset at most, as 100000, or their bytes in memory, as 2GB (20GiB).
    #[arg(long, value_name = "CELLS|SIZE", value_parser = Amount::parse, allow_hyphen_values = true)]
    dataset_size: Option<Amount>,
    /// block deals blocks of adjacent cells out to datasets and shuffles each dataset exactly, as
    /// annbatch does; exact gives every order of all cells the same chance.
    #[arg(
        long,
        value_enum,
        value_name = "block|exact",
        default_value = "block",
        conflicts_with = "no_shuffle"
    )]
    shuffle: Randomness,
    /// Keep only these genes, in the order of the objects: a file with one name a line, or a list with
    /// commas.
    #[arg(long, value_name = "FILE|LIST")]
    var_subset: Option<String>,
    /// What to keep of genes, obs columns, layers and obsm that not all objects have: inner nothing,
    /// outer all.
    #[arg(long, value_name = "inner|outer", default_value = "outer")]
    join: Join,
    /// Which columns of var, and elements of varm and varp, to keep of several objects: the first's
    /// that has it, one that is the same in all, or unique among those that have it, or only in one
    /// (none). Of a lone object all are kept.
    #[arg(long, value_name = "STRATEGY", value_parser = PossibleValuesParser::new(["same", "unique", "first", "only"]), hide_possible_values = true)]
    merge: Option<String>,
    /// The same for uns, dict by dict.
    #[arg(long, value_name = "STRATEGY", value_parser = PossibleValuesParser::new(["same", "unique", "first", "only"]), hide_possible_values = true)]
    uns_merge: Option<String>,
    /// Put this and the object's path behind the names of cells.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    index_unique: Option<String>,
    /// Replace the collection if it exists. In a bucket the old one is removed when the first value of
    /// the new one is stored: if writing fails after that, it is lost.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The collection, a folder.
    collection: PathBuf,
    /// The objects, in order; quoted patterns such as 'parts/*.h5ad' expand by name. Genes that the
    /// collection does not have are left out, and those that they lack are filled.
    #[arg(required = true)]
    inputs: Vec<String>,
    #[command(flatten)]
    how: HowArgs,
}

/// How a collection is written.
#[derive(Debug, Args)]
struct HowArgs {
    /// Cells of a chunk (64). Of a sparse matrix the average cell counts.
    #[arg(long, value_name = "CELLS", value_parser = clap::value_parser!(u64).range(1..))]
    n_obs_per_chunk: Option<u64>,
    /// Cells of a shard, or their bytes, cut to whole chunks (1GiB).
    #[arg(long, value_name = "CELLS|SIZE", value_parser = Amount::parse, allow_hyphen_values = true)]
    shard_size: Option<Amount>,
    /// Adjacent cells of the inputs that go to one dataset (1000).
    #[arg(long, value_name = "CELLS", value_parser = clap::value_parser!(u64).range(1..))]
    shuffle_chunk_size: Option<u64>,
    /// Keep the cells in the order of the inputs.
    #[arg(long, conflicts_with_all = ["shuffle_chunk_size", "seed"])]
    no_shuffle: bool,
    /// Sort the cells of each dataset by this obs column; give it again to sort equal cells by a further
    /// column. Equal cells keep their order. Not with --shuffle exact.
    #[arg(long, value_name = "COLUMN")]
    groupby: Vec<String>,
    /// The same seed and inputs give the same collection, whatever the memory and the threads (0).
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Leave out an element and all below it, such as layers/counts, obs/score or uns.
    #[arg(long, value_name = "ELEMENT")]
    drop: Vec<String>,
    /// Compression of the matrices: none, zstd, blosc-lz4 (level 3, without this), blosc-zstd or gzip.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(StorageChoice::COMPRESSIONS), hide_possible_values = true)]
    compression: Option<String>,
    /// Level of the compression.
    #[arg(long, value_name = "N")]
    level: Option<u8>,
    /// Memory the work may take, such as 16GB (10^9) or 16GiB (2^30). No limit by default, and a fixed
    /// small amount is used.
    #[arg(long, value_name = "SIZE", value_parser = parse_limit)]
    memory_limit: Option<u64>,
    /// Folder for temporary files (the system's).
    #[arg(long, value_name = "PATH")]
    tmpdir: Option<PathBuf>,
    /// Flush the collection to the device before it gets its name.
    #[arg(long)]
    fsync: bool,
    /// Print the plan and do nothing.
    #[arg(long, conflicts_with = "dry_run")]
    explain: bool,
    /// Say what would be written, how large, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// How rows are brought into their order, where it is not to be chosen; changes no result.
    #[arg(long, value_name = "WAY", hide = true, value_parser = PossibleValuesParser::new(ShuffleWay::ALL.map(ShuffleWay::name)))]
    shuffle_way: Option<String>,
}

/// How random a collection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Randomness {
    Block,
    Exact,
}

#[derive(Debug, Args)]
pub(super) struct InfoArgs {
    /// A collection: a zarr group, folder or URL of dataset_{i}, or a pattern in quotes.
    input: String,
}

/// Runs the command.
pub(super) async fn run(
    command: CollectionCommand,
    global: Global,
    reporter: Arc<Reporter>,
) -> Result<Outcome, Failure> {
    match command {
        CollectionCommand::Create(args) => {
            let mode = Mode::from_flags(args.how.explain, args.how.dry_run);
            let options = creation(*args).map_err(Failure::Usage)?;
            let prepared = Box::pin(ops::create_collection(&options)).await?;
            Ok(finish(prepared, mode, global, reporter).await?)
        }
        CollectionCommand::Add(args) => {
            let mode = Mode::from_flags(args.how.explain, args.how.dry_run);
            let options = options(&args.inputs, args.collection, args.how);
            let prepared =
                Box::pin(ops::add_to_collection(&options.map_err(Failure::Usage)?)).await?;
            Ok(finish(prepared, mode, global, reporter).await?)
        }
        CollectionCommand::Info(args) => Ok(info(&args, global).await?),
    }
}

fn creation(args: CreateArgs) -> Result<CollectionOptions> {
    let of = options(&args.inputs, args.output, args.how)?;
    let strategy = |text: Option<String>| text.and_then(|text| text.parse().ok());
    Ok(CollectionOptions {
        join: args.join,
        merge: strategy(args.merge),
        uns_merge: strategy(args.uns_merge),
        genes: genes(args.var_subset.as_deref())?,
        index_unique: args.index_unique,
        dataset_size: args.dataset_size.unwrap_or(CollectionOptions::DATASET),
        order: match (of.order, args.shuffle) {
            (CollectionOrder::Blocks { .. }, Randomness::Exact) => CollectionOrder::Exact,
            (order, _) => order,
        },
        run: RunOptions {
            overwrite: args.overwrite,
            ..of.run
        },
        ..of
    })
}

fn options(inputs: &[String], output: PathBuf, args: HowArgs) -> Result<CollectionOptions> {
    let storage = StorageChoice {
        compression: args.compression,
        level: args.level,
        chunk_size: args.n_obs_per_chunk.map(Amount::Cells),
        shard_size: args.shard_size,
        annbatch: true,
        ..StorageChoice::default()
    };
    Ok(CollectionOptions {
        drop: args.drop.iter().map(ElementKey::new).collect(),
        order: match args.no_shuffle {
            true => CollectionOrder::Kept,
            false => CollectionOrder::Blocks {
                size: args.shuffle_chunk_size.unwrap_or(CollectionOptions::BLOCK),
            },
        },
        groupby: args.groupby,
        way: args.shuffle_way.and_then(|way| way.parse().ok()),
        seed: args.seed.unwrap_or_default(),
        run: RunOptions {
            jobs: None,
            memory_limit: args.memory_limit,
            tmpdir: args.tmpdir,
            storage: storage.in_format(Format::ZARR)?,
            overwrite: false,
            fsync: args.fsync,
        },
        ..CollectionOptions::new(expand_all(inputs)?, output)
    })
}

async fn info(args: &InfoArgs, global: Global) -> Result<Outcome> {
    let found = ops::collection_info(&Location::parse(&args.input)).await?;
    match global.json {
        true => print_json(&found)?,
        false => print(as_text(&found).trim_end())?,
    }
    Ok(Outcome::Done)
}

fn as_text(found: &CollectionInfo) -> String {
    let mut text = format!(
        "{}\n{} cells × {} genes in {} datasets\nobs: {}\n",
        found.location,
        show_count(found.n_obs),
        show_count(found.n_vars),
        found.datasets.len(),
        found.obs_columns.join(", ")
    );
    for dataset in &found.datasets {
        let mut of = vec![format!("{} cells", show_count(dataset.n_obs))];
        if let (Some(encoding), Some(dtype)) = (&dataset.encoding_type, &dataset.dtype) {
            of.push(format!("X {encoding} of {dtype}"));
        }
        if let Some(nnz) = dataset.nnz {
            of.push(format!("{} entries", show_count(nnz)));
        }
        if let Some(chunks) = &dataset.chunks {
            let chunks: Vec<String> = chunks.iter().map(u64::to_string).collect();
            of.push(format!("chunks of {}", chunks.join(" × ")));
        }
        of.push(show_bytes(dataset.bytes));
        text.push_str(&format!("{}  {}\n", dataset.location, of.join(", ")));
    }
    text
}
