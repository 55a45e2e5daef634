//! Batches as Flight messages, whose bodies are the buffers of the batches themselves.
//!
//! Not with `FlightDataEncoder`: it splits batches by what their buffers can hold rather than by what
//! they have, which for the rows of a batch that is cut is a row at a time, and it copies what it
//! splits.

use arrow::array::{Array, AsArray, GenericListArray, OffsetSizeTrait, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, StreamEncoder};
use arrow::ipc::{MessageHeader, root_as_message};
use arrow_flight::{FlightData, SchemaAsIpc};
use bytes::Bytes;

use crate::error::{Error, Result};

/// Bytes before a message of Arrow's stream format: a mark of four, and the length of its header.
const PREFIX: usize = 8;

/// A message of a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Message {
    /// Arrow's description of the body.
    pub(super) header: Bytes,
    /// What is said of it beside.
    pub(super) metadata: Bytes,
    /// The parts of the body, in order: buffers of the batch, and what pads them.
    pub(super) body: Vec<Buffer>,
}

impl Message {
    /// Bytes of all its parts.
    pub(super) fn bytes(&self) -> usize {
        let body: usize = self.body.iter().map(Buffer::len).sum();
        self.header.len() + self.metadata.len() + body
    }
}

/// With the body in one piece, which is a copy.
impl From<Message> for FlightData {
    fn from(message: Message) -> Self {
        Self {
            flight_descriptor: None,
            data_header: message.header,
            app_metadata: message.metadata,
            data_body: joined(&message.body),
        }
    }
}

/// Turns the batches of a stream into messages: dictionaries once, batches in parts.
pub(super) struct Encoder {
    schema: SchemaRef,
    encoder: StreamEncoder,
    /// Bytes of a message at most, where a row takes less.
    most: usize,
}

impl Encoder {
    /// An encoder of batches of this schema.
    ///
    /// # Errors
    /// [`Error::Arrow`] for types that Arrow's stream format lacks.
    pub(super) fn try_new(schema: SchemaRef, most: usize) -> Result<Self> {
        Ok(Self {
            encoder: StreamEncoder::try_new(&schema)?,
            schema,
            most: most.max(1),
        })
    }

    /// The schema's message, which comes first.
    pub(super) fn schema(&self) -> Message {
        // Field by field, so that dictionaries have the numbers that batches give them.
        let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
            &self.schema,
            &mut DictionaryTracker::new(false),
            &IpcWriteOptions::default(),
        );
        Message {
            header: encoded.ipc_message.into(),
            ..Message::default()
        }
    }

    /// The messages of a batch: parts that fit, each with what `metadata` says of it (its
    /// number, and whether it is the last), behind the dictionaries that are new.
    pub(super) fn batch(
        &mut self,
        batch: &RecordBatch,
        metadata: impl Fn(usize, bool) -> Bytes,
    ) -> Result<Vec<Message>> {
        let mut parts = Vec::new();
        self.cut(batch.clone(), &mut parts);
        let mut messages = Vec::with_capacity(parts.len() + 1);
        for (part, rows) in parts.iter().enumerate() {
            split(self.encoder.encode(rows)?, &mut messages)?;
            if let Some(message) = messages.last_mut() {
                message.metadata = metadata(part, part + 1 == parts.len());
            }
        }
        Ok(messages)
    }

    /// Halves rows until each part fits, or is a row.
    fn cut(&self, rows: RecordBatch, parts: &mut Vec<RecordBatch>) {
        let half = rows.num_rows() / 2;
        if half == 0 || sliced_bytes(&rows) <= self.most {
            parts.push(rows);
            return;
        }
        self.cut(rows.slice(0, half), parts);
        self.cut(rows.slice(half, rows.num_rows() - half), parts);
    }
}

/// Cuts what a [`StreamEncoder`] gave into messages, without the schema's, which has been sent.
fn split(buffers: Vec<Buffer>, messages: &mut Vec<Message>) -> Result<()> {
    let broken = || Error::store("ipc", "message", "its buffers are not what it says");
    let mut buffers = buffers.into_iter().filter(|buffer| !buffer.is_empty());
    while let Some(prefix) = buffers.next() {
        let n_bytes = prefix
            .get(PREFIX / 2..PREFIX)
            .and_then(|n| n.try_into().ok())
            .ok_or_else(broken)?;
        let n_bytes = usize::try_from(i32::from_le_bytes(n_bytes)).map_err(|_| broken())?;
        let header = joined(&take(&mut buffers, n_bytes).ok_or_else(broken)?);
        let described = root_as_message(&header).map_err(|_| broken())?;
        let is_schema = described.header_type() == MessageHeader::Schema;
        let n_bytes = usize::try_from(described.bodyLength()).map_err(|_| broken())?;
        let body = take(&mut buffers, n_bytes).ok_or_else(broken)?;
        if !is_schema {
            messages.push(Message {
                header,
                body,
                ..Message::default()
            });
        }
    }
    Ok(())
}

/// Buffers as one, which is a copy.
fn joined(buffers: &[Buffer]) -> Bytes {
    let parts: Vec<&[u8]> = buffers.iter().map(Buffer::as_slice).collect();
    parts.concat().into()
}

/// The next buffers, which have so many bytes together.
fn take(buffers: &mut impl Iterator<Item = Buffer>, n_bytes: usize) -> Option<Vec<Buffer>> {
    let mut taken = Vec::new();
    let mut left = n_bytes;
    while left > 0 {
        let buffer = buffers.next()?;
        left = left.checked_sub(buffer.len())?;
        taken.push(buffer);
    }
    Some(taken)
}

/// A schema as the calls that describe streams give it.
pub(super) fn schema_bytes(schema: &SchemaRef) -> Result<Bytes> {
    let options = IpcWriteOptions::default();
    let message: arrow_flight::IpcMessage = SchemaAsIpc::new(schema, &options).try_into()?;
    Ok(message.0)
}

/// Bytes of the rows of a batch, not of what it shares memory with.
fn sliced_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| of_rows(column)).sum()
}

/// Bytes of the rows of an array. Not `get_slice_memory_size`, which counts all items of the memory
/// that lists share; dictionaries are sent once, and not counted.
fn of_rows(array: &dyn Array) -> usize {
    match array.data_type() {
        DataType::List(_) => of_items(array.as_list::<i32>()),
        DataType::LargeList(_) => of_items(array.as_list::<i64>()),
        DataType::FixedSizeList(..) => of_rows(array.as_fixed_size_list().values()),
        DataType::Struct(_) => {
            let members = array.as_struct().columns().iter();
            members.map(|member| of_rows(member)).sum()
        }
        DataType::Dictionary(..) => of_rows(array.as_any_dictionary().keys()),
        _ => array.to_data().get_slice_memory_size().unwrap_or(0),
    }
}

fn of_items<O: OffsetSizeTrait>(lists: &GenericListArray<O>) -> usize {
    let offsets = lists.value_offsets();
    let ends = offsets.first().zip(offsets.last());
    let (start, end) = ends.map_or((0, 0), |(start, end)| (start.as_usize(), end.as_usize()));
    let items = lists.values().slice(start, end - start);
    size_of_val(offsets) + of_rows(&items)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, ListArray};
    use arrow::datatypes::{Int32Type, Int64Type};
    use arrow_flight::decode::FlightRecordBatchStream;
    use futures::TryStreamExt;

    use super::*;

    #[test]
    fn parts_fit_and_dictionaries_come_once() {
        let batch = batch();
        let mut encoder = Encoder::try_new(batch.schema(), 4000).unwrap();
        assert!(!encoder.schema().header.is_empty());
        let said = |part: usize, last: bool| Bytes::from(format!("{part} {last}"));
        let first = encoder.batch(&batch, said).unwrap();
        let second = encoder.batch(&batch.slice(0, 100), said).unwrap();
        let parts = |messages: &[Message]| {
            let parts = messages.iter().filter(|m| !m.metadata.is_empty());
            parts
                .map(|m| String::from_utf8_lossy(&m.metadata).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(parts(&first), ["0 false", "1 false", "2 false", "3 true"]);
        assert_eq!(first.len(), 5);
        assert_eq!(parts(&second), ["0 true"]);
        assert_eq!(second.len(), 1, "the dictionary is known by now");
        let len = |message: &Message| message.body.iter().map(|b| b.len()).sum::<usize>();
        assert!(first.iter().all(|message| len(message) < 4500));
    }

    #[test]
    fn what_is_decoded_is_what_was_encoded_in_its_own_memory() {
        let batch = batch();
        let mut encoder = Encoder::try_new(batch.schema(), 1 << 20).unwrap();
        let mut messages = vec![encoder.schema()];
        for part in [
            batch.slice(0, 300),
            batch.slice(300, 0),
            batch.slice(300, 700),
        ] {
            messages.extend(encoder.batch(&part, |_, _| Bytes::new()).unwrap());
        }
        let numbers = batch.column(1).to_data().buffers()[0].as_ptr_range();
        let shared = messages.iter().flat_map(|message| &message.body);
        let shared = shared.filter(|buffer| numbers.contains(&buffer.as_ptr()));
        assert_eq!(shared.map(|buffer| buffer.len()).sum::<usize>(), 8000);
        let data: Vec<FlightData> = messages.into_iter().map(FlightData::from).collect();
        let stream = futures::stream::iter(data.into_iter().map(Ok));
        let stream = FlightRecordBatchStream::new_from_flight_data(stream);
        let decoded: Vec<_> = futures::executor::block_on(stream.try_collect()).unwrap();
        let decoded = arrow::compute::concat_batches(&batch.schema(), &decoded).unwrap();
        assert_eq!(decoded, batch);
    }

    #[test]
    fn lists_are_cut_by_the_items_that_they_have() {
        let items = (0..1000).map(|row| Some((0..row % 20).map(Some)));
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(items);
        let lists: ArrayRef = Arc::new(lists.slice(100, 800));
        let batch = RecordBatch::try_from_iter([("lists", lists)]).unwrap();
        let mut encoder = Encoder::try_new(batch.schema(), 10_000).unwrap();
        let messages = encoder.batch(&batch, |_, _| Bytes::new()).unwrap();
        // 800 rows with 9.5 items each on average take 64,000 bytes.
        assert_eq!(messages.len(), 8);
    }

    fn batch() -> RecordBatch {
        let kinds: DictionaryArray<Int32Type> = (0..1000).map(|i| ["a", "b"][i % 2]).collect();
        let numbers = Int64Array::from_iter_values(0..1000);
        let columns: [(&str, ArrayRef); 2] = [("kind", Arc::new(kinds)), ("n", Arc::new(numbers))];
        RecordBatch::try_from_iter(columns).unwrap()
    }
}
