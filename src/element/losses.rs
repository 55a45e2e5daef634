//! What an object has lost: elements, and chunks whose fill values can hardly be meant.

use std::sync::Arc;

use crate::element::strays::{CATEGORIES, ELEMENTS};
use crate::element::{AnnData, Raw};
use crate::error::Result;
use crate::model::{ElementKey, is_url};
use crate::store::{Attributes, Contradiction, Format, MissingChunks, NodeKind, Store};

/// The arrays of a sparse matrix.
const SPARSE: [&str; 3] = ["data", "indices", "indptr"];
/// Groups inside of groups that are looked into.
const MOST_DEPTH: usize = 32;

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

/// Arrays of wanted elements with chunks that are not stored, whose fill values can hardly be meant:
/// entries of sparse matrices, categories, and names of rows; by their paths below the root. Writers
/// leave out chunks of nothing but fill values, and of other values 0, `false` and empty text are as
/// likely meant. (Lost pointers are an error where a matrix is opened.)
///
/// Of a store behind a URL nothing is known, for that would take a request for every array, and of an
/// h5ad nothing is asked: HDF5 reserves room for chunks when an array is made, or writes them all.
/// What cannot be read is an error of whoever reads the element.
pub(super) async fn lost_chunks(
    object: &AnnData,
    dropped: &[ElementKey],
) -> Vec<(ElementKey, MissingChunks)> {
    let (store, root) = (object.store(), object.root());
    if is_url(store.url()) || store.format() == Format::H5ad.ending() {
        return Vec::new();
    }
    let raw = object.raw().map(Raw::var);
    let frames = [Some(object.obs()), Some(object.var()), raw];
    let frames = frames.into_iter().flatten();
    let names: Vec<_> = frames.map(|frame| frame.index().key().clone()).collect();
    let mut lost = Vec::new();
    let elements = ELEMENTS.iter().map(|name| (root.child(name), 0));
    let mut todo: Vec<(ElementKey, usize)> = elements.collect();
    while let Some((key, depth)) = todo.pop() {
        let is_dropped = below(root, &key).is_none_or(|k| dropped.iter().any(|d| k.is_in(d)));
        if is_dropped || depth > MOST_DEPTH {
            continue;
        }
        let Ok(Some(NodeKind::Group)) = store.node(&key).await else {
            continue;
        };
        let children = store.children(&key).await.unwrap_or_default();
        let has = |name: &str| children.iter().any(|child| child == name);
        let is_matrix = SPARSE.iter().all(|part| has(part))
            && store.attributes(&key).await.is_ok_and(|of| is_wide(&of));
        let is_categorical = has("codes");
        for name in &children {
            let child = key.child(name);
            let is_of_element = match name.as_str() {
                "data" | "indices" => is_matrix,
                "categories" => is_categorical,
                // Text with a mask (`nullable-string-array`).
                "values" => names.contains(&key) || key.name() == "categories",
                _ => key.name() == CATEGORIES,
            };
            let is_suspect = is_of_element || names.contains(&child);
            if is_suspect
                && let Ok(array) = store.array(&child).await
                && let Ok(Some(chunks)) = array.missing_chunks().await
                && chunks.missing > 0
                // One value may well be the fill value.
                && array.info().chunk_shape.as_ref().is_none_or(|chunk| chunk.iter().any(|n| *n > 1))
                && array.info().len() > 1
                && let Some(key) = below(root, &child)
            {
                lost.push((key, chunks));
            }
            todo.push((child, depth + 1));
        }
    }
    lost.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    lost
}

/// Whether a matrix has so many columns, and rows, that a run of indices is more than zeros.
fn is_wide(attributes: &Attributes) -> bool {
    let shape = attributes.get("shape").and_then(|shape| shape.as_array());
    shape.is_some_and(|shape| shape.iter().all(|n| n.as_u64().is_some_and(|n| n > 1)))
}
