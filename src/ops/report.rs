//! What an operation did.

use std::path::PathBuf;

use serde::Serialize;

/// One output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutputReport {
    /// Its path.
    pub path: PathBuf,
    /// Its cells.
    pub n_obs: u64,
    /// Its genes.
    pub n_vars: u64,
    /// Its bytes, 0 where it was only planned.
    pub bytes: u64,
}

/// What an operation did, or (a dry run) would do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The outputs, in order.
    pub outputs: Vec<OutputReport>,
    /// What the user should know although nothing failed.
    pub warnings: Vec<String>,
    /// What is to be done, in words, where outputs do not say it; a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// Bytes of memory the plan needs at most, by estimate.
    pub memory_bytes: u64,
    /// Seconds it took.
    pub seconds: f64,
}
