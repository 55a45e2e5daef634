//! Groups and attributes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::array::ZarrArray;
use super::documents::{Consolidated, Document, Documents};
use super::files::Files;
use crate::error::{Error, Result};
use crate::model::ElementKey;
use crate::store::decode::in_background;
use crate::store::remote::{self, Span};
use crate::store::zarr::DOCUMENTS;
use crate::store::{ArrayReader, Attributes, Contradiction, NodeKind, Store};

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

/// What was learnt of a store by reading its root: nothing, of one on a disk.
#[derive(Debug, Default)]
pub(super) struct Root {
    /// What all nodes are of.
    pub(super) version: Option<Version>,
    /// The documents of all nodes, which are not read one by one then.
    pub(super) consolidated: Option<Consolidated>,
    /// What tells this content from another.
    pub(super) tag: Option<String>,
}

/// A store.
pub(super) struct ZarrStore(Arc<Tree>);

/// Nodes, as far as they were asked for.
pub(super) struct Tree {
    pub(super) url: String,
    pub(super) files: Arc<dyn Files>,
    /// What its root says of a store that is far away.
    pub(super) root: Root,
    nodes: Mutex<HashMap<ElementKey, Option<Arc<Node>>>>,
}

#[derive(Debug)]
pub(super) struct Node {
    attributes: Arc<Attributes>,
    /// An array's document.
    pub(super) array: Option<(Version, Map<String, Value>)>,
    opened: OnceLock<ZarrArray>,
}

impl fmt::Debug for ZarrStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZarrStore")
            .field("url", &self.0.url)
            .finish_non_exhaustive()
    }
}

impl ZarrStore {
    pub(super) fn new(url: &str, files: Arc<dyn Files>, root: Root) -> Self {
        Self(Arc::new(Tree {
            url: url.to_owned(),
            files,
            root,
            nodes: Mutex::default(),
        }))
    }

    /// Whether the root is a node at all.
    pub(super) fn has_root(&self) -> Result<bool> {
        Ok(self.0.find(&ElementKey::root())?.is_some())
    }

    /// Asks the tree, on a thread that may wait where it is far away.
    async fn ask<T: Send + 'static>(
        &self,
        key: &ElementKey,
        question: fn(&Tree, &ElementKey) -> Result<T>,
    ) -> Result<T> {
        if !self.0.files.is_remote() {
            return question(&self.0, key);
        }
        let (tree, asked) = (Arc::clone(&self.0), key.clone());
        remote::in_background(move || question(&tree, &asked))
            .await
            .map_err(|e| Error::store(STORE, format!("{}: {key}", self.0.url), e))?
    }
}

impl Tree {
    pub(super) fn find(&self, key: &ElementKey) -> Result<Option<Arc<Node>>> {
        let lock = || self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = lock().get(key) {
            return Ok(node.clone());
        }
        let node = self.load(key)?.map(Arc::new);
        lock().insert(key.clone(), node.clone());
        Ok(node)
    }

    fn load(&self, key: &ElementKey) -> Result<Option<Node>> {
        let documents = match &self.root.consolidated {
            Some(consolidated) => consolidated.node(key).cloned().unwrap_or_default(),
            None if self.files.is_remote() => {
                let mut documents = self.fetch(std::slice::from_ref(key))?;
                documents.pop().unwrap_or_default()
            }
            None => self.read(key)?,
        };
        Node::of(documents).map_err(|reason| Error::invalid(&self.url, key, reason))
    }

    /// The documents of nodes, all at once.
    fn fetch(&self, keys: &[ElementKey]) -> Result<Vec<Documents>> {
        let names = Documents::names(self.root.version);
        let paths = keys.iter().flat_map(|key| {
            let prefix = prefix(key);
            names.iter().map(move |name| format!("{prefix}{name}"))
        });
        let paths: Vec<_> = paths.map(|path| (path, Span::Whole)).collect();
        let pieces = self.files.parts(&paths);
        let pieces = pieces.map_err(|e| Error::store(STORE, &self.url, e))?;
        let mut all = Vec::with_capacity(keys.len());
        let found = paths.chunks(names.len()).zip(pieces.chunks(names.len()));
        for (key, (paths, pieces)) in keys.iter().zip(found) {
            let mut documents = Documents::default();
            for ((name, (path, _)), piece) in names.iter().zip(paths).zip(pieces) {
                if let Some(piece) = piece {
                    documents.set(
                        name,
                        parse(&piece.bytes).map_err(|reason| {
                            Error::invalid(&self.url, key, format!("{path}{reason}"))
                        })?,
                    );
                }
            }
            all.push(documents);
        }
        Ok(all)
    }

    /// The documents of a node on a disk, no more of them than tell what it is.
    fn read(&self, key: &ElementKey) -> Result<Documents> {
        let prefix = prefix(key);
        let document = |name: &str| self.document(key, &format!("{prefix}{name}"));
        if let Some(document) = document("zarr.json")? {
            return Ok(Documents {
                v3: Some(document),
                ..Documents::default()
            });
        }
        let attributes = document(".zattrs")?;
        let array = document(".zarray")?;
        let group = match array {
            Some(_) => None,
            None => document(".zgroup")?,
        };
        Ok(Documents {
            v3: None,
            array,
            group,
            attributes,
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
        let document = parse(&bytes);
        let document =
            document.map_err(|reason| Error::invalid(&self.url, key, format!("{path}{reason}")))?;
        Ok(Some(document))
    }
}

/// A document of bytes, or what is wrong with them, to follow its name.
pub(super) fn parse(bytes: &[u8]) -> std::result::Result<Document, String> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(document)) => Ok(document),
        Ok(_) => Err(" holds no object".to_owned()),
        Err(e) => Err(format!(": {e}")),
    }
}

impl Node {
    /// The node that documents describe, [`None`] where there are none.
    fn of(documents: Documents) -> std::result::Result<Option<Self>, String> {
        documents.check_version()?;
        if let Some(mut document) = documents.v3 {
            let attributes = match document.remove("attributes") {
                Some(Value::Object(attributes)) => attributes,
                _ => Map::new(),
            };
            let array = match document.get("node_type").and_then(Value::as_str) {
                Some("array") => Some((Version::V3, document)),
                Some("group") => None,
                other => return Err(format!("zarr.json has node_type {other:?}")),
            };
            return Ok(Some(Self::new(attributes, array)));
        }
        if let Some(document) = documents.array {
            let attributes = documents.attributes.unwrap_or_default();
            return Ok(Some(Self::new(attributes, Some((Version::V2, document)))));
        }
        Ok(match (documents.group, documents.attributes) {
            (None, None) => None,
            (_, attributes) => Some(Self::new(attributes.unwrap_or_default(), None)),
        })
    }

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

impl Tree {
    fn node(&self, key: &ElementKey) -> Result<Option<NodeKind>> {
        Ok(self.find(key)?.map(|node| match node.array {
            Some(_) => NodeKind::Array,
            None => NodeKind::Group,
        }))
    }

    fn children(&self, key: &ElementKey) -> Result<Vec<String>> {
        let names = match &self.root.consolidated {
            Some(consolidated) => consolidated.children(key),
            None => self
                .files
                .children(&prefix(key))
                .map_err(|e| Error::store(STORE, format!("{}: {key}", self.url), e))?,
        };
        let names = names.into_iter();
        let names: Vec<_> = names.filter(|n| !DOCUMENTS.contains(&n.as_str())).collect();
        if self.files.is_remote() && self.root.consolidated.is_none() {
            self.find_all(key, &names)?;
        }
        let mut children = Vec::with_capacity(names.len());
        for name in names {
            if self.find(&key.child(&name))?.is_some() {
                children.push(name);
            }
        }
        Ok(children)
    }

    /// Reads children that were not read yet, all at once.
    fn find_all(&self, key: &ElementKey, names: &[String]) -> Result<()> {
        let keys = names.iter().map(|name| key.child(name));
        let keys: Vec<ElementKey> = {
            let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            keys.filter(|key| !nodes.contains_key(key)).collect()
        };
        for (key, documents) in keys.iter().zip(self.fetch(&keys)?) {
            let node = Node::of(documents);
            let node = node.map_err(|reason| Error::invalid(&self.url, key, reason))?;
            let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            nodes.insert(key.clone(), node.map(Arc::new));
        }
        Ok(())
    }

    fn attributes(&self, key: &ElementKey) -> Result<Arc<Attributes>> {
        match self.find(key)? {
            Some(node) => Ok(Arc::clone(&node.attributes)),
            None => Err(self.missing(key, "there is nothing")),
        }
    }

    fn array(&self, key: &ElementKey) -> Result<ZarrArray> {
        let node = self.find(key)?;
        let node = node.ok_or_else(|| self.missing(key, "there is nothing"))?;
        let Some((version, document)) = &node.array else {
            return Err(self.missing(key, "it is a group"));
        };
        Ok(match node.opened.get() {
            Some(array) => array.clone(),
            None => {
                let array = ZarrArray::open(&self.url, &self.files, key, *version, document)?;
                node.opened.get_or_init(|| array).clone()
            }
        })
    }

    fn missing(&self, key: &ElementKey, hint: &str) -> Error {
        Error::ElementNotFound {
            url: self.url.clone(),
            element: key.clone(),
            hint: format!("; {hint}"),
        }
    }
}

#[async_trait]
impl Store for ZarrStore {
    fn url(&self) -> &str {
        &self.0.url
    }

    fn format(&self) -> &'static str {
        STORE
    }

    fn bytes(&self) -> Option<u64> {
        match self.0.files.is_remote() {
            true => None,
            false => self.0.files.total("").ok(),
        }
    }

    fn version(&self) -> Option<&str> {
        self.0.root.tag.as_deref()
    }

    async fn node(&self, key: &ElementKey) -> Result<Option<NodeKind>> {
        self.ask(key, Tree::node).await
    }

    async fn children(&self, key: &ElementKey) -> Result<Vec<String>> {
        self.ask(key, Tree::children).await
    }

    async fn attributes(&self, key: &ElementKey) -> Result<Arc<Attributes>> {
        self.ask(key, Tree::attributes).await
    }

    async fn array(&self, key: &ElementKey) -> Result<Arc<dyn ArrayReader>> {
        Ok(Arc::new(self.ask(key, Tree::array).await?))
    }

    async fn garbled(&self) -> Result<Vec<(String, String)>> {
        let tree = Arc::clone(&self.0);
        let garbled = in_background(move || Ok(tree.files.garbled())).await;
        garbled.map_err(|fault| fault.at(self.url(), &ElementKey::root()))
    }

    async fn contradictions(&self, below: &ElementKey) -> Result<Vec<Contradiction>> {
        self.ask(below, Tree::check).await
    }
}
