//! Batches as Flight messages.
//!
//! Not with `FlightDataEncoder`: it splits batches by what their buffers can hold rather than by what
//! they have, which for minibatches, that share the memory of a window, is a row at a time.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::{FlightData, SchemaAsIpc};
use bytes::Bytes;

use crate::error::Result;

/// Turns the batches of a stream into messages: dictionaries once, batches in parts.
pub(super) struct Encoder {
    schema: SchemaRef,
    options: IpcWriteOptions,
    tracker: DictionaryTracker,
    generator: IpcDataGenerator,
    context: IpcWriteContext,
    /// Bytes of a message at most, where a row takes less.
    most: usize,
}

impl Encoder {
    /// An encoder of batches of this schema.
    pub(super) fn new(schema: SchemaRef, most: usize) -> Self {
        Self {
            schema,
            options: IpcWriteOptions::default(),
            tracker: DictionaryTracker::new(false),
            generator: IpcDataGenerator::default(),
            context: IpcWriteContext::default(),
            most: most.max(1),
        }
    }

    /// The schema's message, which comes first.
    pub(super) fn schema(&mut self) -> FlightData {
        // Field by field, so that dictionaries have the numbers that batches give them.
        let encoded = self.generator.schema_to_bytes_with_dictionary_tracker(
            &self.schema,
            &mut self.tracker,
            &self.options,
        );
        encoded.into()
    }

    /// The messages of a batch: parts that fit, each with what `metadata` says of it (its
    /// number, and whether it is the last), behind the dictionaries that are new.
    pub(super) fn batch(
        &mut self,
        batch: &RecordBatch,
        metadata: impl Fn(usize, bool) -> Bytes,
    ) -> Result<Vec<FlightData>> {
        let mut parts = Vec::new();
        self.cut(batch.clone(), &mut parts);
        let mut messages = Vec::with_capacity(parts.len() + 1);
        for (part, rows) in parts.iter().enumerate() {
            let (dictionaries, encoded) =
                self.generator
                    .encode(rows, &mut self.tracker, &self.options, &mut self.context)?;
            messages.extend(dictionaries.into_iter().map(FlightData::from));
            let message: FlightData = encoded.into();
            messages.push(message.with_app_metadata(metadata(part, part + 1 == parts.len())));
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

/// A schema as the calls that describe streams give it.
pub(super) fn schema_bytes(schema: &SchemaRef) -> Result<Bytes> {
    let options = IpcWriteOptions::default();
    let message: arrow_flight::IpcMessage = SchemaAsIpc::new(schema, &options).try_into()?;
    Ok(message.0)
}

/// Bytes of the rows of a batch, not of what it shares memory with.
fn sliced_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    let bytes = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn parts_fit_and_dictionaries_come_once() {
        let kinds: DictionaryArray<Int32Type> = (0..1000).map(|i| ["a", "b"][i % 2]).collect();
        let numbers = Int64Array::from_iter_values(0..1000);
        let columns: [(&str, ArrayRef); 2] = [("kind", Arc::new(kinds)), ("n", Arc::new(numbers))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut encoder = Encoder::new(batch.schema(), 4000);
        assert!(!encoder.schema().data_header.is_empty());
        let said = |part: usize, last: bool| Bytes::from(format!("{part} {last}"));
        let first = encoder.batch(&batch, said).unwrap();
        let second = encoder.batch(&batch.slice(0, 100), said).unwrap();
        let parts = |messages: &[FlightData]| {
            let parts = messages.iter().filter(|m| !m.app_metadata.is_empty());
            parts
                .map(|m| String::from_utf8_lossy(&m.app_metadata).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(parts(&first), ["0 false", "1 false", "2 false", "3 true"]);
        assert_eq!(first.len(), 5);
        assert_eq!(parts(&second), ["0 true"]);
        assert_eq!(second.len(), 1, "the dictionary is known by now");
        assert!(first.iter().all(|message| message.data_body.len() < 4500));
    }
}
