//! What lies in an object's groups and is part of no element, and what elements it has lost.

use std::collections::HashSet;
use std::sync::Arc;

use crate::element::AnnData;
use crate::element::node::Node;
use crate::error::Result;
use crate::model::{ElementKey, is_url};
use crate::store::{Contradiction, NodeKind, Store};

/// What the root of an object may hold; names with a dot are those of anndata 0.5 and 0.6.
const ELEMENTS: [&str; 13] = [
    "X", "layers", "obs", "obsm", "obsp", "raw", "raw.X", "raw.var", "raw.varm", "uns", "var",
    "varm", "varp",
];
/// The categories of the columns of a frame that anndata 0.7 wrote.
const CATEGORIES: &str = "__categories";

/// Keys that no element is read from: other members of the root, and members of `obs` and `var`
/// that `column-order` does not name. anndata passes over them as well.
///
/// # Errors
/// Where the store fails.
pub(super) async fn strays(object: &AnnData) -> Result<Vec<ElementKey>> {
    let mut strays = Vec::new();
    let root = Node::open(object.store(), object.root()).await?;
    for name in root.children().await? {
        if !ELEMENTS.contains(&name.as_str()) {
            strays.push(root.key.child(&name));
        }
    }
    for (name, frame) in [("obs", object.obs()), ("var", object.var())] {
        let node = root.child(name, "").await?;
        if node.kind == NodeKind::Array {
            continue;
        }
        let read: HashSet<&ElementKey> = std::iter::once(frame.index())
            .chain(frame.columns())
            .map(|column| column.key())
            .collect();
        for member in node.children().await? {
            let key = node.key.child(&member);
            if member != CATEGORIES && !read.contains(&key) {
                strays.push(key);
            }
        }
    }
    Ok(strays)
}

/// Nodes of elements of the object at `root` that its store says it has and that are not there, by
/// their paths below it. Whoever reads the object passes over them. Of a store behind a URL nothing is
/// known: that would take a request for every node.
///
/// # Errors
/// Where the store fails.
pub(crate) async fn lost_nodes(
    store: &Arc<dyn Store>,
    root: &ElementKey,
) -> Result<Vec<Contradiction>> {
    if is_url(store.url()) {
        return Ok(Vec::new());
    }
    let all = store.contradictions(root).await?;
    let below = all.into_iter().filter_map(|contradiction| {
        let path = contradiction.key.as_str().strip_prefix(root.as_str())?;
        let key = ElementKey::new(path);
        let element = key.as_str().split('/').next()?;
        (contradiction.lost && ELEMENTS.contains(&element)).then_some(Contradiction {
            key,
            ..contradiction
        })
    });
    Ok(below.collect())
}
