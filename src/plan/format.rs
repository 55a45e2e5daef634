//! `COPY … TO 'x.h5ad' STORED AS H5AD OPTIONS (…) [PARTITIONED BY (column)]`.

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
use crate::error::Error;
use crate::model::file_path;
use crate::store::Compression;

/// Makes the format that writes `.h5ad` objects.
///
/// Options: `h5ad.compression` (`none`, `gzip`, `lzf`), `h5ad.level` (1 to 9, of gzip; 4),
/// `h5ad.overwrite` (`false`), `h5ad.fsync` (`false`).
#[derive(Debug, Default)]
pub struct H5adFormatFactory;

impl GetExt for H5adFormatFactory {
    fn get_ext(&self) -> String {
        "h5ad".to_owned()
    }
}

impl FileFormatFactory for H5adFormatFactory {
    fn create(
        &self,
        _: &dyn Session,
        options: &HashMap<String, String>,
    ) -> Result<Arc<dyn FileFormat>> {
        Ok(Arc::new(H5adFormat::parse(options)?))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(H5adFormat::default())
    }
}

/// The options of one `COPY`.
#[derive(Debug, Default)]
struct H5adFormat {
    compression: Compression,
    overwrite: bool,
    fsync: bool,
}

impl H5adFormat {
    fn parse(options: &HashMap<String, String>) -> Result<Self, Error> {
        let mut format = Self::default();
        let mut level = 4;
        let mut names: Vec<&String> = options.keys().collect();
        names.sort();
        for name in names {
            let value = options.get(name).map_or("", String::as_str);
            let key = name.to_lowercase();
            match key
                .strip_prefix("h5ad.")
                .or(key.strip_prefix("format."))
                .unwrap_or(&key)
            {
                "compression" => {
                    format.compression = match value.to_lowercase().as_str() {
                        "none" => Compression::None,
                        "gzip" => Compression::Gzip(level),
                        "lzf" => Compression::Lzf,
                        _ => return Err(bad(name, value, "none, gzip or lzf")),
                    }
                }
                "level" => {
                    level = value
                        .parse()
                        .ok()
                        .filter(|level| (1..=9).contains(level))
                        .ok_or_else(|| bad(name, value, "1 to 9"))?;
                    if let Compression::Gzip(at) = &mut format.compression {
                        *at = level;
                    }
                }
                "overwrite" => format.overwrite = boolean(name, value)?,
                "fsync" => format.fsync = boolean(name, value)?,
                key if key.starts_with("execution.") => {}
                _ => {
                    return Err(Error::option(
                        name,
                        "no such option; there are h5ad.compression, h5ad.level, \
                         h5ad.overwrite and h5ad.fsync",
                    ));
                }
            }
        }
        Ok(format)
    }
}

fn bad(name: &str, value: &str, good: &str) -> Error {
    Error::option(name, format!("'{value}' is not one of {good}"))
}

fn boolean(name: &str, value: &str) -> Result<bool, Error> {
    match value.to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(bad(name, value, "true and false")),
    }
}

#[async_trait]
impl FileFormat for H5adFormat {
    fn get_ext(&self) -> String {
        "h5ad".to_owned()
    }

    fn get_ext_with_compression(&self, _: &FileCompressionType) -> Result<String> {
        Ok("h5ad".to_owned())
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
        not_impl_err!("an h5ad is no file of a listing table; use read_anndata('…')")
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
        not_impl_err!("an h5ad is no file of a listing table; use read_anndata('…')")
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
                prefix: PathBuf::from(path.strip_suffix(".h5ad").unwrap_or(path)),
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
            compression: self.compression,
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
