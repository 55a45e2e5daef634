//! A query's result as text or bytes.
//!
//! Results are written as they come; only a table waits, for the widths of its columns, and holds
//! no more rows than it shows. A file appears whole or not at all.

mod cells;
mod sink;
mod table;

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder as CsvBuilder;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::json::WriterBuilder as JsonBuilder;
use arrow::json::writer::{JsonArray, LineDelimited};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::args::Format;
use super::print::print_error;
use super::size::show_count;
use crate::error::{Error, Result};
use crate::plan::{Luggage, pack};
use crate::sink::Sources;
use sink::Sink;
pub(super) use sink::Target;

/// Writes results, one after another, to standard output or a file.
#[derive(Debug)]
pub(super) struct Output {
    format: Format,
    sink: Sink,
    /// Rows of a table; 0 means all.
    rows: usize,
    results: usize,
}

impl Output {
    pub(super) fn new(format: Format, to: Target, rows: usize) -> Result<Self> {
        Ok(Self {
            format,
            sink: Sink::new(to)?,
            rows,
            results: 0,
        })
    }

    /// Writes a result to its end (a table: until it has its rows). Of `sources` are the genes that a
    /// Parquet file takes along, as one that `COPY` writes does.
    ///
    /// # Errors
    /// Those of the stream; [`Error::InvalidOption`] for a second result in a format that holds
    /// only one; [`Error::Store`] where writing fails.
    pub(super) async fn write(
        &mut self,
        mut stream: SendableRecordBatchStream,
        sources: &Sources,
    ) -> Result<()> {
        let schema = stream.schema();
        if schema.fields().is_empty() {
            while let Some(batch) = stream.next().await {
                batch?;
            }
            return Ok(());
        }
        self.results += 1;
        if self.results > 1 && matches!(self.format, Format::Csv | Format::Json | Format::Parquet) {
            return Err(Error::option(
                "--format",
                "csv, json and parquet hold one result, but the SQL gives several",
            ));
        }
        if self.format == Format::Table {
            return self.write_table(stream).await;
        }
        let luggage = match self.format {
            Format::Parquet => pack(&schema, sources).await?,
            _ => Luggage::default(),
        };
        for warning in &luggage.warnings {
            print_error(&format!("warning: {warning}"));
        }
        let mut writer = Writer::new(self.format, &schema, luggage, &mut self.sink)?;
        while let Some(batch) = stream.next().await {
            writer.write(&batch?)?;
        }
        writer.finish()
    }

    async fn write_table(&mut self, mut stream: SendableRecordBatchStream) -> Result<()> {
        let schema = stream.schema();
        let most = if self.rows == 0 {
            usize::MAX
        } else {
            self.rows
        };
        let mut shown: Vec<RecordBatch> = Vec::new();
        let mut left = most;
        let mut more = false;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            if batch.num_rows() > left {
                more = true;
            }
            if left > 0 {
                let head = batch.slice(0, batch.num_rows().min(left));
                left -= head.num_rows();
                shown.push(table::readable(&head)?);
            }
            if more {
                break;
            }
        }
        let text = table::format(&schema, &shown)?;
        self.sink.line(&text)?;
        if more {
            let most = u64::try_from(most).unwrap_or(u64::MAX);
            print_error(&format!(
                "the first {} rows; --rows 0 shows all",
                show_count(most)
            ));
        }
        Ok(())
    }

    /// Completes the output: a file gets its name.
    ///
    /// Where there was no result, only JSON has a way to say so: a file gets no name.
    pub(super) fn finish(mut self) -> Result<()> {
        if self.results == 0 {
            match self.format {
                Format::Json => self.sink.line("[]")?,
                _ => {
                    if self.sink.is_file() {
                        print_error("note: no statement has a result, so no file is written");
                    }
                    return Ok(());
                }
            }
        }
        self.sink.finish()
    }
}

/// One result in one format.
enum Writer<'a> {
    Csv(Box<arrow::csv::Writer<&'a mut Sink>>),
    Json(Box<arrow::json::Writer<&'a mut Sink, JsonArray>>),
    Ndjson(Box<arrow::json::Writer<&'a mut Sink, LineDelimited>>),
    Parquet(Box<ArrowWriter<&'a mut Sink>>),
    Arrow(Box<StreamWriter<&'a mut Sink>>),
}

impl<'a> Writer<'a> {
    fn new(
        format: Format,
        schema: &SchemaRef,
        luggage: Luggage,
        sink: &'a mut Sink,
    ) -> Result<Self> {
        let json = JsonBuilder::new().with_explicit_nulls(true);
        Ok(match format {
            Format::Csv => {
                let mut writer = CsvBuilder::new().with_header(true).build(sink);
                // Without rows the header would be missing.
                writer.write(&RecordBatch::new_empty(cells::flat_schema(schema)))?;
                Self::Csv(Box::new(writer))
            }
            Format::Json => Self::Json(Box::new(json.build::<_, JsonArray>(sink))),
            Format::Table | Format::Ndjson => {
                Self::Ndjson(Box::new(json.build::<_, LineDelimited>(sink)))
            }
            Format::Parquet => {
                let metadata = luggage.metadata.into_iter();
                let metadata = metadata.map(|(key, value)| KeyValue::new(key, value));
                let metadata = metadata.collect();
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(Default::default()))
                    .set_key_value_metadata(Some(metadata))
                    .build();
                let schema = std::sync::Arc::clone(schema);
                let writer = ArrowWriter::try_new(sink, schema, Some(properties));
                Self::Parquet(Box::new(writer.map_err(parquet_failed)?))
            }
            Format::Arrow => Self::Arrow(Box::new(StreamWriter::try_new(sink, schema)?)),
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Csv(writer) => writer.write(&cells::flatten(batch)?)?,
            Self::Json(writer) => writer.write(batch)?,
            Self::Ndjson(writer) => writer.write(batch)?,
            Self::Parquet(writer) => writer.write(batch).map_err(parquet_failed)?,
            Self::Arrow(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Csv(_) => {}
            Self::Json(mut writer) => {
                writer.finish()?;
                std::io::Write::write_all(writer.into_inner(), b"\n").map_err(sink::failed)?;
            }
            Self::Ndjson(mut writer) => writer.finish()?,
            Self::Parquet(writer) => {
                writer.close().map_err(parquet_failed)?;
            }
            Self::Arrow(mut writer) => writer.finish()?,
        }
        Ok(())
    }
}

fn parquet_failed(error: parquet::errors::ParquetError) -> Error {
    Error::store("parquet", "output", error)
}
