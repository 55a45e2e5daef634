//! Which of several objects' elements a merge keeps.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which element of a name is kept where objects are merged and it is not part of their rows.
/// Elements are looked at whole: a column that is kept is one object's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MergeStrategy {
    /// One that every object has, equal in all of them.
    Same,
    /// One that is equal in all objects that have it.
    Unique,
    /// That of the first object that has it.
    First,
    /// One that a single object has.
    Only,
}

impl MergeStrategy {
    /// All strategies.
    pub const ALL: [Self; 4] = [Self::Same, Self::Unique, Self::First, Self::Only];

    /// Whether an element that `n_have` of `n` objects have can be kept at all; equality aside.
    pub fn may_keep(self, n_have: usize, n: usize) -> bool {
        match self {
            Self::Same => n_have == n,
            Self::Unique | Self::First => n_have > 0,
            Self::Only => n_have == 1,
        }
    }

    /// Whether elements must be equal to be kept.
    pub fn compares(self) -> bool {
        matches!(self, Self::Same | Self::Unique)
    }
}

impl fmt::Display for MergeStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "same",
            Self::Unique => "unique",
            Self::First => "first",
            Self::Only => "only",
        })
    }
}

impl FromStr for MergeStrategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|strategy| strategy.to_string() == text)
            .ok_or_else(|| format!("'{text}' is none of same, unique, first, only"))
    }
}
