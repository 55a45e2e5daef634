//! What lies in an object's groups and is part of no element.

use std::collections::HashSet;

use crate::element::AnnData;
use crate::element::node::Node;
use crate::error::Result;
use crate::model::ElementKey;
use crate::store::NodeKind;

/// What the root of an object may hold; names with a dot are those of anndata 0.5 and 0.6.
pub(super) const ELEMENTS: [&str; 13] = [
    "X", "layers", "obs", "obsm", "obsp", "raw", "raw.X", "raw.var", "raw.varm", "uns", "var",
    "varm", "varp",
];
/// The categories of the columns of a frame that anndata 0.7 wrote.
pub(super) const CATEGORIES: &str = "__categories";

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

/// The warning of whoever writes an object without a [stray](strays).
pub(crate) fn not_written(stray: &ElementKey) -> String {
    let why = match stray.as_str().rsplit('/').nth(1) {
        Some("obs" | "var") => "the attribute column-order does not name it",
        _ => "it is no part of AnnData",
    };
    format!("{stray}: not written, because {why}")
}
