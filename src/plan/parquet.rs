//! Parquet as a form of `cells`: DataFusion's own format, with the luggage of its columns.
//!
//! Written files are plain Parquet with an Arrow schema; what fields name by an id (genes,
//! categories) stands in the file's metadata and is registered again when a table is made of it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::{GetExt, Statistics};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::parquet::{ParquetFormat, ParquetFormatFactory};
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory, FileMeta};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSinkConfig, FileSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::physical_expr::{LexOrdering, LexRequirement};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use object_store::{ObjectMeta, ObjectStore};

use super::in_order::InOrderExec;
use super::luggage::{pack, unpack};
use super::notices::Notices;
use super::sources::sources;
use crate::element::AnnData;
use crate::model::FieldMeta;
use crate::sink::{Origin, Sources};

/// Makes the format of `STORED AS PARQUET`.
#[derive(Debug, Default)]
pub struct CellsParquetFactory(ParquetFormatFactory);

impl GetExt for CellsParquetFactory {
    fn get_ext(&self) -> String {
        self.0.get_ext()
    }
}

impl FileFormatFactory for CellsParquetFactory {
    fn create(
        &self,
        state: &dyn Session,
        options: &HashMap<String, String>,
    ) -> Result<Arc<dyn FileFormat>> {
        let made = self.0.create(state, options)?;
        let options = made
            .downcast_ref::<ParquetFormat>()
            .map(ParquetFormat::options);
        Ok(Arc::new(CellsParquet::new(
            options.cloned().unwrap_or_default(),
        )))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(CellsParquet::new(TableParquetOptions::default()))
    }
}

/// DataFusion's format, around which metadata is packed and unpacked.
#[derive(Debug)]
struct CellsParquet(ParquetFormat);

impl CellsParquet {
    fn new(options: TableParquetOptions) -> Self {
        // What fields say is what makes a column a matrix over genes.
        Self(
            ParquetFormat::default()
                .with_options(options)
                .with_skip_metadata(false),
        )
    }
}

#[async_trait]
impl FileFormat for CellsParquet {
    fn get_ext(&self) -> String {
        self.0.get_ext()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        self.0.get_ext_with_compression(compression)
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        self.0.compression_type()
    }

    async fn infer_schema(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        match self.0.infer_schema(state, store, objects).await {
            Ok(schema) => {
                let file = objects.first().map(|object| object.location.to_string());
                Ok(Arc::new(unpack(&schema, &file.unwrap_or_default())?))
            }
            // Files of one schema whose metadata differs: then none of it holds for all of them.
            Err(error) if objects.len() > 1 => {
                let plain = ParquetFormat::default()
                    .with_options(self.0.options().clone())
                    .with_skip_metadata(true);
                let schema = plain.infer_schema(state, store, objects).await;
                schema.map_err(|_| error)
            }
            Err(error) => Err(error),
        }
    }

    async fn infer_stats(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Statistics> {
        self.0.infer_stats(state, store, table_schema, object).await
    }

    async fn infer_ordering(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Option<LexOrdering>> {
        self.0
            .infer_ordering(state, store, table_schema, object)
            .await
    }

    async fn infer_stats_and_ordering(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<FileMeta> {
        self.0
            .infer_stats_and_ordering(state, store, table_schema, object)
            .await
    }

    async fn create_physical_plan(
        &self,
        state: &dyn Session,
        config: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.0.create_physical_plan(state, config).await
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        state: &dyn Session,
        config: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = input.schema();
        let (sources, mut warnings) = sources(&input).await?;
        let luggage = pack(&schema, &sources).await?;
        warnings.extend(luggage.warnings);
        warnings.extend(left_behind(&schema, &sources).await?);
        if let Some(notices) = state.config().get_extension::<Notices>() {
            notices.add(&warnings);
        }
        let mut options = self.0.options().clone();
        for (key, value) in luggage.metadata {
            options.key_value_metadata.entry(key).or_insert(Some(value));
        }
        let format = ParquetFormat::default().with_options(options);
        let in_order: Arc<dyn ExecutionPlan> = match input.output_partitioning().partition_count() {
            0 | 1 => input,
            _ => Arc::new(InOrderExec::new(input)),
        };
        format
            .create_writer_physical_plan(in_order, state, config, order)
            .await
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        self.0.file_source(table_schema)
    }
}

/// What the sources have lost, and what of them is no row of cells and not the genes that a column is
/// over, so that a table of their rows lacks it. Rows without a matrix are no cells, but where the cells have none.
async fn left_behind(schema: &Schema, sources: &Sources) -> crate::error::Result<Vec<String>> {
    let mut fields = schema.fields().iter();
    let over_genes = fields.any(|field| FieldMeta::of(field).axis.is_some());
    let mut origins = match over_genes {
        true => sources.merges.clone(),
        false => Vec::new(),
    };
    let mut warnings = Vec::new();
    for location in &sources.objects {
        let object = AnnData::open(location).await?;
        warnings.extend(object.losses().await?);
        let is_described = over_genes || (object.x().is_none() && object.layers().is_empty());
        if is_described && sources.merges.is_empty() {
            origins.push(Arc::new(Origin::of_object(&object).await?));
        }
    }
    let has = |part: &dyn Fn(&Origin) -> bool| origins.iter().any(|origin| part(origin));
    let parts = [
        (
            "var",
            !over_genes && has(&|origin| origin.var.frame.n_rows() > 0),
        ),
        ("varm", has(&|origin| !origin.var.varm.is_empty())),
        (
            "raw/varm",
            has(&|origin| origin.raw.as_ref().is_some_and(|raw| !raw.varm.is_empty())),
        ),
        ("varp", has(&|origin| !origin.varp.is_empty())),
        ("obsp", has(&|origin| !origin.obsp.is_empty())),
        ("uns", has(&|origin| origin.uns.is_some())),
    ];
    let lost = parts.into_iter().filter(|(_, is_lost)| *is_lost);
    let lost: Vec<&str> = lost.map(|(name, _)| name).collect();
    if !lost.is_empty() {
        warnings.push(format!(
            "{}: not written, because a Parquet file holds rows of cells and the genes of their matrices",
            lost.join(", ")
        ));
    }
    Ok(warnings)
}
