//! Whether an object is sound, and whether two objects are equal.
//!
//! [`verify`] reads everything once and says what breaks AnnData's rules. [`compare`] goes through
//! two objects element by element and says where they differ: element, row, both values.
//!
//! # Invariants
//! - Elements are read by blocks of rows of a few megabytes, so memory does not grow with them.
//! - What is wrong with one element does not hide what is wrong with the next.

mod blocks;
mod check;
mod compare;
mod storage;
mod uns;
mod values;

pub use check::verify;
pub use compare::compare;

use serde::Serialize;

use crate::error::Error;

/// Options of [`verify`] and [`compare`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Findings after which to stop; 20 by default.
    pub max_findings: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { max_findings: 20 }
    }
}

/// Something wrong, or different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The element.
    pub element: String,
    /// The first row concerned, where it is about rows.
    pub row: Option<u64>,
    /// What is wrong.
    pub message: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Elements looked at.
    pub elements: u64,
    /// What is wrong or different; empty where all is well.
    pub findings: Vec<Finding>,
    /// What AnnData allows but often surprises: repeated names, unsorted indices, missing chunks.
    pub notes: Vec<String>,
    /// Whether there may be more findings than these.
    pub stopped: bool,
    #[serde(skip)]
    limit: usize,
}

impl Verification {
    fn new(options: &VerifyOptions) -> Self {
        Self {
            limit: options.max_findings.max(1),
            ..Self::default()
        }
    }

    /// Whether nothing was found.
    pub fn is_ok(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, element: impl Into<String>, row: Option<u64>, message: impl Into<String>) {
        if self.findings.len() >= self.limit {
            self.stopped = true;
            return;
        }
        self.findings.push(Finding {
            element: element.into(),
            row,
            message: message.into(),
        });
    }

    /// Takes over what was found of a part.
    fn extend(&mut self, part: Self, prefix: &str) {
        self.elements += part.elements;
        for finding in part.findings {
            self.add(
                format!("{prefix}{}", finding.element),
                finding.row,
                finding.message,
            );
        }
        let notes = part.notes.into_iter();
        self.notes
            .extend(notes.map(|note| format!("{prefix}{note}")));
        self.stopped |= part.stopped;
    }

    /// An element that cannot be read is a finding, not the end.
    fn failed(&mut self, element: impl Into<String>, error: &Error) {
        self.add(element, None, error.to_string());
    }
}
