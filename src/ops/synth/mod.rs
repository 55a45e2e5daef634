//! Makes an object whose counts look like counts, to try things on.
//!
//! Gene rates follow a power law, library sizes are log-normal, cell types differ in a tenth of
//! their genes, batches differ in depth. The counts of a cell are a multinomial draw of its library
//! over its type's rates, so `n_genes`, `total_counts` and their relation are those of real data.
//!
//! # Invariants
//! - Seed and shape fix every byte, whatever the number of threads: each block of cells has its own
//!   stream of the generator.
//! - Memory is that of one batch of cells and of one table of rates per type.

mod names;
mod rates;
mod cells;
mod columns;
mod write;

pub use write::{SynthOptions, synth};
