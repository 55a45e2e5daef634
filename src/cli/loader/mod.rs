//! `annfusion loader`: an epoch as training would see it, and how fast it came.

mod measure;
mod stream;
mod grid;
mod chart;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::args::Global;
use super::genes::read_genes;
use super::print::{print, print_error};
use super::run::{Failure, Outcome};
use crate::error::Result;
use crate::kernel::SplitParts;
use crate::loader::{ClassWeights, Loader, LoaderOptions, Sampling, Split, ValueType};
use crate::model::{expand_all, parse_size};
use crate::plan::merge::Join;
use measure::{as_text, watch};
use stream::Stream;

#[derive(Debug, Args)]
pub(super) struct LoaderArgs {
    /// Collections, .zarr and .h5ad of any kind, whose cells have the same genes and columns, unless
    /// --join says otherwise; or patterns in quotes.
    #[arg(required = true)]
    inputs: Vec<String>,
    /// Cells of a minibatch; chunk size × preloaded chunks is a whole number of them.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..))]
    batch_size: u64,
    /// Adjacent cells that are fetched together; 1 is a perfectly random order.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..))]
    chunk_size: u64,
    /// Chunks that are mixed in memory.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    preload_nchunks: u64,
    /// Load objects over different genes as well: over those that any has (outer) or all have (inner).
    /// Columns and elements are only compared where they are loaded; a column of obs that only some
    /// have is null elsewhere (outer).
    #[arg(
        long,
        value_enum,
        value_name = "outer|inner",
        hide_possible_values = true
    )]
    join: Option<Join>,
    /// Load this column of obs as well; of a categorical one, say how well minibatches mix it.
    #[arg(long, value_name = "COLUMN")]
    obs: Vec<String>,
    /// Load this layer as well.
    #[arg(long, value_name = "NAME")]
    layer: Vec<String>,
    /// Load this element of obsm as well.
    #[arg(long, value_name = "NAME")]
    obsm: Vec<String>,
    /// Load raw/X as well.
    #[arg(long)]
    raw: bool,
    /// Leave out the last round of an epoch where it is no whole minibatch for every rank; its cells are
    /// divided evenly otherwise.
    #[arg(long)]
    drop_last: bool,
    /// Fill the last round up with cells from the beginning instead.
    #[arg(long, conflicts_with = "drop_last")]
    pad: bool,
    /// Cells in the order of the inputs.
    #[arg(long, conflicts_with_all = ["balance", "replacement"])]
    no_shuffle: bool,
    /// Draw cells so that the categories of this obs column come equally often; cells without one are
    /// not drawn.
    #[arg(long, value_name = "COLUMN", conflicts_with = "replacement")]
    balance: Option<String>,
    /// Draw chunks again and again, so that cells may come more than once or not at all.
    #[arg(long)]
    replacement: bool,
    /// Load only cells for which this SQL condition over `cells` is true.
    #[arg(long = "where", value_name = "EXPR")]
    predicate: Option<String>,
    /// Load only one of these parts of the cells, the one of --take.
    #[arg(long, value_name = "NAME=FRACTION,...", requires = "take")]
    split: Option<SplitParts>,
    /// The part of --split to load.
    #[arg(long, value_name = "NAME", requires = "split")]
    take: Option<String>,
    /// Keep groups of this obs column whole where cells are split.
    #[arg(
        long,
        value_name = "COLUMN",
        requires = "split",
        conflicts_with = "stratify"
    )]
    by: Option<String>,
    /// Give each part its fraction of every category of this obs column.
    #[arg(long, value_name = "COLUMN", requires = "split")]
    stratify: Option<String>,
    /// Chooses the split, whatever the order's seed.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "split")]
    split_seed: u64,
    /// Give each cell's position as well, as obs_idx.
    #[arg(long)]
    index: bool,
    /// Load only these genes, in this order: a file with one name a line, or a list with commas.
    #[arg(long, value_name = "FILE|LIST")]
    genes: Option<String>,
    /// Scale each cell's counts to this sum, as scanpy.pp.normalize_total does.
    #[arg(long, value_name = "SUM")]
    normalize_total: Option<f64>,
    /// ln(1 + x) of every value, as scanpy.pp.log1p.
    #[arg(long)]
    log1p: bool,
    /// Matrices over genes with all their zeros.
    #[arg(long)]
    dense: bool,
    /// Type of the values of matrices over genes (their own).
    #[arg(long, value_name = "float32|float64", value_parser = ["float32", "float64"], hide_possible_values = true)]
    dtype: Option<String>,
    /// The same seed and inputs give the same order.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Load so many epochs.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    epochs: u64,
    /// Stop once so many cells have come, in whole minibatches.
    #[arg(long, value_name = "N")]
    max_cells: Option<u64>,
    /// Which part of each epoch's minibatches, of --world-size.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rank: u64,
    /// How many equal parts there are; the last round is divided evenly among them.
    #[arg(long, value_name = "N", default_value_t = 1)]
    world_size: u64,
    /// Write the minibatches as an Arrow IPC stream, a record batch each (- for standard output).
    #[arg(long, short, value_name = "FILE", group = "file")]
    output: Option<PathBuf>,
    /// Load with blocks of 1 to 2048 cells and windows of a quarter to four times the one asked for,
    /// 200,000 cells or a window each at most, and draw how fast minibatches came and how well they
    /// mix the columns of --obs.
    #[arg(
        long,
        value_name = "FILE.svg",
        group = "file",
        conflicts_with = "epochs"
    )]
    chart: Option<PathBuf>,
    /// Replace FILE where it exists.
    #[arg(long, requires = "file")]
    overwrite: bool,
    /// Bytes of cells that are read ahead (500MB).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    read_ahead: Option<u64>,
}

/// Runs the command.
pub(super) async fn run(args: LoaderArgs, global: Global) -> Result<Outcome, Failure> {
    let (epochs, most) = (args.epochs, args.max_cells.unwrap_or(u64::MAX));
    let (output, overwrite) = (args.output.clone(), args.overwrite);
    let inputs = expand_all(&args.inputs).map_err(Failure::Usage)?;
    if let Some(chart) = args.chart.clone() {
        let cells = args.max_cells;
        let options = options(args).map_err(Failure::Usage)?;
        chart::check(&chart, overwrite)?;
        let settings = grid::measure(&inputs, &options, cells).await?;
        chart::write(&settings, &chart, overwrite)?;
        print(&match global.json {
            true => serde_json::to_string(&settings).unwrap_or_default(),
            false => grid::as_text(&settings, &chart),
        })?;
        return Ok(Outcome::Done);
    }
    let options = options(args).map_err(Failure::Usage)?;
    let begun = Instant::now();
    let loader = Box::pin(Loader::open(&inputs, options)).await?;
    let mut stream = output
        .map(|path| Stream::create(&path, overwrite, &loader))
        .transpose()?;
    let seen = watch(&loader, epochs, most, begun, stream.as_mut()).await?;
    let says = stream.as_ref().is_none_or(|stream| !stream.is_stdout());
    if let Some(stream) = stream {
        stream.finish()?;
    }
    match global.json {
        // Standard output is the stream's.
        true if !says => print_error(&serde_json::to_string(&seen).unwrap_or_default()),
        false if !says || global.quiet => {}
        // One line, for whoever reads many runs.
        true => print(&serde_json::to_string(&seen).unwrap_or_default())?,
        false => print(&as_text(&loader, &seen))?,
    }
    Ok(Outcome::Done)
}

fn options(args: LoaderArgs) -> Result<LoaderOptions> {
    let defaults = LoaderOptions::default();
    let sampling = match (args.no_shuffle, args.balance, args.replacement) {
        (true, ..) => Sampling::Sequential,
        (_, Some(column), _) => Sampling::Classes {
            column,
            weights: ClassWeights::Balanced,
            num_samples: None,
        },
        (_, None, true) => Sampling::Replacement { num_samples: None },
        _ => Sampling::Random,
    };
    let split = args.split.zip(args.take).map(|(parts, take)| Split {
        parts: parts.parts().to_vec(),
        take,
        by: args.by,
        stratify: args.stratify,
        seed: args.split_seed,
    });
    let dtype = args.dtype.as_deref().map(|dtype| match dtype {
        "float64" => ValueType::Float64,
        _ => ValueType::Float32,
    });
    Ok(LoaderOptions {
        batch_size: args.batch_size,
        chunk_size: args.chunk_size,
        preload_nchunks: args.preload_nchunks,
        drop_last: args.drop_last,
        pad: args.pad,
        join: args.join,
        sampling,
        seed: args.seed,
        predicate: args.predicate,
        split,
        obs: args.obs,
        layers: args.layer,
        obsm: args.obsm,
        raw: args.raw,
        return_index: args.index,
        dense: args.dense,
        dtype,
        genes: args.genes.as_deref().map(read_genes).transpose()?,
        normalize_total: args.normalize_total,
        log1p: args.log1p,
        rank: args.rank,
        world_size: args.world_size,
        read_ahead: args.read_ahead.unwrap_or(defaults.read_ahead),
        ..defaults
    })
}
