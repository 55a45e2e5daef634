//! Groups and what is in them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use hdf5_pure::{ChunkCacheConfig, Dataset, File, FileAccessProperties, FormatError, Group};
use serde_json::Value;

use super::array::{FileInfo, H5Array};
use super::attributes;
use super::library::{self, Link};
use super::source::MetadataSource;
use crate::error::{Error, Result};
use crate::model::ElementKey;
use crate::store::decode::{Fault, Once, guard};
use crate::store::remote;
use crate::store::source::{ByteSource, FileSource};
use crate::store::{ArrayReader, Attributes, Contradiction, NodeKind, Store};

/// How many soft links may lead from one to the next.
const MAX_HOPS: u8 = 16;
/// Groups inside of groups that are looked into for links.
const MAX_DEPTH: usize = 32;

/// An HDF5 file.
#[derive(Debug)]
pub(super) struct H5Store(Arc<Tree>);

/// Groups and arrays of a file. Groups are listed once, on the way to their first child, and kept.
#[derive(Debug)]
struct Tree {
    file: Arc<FileInfo>,
    root: Node,
    /// What tells the content of an object from a later one.
    tag: Option<String>,
}

/// A group or a dataset, with what was read of it.
#[derive(Debug, Clone)]
enum Node {
    Group(Arc<GroupNode>),
    Array(Arc<ArrayNode>),
}

#[derive(Debug)]
struct GroupNode {
    group: Group,
    children: Once<BTreeMap<String, Node>>,
    attributes: OnceLock<Arc<Attributes>>,
}

#[derive(Debug)]
struct ArrayNode {
    dataset: Dataset,
    array: OnceLock<H5Array>,
    attributes: OnceLock<Arc<Attributes>>,
}

impl H5Store {
    /// Opens a file and reads its first kilobytes.
    ///
    /// # Errors
    /// [`Error::StoreNotFound`] where it is missing, not HDF5 or cut short; [`Error::Store`] where
    /// the system or the parser refuses.
    pub(super) fn open(url: &str) -> Result<Self> {
        let path = Path::new(url);
        match FileSource::open(path) {
            Ok(source) => Self::open_in(url, Some(path.to_owned()), None, Arc::new(source)),
            Err(error) => Err(not_opened(url, error)),
        }
    }

    /// Opens the file whose bytes are `source`, and which is at a path, if it is at one.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(super) fn open_in(
        url: &str,
        path: Option<PathBuf>,
        tag: Option<String>,
        source: Arc<dyn ByteSource>,
    ) -> Result<Self> {
        let properties = FileAccessProperties::new().with_chunk_cache(ChunkCacheConfig::disabled());
        let opened = guard(|| {
            let metadata = MetadataSource(Arc::clone(&source));
            Ok(File::from_source_with_options(metadata, properties)?)
        });
        let file = match opened {
            Ok(file) => file,
            Err(Fault::Io(error)) => return Err(Error::store("storage", url, error)),
            Err(fault) => return Err(not_hdf5(url, source.as_ref(), fault)),
        };
        let superblock = file.superblock();
        if source.len() < superblock.eof_address {
            return Err(Error::StoreNotFound {
                url: url.to_owned(),
                reason: format!(
                    "the file is truncated: it has {} bytes of {}",
                    source.len(),
                    superblock.eof_address
                ),
            });
        }
        let info = FileInfo {
            url: url.to_owned(),
            path,
            source,
            base: superblock.base_address.get(),
            offset_size: superblock.offset_size,
            length_size: superblock.length_size,
        };
        Ok(Self(Arc::new(Tree {
            file: Arc::new(info),
            root: Node::group(file.root()),
            tag,
        })))
    }

    /// Asks the tree, on a thread that may wait where it is far away.
    async fn ask<T: Send + 'static>(
        &self,
        key: &ElementKey,
        question: fn(&Tree, &ElementKey) -> Result<T>,
    ) -> Result<T> {
        if !self.0.file.source.is_remote() {
            return question(&self.0, key);
        }
        let (tree, asked) = (Arc::clone(&self.0), key.clone());
        remote::in_background(move || question(&tree, &asked))
            .await
            .map_err(|e| Error::store("storage", format!("{}: element {key}", self.url()), e))?
    }
}

impl Tree {
    /// Walks to a node; [`None`] where there is none.
    fn find(&self, key: &ElementKey) -> Result<Option<Node>> {
        self.follow(key, 0)
    }

    fn follow(&self, key: &ElementKey, hops: u8) -> Result<Option<Node>> {
        let mut node = self.root.clone();
        let mut walked = ElementKey::root();
        for name in key.as_str().split('/').filter(|name| !name.is_empty()) {
            let Node::Group(group) = &node else {
                return Ok(None);
            };
            walked = walked.child(name);
            let child = match group.children() {
                Ok(children) => children.get(name).cloned(),
                Err(fault @ Fault::Io(_)) => return Err(fault.at(&self.file.url, &walked)),
                // One link that is not plain or leads nowhere spoils the list of a group, not its
                // other children.
                Err(_) => match group.child(name) {
                    Ok(Some(child)) => Some(child),
                    Err(fault @ Fault::Io(_)) => return Err(fault.at(&self.file.url, &walked)),
                    refused => match self.linked(&walked, hops)? {
                        Some(child) => Some(child),
                        None => refused.map_err(|f| f.at(&self.file.url, &walked))?,
                    },
                },
            };
            let Some(child) = child else { return Ok(None) };
            node = child;
        }
        Ok(Some(node))
    }

    /// What a soft link leads to, which the parser does not follow. Groups of the newer format,
    /// in which it passes over such links without a word, do not get here.
    fn linked(&self, key: &ElementKey, hops: u8) -> Result<Option<Node>> {
        match library::link(&self.file, key).map_err(|fault| fault.at(&self.file.url, key))? {
            None => Ok(None),
            Some(Link::External(file)) => Err(Error::NotImplemented(format!(
                "{}: element {key} is a link to another file, {file}",
                self.file.url
            ))),
            Some(Link::Soft(target)) if hops < MAX_HOPS => {
                let target = match (target.strip_prefix('/'), key.as_str().rsplit_once('/')) {
                    (Some(absolute), _) => ElementKey::new(absolute),
                    (None, Some((parent, _))) => ElementKey::new(parent).child(&target),
                    (None, None) => ElementKey::new(&target),
                };
                let found = self.follow(&target, hops + 1)?;
                found.map(Some).ok_or_else(|| Error::ElementNotFound {
                    url: self.file.url.clone(),
                    element: key.clone(),
                    hint: format!("; it is a link to {target}, which is not there"),
                })
            }
            Some(Link::Soft(target)) => Err(Error::invalid(
                &self.file.url,
                key,
                format!("the link to {target} does not end after {MAX_HOPS} others"),
            )),
        }
    }

    fn missing(&self, key: &ElementKey, hint: &str) -> Error {
        Error::ElementNotFound {
            url: self.file.url.clone(),
            element: key.clone(),
            hint: hint.to_owned(),
        }
    }

    fn get(&self, key: &ElementKey) -> Result<Node> {
        self.find(key)?.ok_or_else(|| self.missing(key, ""))
    }

    /// What a reference leads to that only the library follows, where the file is out of its reach:
    /// anndata before 0.8 keeps the categories of a column in `__categories` beside it.
    fn usual_target(&self, key: &ElementKey, name: &str) -> std::result::Result<Value, Fault> {
        let (frame, column) = key.as_str().rsplit_once('/').unwrap_or(("", key.as_str()));
        let target = ElementKey::new(frame).child("__categories").child(column);
        match name == "categories" && matches!(self.find(&target), Ok(Some(_))) {
            true => Ok(Value::from(target.as_str())),
            false => library::reference_attribute(&self.file, key, name),
        }
    }

    fn read_attributes(
        &self,
        key: &ElementKey,
        values: HashMap<String, hdf5_pure::AttrValue>,
        types: &HashMap<String, hdf5_pure::Datatype>,
    ) -> std::result::Result<Attributes, Fault> {
        let mut references = HashMap::new();
        for name in attributes::reference_names(types) {
            let target = match self.file.path {
                Some(_) => library::reference_attribute(&self.file, key, name)?,
                None => self.usual_target(key, name)?,
            };
            references.insert(name.to_owned(), target);
        }
        Ok(attributes::to_json(values, types, references))
    }
}

impl Node {
    fn group(group: Group) -> Self {
        Self::Group(Arc::new(GroupNode {
            group,
            children: Once::new(),
            attributes: OnceLock::new(),
        }))
    }

    fn array(dataset: Dataset) -> Self {
        Self::Array(Arc::new(ArrayNode {
            dataset,
            array: OnceLock::new(),
            attributes: OnceLock::new(),
        }))
    }
}

impl GroupNode {
    /// All children; one header read per child, once.
    fn children(&self) -> std::result::Result<&BTreeMap<String, Node>, Fault> {
        self.children.get_or_make(|| {
            guard(|| {
                let mut children = BTreeMap::new();
                for (name, group) in self.group.iter_groups()? {
                    children.insert(name, Node::group(group));
                }
                for (name, dataset) in self.group.iter_datasets()? {
                    children.insert(name, Node::array(dataset));
                }
                Ok(children)
            })
        })
    }

    /// One child by name, without the others.
    fn child(&self, name: &str) -> std::result::Result<Option<Node>, Fault> {
        let absent = |error: &hdf5_pure::Error| {
            matches!(
                error,
                hdf5_pure::Error::Format(FormatError::PathNotFound(_))
            )
        };
        guard(|| match self.group.group(name) {
            Ok(group) => Ok(Some(Node::group(group))),
            Err(error) if absent(&error) => Ok(None),
            Err(hdf5_pure::Error::NotAGroup(_)) => Ok(Some(Node::array(self.group.dataset(name)?))),
            Err(error) => Err(error.into()),
        })
    }
}

impl Tree {
    fn node(&self, key: &ElementKey) -> Result<Option<NodeKind>> {
        Ok(self.find(key)?.map(|node| match node {
            Node::Group(_) => NodeKind::Group,
            Node::Array(_) => NodeKind::Array,
        }))
    }

    fn children(&self, key: &ElementKey) -> Result<Vec<String>> {
        match self.get(key)? {
            Node::Group(group) => match group.children() {
                Ok(children) => Ok(children.keys().cloned().collect()),
                // The library lists links that are not plain; what they lead to is asked of each.
                Err(fault) => {
                    library::link_names(&self.file, key).map_err(|_| fault.at(&self.file.url, key))
                }
            },
            Node::Array(_) => Ok(Vec::new()),
        }
    }

    /// Links below a group that the parser passes over without a word: those that are not plain in groups
    /// of the newer format, which a group becomes with its first link to another file.
    fn links(&self, below: &ElementKey) -> Result<Vec<Contradiction>> {
        if self.file.path.is_none() {
            return Ok(Vec::new());
        }
        let mut groups = Vec::new();
        let mut todo = vec![(below.clone(), 0)];
        while let Some((key, depth)) = todo.pop() {
            // What cannot be listed is an error of whoever reads it, and so is every link there.
            if let Ok(Some(Node::Group(group))) = self.find(&key)
                && let Ok(children) = group.children()
            {
                let is_group = |node: &&Node| matches!(node, Node::Group(_));
                if depth < MAX_DEPTH {
                    let inner = children.iter().filter(|(_, node)| is_group(node));
                    todo.extend(inner.map(|(name, _)| (key.child(name), depth + 1)));
                }
                groups.push((key, children.keys().cloned().collect()));
            }
        }
        let found = library::other_links(&self.file, &groups);
        let found = found.map_err(|fault| fault.at(&self.file.url, below))?;
        let links = found.into_iter().map(|(key, link)| Contradiction {
            key,
            reason: match link {
                Link::External(file) => format!("a link to another file, {file}, is not followed"),
                Link::Soft(target) => {
                    format!("a link to {target} is not followed in a group of HDF5's newer format")
                }
            },
            lost: true,
        });
        Ok(links.collect())
    }

    fn attributes(&self, key: &ElementKey) -> Result<Arc<Attributes>> {
        let node = self.get(key)?;
        let cell = match &node {
            Node::Group(group) => &group.attributes,
            Node::Array(array) => &array.attributes,
        };
        if let Some(attributes) = cell.get() {
            return Ok(Arc::clone(attributes));
        }
        let attributes = guard(|| {
            let (values, types) = match &node {
                Node::Group(node) => (node.group.attrs()?, node.group.attr_datatypes()?),
                Node::Array(node) => (node.dataset.attrs()?, node.dataset.attr_datatypes()?),
            };
            self.read_attributes(key, values, &types)
        })
        .map_err(|fault| fault.at(&self.file.url, key))?;
        Ok(Arc::clone(cell.get_or_init(|| Arc::new(attributes))))
    }

    fn array(&self, key: &ElementKey) -> Result<H5Array> {
        let Node::Array(node) = self.get(key)? else {
            return Err(self.missing(key, ": there is a group of that name"));
        };
        if let Some(array) = node.array.get() {
            return Ok(array.clone());
        }
        let array = H5Array::open(&self.file, key, node.dataset.clone())?;
        Ok(node.array.get_or_init(|| array).clone())
    }
}

#[async_trait]
impl Store for H5Store {
    fn url(&self) -> &str {
        &self.0.file.url
    }

    fn format(&self) -> &'static str {
        "h5ad"
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.0.file.source.len())
    }

    fn version(&self) -> Option<&str> {
        self.0.tag.as_deref()
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

    async fn contradictions(&self, below: &ElementKey) -> Result<Vec<Contradiction>> {
        self.ask(below, Tree::links).await
    }

    async fn array(&self, key: &ElementKey) -> Result<Arc<dyn ArrayReader>> {
        Ok(Arc::new(self.ask(key, Tree::array).await?))
    }
}

fn not_opened(url: &str, error: io::Error) -> Error {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "no such file",
        io::ErrorKind::IsADirectory => "a directory, and only HDF5 files are read",
        io::ErrorKind::PermissionDenied => "permission denied",
        _ => return Error::store("hdf5", url, error),
    };
    Error::StoreNotFound {
        url: url.to_owned(),
        reason: reason.to_owned(),
    }
}

fn not_hdf5(url: &str, source: &dyn ByteSource, fault: Fault) -> Error {
    let mut start = vec![0; usize::try_from(source.len().min(8)).unwrap_or(0)];
    let read = source.read_at(0, &mut start);
    let reason = match fault {
        _ if start.is_empty() => "an empty file".to_owned(),
        Fault::Format(hdf5_pure::Error::Format(FormatError::SignatureNotFound)) if read.is_ok() => {
            format!(
                "neither an HDF5 file nor a zip archive (starts with \"{}\")",
                start.escape_ascii()
            )
        }
        other => format!("not a readable HDF5 file: {other}"),
    };
    Error::StoreNotFound {
        url: url.to_owned(),
        reason,
    }
}
