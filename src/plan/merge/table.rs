//! A merge as a table of SQL: the `cells` of the merged object.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result};
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use tokio::sync::OnceCell;

use super::exec::{MergeExec, MergeOutput};
use super::outline::MergeOutline;
use super::spec::MergeSpec;
use crate::table::is_plain;

/// The cells of a merge. A scan reads the columns that are asked for, of each object.
#[derive(Debug, Clone)]
pub struct MergeTable {
    spec: Arc<MergeSpec>,
    schema: SchemaRef,
    /// Absent where the table came from another machine: the first scan makes it.
    outline: Arc<OnceCell<Arc<MergeOutline>>>,
}

impl MergeTable {
    /// The table of a merge that is thought through.
    pub fn new(outline: Arc<MergeOutline>) -> Self {
        Self {
            spec: Arc::clone(outline.spec()),
            schema: Arc::clone(outline.schema()),
            outline: Arc::new(OnceCell::new_with(Some(outline))),
        }
    }

    /// A table whose objects have not been opened here.
    pub(crate) fn unopened(spec: Arc<MergeSpec>, schema: SchemaRef) -> Self {
        Self {
            spec,
            schema,
            outline: Arc::new(OnceCell::new()),
        }
    }

    /// What is merged and how.
    pub fn spec(&self) -> &Arc<MergeSpec> {
        &self.spec
    }
}

#[async_trait]
impl TableProvider for MergeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let outline = self
            .outline
            .get_or_try_init(|| MergeOutline::of(Arc::clone(&self.spec)))
            .await?;
        let columns = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let output = MergeOutput {
            in_one: limit.is_some(),
            ..MergeOutput::columns(columns)
        };
        let conjuncts = |schema: &SchemaRef| {
            let schema = DFSchema::try_from(Arc::clone(schema))?;
            let filters = filters.iter();
            let exprs = filters.map(|filter| state.create_physical_expr(filter.clone(), &schema));
            Ok(exprs.collect::<Result<Vec<_>>>()?)
        };
        let node = MergeExec::with_conjuncts(outline, output, &conjuncts)?;
        Ok(Arc::new(node))
    }

    /// A condition on columns whose values are the objects' own is theirs to evaluate; the others see
    /// what the merge makes of them.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        use TableProviderFilterPushDown::{Exact, Unsupported};
        let Some(outline) = self.outline.get() else {
            return Ok(vec![Unsupported; filters.len()]);
        };
        let own = |filter: &&Expr| {
            let columns = filter.column_refs();
            let own = columns.iter().all(|column| outline.is_own(&column.name));
            match own && !columns.is_empty() && is_plain(filter) {
                true => Exact,
                false => Unsupported,
            }
        };
        Ok(filters.iter().map(own).collect())
    }
}
