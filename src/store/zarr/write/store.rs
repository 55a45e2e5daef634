//! The store: a folder beside its final name, and the documents of its nodes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::array;
use super::files::{ChunkFiles, PutChunks};
use super::references::{HeldChunks, ReferenceFile, link};
use crate::error::{BoxedError, Error, Result};
use crate::model::ElementKey;
use crate::store::encode::{OpenArrays, RawResult, in_background};
use crate::store::temporary::{Kind, Names};
use crate::store::zarr::DOCUMENTS;
use crate::store::{
    ArrayReader, ArraySpec, ArrayWriter, Attributes, Format, StoreWriter, WriteTarget, ZarrVersion,
};

/// What errors call this store.
pub(super) const STORE: &str = "zarr";

/// Starts a store beside `target.path`.
///
/// # Errors
/// [`Error::OutputRefused`] where the output exists and may not be replaced, or has no directory;
/// [`Error::Store`] where the folder cannot be made.
pub(in crate::store) fn create(
    target: &WriteTarget,
    version: ZarrVersion,
) -> Result<Arc<dyn StoreWriter>> {
    let names = Names::try_new(target, Kind::Folder)?;
    std::fs::create_dir(&names.temporary).map_err(|e| Error::store(STORE, &names.url, e))?;
    Ok(ZarrWriter::start(target, version, names, Form::Folder))
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
        let path = target.path.display().to_string();
        return Err(Error::option(
            path,
            "a document of references must end in .json",
        ));
    }
    let names = Names::try_new(target, Kind::File)?;
    let file = ReferenceFile::create(&names.temporary, source)
        .map_err(|e| Error::store(STORE, &names.url, e))?;
    let form = Form::Document(file);
    Ok(ZarrWriter::start(target, ZarrVersion::V2, names, form))
}

/// What a store and its arrays share. The last of them to go removes what has no name, so no array
/// that is still at work makes its folder again.
#[derive(Debug)]
pub(super) struct Shared {
    names: Names,
    form: Form,
    committed: AtomicBool,
    format: Format,
    version: ZarrVersion,
    fsync: bool,
    /// By path, so a parent comes before its children.
    nodes: Mutex<BTreeMap<String, Node>>,
    pub(super) open_arrays: OpenArrays,
}

/// What the store is to the file system.
#[derive(Debug)]
enum Form {
    /// A folder of documents and chunks.
    Folder,
    /// One document of all of them.
    Document(ReferenceFile),
}

#[derive(Debug, Default)]
struct Node {
    attributes: Attributes,
    /// An array's document, without its attributes.
    array: Option<Map<String, Value>>,
}

impl Shared {
    pub(super) fn url(&self) -> &str {
        &self.names.url
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    pub(super) fn version(&self) -> ZarrVersion {
        self.version
    }

    /// The document, where the store is one.
    pub(super) fn references(&self) -> Option<&ReferenceFile> {
        match &self.form {
            Form::Folder => None,
            Form::Document(file) => Some(file),
        }
    }

    /// Where the chunks of an array go.
    pub(super) fn chunks(
        self: &Arc<Self>,
        key: &ElementKey,
        per_shard: Option<&[u64]>,
    ) -> Box<dyn PutChunks> {
        match &self.form {
            Form::Folder => {
                let folder = self.names.temporary.join(key.as_str());
                let files = ChunkFiles::new(folder, self.version, self.fsync, per_shard);
                Box::new(files)
            }
            Form::Document(_) => {
                Box::new(HeldChunks::new(Arc::clone(self), key.as_str().to_owned()))
            }
        }
    }

    /// Begins a node: its folder is made if it is not there.
    ///
    /// # Errors
    /// Where a folder cannot have the node's name, or the system cannot make it.
    pub(super) fn begin(&self, key: &ElementKey) -> RawResult<()> {
        let name = key.name();
        if name.is_empty() || name == "." || name == ".." || DOCUMENTS.contains(&name) {
            return Err(format!("no node of a zarr store can be called {name:?}").into());
        }
        if let Form::Folder = self.form {
            std::fs::create_dir_all(self.names.temporary.join(key.as_str()))?;
        }
        Ok(())
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
        Error::store(STORE, format!("{}: {key}", self.names.url), source)
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
        match &self.form {
            Form::Folder => {
                for (path, name, document) in documents.into_iter().rev() {
                    let path = self.names.temporary.join(path).join(name);
                    self.write(&path, &serde_json::to_vec_pretty(&document)?)?;
                }
                if self.fsync {
                    sync_folders(&self.names.temporary)?;
                }
            }
            Form::Document(file) => {
                for (path, name, document) in &documents {
                    file.document(&join(path, name), document)?;
                }
                file.finish(self.fsync)?;
            }
        }
        Ok(())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        match self.fsync {
            true => file.sync_all(),
            false => Ok(()),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}/{name}"),
    }
}

/// Flushes the entries of folders.
fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
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
    target: WriteTarget,
    closed: AtomicBool,
}

impl ZarrWriter {
    fn start(
        target: &WriteTarget,
        version: ZarrVersion,
        names: Names,
        form: Form,
    ) -> Arc<dyn StoreWriter> {
        let root = Node::default();
        Arc::new(Self {
            shared: Arc::new(Shared {
                names,
                form,
                committed: AtomicBool::new(false),
                format: target.format,
                version,
                fsync: target.fsync,
                nodes: Mutex::new(BTreeMap::from([(String::new(), root)])),
                open_arrays: OpenArrays::default(),
            }),
            target: target.clone(),
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
            .begin(key)
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
        let Some(file) = self.shared.references() else {
            return Ok(false);
        };
        let located = source.references().await?;
        let begun = self.shared.begin(key);
        begun
            .and_then(|()| link(&self.shared, file, key, source, &located, attributes))
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
        let (overwrite, fsync) = (self.target.overwrite, self.target.fsync);
        self.shared.names.publish(overwrite, fsync)?;
        self.shared.committed.store(true, Ordering::Release);
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.committed.load(Ordering::Acquire) {
            self.names.remove();
        }
    }
}
