//! A store in memory, to hand readers objects that no writer would make.

#![expect(clippy::unwrap_used, reason = "a fixture fails the test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use annfusion::error::{Error, Result};
use annfusion::model::{DType, ElementKey, RowSelection};
use annfusion::store::{ArrayInfo, ArrayReader, Attributes, NodeKind, ReadMetrics, Store};
use arrow::array::{ArrayRef, UInt64Array};
use async_trait::async_trait;
use serde_json::{Value, json};

/// Groups and arrays by path.
#[derive(Debug, Default, Clone)]
pub(crate) struct MemoryStore {
    nodes: BTreeMap<String, (Arc<Attributes>, Option<Arc<Held>>)>,
}

#[derive(Debug)]
struct Held {
    info: ArrayInfo,
    values: ArrayRef,
}

impl MemoryStore {
    /// An object of the given size: named rows and columns, nothing else.
    pub(crate) fn object(n_obs: usize, n_vars: usize) -> Self {
        let frame = json!({"encoding-type": "dataframe", "encoding-version": "0.2.0",
            "_index": "_index", "column-order": []});
        let mut store = Self::default();
        store.group(
            "",
            json!({"encoding-type": "anndata", "encoding-version": "0.1.0"}),
        );
        for (name, len) in [("obs", n_obs), ("var", n_vars)] {
            store.group(name, frame.clone());
            let names: Vec<_> = (0..len).map(|i| format!("{name}{i}")).collect();
            let names = Arc::new(arrow::array::StringArray::from(names));
            store.dataset(&format!("{name}/_index"), names, json!({}));
        }
        store
    }

    /// Adds a group.
    pub(crate) fn group(&mut self, path: &str, attributes: Value) -> &mut Self {
        let attributes = Arc::new(attributes.as_object().unwrap().clone());
        self.nodes.insert(path.to_owned(), (attributes, None));
        self
    }

    /// Adds an array of one axis.
    pub(crate) fn dataset(&mut self, path: &str, values: ArrayRef, attributes: Value) -> &mut Self {
        let info = ArrayInfo {
            key: ElementKey::new(path),
            dtype: DType::from_arrow(values.data_type()).unwrap(),
            shape: vec![values.len() as u64],
            null: false,
            chunk_shape: None,
            filters: Vec::new(),
            fixed_text: false,
            stored_bytes: Some(values.get_buffer_memory_size() as u64),
        };
        let attributes = Arc::new(attributes.as_object().unwrap().clone());
        let held = Arc::new(Held { info, values });
        self.nodes.insert(path.to_owned(), (attributes, Some(held)));
        self
    }

    /// Adds a sparse matrix of Float32.
    pub(crate) fn sparse(
        &mut self,
        path: &str,
        kind: &str,
        shape: [u64; 2],
        parts: [ArrayRef; 3],
    ) -> &mut Self {
        self.group(
            path,
            json!({"encoding-type": kind, "encoding-version": "0.1.0", "shape": shape}),
        );
        for (name, part) in ["indptr", "indices", "data"].into_iter().zip(parts) {
            self.dataset(&format!("{path}/{name}"), part, json!({}));
        }
        self
    }

    /// Sets an attribute of a node that is there.
    pub(crate) fn attribute(&mut self, path: &str, name: &str, value: Value) -> &mut Self {
        let (attributes, _) = self.nodes.get_mut(path).unwrap();
        Arc::make_mut(attributes).insert(name.to_owned(), value);
        self
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn url(&self) -> &str {
        "memory"
    }

    fn format(&self) -> &'static str {
        "memory"
    }

    fn bytes(&self) -> Option<u64> {
        None
    }

    async fn node(&self, key: &ElementKey) -> Result<Option<NodeKind>> {
        Ok(self.nodes.get(key.as_str()).map(|(_, array)| match array {
            Some(_) => NodeKind::Array,
            None => NodeKind::Group,
        }))
    }

    async fn children(&self, key: &ElementKey) -> Result<Vec<String>> {
        let prefix = match key.as_str() {
            "" => String::new(),
            path => format!("{path}/"),
        };
        let below = self
            .nodes
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix));
        let direct = below.filter(|name| !name.is_empty() && !name.contains('/'));
        Ok(direct.map(str::to_owned).collect())
    }

    async fn attributes(&self, key: &ElementKey) -> Result<Arc<Attributes>> {
        Ok(Arc::clone(&self.nodes[key.as_str()].0))
    }

    async fn array(&self, key: &ElementKey) -> Result<Arc<dyn ArrayReader>> {
        match self.nodes.get(key.as_str()) {
            Some((_, Some(array))) => Ok(Arc::clone(array) as Arc<dyn ArrayReader>),
            _ => Err(Error::ElementNotFound {
                url: "memory".to_owned(),
                element: key.clone(),
                hint: String::new(),
            }),
        }
    }
}

#[async_trait]
impl ArrayReader for Held {
    fn info(&self) -> &ArrayInfo {
        &self.info
    }

    async fn read(&self, rows: &RowSelection, _metrics: &ReadMetrics) -> Result<ArrayRef> {
        let rows: UInt64Array = rows.iter().collect();
        Ok(arrow::compute::take(&self.values, &rows, None)?)
    }
}
