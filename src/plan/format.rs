//! `COPY … TO 'x.h5ad' STORED AS H5AD OPTIONS (…) [PARTITIONED BY (column)]`, and the same of zarr.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{GetExt, Statistics, not_impl_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::physical_plan::{
    ArrowSource, FileScanConfig, FileSinkConfig, FileSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_plan::ExecutionPlan;
use object_store::{ObjectMeta, ObjectStore};

use super::provenance::with_provenance;
use super::spec::{OutputSpec, Outputs, WriteSpec};
use super::write::WriteExec;
use crate::element::{Amount, Storage};
use crate::error::Error;
use crate::model::file_path;
use crate::sink::StorageChoice;
use crate::store::Format;

/// Makes the format that writes objects: one for `STORED AS H5AD`, one for `STORED AS ZARR`.
///
/// Options, after `h5ad.` or `zarr.`: `compression` (see [`StorageChoice::COMPRESSIONS`]), `level`,
/// `overwrite` (`false`), `fsync` (`false`), and for zarr `version` (2, 3), `sharded` (`true`),
/// `chunk_size` and `shard_size` (cells, or bytes with a unit), `layout` (`annbatch`).
#[derive(Debug)]
pub struct ObjectFormatFactory {
    /// What it writes, at its defaults.
    pub format: Format,
}

impl ObjectFormatFactory {
    /// The factories of all formats.
    pub const ALL: [Self; 2] = [
        Self {
            format: Format::H5ad,
        },
        Self {
            format: Format::ZARR,
        },
    ];
}

impl GetExt for ObjectFormatFactory {
    fn get_ext(&self) -> String {
        self.format.ending().to_owned()
    }
}

impl FileFormatFactory for ObjectFormatFactory {
    fn create(
        &self,
        _: &dyn Session,
        options: &HashMap<String, String>,
    ) -> Result<Arc<dyn FileFormat>> {
        Ok(Arc::new(ObjectFormat::parse(self.format, options)?))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(ObjectFormat {
            storage: Storage::of(self.format),
            overwrite: false,
            fsync: false,
        })
    }
}

/// The options of one `COPY`.
#[derive(Debug)]
struct ObjectFormat {
    storage: Storage,
    overwrite: bool,
    fsync: bool,
}

impl ObjectFormat {
    fn parse(format: Format, options: &HashMap<String, String>) -> Result<Self, Error> {
        let mut choice = StorageChoice::default();
        let (mut overwrite, mut fsync) = (false, false);
        let mut names: Vec<&String> = options.keys().collect();
        names.sort();
        for name in names {
            let value = options.get(name).map_or("", String::as_str);
            let key = name.to_lowercase();
            let key = match key.split_once('.') {
                Some((of, key)) if of == format.ending() || of == "format" => key,
                _ => key.as_str(),
            };
            match key {
                "compression" => choice.compression = Some(value.to_owned()),
                "level" => choice.level = Some(number(name, value)?),
                "version" => choice.zarr_version = Some(number(name, value)?),
                "sharded" => choice.sharded = Some(boolean(name, value)?),
                "chunk_size" => choice.chunk_size = Some(amount(name, value)?),
                "shard_size" => choice.shard_size = Some(amount(name, value)?),
                "layout" if value.eq_ignore_ascii_case("annbatch") => choice.annbatch = true,
                "layout" => return Err(bad(name, value, "annbatch")),
                "overwrite" => overwrite = boolean(name, value)?,
                "fsync" => fsync = boolean(name, value)?,
                key if key.starts_with("execution.") => {}
                _ => {
                    return Err(Error::option(
                        name,
                        "no such option; there are compression, level, overwrite, fsync, and of \
                         zarr version, sharded, chunk_size, shard_size and layout",
                    ));
                }
            }
        }
        Ok(Self {
            storage: choice.in_format(format)?,
            overwrite,
            fsync,
        })
    }
}

fn bad(name: &str, value: &str, good: &str) -> Error {
    Error::option(name, format!("'{value}' is not one of {good}"))
}

fn number(name: &str, value: &str) -> Result<u8, Error> {
    value
        .parse()
        .map_err(|_| Error::option(name, format!("'{value}' is not a small number")))
}

fn amount(name: &str, value: &str) -> Result<Amount, Error> {
    Amount::parse(value).map_err(|reason| Error::option(name, reason))
}

fn boolean(name: &str, value: &str) -> Result<bool, Error> {
    match value.to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(bad(name, value, "true and false")),
    }
}

#[async_trait]
impl FileFormat for ObjectFormat {
    fn get_ext(&self) -> String {
        self.storage.format.ending().to_owned()
    }

    fn get_ext_with_compression(&self, _: &FileCompressionType) -> Result<String> {
        Ok(self.get_ext())
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        None
    }

    async fn infer_schema(
        &self,
        _: &dyn Session,
        _: &Arc<dyn ObjectStore>,
        _: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        not_impl_err!("an object is no file of a listing table; use read_anndata('…')")
    }

    async fn infer_stats(
        &self,
        _: &dyn Session,
        _: &Arc<dyn ObjectStore>,
        schema: SchemaRef,
        _: &ObjectMeta,
    ) -> Result<Statistics> {
        Ok(Statistics::new_unknown(&schema))
    }

    async fn create_physical_plan(
        &self,
        _: &dyn Session,
        _: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        not_impl_err!("an object is no file of a listing table; use read_anndata('…')")
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        state: &dyn Session,
        config: FileSinkConfig,
        _: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let url = config.original_url.as_str();
        let path = &*file_path(url);
        let outputs = match config.table_partition_cols.as_slice() {
            [] => Outputs::Single(OutputSpec::unsized_at(path)),
            [(column, _)] => Outputs::ByColumn {
                column: column.clone(),
                prefix: PathBuf::from(match path.rsplit_once('.') {
                    Some((prefix, ending)) if ending == self.get_ext() => prefix,
                    _ => path,
                }),
            },
            more => {
                return Err(Error::option(
                    "PARTITIONED BY",
                    format!("one column names the objects, not {}", more.len()),
                )
                .into());
            }
        };
        let spec = WriteSpec {
            outputs,
            storage: self.storage,
            drop: Vec::new(),
            overwrite: self.overwrite,
            fsync: self.fsync,
            jobs: state.config().target_partitions(),
        };
        let input = with_provenance(&input).await?.unwrap_or(input);
        Ok(Arc::new(WriteExec::try_new(input, Arc::new(spec))?))
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        // Never asked for: the format refuses to scan.
        Arc::new(ArrowSource::new_file_source(table_schema))
    }
}
