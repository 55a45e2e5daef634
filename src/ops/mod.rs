//! What a command does, as Rust API: each operation builds a plan, runs it and reports.
//!
//! [`slice()`], [`shuffle()`], [`filter()`], [`merge()`] and [`convert()`] give a [`Prepared`] plan, which explains and estimates itself, and
//! runs. Options are structs, progress is a [`Progress`] the caller brings, nothing prints.

mod options;
mod progress;
mod report;
mod prepare;
mod outputs;
mod rows;
mod genes;
mod csv;
mod order;
mod categories;
mod stratify;
mod slice;
mod shuffle;
mod filter;
mod convert;
mod references;
mod merge;
mod collection;
mod inspect;
mod synth;
mod verify;

pub use crate::kernel::SplitParts;
pub use collection::{
    CollectionInfo, CollectionOptions, CollectionOrder, DatasetInfo, add as add_to_collection,
    create as create_collection, info as collection_info,
};
pub use convert::convert;
pub use filter::filter;
pub use inspect::{Inspection, inspect};
pub use merge::{MergeOptions, merge};
pub use options::{
    ConvertOptions, CsvColumn, Cut, FilterOptions, GeneList, OutputNames, RunOptions, Shards,
    ShuffleOptions, SliceOptions,
};
pub use prepare::{LEAST_MEMORY_LIMIT, Prepared};
pub use progress::{Progress, Quiet};
pub use references::{ReferenceOptions, references};
pub use report::{OutputReport, Report};
pub use shuffle::shuffle;
pub use slice::slice;
pub use synth::{SynthOptions, synth};
pub use verify::{Finding, Verification, VerifyOptions, compare, verify};
