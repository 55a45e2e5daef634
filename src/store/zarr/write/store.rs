//! The store: where its values go, and the documents of its nodes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::array;
use super::bucket::Bucket;
use super::encode::Way;
use super::references::{self, ReferenceFile};
use super::values::{Folder, Values};
use crate::error::{BoxedError, Error, Result};
use crate::model::{ElementKey, shown_path};
use crate::store::encode::{OpenArrays, RawResult, Repeats, in_background};
use crate::store::remote::names_its_key;
use crate::store::zarr::DOCUMENTS;
use crate::store::{
    ArrayReader, ArraySpec, ArrayWriter, Attributes, Format, StoreWriter, WriteTarget, ZarrVersion,
};

/// What errors call this store.
pub(super) const STORE: &str = "zarr";

/// Starts a store: a folder beside `target.path`, or the objects below a URL.
///
/// # Errors
/// [`Error::OutputRefused`] where the output exists and may not be replaced, or has no directory;
/// [`Error::Store`] where the folder cannot be made, or the server refuses.
pub(in crate::store) async fn create(
    target: &WriteTarget,
    version: ZarrVersion,
) -> Result<Arc<dyn StoreWriter>> {
    let values: Arc<dyn Values> = match target.is_url() {
        true => Arc::new(Bucket::create(target).await?),
        false => Arc::new(Folder::create(target)?),
    };
    Ok(ZarrWriter::start(target, version, values))
}

/// Starts a document of references to the file `source` beside `target.path`.
///
/// # Errors
/// [`Error::InvalidOption`] where the name does not end in `.json`, otherwise as [`create`].
pub(in crate::store) fn create_references(
    target: &WriteTarget,
    source: &str,
) -> Result<Arc<dyn StoreWriter>> {
    if target
        .path
        .extension()
        .is_none_or(|ending| ending != "json")
    {
        let path = shown_path(&target.path);
        let reason = "a document of references must end in .json";
        return Err(Error::option(path, reason));
    }
    let values = Arc::new(ReferenceFile::create(target, source)?);
    Ok(ZarrWriter::start(target, ZarrVersion::V2, values))
}

/// What a store and its arrays share. The last of them to go removes what has no name, so no array
/// that is still at work makes its folder again.
#[derive(Debug)]
pub(super) struct Shared {
    values: Arc<dyn Values>,
    committed: AtomicBool,
    format: Format,
    version: ZarrVersion,
    consolidated: bool,
    /// By path, so a parent comes before its children.
    nodes: Mutex<BTreeMap<String, Node>>,
    pub(super) open_arrays: OpenArrays,
    pub(super) repeats: Repeats<Way>,
}

#[derive(Debug, Default)]
struct Node {
    attributes: Attributes,
    /// An array's document, without its attributes.
    array: Option<Map<String, Value>>,
}

impl Shared {
    pub(super) fn url(&self) -> &str {
        self.values.url()
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    pub(super) fn version(&self) -> ZarrVersion {
        self.version
    }

    pub(super) fn values(&self) -> &Arc<dyn Values> {
        &self.values
    }

    /// Makes room for the values of a node.
    ///
    /// # Errors
    /// Where a node cannot have the name, or the system cannot make a folder for it.
    pub(super) fn make_node(&self, key: &ElementKey) -> RawResult<()> {
        let name = key.name();
        // zarr-python takes a backslash for a slash, and does not find the node again.
        let is_refused = ["", ".", ".."].contains(&name) || name.contains('\\');
        if is_refused || DOCUMENTS.contains(&name) {
            return Err(format!("no node of a zarr store can be called {name:?}").into());
        }
        Ok(self.values.make_node(key.as_str())?)
    }

    /// Takes the document of a finished array.
    pub(super) fn add_array(
        &self,
        key: &ElementKey,
        attributes: Attributes,
        document: Map<String, Value>,
    ) {
        let node = Node {
            attributes,
            array: Some(document),
        };
        self.nodes().insert(key.as_str().to_owned(), node);
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, key: &ElementKey, source: BoxedError) -> Error {
        let path = match names_its_key(source.as_ref()) {
            true => self.url().to_owned(),
            false => format!("{}: {key}", self.url()),
        };
        Error::store(STORE, path, source)
    }

    /// Gives the values their place.
    fn publish(&self) -> Result<()> {
        self.values.publish()?;
        self.committed.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes the documents of all nodes, the root's last.
    fn write_documents(&self) -> RawResult<()> {
        let nodes = self.nodes();
        let mut consolidated = Map::new();
        let mut documents = Vec::new();
        for (path, node) in nodes.iter() {
            for (name, document) in node.documents(self.version) {
                match self.version {
                    ZarrVersion::V2 => {
                        let key = join(path, name);
                        consolidated.insert(key, document.clone());
                    }
                    ZarrVersion::V3 if path.is_empty() => {}
                    ZarrVersion::V3 => {
                        consolidated.insert(path.clone(), document.clone());
                    }
                }
                documents.push((path.clone(), name, document));
            }
        }
        match self.version {
            _ if !self.consolidated => {}
            ZarrVersion::V2 => {
                let all = json!({"zarr_consolidated_format": 1, "metadata": consolidated});
                documents.insert(0, (String::new(), ".zmetadata", all));
            }
            ZarrVersion::V3 => {
                if let Some((.., root)) = documents.iter_mut().find(|(path, ..)| path.is_empty()) {
                    root["consolidated_metadata"] = json!({"kind": "inline", "must_understand": false, "metadata": consolidated});
                }
            }
        }
        for (path, name, document) in documents.into_iter().rev() {
            let mut value = self.values.create(&join(&path, name))?;
            value.write(&serde_json::to_vec_pretty(&document)?)?;
            value.finish()?;
        }
        Ok(self.values.close()?)
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}/{name}"),
    }
}

impl Node {
    /// The documents that describe it, by their names.
    fn documents(&self, version: ZarrVersion) -> Vec<(&'static str, Value)> {
        let attributes = Value::Object(self.attributes.clone());
        match (version, &self.array) {
            (ZarrVersion::V2, array) => {
                let (name, document) = match array {
                    Some(document) => (".zarray", Value::Object(document.clone())),
                    None => (".zgroup", json!({"zarr_format": 2})),
                };
                vec![(name, document), (".zattrs", attributes)]
            }
            (ZarrVersion::V3, Some(document)) => {
                let mut document = document.clone();
                document.insert("attributes".to_owned(), attributes);
                vec![("zarr.json", Value::Object(document))]
            }
            (ZarrVersion::V3, None) => {
                let document =
                    json!({"zarr_format": 3, "node_type": "group", "attributes": attributes});
                vec![("zarr.json", document)]
            }
        }
    }
}

/// A store being written.
#[derive(Debug)]
struct ZarrWriter {
    shared: Arc<Shared>,
    closed: AtomicBool,
}

impl ZarrWriter {
    fn start(
        target: &WriteTarget,
        version: ZarrVersion,
        values: Arc<dyn Values>,
    ) -> Arc<dyn StoreWriter> {
        let root = Node::default();
        Arc::new(Self {
            shared: Arc::new(Shared {
                values,
                committed: AtomicBool::new(false),
                format: target.format,
                version,
                consolidated: target.consolidated,
                nodes: Mutex::new(BTreeMap::from([(String::new(), root)])),
                open_arrays: OpenArrays::default(),
                repeats: Repeats::default(),
            }),
            closed: AtomicBool::new(false),
        })
    }
}

#[async_trait]
impl StoreWriter for ZarrWriter {
    fn url(&self) -> &str {
        self.shared.url()
    }

    async fn create_group(&self, key: &ElementKey, attributes: &Attributes) -> Result<()> {
        self.shared
            .make_node(key)
            .map_err(|e| self.shared.failure(key, e))?;
        self.set_attributes(key, attributes).await
    }

    async fn set_attributes(&self, key: &ElementKey, attributes: &Attributes) -> Result<()> {
        let mut nodes = self.shared.nodes();
        let node = nodes.entry(key.as_str().to_owned()).or_default();
        for (name, value) in attributes {
            node.attributes.insert(name.clone(), value.clone());
        }
        Ok(())
    }

    async fn create_array(
        &self,
        key: &ElementKey,
        spec: ArraySpec,
    ) -> Result<Box<dyn ArrayWriter>> {
        array::create(&self.shared, key, spec)
    }

    async fn link(
        &self,
        key: &ElementKey,
        source: &dyn ArrayReader,
        attributes: &Attributes,
    ) -> Result<bool> {
        let Some(file) = self.shared.values().references() else {
            return Ok(false);
        };
        let located = source.references().await?;
        let made = self.shared.make_node(key);
        made.and_then(|()| references::link(&self.shared, file, key, source, &located, attributes))
            .map_err(|e| self.shared.failure(key, e))
    }

    async fn close(&self) -> Result<()> {
        let root = ElementKey::root();
        let finished = self.shared.open_arrays.check();
        finished.map_err(|e| self.shared.failure(&root, e))?;
        let shared = Arc::clone(&self.shared);
        in_background(move || shared.write_documents())
            .await
            .map_err(|e| self.shared.failure(&root, e))?;
        self.closed.store(true, Ordering::Release);
        Ok(())
    }

    async fn commit(&self) -> Result<()> {
        if !self.closed.load(Ordering::Acquire) {
            let reason = "the store is not closed";
            return Err(self.shared.failure(&ElementKey::root(), reason.into()));
        }
        // All of it, so that nothing is discarded before what is on its way has arrived.
        let shared = Arc::clone(&self.shared);
        match shared.values.is_remote() {
            true => in_background(move || shared.publish()).await,
            false => shared.publish(),
        }
    }
}

impl Drop for ZarrWriter {
    fn drop(&mut self) {
        // Arrays may still be at work, for nobody.
        if !self.shared.committed.load(Ordering::Acquire) {
            self.shared.values.cancel();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.committed.load(Ordering::Acquire) {
            self.values.discard();
        }
    }
}
