//! What rows of a table weigh, and what it costs to reach one.

use std::sync::Arc;

use crate::element::ColumnReader;
use crate::model::MatrixKind;
use crate::table::layout::{AlignedColumn, Layout};

/// The rows of some columns, on the average.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowWeight {
    /// Bytes of a row in memory.
    pub bytes: u64,
    /// Arrays that hold a part of each row's matrices.
    pub arrays: u64,
    /// Whether a row's bytes can be read without decoding what stands around them.
    pub random: bool,
    /// Bytes of the row that are in memory twice where rows are put in order, because they are moved
    /// once they were read: those of matrices that are not sparse by row.
    pub moved: u64,
    /// Bytes of what is kept of a row to read rows out of order: its columns that are no matrices, and
    /// where those begin.
    pub held: u64,
}

impl RowWeight {
    /// The weight of rows of either kind.
    #[must_use]
    pub fn heavier(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.max(other.bytes),
            arrays: self.arrays.max(other.arrays),
            random: self.random && other.random,
            moved: self.moved.max(other.moved),
            held: self.held.max(other.held),
        }
    }
}

/// Weighs those columns of a table that `keep` says by name.
pub(crate) fn weigh(layout: &Layout, keep: impl Fn(&str) -> bool) -> RowWeight {
    let mut weight = RowWeight {
        bytes: 0,
        arrays: 0,
        random: true,
        moved: 0,
        held: 0,
    };
    let Layout::Aligned(aligned) = layout else {
        return weight;
    };
    for (at, column) in aligned.columns.iter().enumerate() {
        if !keep(layout.schema().field(at).name()) {
            continue;
        }
        weight.bytes = weight.bytes.saturating_add(layout.row_bytes(at));
        let element: Option<&Arc<dyn ColumnReader>> = match column {
            AlignedColumn::Element(element) | AlignedColumn::Genes(element, _) => Some(element),
            _ => None,
        };
        let Some(matrix) = element.and_then(|element| element.as_matrix()) else {
            weight.held = weight.held.saturating_add(layout.row_bytes(at));
            continue;
        };
        weight.arrays += match matrix.shape().kind {
            MatrixKind::Sparse => 2,
            MatrixKind::Dense => 1,
        };
        // Narrow ones are read with the columns, once.
        let narrow = matrix.shape().kind == MatrixKind::Dense && matrix.row_bytes() < 1024;
        weight.random &= narrow || !matrix.is_compressed();
        if narrow {
            weight.held = weight.held.saturating_add(layout.row_bytes(at));
        } else if matrix.csr().is_some() {
            weight.held = weight.held.saturating_add(size_of::<u64>() as u64);
        } else {
            weight.moved = weight.moved.saturating_add(layout.row_bytes(at));
        }
    }
    weight
}
