//! What a [`WriteExec`](super::WriteExec) writes, as a description.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::element::Storage;
use crate::model::{ElementKey, RowSelection};
use crate::store::url_of;

/// One object to be written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OutputSpec {
    /// Its final name.
    pub path: PathBuf,
    /// Its cells, where the plan knows them.
    pub n_obs: Option<u64>,
    /// Stored entries per matrix column (`X`, `layers_counts`), where the plan knows them.
    pub nnz: BTreeMap<String, u64>,
    /// Id of the axis of genes, for an output without a matrix to say it.
    pub axis: Option<String>,
}

impl OutputSpec {
    /// An output of unknown size.
    pub fn unsized_at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            n_obs: None,
            nnz: BTreeMap::new(),
            axis: None,
        }
    }
}

/// An output that gets chosen rows of the input.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RoutedOutput {
    /// The output.
    pub output: OutputSpec,
    /// Positions (`__row`) of its rows in the source.
    pub rows: RowSelection,
}

/// How rows are dealt out to outputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outputs {
    /// Input partition `i` is the whole of output `i`; outputs are written side by side.
    PerPartition(Vec<OutputSpec>),
    /// Input partition `i` is the whole of member `i` of a collection.
    Collection {
        /// The collection's final name.
        path: PathBuf,
        /// Its members, directly below it.
        members: Vec<OutputSpec>,
        /// Whether the collection is an input as well, which is replaced once all is written.
        #[serde(default)]
        grows: bool,
    },
    /// All rows, partition after partition, are one output.
    Single(OutputSpec),
    /// Every row goes to each output whose rows hold its `__row`, in one pass over the input.
    Routed(Vec<RoutedOutput>),
    /// One output per value of a column, created as values are met; rows without a value are
    /// counted and left out.
    ByColumn {
        /// The column.
        column: String,
        /// What names begin with: `{prefix}_{value}.h5ad`, or `{prefix}{value}.h5ad` where it is a
        /// folder.
        prefix: PathBuf,
    },
}

impl Outputs {
    /// Whether they go to object stores.
    pub(crate) fn are_urls(&self) -> bool {
        let path = match self {
            Self::PerPartition(outputs) => outputs.first().map(|output| &output.path),
            Self::Collection { path, .. } => Some(path),
            Self::Single(output) => Some(&output.path),
            Self::Routed(outputs) => outputs.first().map(|routed| &routed.output.path),
            Self::ByColumn { prefix, .. } => Some(prefix),
        };
        path.is_some_and(|path| url_of(path).is_some())
    }

    /// Bytes of the matrices whose stored entries the plan knows, at the usual eight bytes each
    /// (a value and an index of four): a lower bound of what is written.
    pub fn known_bytes(&self) -> u64 {
        let entries =
            |output: &OutputSpec| output.nnz.values().copied().fold(0, u64::saturating_add);
        let entries = match self {
            Self::PerPartition(outputs)
            | Self::Collection {
                members: outputs, ..
            } => outputs.iter().map(entries).fold(0, u64::saturating_add),
            Self::Single(output) => entries(output),
            Self::Routed(outputs) => outputs
                .iter()
                .map(|routed| entries(&routed.output))
                .fold(0, u64::saturating_add),
            Self::ByColumn { .. } => 0,
        };
        entries.saturating_mul(8)
    }
}

/// Everything a write needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WriteSpec {
    /// Where rows go.
    pub outputs: Outputs,
    /// Format, compression and chunks.
    pub storage: Storage,
    /// Elements of the source that are left out.
    pub drop: Vec<ElementKey>,
    /// Whether existing outputs may be replaced.
    pub overwrite: bool,
    /// Whether outputs are flushed to the device before they get their names.
    pub fsync: bool,
    /// Outputs written at a time.
    pub jobs: usize,
}
