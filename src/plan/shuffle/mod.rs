//! A seeded, exact permutation of rows. Not a hash repartition: see DataFusion's `RepartitionExec`.
//!
//! [`ShuffleExec`] is the node, [`ShuffleSpec`] what it does, [`choose`] how it is chosen;
//! [`ShuffleTable`] is what `shuffle(...)` gives to SQL.
//!
//! ```text
//!  in memory          rows ──► one window ──► sorted ──► all partitions
//!  direct gather      a scan that reads rows in the order, by windows of ranks
//!  passes             rows ──► window 0 ──► partitions 0 to 4     each window: all of the input is
//!                     rows ──► window 1 ──► partitions 5 to 9     read, and what is its own is kept
//!  scatter and gather rows ──► a spill file ──► a window after the other
//! ```
//! Of one object, all ways but the last are up to its scan, which puts rows where they belong as it
//! reads them; a window then may serve several partitions.
//!
//! The order is a rule ([`RowOrder`](crate::model::RowOrder)), so a window is a range of keys, and
//! whoever holds a row can tell which window and partition it belongs to.
//!
//! # Invariants
//! - Every input row comes out exactly once.
//! - Seed and inputs fix the order, whatever the way, the number of partitions, threads and the memory.
//! - What grows is reserved in the session's memory pool; spill files have no name, and are gone
//!   when the plan is, however the process ends.

mod spec;
mod choose;
mod build;
mod numbering;
mod window;
mod scatter;
mod shared;
mod exec;
mod table;

pub use build::{ShuffleRequest, ShuffledObject, ShuffledScan};
pub use choose::{ShuffleChoice, ShuffleInput, ShuffleMemory, choose};
pub use exec::ShuffleExec;
pub use spec::{Shuffle, ShuffleSpec, ShuffleWay};
pub use table::{DEFAULT_SHUFFLE_BYTES, ShuffleTable};
