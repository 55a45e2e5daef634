//! A merge as a table of SQL: the `cells` of the merged object.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::exec::MergeExec;
use super::outline::MergeOutline;
use super::spec::MergeSpec;
use crate::table::DEFAULT_BATCH_BYTES;

/// The cells of a merge. A scan reads the columns that are asked for, of each object.
#[derive(Debug, Clone)]
pub struct MergeTable {
    outline: Arc<MergeOutline>,
}

impl MergeTable {
    /// The table of a merge that is thought through.
    pub fn new(outline: Arc<MergeOutline>) -> Self {
        Self { outline }
    }

    /// What is merged and how.
    pub fn spec(&self) -> &Arc<MergeSpec> {
        self.outline.spec()
    }
}

#[async_trait]
impl TableProvider for MergeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.outline.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.outline.schema().fields().len()).collect(),
        };
        let node = MergeExec::try_new(&self.outline, columns, false, DEFAULT_BATCH_BYTES)?;
        Ok(Arc::new(node))
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()])
    }
}
