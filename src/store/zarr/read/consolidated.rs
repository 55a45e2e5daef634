//! Whether consolidated metadata says what the nodes say. Reading goes by the nodes; others go by
//! what is consolidated, and then see another store.

use serde_json::{Map, Value};

use super::tree::Tree;
use crate::error::Result;
use crate::model::ElementKey;

/// The key of a group's document under which version 3 keeps those of the nodes below.
const CONSOLIDATED: &str = "consolidated_metadata";

impl Tree {
    /// Nodes that the root's consolidated metadata names and that are not there, or not so.
    ///
    /// # Errors
    /// Where documents cannot be read.
    pub(super) fn check_consolidated(&self) -> Result<Vec<(ElementKey, String)>> {
        let root = ElementKey::root();
        let mut found = Vec::new();
        if let Some(all) = self.document(&root, ".zmetadata")? {
            let Some(Value::Object(documents)) = all.get("metadata") else {
                return Ok(vec![(root, ".zmetadata holds no metadata".to_owned())]);
            };
            for (path, said) in documents {
                let (key, name) = path.rsplit_once('/').unwrap_or(("", path));
                self.compare(&ElementKey::new(key), path, name, said, &mut found)?;
            }
        }
        if let Some(document) = self.document(&root, "zarr.json")?
            && let Some(all) = document.get(CONSOLIDATED).filter(|all| !all.is_null())
        {
            let Some(Value::Object(documents)) = all.get("metadata") else {
                let reason = format!("{CONSOLIDATED} holds no metadata");
                return Ok(vec![(root, reason)]);
            };
            for (key, said) in documents {
                let path = format!("{key}/zarr.json");
                self.compare(&ElementKey::new(key), &path, "zarr.json", said, &mut found)?;
            }
        }
        Ok(found)
    }

    fn compare(
        &self,
        key: &ElementKey,
        path: &str,
        name: &str,
        said: &Value,
        found: &mut Vec<(ElementKey, String)>,
    ) -> Result<()> {
        let mut add = |reason: &str| {
            found.push((key.clone(), format!("consolidated metadata {reason}")));
        };
        let Value::Object(said) = said else {
            add(&format!("holds no object for {path}"));
            return Ok(());
        };
        let document = match self.document(key, path)? {
            Some(document) => document,
            // Attributes that nobody wrote are as good as none.
            None if name == ".zattrs" => Map::new(),
            None => {
                add(&format!("names {path}, which is not there"));
                return Ok(());
            }
        };
        let (said, document) = (bare(said), bare(&document));
        let keys = said.keys().chain(document.keys());
        let mut differing = keys.filter(|key| said.get(*key) != document.get(*key));
        if let Some(differing) = differing.next() {
            add(&format!("differs from {name} in {differing:?}"));
        }
        Ok(())
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
