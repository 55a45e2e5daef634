//! What loading takes, and how well minibatches are mixed.

use std::collections::HashMap;
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use serde::Serialize;

use super::stream::Stream;
use crate::cli::size::{show_bytes, show_count};
use crate::error::{Error, Result};
use crate::loader::Loader;

/// What was seen.
#[derive(Debug, Serialize)]
pub(super) struct Seen {
    /// Cells per second, of all epochs, from the first to the last minibatch.
    pub(super) cells_s: f64,
    /// The same of each epoch.
    pub(super) epochs_cells_s: Vec<f64>,
    /// Seconds from the start of opening to the first minibatch.
    pub(super) first_batch_s: f64,
    pub(super) cells: u64,
    pub(super) minibatches: u64,
    pub(super) bytes_per_cell: f64,
    /// Seconds that were waited for minibatches.
    pub(super) waited_s: f64,
    /// Entropy of labels in minibatches, by the entropy in all of them: 1 is perfectly mixed.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub(super) diversity: HashMap<String, f64>,
}

/// Loads epochs, until so many cells have come, and gives every minibatch to the stream.
///
/// # Errors
/// Whatever loading and writing meets; [`Error::InvalidOption`] where there is no minibatch.
pub(super) async fn watch(
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
            if let Some(stream) = stream.as_deref_mut() {
                stream.write(&minibatch.batch)?;
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

/// The same for readers.
pub(super) fn as_text(loader: &Loader, seen: &Seen) -> String {
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
