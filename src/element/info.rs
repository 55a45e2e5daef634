//! A list of every element of an object, from attributes and descriptions alone: works on objects
//! that break AnnData's rules, which is when one looks.

use std::sync::Arc;

use serde_json::Value;

use crate::element::ElementInfo;
use crate::element::frame::column_names;
use crate::element::matrix::last_pointer;
use crate::element::node::{Encoding, Node};
use crate::error::{Error, Result};
use crate::model::ElementKey;
use crate::store::{ArrayInfo, ArrayReader, NodeKind, Store};

/// Groups may be nested this deep.
pub(crate) const MAX_DEPTH: usize = 64;
/// An object may have this many nodes.
pub(crate) const MAX_NODES: usize = 1_000_000;

/// Lists the elements below `root`, by their paths below it, in path order: groups (`obs`, `uns`,
/// …), the elements in them, and every leaf of `uns`. The arrays inside a sparse matrix, a
/// categorical and the like belong to their element; the bytes of a group are those of all below.
///
/// Reads attributes and descriptions; of values only the last pointer of a sparse matrix.
///
/// # Errors
/// [`Error::InvalidElement`] where groups are nested more than 64 deep or there are more than a
/// million nodes; [`Error::Store`] where the store fails.
pub async fn inspect_elements(
    store: &Arc<dyn Store>,
    root: &ElementKey,
) -> Result<Vec<ElementInfo>> {
    let mut found: Vec<ElementInfo> = Vec::new();
    // A group's entry is completed after those below it: its bytes are theirs.
    let mut open_groups: Vec<(usize, usize)> = Vec::new();
    let mut todo = vec![(Node::open(store, root).await?, ElementKey::root(), 0usize)];
    while let Some((node, key, depth)) = todo.pop() {
        if depth > MAX_DEPTH || found.len() > MAX_NODES {
            let reason = format!("deeper than {MAX_DEPTH} groups or more than {MAX_NODES} nodes");
            return Err(Error::invalid(store.url(), node.key, reason));
        }
        close_groups(&mut open_groups, depth, &mut found);
        let encoding = node.encoding().await.ok();
        let descend = node.kind == NodeKind::Group && !is_composite(encoding);
        if depth > 0 {
            open_groups.push((found.len(), depth));
            found.push(describe(&node, encoding, key.clone()).await);
        }
        if descend {
            for name in node.children().await?.iter().rev() {
                if encoding == Some(Encoding::DataFrame) && name == "__categories" {
                    continue;
                }
                if let Some(child) = node.find_child(name).await? {
                    todo.push((child, key.child(name), depth + 1));
                }
            }
        }
    }
    close_groups(&mut open_groups, 0, &mut found);
    Ok(found)
}

/// Adds the bytes of groups and elements at `depth` and deeper to those they are in.
fn close_groups(open: &mut Vec<(usize, usize)>, depth: usize, found: &mut [ElementInfo]) {
    while let Some((at, _)) = open.pop_if(|(_, opened)| *opened >= depth) {
        let bytes = found.get(at).map_or(0, |info| info.stored_bytes);
        if let Some(parent) = open.last().and_then(|(parent, _)| found.get_mut(*parent)) {
            parent.stored_bytes = parent.stored_bytes.saturating_add(bytes);
        }
    }
}

/// Whether a group of this encoding is one element, with the arrays inside it.
fn is_composite(encoding: Option<Encoding>) -> bool {
    matches!(
        encoding,
        Some(
            Encoding::Csr
                | Encoding::Csc
                | Encoding::Categorical
                | Encoding::NullableInteger
                | Encoding::NullableBoolean
                | Encoding::NullableString
                | Encoding::Awkward
        )
    )
}

async fn describe(node: &Node, encoding: Option<Encoding>, key: ElementKey) -> ElementInfo {
    let (encoding_type, encoding_version) = node.tag();
    let mut info = ElementInfo {
        key,
        encoding_type: encoding_type.to_owned(),
        encoding_version: encoding_version.to_owned(),
        shape: Vec::new(),
        dtype: String::new(),
        nnz: None,
        chunk_shape: None,
        compression: String::new(),
        stored_bytes: 0,
    };
    let arrays = match node.kind {
        NodeKind::Array => match node.array().await {
            Ok(array) => vec![(String::new(), sized(array.as_ref()).await)],
            Err(_) => Vec::new(),
        },
        NodeKind::Group if is_composite(encoding) => members(node).await,
        NodeKind::Group => Vec::new(),
    };
    let lengths = |array: &ArrayInfo| array.shape.clone();
    let member = |name: &str| {
        arrays
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, array)| array)
    };
    match encoding {
        Some(Encoding::Csr | Encoding::Csc) => {
            info.shape = node.sparse_shape().map(Vec::from).unwrap_or_default();
            let data = member("data");
            info.dtype = data
                .map(|array| array.dtype.to_string())
                .unwrap_or_default();
            info.nnz = stored_entries(node).await.or(data.map(ArrayInfo::len));
        }
        Some(Encoding::Categorical) => {
            info.shape = member("codes")
                .or(member(""))
                .map(lengths)
                .unwrap_or_default();
            info.dtype = "category".to_owned();
        }
        Some(Encoding::NullableInteger | Encoding::NullableBoolean | Encoding::NullableString) => {
            let values = member("values");
            info.shape = values.map(lengths).unwrap_or_default();
            info.dtype = values
                .map(|array| array.dtype.to_string())
                .unwrap_or_default();
        }
        Some(Encoding::Awkward) => {
            info.shape = node
                .attributes
                .get("length")
                .and_then(Value::as_u64)
                .into_iter()
                .collect();
            info.dtype = "awkward".to_owned();
        }
        Some(Encoding::DataFrame) => info.shape = frame_shape(node).await,
        _ => {
            let array = member("");
            info.shape = array.map(lengths).unwrap_or_default();
            info.dtype = match array {
                Some(array) if array.null => String::new(),
                Some(array) => array.dtype.to_string(),
                None => String::new(),
            };
        }
    }
    let size = |array: &&ArrayInfo| {
        let values = array
            .shape
            .iter()
            .fold(1u64, |product, n| product.saturating_mul(*n));
        values.saturating_mul(array.dtype.size().unwrap_or(16))
    };
    if let Some(largest) = arrays.iter().map(|(_, array)| array).max_by_key(size) {
        info.chunk_shape = largest.chunk_shape.clone();
        info.compression = largest.filters.join("+");
    }
    let bytes = arrays
        .iter()
        .map(|(_, array)| array.stored_bytes.unwrap_or(0));
    info.stored_bytes = bytes.fold(0, u64::saturating_add);
    info
}

/// An array's description with its bytes on disk, where these can be told.
async fn sized(array: &dyn ArrayReader) -> ArrayInfo {
    let mut info = array.info().clone();
    if let Ok(bytes) = array.stored_bytes().await {
        info.stored_bytes = bytes;
    }
    info
}

/// Descriptions of the arrays inside an element, those of one nested group (categories that are a
/// nullable string array) included.
async fn members(node: &Node) -> Vec<(String, ArrayInfo)> {
    let mut found = Vec::new();
    for name in node.children().await.unwrap_or_default() {
        let Ok(Some(child)) = node.find_child(&name).await else {
            continue;
        };
        if child.kind == NodeKind::Array {
            if let Ok(array) = child.array().await {
                found.push((name, sized(array.as_ref()).await));
            }
            continue;
        }
        for inner in child.children().await.unwrap_or_default() {
            if let Ok(array) = child.member(&inner).await {
                found.push((format!("{name}/{inner}"), sized(array.as_ref()).await));
            }
        }
    }
    found
}

/// What the last pointer of a sparse matrix says; [`None`] where it cannot be read, or be true.
async fn stored_entries(node: &Node) -> Option<u64> {
    let (indptr, data) = (node.member("indptr").await, node.member("data").await);
    let last = last_pointer(indptr.ok()?.as_ref()).await.ok()?;
    let most = data.ok()?.info().len();
    u64::try_from(last).ok().filter(|nnz| *nnz <= most)
}

/// Rows and columns of a data frame; rows are unknown where the index cannot be found.
async fn frame_shape(node: &Node) -> Vec<u64> {
    let n_columns = node
        .attributes
        .get("column-order")
        .and_then(column_names)
        .map_or(0, |names| names.len());
    let n_columns = u64::try_from(n_columns).unwrap_or(u64::MAX);
    let index = match node.text("_index") {
        Some(name) => node.find_child(name).await.ok().flatten(),
        None => None,
    };
    let array = match index {
        Some(index) if index.kind == NodeKind::Array => index.array().await,
        Some(index) => match index.member("values").await {
            Ok(values) => Ok(values),
            Err(_) => index.member("codes").await,
        },
        None => return Vec::new(),
    };
    match array {
        Ok(array) => vec![array.info().len(), n_columns],
        Err(_) => Vec::new(),
    }
}
