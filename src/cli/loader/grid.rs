//! Loading with many sizes of blocks and windows, to choose some by looking.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::measure::{Seen, watch};
use crate::cli::size::show_count;
use crate::error::{Error, Result};
use crate::loader::{Loader, LoaderOptions};
use crate::model::Location;

/// Sizes of blocks that are tried beside the one asked for.
const CHUNK_SIZES: [u64; 6] = [1, 8, 32, 128, 512, 2048];
/// Windows that are tried: so many quarters of the one asked for.
const QUARTERS: [u64; 3] = [1, 4, 16];
/// Windows that each setting loads at most, unless it is told how many cells.
const MOST_WINDOWS: u64 = 8;
/// Cells that it loads at most, but for a window.
const MOST_CELLS: u64 = 200_000;

/// One choice of sizes, and what loading with it took.
#[derive(Debug, Serialize)]
pub(super) struct Setting {
    pub(super) chunk_size: u64,
    pub(super) preload_nchunks: u64,
    #[serde(flatten)]
    pub(super) seen: Seen,
}

impl Setting {
    /// Cells of a window.
    pub(super) fn window(&self) -> u64 {
        self.chunk_size.saturating_mul(self.preload_nchunks)
    }
}

/// Loads with each choice; `most` is how many cells each loads at most. The largest window comes once
/// before all others, so that these find the files as warm.
///
/// # Errors
/// As loading once; [`Error::InvalidOption`] where no choice fits the minibatch.
pub(super) async fn measure(
    inputs: &[Location],
    options: &LoaderOptions,
    most: Option<u64>,
) -> Result<Vec<Setting>> {
    let sizes = sizes(options);
    let Some(largest) = sizes.last() else {
        return Err(Error::option(
            "--chart",
            "no window is a whole number of minibatches",
        ));
    };
    load(inputs, options, *largest, most).await?;
    let mut settings = Vec::with_capacity(sizes.len());
    for size in sizes {
        settings.push(load(inputs, options, size, most).await?);
    }
    Ok(settings)
}

async fn load(
    inputs: &[Location],
    options: &LoaderOptions,
    (chunk_size, preload_nchunks): (u64, u64),
    most: Option<u64>,
) -> Result<Setting> {
    let options = LoaderOptions {
        chunk_size,
        preload_nchunks,
        ..options.clone()
    };
    let window = chunk_size.saturating_mul(preload_nchunks);
    let some = window
        .saturating_mul(MOST_WINDOWS)
        .min(window.max(MOST_CELLS));
    let begun = Instant::now();
    let loader = Box::pin(Loader::open(inputs, options)).await?;
    let seen = watch(&loader, 1, most.unwrap_or(some), begun, None).await?;
    Ok(Setting {
        chunk_size,
        preload_nchunks,
        seen,
    })
}

/// Sizes and numbers of blocks whose windows are whole minibatches, by window and size.
fn sizes(options: &LoaderOptions) -> Vec<(u64, u64)> {
    let asked = options.chunk_size.saturating_mul(options.preload_nchunks);
    let mut chunks = CHUNK_SIZES.to_vec();
    chunks.push(options.chunk_size);
    chunks.sort_unstable();
    chunks.dedup();
    let mut sizes = Vec::new();
    for quarters in QUARTERS {
        let window = asked.saturating_mul(quarters) / 4;
        if window == 0 || window % options.batch_size != 0 {
            continue;
        }
        let chunks = chunks.iter().filter(|chunk| window % **chunk == 0);
        sizes.extend(chunks.map(|chunk| (*chunk, window / *chunk)));
    }
    sizes
}

/// A table of settings.
pub(super) fn as_text(settings: &[Setting], chart: &Path) -> String {
    let labels = labels(settings);
    let mut lines = vec![format!(
        "{:>10}  {:>10}  {:>12}  {:>12}  {:>8}{}",
        "window",
        "chunk size",
        "cells/s",
        "bytes/cell",
        "waited s",
        labels
            .iter()
            .map(|name| format!("  {name}"))
            .collect::<String>()
    )];
    for setting in settings {
        let seen = &setting.seen;
        let shares = labels.iter().map(|name| {
            let share = seen.diversity.get(name).copied().unwrap_or(f64::NAN);
            let width = name.chars().count().max(5);
            format!("  {:>width$}", format!("{:.1}%", share * 100.0))
        });
        lines.push(format!(
            "{:>10}  {:>10}  {:>12.0}  {:>12.0}  {:>8.2}{}",
            show_count(setting.window()),
            show_count(setting.chunk_size),
            seen.cells_s,
            seen.bytes_per_cell,
            seen.waited_s,
            shares.collect::<String>()
        ));
    }
    lines.push(format!("chart: {}", chart.display()));
    lines.join("\n")
}

/// Columns whose categories were counted.
pub(super) fn labels(settings: &[Setting]) -> Vec<String> {
    let first = settings.first();
    let mut labels: Vec<String> = first
        .iter()
        .flat_map(|setting| setting.seen.diversity.keys().cloned())
        .collect();
    labels.sort_unstable();
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_whole_minibatches_and_whole_blocks() {
        let options = LoaderOptions {
            batch_size: 512,
            chunk_size: 48,
            preload_nchunks: 32,
            ..LoaderOptions::default()
        };
        let sizes = sizes(&options);
        assert!(sizes.contains(&(48, 32)) && sizes.contains(&(1, 1536)));
        for (chunk, n) in sizes {
            assert_eq!(chunk * n % 512, 0);
            assert!([1536, 6144].contains(&(chunk * n)), "{chunk} x {n}");
        }
    }
}
