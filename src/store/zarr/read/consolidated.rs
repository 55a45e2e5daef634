//! Whether a store has the nodes that it says it has: those that consolidated metadata names, as it
//! names them, and those whose chunks are there. Reading a disk goes by the nodes' own documents, and
//! would pass over a node that has lost them; others go by what is consolidated, and then see
//! another store.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::documents::Document;
use super::tree::{Tree, parse, prefix};
use crate::error::{Error, Result};
use crate::model::ElementKey;
use crate::store::Contradiction;
use crate::store::remote::Span;
use crate::store::zarr::DOCUMENTS;

/// The key of a group's document under which version 3 keeps those of the nodes below.
const CONSOLIDATED: &str = "consolidated_metadata";
/// Groups inside of groups that are looked at.
const MOST_DEPTH: usize = 32;

/// A document that consolidated metadata repeats.
struct Said<'a> {
    key: ElementKey,
    path: String,
    document: &'a Value,
}

impl Tree {
    /// Nodes below a group that are not there, or not so, although consolidated metadata of the
    /// root or their own files say so. Reads every document that is consolidated.
    ///
    /// # Errors
    /// Where documents cannot be fetched, and where those of the root do not parse.
    pub(super) fn check(&self, below: &ElementKey) -> Result<Vec<Contradiction>> {
        let mut found = Vec::new();
        let root = ElementKey::root();
        if let Some(all) = self.document(&root, ".zmetadata")? {
            let said = all.get("metadata").and_then(Value::as_object);
            match said.map(|said| said.iter().map(|(path, document)| Said::v2(path, document))) {
                Some(said) => self.compare(below, said, &mut found)?,
                None => found.push(differs(&root, ".zmetadata holds no metadata")),
            }
        }
        if let Some(document) = self.document(&root, "zarr.json")?
            && let Some(all) = document.get(CONSOLIDATED).filter(|all| !all.is_null())
        {
            let said = all.get("metadata").and_then(Value::as_object);
            match said.map(|said| said.iter().map(|(key, document)| Said::v3(key, document))) {
                Some(said) => self.compare(below, said, &mut found)?,
                None => found.push(differs(&root, format!("{CONSOLIDATED} holds no metadata"))),
            }
        }
        // What is believed as the root has it is not listed: not everybody can.
        if self.root.consolidated.is_none() {
            self.check_folders(below, 0, &mut found)?;
        }
        Ok(found)
    }

    fn compare<'a>(
        &self,
        below: &ElementKey,
        said: impl Iterator<Item = Said<'a>>,
        found: &mut Vec<Contradiction>,
    ) -> Result<()> {
        let said: Vec<_> = said.filter(|said| said.key.is_in(below)).collect();
        let paths = said.iter().map(|said| (said.path.clone(), Span::Whole));
        let documents = self.files.parts(&paths.collect::<Vec<_>>());
        let documents = documents.map_err(|e| Error::store("zarr", &self.url, e))?;
        // What is believed as the root has it is read.
        let passed_over = |key: &ElementKey| matches!(self.find(key), Ok(None));
        for (said, piece) in said.iter().zip(documents) {
            let document = piece.map(|piece| parse(&piece.bytes));
            found.extend(said.against(document).map(|contradiction| Contradiction {
                lost: contradiction.lost && passed_over(&contradiction.key),
                ..contradiction
            }));
        }
        Ok(())
    }

    fn names_in(&self, key: &ElementKey) -> Result<BTreeSet<String>> {
        let names = self.files.children(&prefix(key));
        names.map_err(|e| Error::store("zarr", format!("{}: {key}", self.url), e))
    }

    /// Whether a folder without documents has chunks or nodes in it, or folders that have.
    fn was_node(&self, key: &ElementKey, depth: usize) -> Result<bool> {
        for name in self.names_in(key)? {
            let is_number = |part: &str| part.parse::<u64>().is_ok();
            let child = key.child(&name);
            if name == "c"
                || name.split('.').all(is_number)
                || DOCUMENTS.contains(&name.as_str())
                || matches!(self.find(&child), Ok(Some(_)))
                || (depth < MOST_DEPTH && self.was_node(&child, depth + 1)?)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds folders below a group that are no nodes, but hold what nodes do.
    fn check_folders(
        &self,
        group: &ElementKey,
        depth: usize,
        found: &mut Vec<Contradiction>,
    ) -> Result<()> {
        for name in self.names_in(group)? {
            // Hidden files are what file managers leave behind.
            if DOCUMENTS.contains(&name.as_str()) || name.starts_with('.') {
                continue;
            }
            let key = group.child(&name);
            match self.find(&key) {
                Ok(Some(node)) if node.array.is_none() && depth < MOST_DEPTH => {
                    self.check_folders(&key, depth + 1, found)?;
                }
                Ok(None) if found.iter().any(|other| other.key == key) => {}
                Ok(None) if self.was_node(&key, depth + 1)? => found.push(Contradiction {
                    key,
                    reason: "chunks or nodes are there, but no zarr.json, .zarray or .zgroup"
                        .to_owned(),
                    lost: true,
                }),
                // Who reads the node hears of what is wrong with it.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }
}

impl<'a> Said<'a> {
    fn v2(path: &str, document: &'a Value) -> Self {
        Self {
            key: ElementKey::new(path.rsplit_once('/').map_or("", |(key, _)| key)),
            path: path.to_owned(),
            document,
        }
    }

    fn v3(key: &str, document: &'a Value) -> Self {
        let key = ElementKey::new(key);
        Self {
            path: format!("{}zarr.json", prefix(&key)),
            key,
            document,
        }
    }

    /// How a node's own document, [`None`] where there is none, contradicts what is said.
    fn against(
        &self,
        document: Option<std::result::Result<Document, String>>,
    ) -> Option<Contradiction> {
        let reason = |reason: &str| format!("consolidated metadata {reason}");
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let Value::Object(said) = self.document else {
            let reason = reason(&format!("holds no object for {}", self.path));
            return Some(differs(&self.key, reason));
        };
        let document = match document {
            Some(Ok(document)) => document,
            // Who reads the node hears of it.
            Some(Err(_)) => return None,
            // Attributes that nobody wrote are as good as none.
            None if name == ".zattrs" => Map::new(),
            None => {
                return Some(Contradiction {
                    key: self.key.clone(),
                    reason: reason(&format!("names {}, which is not there", self.path)),
                    lost: true,
                });
            }
        };
        let (said, document) = (bare(said), bare(&document));
        let mut keys = said.keys().chain(document.keys());
        let differing = keys.find(|key| said.get(*key) != document.get(*key))?;
        let reason = reason(&format!("differs from {name} in {differing:?}"));
        Some(differs(&self.key, reason))
    }
}

fn differs(key: &ElementKey, reason: impl Into<String>) -> Contradiction {
    Contradiction {
        key: key.clone(),
        reason: reason.into(),
        lost: false,
    }
}

/// A document without what it says of others, and without attributes where there are none.
fn bare(document: &Map<String, Value>) -> Map<String, Value> {
    let members = document.iter().filter(|(key, value)| {
        let is_empty = value.as_object().is_some_and(Map::is_empty);
        key.as_str() != CONSOLIDATED && !(key.as_str() == "attributes" && is_empty)
    });
    members
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
