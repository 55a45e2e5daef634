//! What lies in an object's groups and is part of no element, and what it has lost: elements, and
//! chunks whose fill values nobody can have meant.

use std::collections::HashSet;
use std::sync::Arc;

use crate::element::node::Node;
use crate::element::{AnnData, Raw};
use crate::error::Result;
use crate::model::{ElementKey, is_url};
use crate::store::{Contradiction, Format, MissingChunks, NodeKind, Store};

/// What the root of an object may hold; names with a dot are those of anndata 0.5 and 0.6.
const ELEMENTS: [&str; 13] = [
    "X", "layers", "obs", "obsm", "obsp", "raw", "raw.X", "raw.var", "raw.varm", "uns", "var",
    "varm", "varp",
];
/// The categories of the columns of a frame that anndata 0.7 wrote.
const CATEGORIES: &str = "__categories";
/// The arrays of a sparse matrix.
const SPARSE: [&str; 3] = ["data", "indices", "indptr"];
/// Groups inside of groups that are looked into.
const MOST_DEPTH: usize = 32;

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
        let key = below(root, &contradiction.key)?;
        let element = key.as_str().split('/').next()?;
        (contradiction.lost && ELEMENTS.contains(&element)).then_some(Contradiction {
            key,
            ..contradiction
        })
    });
    Ok(below.collect())
}

/// The path of a node of the object at `root` below it.
fn below(root: &ElementKey, key: &ElementKey) -> Option<ElementKey> {
    let path = key.as_str().strip_prefix(root.as_str())?;
    Some(ElementKey::new(path))
}

/// Arrays of elements with chunks that are not stored, where writers that leave out chunks of nothing
/// but fill values cannot have done so: entries of sparse matrices, categories, and names of
/// rows; by their paths below its root. Of other values 0, `false` and empty text are as likely meant. Of a
/// store behind a URL nothing is known: that would take a request for every array.
///
/// # Errors
/// Where the store fails.
pub(super) async fn lost_chunks(object: &AnnData) -> Result<Vec<(ElementKey, MissingChunks)>> {
    let store = object.store();
    if is_url(store.url()) || store.format() == Format::H5ad.ending() {
        return Ok(Vec::new());
    }
    let raw = object.raw().map(Raw::var);
    let frames = [Some(object.obs()), Some(object.var()), raw];
    let frames = frames.into_iter().flatten();
    let names: Vec<_> = frames.map(|frame| frame.index().key().clone()).collect();
    let mut lost = Vec::new();
    let mut todo: Vec<_> = ELEMENTS
        .iter()
        .map(|name| (object.root().child(name), 0))
        .collect();
    while let Some((key, depth)) = todo.pop() {
        if depth > MOST_DEPTH || store.node(&key).await? != Some(NodeKind::Group) {
            continue;
        }
        let children = store.children(&key).await?;
        let is_sparse = SPARSE.iter().all(|part| children.iter().any(|c| c == part));
        let is_text = |key: &ElementKey| key.name() == "categories" || names.contains(key);
        for name in children {
            let child = key.child(&name);
            let is_suspect = is_text(&child)
                || key.name() == CATEGORIES
                // Text with a mask (`nullable-string-array`).
                || (is_text(&key) && name == "values")
                || (is_sparse && SPARSE.contains(&name.as_str()));
            if !is_suspect || store.node(&child).await? == Some(NodeKind::Group) {
                todo.push((child, depth + 1));
                continue;
            }
            // What fails here is an error of whoever reads the element, and one value may well be the
            // fill value.
            if let Ok(array) = store.array(&child).await
                && array.info().len() > 1
                && let Ok(Some(chunks)) = array.missing_chunks().await
                && chunks.missing > 0
                && let Some(key) = below(object.root(), &child)
            {
                lost.push((key, chunks));
            }
        }
    }
    lost.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    Ok(lost)
}
