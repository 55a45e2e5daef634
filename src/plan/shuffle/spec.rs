//! What a [`ShuffleExec`](super::ShuffleExec) does, as a description.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::kernel::OrderCut;
use crate::model::RowOrder;

/// How rows are brought into their order; all ways give the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ShuffleWay {
    /// All rows are read once and held.
    InMemory,
    /// Rows are read where they lie, window by window.
    Gather,
    /// The input is read several times; each time some windows' rows are kept.
    Passes,
    /// The input is read once; rows go to a temporary file by windows, which are then read one by one.
    Scatter,
}

impl ShuffleWay {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::InMemory, Self::Gather, Self::Passes, Self::Scatter];

    /// Its name, as options spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::InMemory => "memory",
            Self::Gather => "gather",
            Self::Passes => "passes",
            Self::Scatter => "scatter",
        }
    }
}

impl fmt::Display for ShuffleWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InMemory => "in memory",
            Self::Gather => "direct gather",
            Self::Passes => "sequential passes",
            Self::Scatter => "scatter and gather",
        })
    }
}

impl FromStr for ShuffleWay {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|way| way.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::option("way", format!("'{name}' is none of {names}"))
        })
    }
}

/// What a user says of a shuffle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Shuffle {
    /// Chooses the order; 0 by default.
    pub seed: u64,
    /// How it is made, which changes nothing of it; chosen by size, memory and layout by default.
    pub way: Option<ShuffleWay>,
    /// Rows of the blocks of a cheaper order, in which blocks of adjacent rows are put in a random
    /// order, and then the rows of some of them at a time; absent for the exact one.
    pub block: Option<u64>,
}

impl Shuffle {
    /// The order of a seed, made in the best way.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }
}

/// Everything a shuffle needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShuffleSpec {
    /// The order.
    pub order: RowOrder,
    /// How.
    pub way: ShuffleWay,
    /// Why so, for who reads the plan.
    pub reason: String,
    /// Whether the input is a scan that gives its rows in the order, which has windows and partitions
    /// of its own.
    pub in_scan: bool,
    /// Whether the input has, object by object, a partition for each window.
    #[serde(default)]
    pub by_window: bool,
    /// Where the output's partitions after the first begin.
    pub partitions: Vec<OrderCut>,
    /// Where windows after the first begin.
    pub windows: Vec<OrderCut>,
    /// Bytes of rows that are in memory at a time, by estimate: for each partition, where a scan has
    /// windows for each.
    pub window_bytes: u64,
    /// Bytes that a scan keeps for all partitions.
    pub held_bytes: u64,
    /// The objects that rows come from and the numbers of their first rows; rows of another input are
    /// numbered as they come.
    pub objects: Vec<(String, u64)>,
}

impl ShuffleSpec {
    /// Windows that hold rows of a partition.
    pub(super) fn windows_of(&self, partition: usize) -> Range<usize> {
        let (from, to) = bounds(&self.partitions, partition);
        let first = from.map_or(0, |from| self.windows.partition_point(|cut| *cut <= from));
        let last = to.map_or(self.windows.len(), |to| {
            self.windows.partition_point(|cut| *cut < to)
        });
        first..last + 1
    }
}

/// Where the part of a number begins and ends.
pub(super) fn bounds(cuts: &[OrderCut], part: usize) -> (Option<OrderCut>, Option<OrderCut>) {
    let from = part.checked_sub(1).and_then(|before| cuts.get(before));
    (from.copied(), cuts.get(part).copied())
}

/// Whether a row is in a part with these bounds.
pub(super) fn within(row: OrderCut, (from, to): (Option<OrderCut>, Option<OrderCut>)) -> bool {
    from.is_none_or(|from| from <= row) && to.is_none_or(|to| row < to)
}
