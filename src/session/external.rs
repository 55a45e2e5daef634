//! `CREATE EXTERNAL TABLE … STORED AS H5AD LOCATION … OPTIONS ('h5ad.table' 'obs')`, and the same
//! for `ZARR`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::logical_expr::CreateExternalTable;

use crate::element::AnnData;
use crate::model::Location;
use crate::table::{AnnDataTable, TableKind};

/// Makes a table of a file, `cells` unless another is named.
#[derive(Debug)]
pub(super) struct ObjectTableFactory {
    /// What follows `STORED AS`, in small letters.
    pub(super) format: &'static str,
}

#[async_trait]
impl TableProviderFactory for ObjectTableFactory {
    async fn create(
        &self,
        _state: &dyn Session,
        cmd: &CreateExternalTable,
    ) -> Result<Arc<dyn TableProvider>> {
        let (format, name) = (self.format, self.format.to_uppercase());
        let [location] = cmd.locations.as_slice() else {
            return plan_err!("STORED AS {name} takes one LOCATION");
        };
        if !cmd.table_partition_cols.is_empty() {
            return plan_err!("PARTITIONED BY is not for tables STORED AS {name}");
        }
        let mut table = "cells";
        for (key, value) in &cmd.options {
            let own = |key: &str| Some(key.strip_prefix(format)?.strip_prefix('.')?.to_owned());
            let option = own(key).or_else(|| key.strip_prefix("format.").map(str::to_owned));
            match option.as_deref().unwrap_or(key) {
                "table" => table = value,
                _ => return plan_err!("{key} is no option of {name}; there is {format}.table"),
            }
        }
        open_table(location, table).await
    }
}

/// A table of an object by name.
pub(super) async fn open_table(location: &str, table: &str) -> Result<Arc<dyn TableProvider>> {
    let object = AnnData::open(&Location::parse(location))
        .await
        .map_err(DataFusionError::from)?;
    let Some(kind) = TableKind::find(&object, table) else {
        let names: Vec<String> = TableKind::all(&object)
            .iter()
            .map(ToString::to_string)
            .collect();
        return plan_err!(
            "{location} has no table {table}; there are {}",
            names.join(", ")
        );
    };
    let table = AnnDataTable::try_new(&object, kind).map_err(DataFusionError::from)?;
    Ok(Arc::new(table))
}
