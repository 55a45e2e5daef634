//! What a scan reads, in words that survive a trip to another machine.

use std::ops::Range;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use serde::{Deserialize, Serialize};

use crate::element::AnnData;
use crate::kernel::Blocks;
use crate::model::{Location, RowOrder, RowSelection};
use crate::table::kind::TableKind;
use crate::table::layout::Layout;

/// Bytes of matrix rows that a batch holds, unless a session says otherwise.
///
/// The allocator keeps buffers of this size at hand: with batches of 3 MiB a slice of 200,000 cells
/// took 50,000 page faults and a third more time, with these it takes 11,000.
pub const DEFAULT_BATCH_BYTES: usize = 1 << 20;

/// What a scan reads. Holds names and positions, never a handle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanDescription {
    /// The object.
    pub location: Location,
    /// Its table.
    pub table: TableKind,
    /// Rows of the axis to read; partitions are ranges of ranks in it. All rows where absent.
    pub rows: Option<RowSelection>,
    /// The order they are read in, where it is not the object's; ranks count in it.
    #[serde(default)]
    pub order: Option<OrderedRows>,
    /// Positions of the genes that `X` and the layers are restricted to.
    pub genes: Option<Arc<[u64]>>,
    /// Whether the hidden columns `__object` and `__row` are added.
    pub provenance: bool,
    /// Bytes of matrix rows per batch.
    pub batch_bytes: usize,
}

/// Rows in a seeded order, and the memory that reading them so may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderedRows {
    /// The order.
    pub order: RowOrder,
    /// Blocks of adjacent rows that stay together, for an order that is not exact.
    #[serde(default)]
    pub blocks: Option<Blocks>,
    /// What is read at a time.
    pub windows: OrderedWindows,
    /// Bytes of the columns that are read once for all partitions.
    pub held_bytes: u64,
}

/// Rows that are read together, and then come out in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderedWindows {
    /// Each partition reads its own rows.
    Own {
        /// Bytes of them at a time.
        bytes: u64,
    },
    /// Rows of several partitions are read together, for all of them.
    Shared {
        /// The ranks that windows after the first begin with.
        starts: Arc<[u64]>,
        /// The partitions, as ranges of ranks that follow each other.
        partitions: Arc<[Range<u64>]>,
    },
}

impl ScanDescription {
    /// All of a table.
    pub fn new(location: Location, table: TableKind) -> Self {
        Self {
            location,
            table,
            rows: None,
            order: None,
            genes: None,
            provenance: false,
            batch_bytes: DEFAULT_BATCH_BYTES,
        }
    }

    /// Opens the object (cached per process) and finds the table's columns.
    ///
    /// # Errors
    /// Those of [`AnnData::open`]; a message that names the table where the object has none such.
    pub(crate) async fn open(&self) -> Result<Layout> {
        let object = AnnData::open(&self.location)
            .await
            .map_err(DataFusionError::from)?;
        Layout::of(&object, self).map_err(DataFusionError::from)
    }

    /// What messages and plans call the object: the file's name and the group.
    pub(crate) fn label(&self) -> String {
        let path = self.location.shown_path();
        let path = path.trim_end_matches('/');
        let name = path.rsplit('/').next().unwrap_or(path);
        match self.location.group() {
            "" => name.to_owned(),
            group => format!("{name}#{group}"),
        }
    }
}
