//! Groups and attributes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::array::ZarrArray;
use super::files::Files;
use crate::error::{Error, Result};
use crate::model::ElementKey;
use crate::store::zarr::DOCUMENTS;
use crate::store::{ArrayReader, Attributes, NodeKind, Store};

/// What errors call this store.
const STORE: &str = "zarr";

/// Which metadata documents an array has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// `.zarray`.
    V2,
    /// `zarr.json`.
    V3,
}

/// A store, with the nodes seen so far.
pub(super) struct ZarrStore {
    pub(super) url: String,
    pub(super) files: Arc<dyn Files>,
    nodes: Mutex<HashMap<ElementKey, Option<Arc<Node>>>>,
}

#[derive(Debug)]
struct Node {
    attributes: Arc<Attributes>,
    /// An array's document.
    array: Option<(Version, Map<String, Value>)>,
    opened: OnceLock<ZarrArray>,
}

impl fmt::Debug for ZarrStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZarrStore")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl ZarrStore {
    pub(super) fn new(url: &str, files: Arc<dyn Files>) -> Self {
        Self {
            url: url.to_owned(),
            files,
            nodes: Mutex::default(),
        }
    }

    /// Whether the root is a node at all.
    pub(super) fn has_root(&self) -> Result<bool> {
        Ok(self.find(&ElementKey::root())?.is_some())
    }

    fn find(&self, key: &ElementKey) -> Result<Option<Arc<Node>>> {
        let lock = || self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = lock().get(key) {
            return Ok(node.clone());
        }
        let node = self.load(key)?.map(Arc::new);
        lock().insert(key.clone(), node.clone());
        Ok(node)
    }

    fn load(&self, key: &ElementKey) -> Result<Option<Node>> {
        let prefix = prefix(key);
        if let Some(mut document) = self.document(key, &format!("{prefix}zarr.json"))? {
            let attributes = match document.remove("attributes") {
                Some(Value::Object(attributes)) => attributes,
                _ => Map::new(),
            };
            let array = match document.get("node_type").and_then(Value::as_str) {
                Some("array") => Some((Version::V3, document)),
                Some("group") => None,
                other => {
                    let reason = format!("zarr.json has node_type {other:?}");
                    return Err(Error::invalid(&self.url, key, reason));
                }
            };
            return Ok(Some(Node::new(attributes, array)));
        }
        let attributes = self.document(key, &format!("{prefix}.zattrs"))?;
        if let Some(document) = self.document(key, &format!("{prefix}.zarray"))? {
            let attributes = attributes.unwrap_or_default();
            return Ok(Some(Node::new(attributes, Some((Version::V2, document)))));
        }
        let group = self.document(key, &format!("{prefix}.zgroup"))?;
        Ok(match (group, attributes) {
            (None, None) => None,
            (_, attributes) => Some(Node::new(attributes.unwrap_or_default(), None)),
        })
    }

    /// A metadata document, [`None`] where there is none.
    pub(super) fn document(
        &self,
        key: &ElementKey,
        path: &str,
    ) -> Result<Option<Map<String, Value>>> {
        let failure = |e| Error::store(STORE, format!("{}: {path}", self.url), e);
        let Some(bytes) = self.files.get(path).map_err(failure)? else {
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(document)) => Ok(Some(document)),
            Ok(_) => Err(Error::invalid(
                &self.url,
                key,
                format!("{path} holds no object"),
            )),
            Err(e) => Err(Error::invalid(&self.url, key, format!("{path}: {e}"))),
        }
    }
}

impl Node {
    fn new(attributes: Attributes, array: Option<(Version, Map<String, Value>)>) -> Self {
        Self {
            attributes: Arc::new(attributes),
            array,
            opened: OnceLock::new(),
        }
    }
}

/// What the keys below a node start with.
pub(super) fn prefix(key: &ElementKey) -> String {
    match key.as_str() {
        "" => String::new(),
        key => format!("{key}/"),
    }
}

#[async_trait]
impl Store for ZarrStore {
    fn url(&self) -> &str {
        &self.url
    }

    fn format(&self) -> &'static str {
        STORE
    }

    fn bytes(&self) -> Option<u64> {
        self.files.total("").ok()
    }

    async fn node(&self, key: &ElementKey) -> Result<Option<NodeKind>> {
        Ok(self.find(key)?.map(|node| match node.array {
            Some(_) => NodeKind::Array,
            None => NodeKind::Group,
        }))
    }

    async fn children(&self, key: &ElementKey) -> Result<Vec<String>> {
        let names = self
            .files
            .children(&prefix(key))
            .map_err(|e| Error::store(STORE, format!("{}: {key}", self.url), e))?;
        let mut children = Vec::with_capacity(names.len());
        for name in names {
            if !DOCUMENTS.contains(&name.as_str()) && self.find(&key.child(&name))?.is_some() {
                children.push(name);
            }
        }
        Ok(children)
    }

    async fn attributes(&self, key: &ElementKey) -> Result<Arc<Attributes>> {
        match self.find(key)? {
            Some(node) => Ok(Arc::clone(&node.attributes)),
            None => Err(self.missing(key, "there is nothing")),
        }
    }

    async fn contradictions(&self) -> Result<Vec<(ElementKey, String)>> {
        self.check_consolidated()
    }

    async fn array(&self, key: &ElementKey) -> Result<Arc<dyn ArrayReader>> {
        let node = self.find(key)?;
        let node = node.ok_or_else(|| self.missing(key, "there is nothing"))?;
        let Some((version, document)) = &node.array else {
            return Err(self.missing(key, "it is a group"));
        };
        let array = match node.opened.get() {
            Some(array) => array.clone(),
            None => {
                let array = ZarrArray::open(&self.url, &self.files, key, *version, document)?;
                node.opened.get_or_init(|| array).clone()
            }
        };
        Ok(Arc::new(array))
    }
}

impl ZarrStore {
    fn missing(&self, key: &ElementKey, hint: &str) -> Error {
        Error::ElementNotFound {
            url: self.url.clone(),
            element: key.clone(),
            hint: format!("; {hint}"),
        }
    }
}
