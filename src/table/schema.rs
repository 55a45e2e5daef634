//! An open object as a schema of tables.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, Result, exec_err};

use crate::element::AnnData;
use crate::table::kind::TableKind;
use crate::table::provider::AnnDataTable;

/// The tables of an object, and those that statements added beside them.
#[derive(Debug)]
pub struct AnnDataSchema {
    object: Mutex<Arc<AnnData>>,
    /// Whether what stands at the object's location now is meant, and not what was there once.
    follows: bool,
    batch_bytes: usize,
    /// The default schema of a session takes `CREATE TABLE` like any other.
    added: Mutex<BTreeMap<String, Arc<dyn TableProvider>>>,
}

impl AnnDataSchema {
    /// The schema of an object, whose scans give batches of `batch_bytes` of matrix rows.
    pub fn new(object: Arc<AnnData>, batch_bytes: usize) -> Self {
        Self {
            object: Mutex::new(object),
            follows: false,
            batch_bytes,
            added: Mutex::default(),
        }
    }

    /// The same of whatever stands at the object's location when a table is asked for: a scan opens it
    /// there, and would mix what was planned with what it finds. Behind a URL it stays, because to look
    /// there is a request, and what has changed is an error.
    #[must_use]
    pub fn following(self) -> Self {
        Self {
            follows: !self.object().location().is_url(),
            ..self
        }
    }

    /// The object, as it was when a table was last asked for.
    pub fn object(&self) -> Arc<AnnData> {
        let object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&object)
    }

    /// The object as it is now.
    async fn current(&self) -> crate::Result<Arc<AnnData>> {
        let before = self.object();
        if !self.follows {
            return Ok(before);
        }
        let now = AnnData::open(before.location()).await?;
        let mut object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        *object = Arc::clone(&now);
        Ok(now)
    }

    fn added(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<dyn TableProvider>>> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SchemaProvider for AnnDataSchema {
    fn table_names(&self) -> Vec<String> {
        let own = TableKind::all(&self.object())
            .into_iter()
            .map(|t| t.to_string());
        own.chain(self.added().keys().cloned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = self.added().get(name) {
            return Ok(Some(Arc::clone(table)));
        }
        let object = self.current().await.map_err(DataFusionError::from)?;
        let Some(kind) = TableKind::find(&object, name) else {
            return Ok(None);
        };
        let table = AnnDataTable::try_new(&object, kind).map_err(DataFusionError::from)?;
        Ok(Some(Arc::new(table.with_batch_bytes(self.batch_bytes))))
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        if self.table_exist(&name) {
            return exec_err!("the table {name} exists in {}", self.object().location());
        }
        Ok(self.added().insert(name, table))
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if TableKind::find(&self.object(), name).is_some() {
            return exec_err!("the table {name} is part of {}", self.object().location());
        }
        Ok(self.added().remove(name))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.added().contains_key(name) || TableKind::find(&self.object(), name).is_some()
    }
}
