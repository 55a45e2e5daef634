//! What a command does, as Rust API: each operation builds a plan, runs it and reports.
//!
//! Options are structs, progress is a [`Progress`] the caller brings, nothing prints.

mod options;
mod progress;
mod report;
mod inspect;
mod synth;
mod verify;

pub use inspect::{Inspection, inspect};
pub use options::{CsvColumn, Cut, FilterOptions, GeneList, OutputNames, RunOptions, SliceOptions};
pub use progress::{Progress, Quiet};
pub use report::{OutputReport, Report};
pub use synth::{SynthOptions, synth};
pub use verify::{Finding, Verification, VerifyOptions, compare, verify};
