//! The messages: protobuf around a description in JSON.

use std::ops::Range;

use datafusion::common::{DataFusionError, Result};
use datafusion_proto::protobuf::{PhysicalExprNode, Schema};
use prost::Message;

/// A leaf: what it reads, and what is evaluated inside it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ScanMessage {
    #[prost(string, tag = "1")]
    pub(super) description: String,
    #[prost(message, optional, tag = "2")]
    pub(super) schema: Option<Schema>,
    #[prost(message, repeated, tag = "3")]
    pub(super) conjuncts: Vec<PhysicalExprNode>,
    #[prost(message, repeated, tag = "4")]
    pub(super) projection: Vec<ProjectedMessage>,
    #[prost(message, repeated, tag = "5")]
    pub(super) groups: Vec<GroupMessage>,
    #[prost(uint64, optional, tag = "6")]
    pub(super) n_rows: Option<u64>,
    #[prost(uint64, optional, tag = "7")]
    pub(super) limit: Option<u64>,
}

/// An output column.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProjectedMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) expr: Option<PhysicalExprNode>,
    #[prost(string, tag = "2")]
    pub(super) alias: String,
}

/// A partition.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GroupMessage {
    #[prost(uint64, repeated, tag = "1")]
    starts: Vec<u64>,
    #[prost(uint64, repeated, tag = "2")]
    ends: Vec<u64>,
}

impl GroupMessage {
    pub(super) fn new(ranges: impl Iterator<Item = (u64, u64)>) -> Self {
        let (starts, ends) = ranges.unzip();
        Self { starts, ends }
    }

    pub(super) fn ranges(&self) -> Vec<Range<u64>> {
        self.starts
            .iter()
            .zip(&self.ends)
            .map(|(start, end)| *start..*end)
            .collect()
    }
}

/// A merge over scans of its objects.
#[derive(Clone, PartialEq, Message)]
pub(super) struct MergeMessage {
    #[prost(string, tag = "1")]
    pub(super) spec: String,
    #[prost(message, optional, tag = "2")]
    pub(super) schema: Option<Schema>,
    #[prost(string, tag = "3")]
    pub(super) output: String,
}

/// A table.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TableMessage {
    #[prost(string, tag = "1")]
    pub(super) description: String,
    #[prost(uint64, optional, tag = "2")]
    pub(super) n_rows: Option<u64>,
    #[prost(uint64, tag = "3")]
    pub(super) axis_len: u64,
}

/// Tables whose rows come in a seeded order.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ShuffleMessage {
    #[prost(string, tag = "1")]
    pub(super) shuffle: String,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) inputs: Vec<Vec<u8>>,
}

/// Writes a tag and a message.
pub(super) fn write(tag: &[u8], message: &impl Message, buf: &mut Vec<u8>) -> Result<()> {
    buf.extend_from_slice(tag);
    message.encode(buf).map_err(external)
}

/// A message after its tag.
pub(super) fn read<M: Message + Default>(bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(external)
}

pub(super) fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
