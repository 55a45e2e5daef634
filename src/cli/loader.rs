//! `annfusion loader`: an epoch as training would see it, and how fast it came.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use arrow::ipc::writer::StreamWriter;
use clap::Args;
use serde::Serialize;
use tempfile::NamedTempFile;

use super::args::Global;
use super::genes::read_genes;
use super::print::{Output, print, print_error};
use super::run::{Failure, Outcome};
use super::size::{show_bytes, show_count};
use crate::error::{Error, Result};
use crate::loader::{ClassWeights, Loader, LoaderOptions, Sampling, ValueType};
use crate::model::{expand_all, parse_size};
use crate::store::{folder_of, refuse};

#[derive(Debug, Args)]
pub(super) struct LoaderArgs {
    /// Collections, .zarr and .h5ad of any kind, whose cells have the same genes and columns; or
    /// patterns in quotes.
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
    /// Draw cells so that the categories of this obs column come equally often.
    #[arg(long, value_name = "COLUMN", conflicts_with = "replacement")]
    balance: Option<String>,
    /// Draw chunks again and again, so that cells may come more than once or not at all.
    #[arg(long)]
    replacement: bool,
    /// Load only cells for which this SQL condition over `cells` is true.
    #[arg(long = "where", value_name = "EXPR")]
    predicate: Option<String>,
    /// Give each cell's position as well, as obs_idx.
    #[arg(long)]
    index: bool,
    /// Load only these genes: a file with one name a line, or a list with commas.
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
    /// How many equal parts there are; what does not divide is left out.
    #[arg(long, value_name = "N", default_value_t = 1)]
    world_size: u64,
    /// Write the minibatches as an Arrow IPC stream, a record batch each (- for standard output).
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace FILE where it exists.
    #[arg(long, requires = "output")]
    overwrite: bool,
    /// Bytes of cells that are read ahead (500MB).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    read_ahead: Option<u64>,
}

/// What was seen.
#[derive(Debug, Serialize)]
struct Seen {
    /// Cells per second, of all epochs, from the first to the last minibatch.
    cells_s: f64,
    /// The same of each epoch.
    epochs_cells_s: Vec<f64>,
    /// Seconds from the start of opening to the first minibatch.
    first_batch_s: f64,
    cells: u64,
    minibatches: u64,
    bytes_per_cell: f64,
    /// Seconds that were waited for minibatches.
    waited_s: f64,
    /// Entropy of labels in minibatches, by the entropy in all of them: 1 is perfectly mixed.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    diversity: HashMap<String, f64>,
}

/// Runs the command.
pub(super) async fn run(args: LoaderArgs, global: Global) -> Result<Outcome, Failure> {
    let (epochs, most) = (args.epochs, args.max_cells.unwrap_or(u64::MAX));
    let (output, overwrite) = (args.output.clone(), args.overwrite);
    let inputs = expand_all(&args.inputs).map_err(Failure::Usage)?;
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
        false if !says => {}
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
        sampling,
        seed: args.seed,
        predicate: args.predicate,
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

/// Minibatches on their way to another program.
struct Stream {
    writer: StreamWriter<Box<dyn Write + Send>>,
    /// The file beside its final name, and that name; [`None`] for standard output.
    file: Option<(NamedTempFile, PathBuf)>,
    /// Whether a file of that name may be replaced.
    overwrite: bool,
}

impl Stream {
    fn create(path: &Path, overwrite: bool, loader: &Loader) -> Result<Self> {
        let (to, file): (Box<dyn Write + Send>, _) = match path.as_os_str() == "-" {
            true => (Box::new(Output::new()), None),
            false => {
                let failed = |e| Error::store("file system", path.display().to_string(), e);
                if path.exists() && !overwrite {
                    return Err(refuse(path, "it exists; --overwrite replaces it"));
                }
                let file = NamedTempFile::new_in(folder_of(path)).map_err(failed)?;
                let to = file.reopen().map_err(failed)?;
                let to = Box::new(std::io::BufWriter::new(to));
                (to, Some((file, path.to_owned())))
            }
        };
        Ok(Self {
            writer: StreamWriter::try_new(to, loader.schema())?,
            file,
            overwrite,
        })
    }

    /// Whether standard output is the stream's.
    fn is_stdout(&self) -> bool {
        self.file.is_none()
    }

    fn finish(mut self) -> Result<()> {
        self.writer.finish()?;
        let failed = |e| Error::store("file system", "-", e);
        self.writer.into_inner()?.flush().map_err(failed)?;
        if let Some((file, path)) = self.file {
            let named = match self.overwrite {
                true => file.persist(&path),
                false => file.persist_noclobber(&path),
            };
            let name = path.display().to_string();
            named.map_err(|e| Error::store("file system", name, e.error))?;
        }
        Ok(())
    }
}

async fn watch(
    loader: &Loader,
    epochs: u64,
    most: u64,
    begun: Instant,
    mut stream: Option<&mut Stream>,
) -> Result<Seen> {
    let mut labels = Labels::of(loader);
    let mut seen = Seen {
        cells_s: 0.0,
        epochs_cells_s: Vec::new(),
        first_batch_s: 0.0,
        cells: 0,
        minibatches: 0,
        bytes_per_cell: 0.0,
        waited_s: 0.0,
        diversity: HashMap::new(),
    };
    let started = Instant::now();
    'all: for epoch in 0..epochs {
        let (of_epoch, before) = (Instant::now(), seen.cells);
        let mut minibatches = loader.epoch(epoch);
        loop {
            let asked = Instant::now();
            let Some(minibatch) = minibatches.next().await.transpose()? else {
                break;
            };
            seen.waited_s += asked.elapsed().as_secs_f64();
            if seen.minibatches == 0 {
                seen.first_batch_s = begun.elapsed().as_secs_f64();
            }
            seen.minibatches += 1;
            seen.cells += minibatch.batch.num_rows() as u64;
            labels.add(&minibatch.batch)?;
            if let Some(Stream { writer, .. }) = stream.as_deref_mut() {
                writer.write(&minibatch.batch)?;
            }
            if seen.cells >= most {
                seen.epochs_cells_s
                    .push(rate(seen.cells - before, of_epoch));
                break 'all;
            }
        }
        seen.epochs_cells_s
            .push(rate(seen.cells - before, of_epoch));
    }
    if seen.minibatches == 0 {
        let reason = format!(
            "{} cells give this rank no minibatch of {}",
            loader.n_samples(),
            loader.options().batch_size
        );
        return Err(Error::option("loader", reason));
    }
    seen.cells_s = rate(seen.cells, started);
    #[expect(clippy::cast_precision_loss, reason = "a figure to be shown")]
    {
        seen.bytes_per_cell = loader.bytes_read() as f64 / seen.cells.max(1) as f64;
    }
    seen.diversity = labels.diversity();
    Ok(seen)
}

#[expect(clippy::cast_precision_loss, reason = "a figure to be shown")]
fn rate(cells: u64, since: Instant) -> f64 {
    cells as f64 / since.elapsed().as_secs_f64().max(1e-9)
}

/// How categories of obs columns are mixed.
struct Labels {
    columns: Vec<(String, usize, Mixing)>,
}

#[derive(Default)]
struct Mixing {
    /// Cells of each category.
    all: HashMap<i32, u64>,
    /// Entropies of minibatches, by their cells.
    entropy: f64,
    cells: f64,
}

impl Labels {
    fn of(loader: &Loader) -> Self {
        let fields = loader.schema().fields().iter().enumerate();
        let labels =
            fields.filter(|(_, field)| matches!(field.data_type(), DataType::Dictionary(_, _)));
        let columns = labels.map(|(at, field)| (field.name().clone(), at, Mixing::default()));
        Self {
            columns: columns.collect(),
        }
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        for (name, at, mixing) in &mut self.columns {
            let codes = batch.column(*at).as_any_dictionary_opt();
            let codes = codes.ok_or_else(|| Error::option(name.clone(), "it is no categorical"))?;
            let codes = cast(codes.keys(), &DataType::Int32)?;
            let mut counts: HashMap<i32, u64> = HashMap::new();
            for code in codes.as_primitive::<Int32Type>().iter().flatten() {
                *counts.entry(code).or_default() += 1;
            }
            let cells = float(counts.values().sum());
            mixing.entropy += cells * entropy(&counts);
            mixing.cells += cells;
            for (code, n) in counts {
                *mixing.all.entry(code).or_default() += n;
            }
        }
        Ok(())
    }

    fn diversity(self) -> HashMap<String, f64> {
        let columns = self.columns.into_iter();
        let shares = columns.map(|(name, _, mixing)| {
            let all = entropy(&mixing.all);
            let of_minibatches = mixing.entropy / mixing.cells.max(1.0);
            (name, if all > 0.0 { of_minibatches / all } else { 1.0 })
        });
        shares.collect()
    }
}

/// Shannon's entropy of counts, in bits.
fn entropy(counts: &HashMap<i32, u64>) -> f64 {
    let all = float(counts.values().sum());
    let terms = counts.values().filter(|n| **n > 0).map(|n| {
        let share = float(*n) / all;
        -share * share.log2()
    });
    terms.sum()
}

#[expect(clippy::cast_precision_loss, reason = "counts of cells")]
fn float(n: u64) -> f64 {
    n as f64
}

fn as_text(loader: &Loader, seen: &Seen) -> String {
    let options = loader.options();
    let count = |rate: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a figure to be shown"
        )]
        show_count(rate.max(0.0) as u64)
    };
    let mut lines = vec![
        format!(
            "{} cells in {} minibatches of {}; windows of {} × {}",
            show_count(seen.cells),
            show_count(seen.minibatches),
            options.batch_size,
            options.preload_nchunks,
            options.chunk_size
        ),
        format!(
            "{} cells/s; first minibatch after {:.3} s; waited {:.2} s",
            count(seen.cells_s),
            seen.first_batch_s,
            seen.waited_s
        ),
    ];
    if seen.epochs_cells_s.len() > 1 {
        let epochs: Vec<String> = seen
            .epochs_cells_s
            .iter()
            .map(|rate| count(*rate))
            .collect();
        lines.push(format!("by epoch: {} cells/s", epochs.join(", ")));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a figure to be shown"
    )]
    lines.push(format!(
        "read {} a cell",
        show_bytes(seen.bytes_per_cell as u64)
    ));
    let mut labels: Vec<_> = seen.diversity.iter().collect();
    labels.sort_by(|a, b| a.0.cmp(b.0));
    for (name, share) in labels {
        lines.push(format!(
            "{name}: minibatches have {:.1}% of the entropy of all cells",
            share * 100.0
        ));
    }
    lines.join("\n")
}
