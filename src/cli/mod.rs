//! The command line: parses arguments, calls [`crate::ops`] and [`crate::session`], prints.
//!
//! `args` only parses; each subcommand has a file that turns its arguments into options and its
//! report into text. Nothing outside this module prints.
//!
//! # Exit codes
//! 0 done, 1 failed (or, for `verify`, found a difference), 2 wrong usage.

mod args;
mod size;
mod genes;
mod order;
mod print;
mod progress;
mod write;
mod run;

mod inspect;
mod query;
mod output;
mod slice;
mod shuffle;
mod filter;
mod convert;
mod merge;
mod loader;
mod serve;
mod collection;
mod synth;
mod verify;

pub use run::main;
