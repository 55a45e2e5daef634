//! What describes nodes: documents of their own, or all of them in the root's (consolidated).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::tree::Version;
use crate::model::ElementKey;

/// A document.
pub(super) type Document = Map<String, Value>;

/// The documents of one node.
#[derive(Debug, Clone, Default)]
pub(super) struct Documents {
    /// `zarr.json`.
    pub(super) v3: Option<Document>,
    /// `.zarray`.
    pub(super) array: Option<Document>,
    /// `.zgroup`.
    pub(super) group: Option<Document>,
    /// `.zattrs`.
    pub(super) attributes: Option<Document>,
}

impl Documents {
    /// Names of those that nodes of a version have, or of either.
    pub(super) fn names(version: Option<Version>) -> &'static [&'static str] {
        match version {
            Some(Version::V3) => &["zarr.json"],
            Some(Version::V2) => &[".zarray", ".zgroup", ".zattrs"],
            None => &["zarr.json", ".zarray", ".zgroup", ".zattrs"],
        }
    }

    /// Whether each says that it is of the version that its name is of, if it says anything.
    ///
    /// # Errors
    /// A reason that names the document and both versions.
    pub(super) fn check_version(&self) -> Result<(), String> {
        let named = [
            ("zarr.json", &self.v3, 3),
            (".zarray", &self.array, 2),
            (".zgroup", &self.group, 2),
        ];
        for (name, document, version) in named {
            let said = document.as_ref().and_then(|d| d.get("zarr_format"));
            if let Some(said) = said.filter(|said| said.as_u64() != Some(version)) {
                return Err(format!(
                    "{name} has zarr_format {said}, and is read as {version}"
                ));
            }
        }
        Ok(())
    }

    /// Takes the document of a name.
    pub(super) fn set(&mut self, name: &str, document: Document) {
        let slot = match name {
            "zarr.json" => &mut self.v3,
            ".zarray" => &mut self.array,
            ".zgroup" => &mut self.group,
            ".zattrs" => &mut self.attributes,
            _ => return,
        };
        *slot = Some(document);
    }
}

/// The documents of all nodes of a store, as its root has them.
#[derive(Debug)]
pub(super) struct Consolidated(BTreeMap<String, Documents>);

impl Consolidated {
    /// What `zarr.json` of the root says of the others, if it does.
    pub(super) fn v3(root: &Document) -> Option<Self> {
        let metadata = root.get("consolidated_metadata")?.get("metadata")?;
        let mut nodes = BTreeMap::new();
        for (path, document) in metadata.as_object()? {
            let documents = Documents {
                v3: Some(document.as_object()?.clone()),
                ..Documents::default()
            };
            nodes.insert(path.trim_matches('/').to_owned(), documents);
        }
        let mut own = root.clone();
        own.remove("consolidated_metadata");
        let documents = Documents {
            v3: Some(own),
            ..Documents::default()
        };
        nodes.insert(String::new(), documents);
        Some(Self(nodes))
    }

    /// What `.zmetadata` says.
    pub(super) fn v2(document: &Document) -> Option<Self> {
        let mut nodes: BTreeMap<String, Documents> = BTreeMap::new();
        for (key, document) in document.get("metadata")?.as_object()? {
            let (path, name) = key.rsplit_once('/').unwrap_or(("", key));
            let documents = nodes.entry(path.trim_matches('/').to_owned()).or_default();
            documents.set(name, document.as_object()?.clone());
        }
        Some(Self(nodes))
    }

    /// The documents of a node.
    pub(super) fn node(&self, key: &ElementKey) -> Option<&Documents> {
        self.0.get(key.as_str())
    }

    /// Names of a group's children, in order.
    pub(super) fn children(&self, key: &ElementKey) -> BTreeSet<String> {
        let prefix = super::tree::prefix(key);
        let below = self.0.range(prefix.clone()..);
        let below = below.take_while(|(path, _)| path.starts_with(&prefix));
        let names = below.filter_map(|(path, _)| path[prefix.len()..].split('/').next());
        names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Document {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn nodes_and_children_come_from_the_root() {
        let group = json!({"node_type": "group", "zarr_format": 3});
        let root = object(
            json!({"node_type": "group", "consolidated_metadata": {"metadata": {
            "obs": group, "obs/a": group, "obs/b/c": group, "obsm": group}}}),
        );
        let all = Consolidated::v3(&root).unwrap();
        let names = |key: &str| {
            all.children(&ElementKey::new(key))
                .into_iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["obs", "obsm"]);
        assert_eq!(names("obs"), ["a", "b"]);
        assert!(all.node(&ElementKey::new("var")).is_none());
        let own = all.node(&ElementKey::root()).unwrap().v3.as_ref().unwrap();
        assert!(!own.contains_key("consolidated_metadata"));

        let all =
            object(json!({"metadata": {".zgroup": {}, ".zattrs": {"a": 1}, "x/y/.zarray": {}}}));
        let all = Consolidated::v2(&all).unwrap();
        assert!(all.node(&ElementKey::root()).unwrap().attributes.is_some());
        assert!(all.node(&ElementKey::new("x/y")).unwrap().array.is_some());
        assert_eq!(all.children(&ElementKey::new("x")).len(), 1);
    }
}
