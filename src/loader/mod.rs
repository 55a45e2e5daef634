//! Minibatches of cells in random order, for training: out of core, ahead of whoever uses them.
//!
//! ```text
//!  blocks of adjacent cells   3 0 5 │ 1 4 2      a window: `preload_nchunks` blocks of `chunk_size`
//!  cells of a window, mixed   ▒▒▒▒▒▒ ▒▒▒▒▒▒
//!  minibatches                 0  1    2  3      `batch_size` cells each
//! ```
//! A [`Loader`] opens objects once; [`Loader::epoch`] gives an epoch's [`Minibatches`], which are read
//! ahead, window by window, on all cores. [`split`] says which cells there are, [`sequence`] which come
//! when, [`share`] which of them are a rank's minibatches, [`columns`] what is read of them, [`genes`]
//! over which genes, [`load`] reads a window's,
//! [`minibatches`] keeps the next ones coming.
//!
//! # Invariants
//! - The order of an epoch is a function of seed, epoch, sampling and cells alone: ranks, read-ahead
//!   and memory have no say, and any minibatch can be had without those before it.
//! - Without replacement every cell comes once in an epoch, to one of the ranks, `drop_last` and `pad`
//!   aside. Ranks have equally many minibatches.
//! - A chunk of the store is fetched once per window, however many of its cells that has.
//! - What is read ahead is bounded by bytes.

mod options;
mod position;
mod sequence;
mod share;
mod split;
mod genes;
mod columns;
mod load;
mod minibatches;
mod open;

pub use minibatches::{Minibatch, Minibatches};
pub use open::Loader;
pub use options::{ClassWeights, LoaderOptions, Sampling, ValueType};
pub use position::Position;
pub use split::Split;
