//! What reading an object does not show: chunks that are not stored, entries that no row has,
//! metadata that is told twice and differently, bytes that are not what checksums say.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};

use super::Verification;
use crate::error::Result;
use crate::model::{ElementKey, RowSelection};
use crate::store::{MissingChunks, NodeKind, ReadMetrics, Store};

/// Nodes that are looked at at most.
const MOST_NODES: usize = 100_000;
/// Groups inside of groups.
const MOST_DEPTH: usize = 32;

/// Looks at every node below `root`; `lost` are chunks that are not stored and can hardly be meant to be
/// fill values.
pub(super) async fn check_storage(
    store: &Arc<dyn Store>,
    root: &ElementKey,
    lost: &HashMap<ElementKey, MissingChunks>,
    found: &mut Verification,
) {
    match store.contradictions(root).await {
        Ok(all) => {
            for contradiction in all {
                found.add(contradiction.key.to_string(), None, contradiction.reason);
            }
        }
        Err(error) => found.failed("/", &error),
    }
    match store.garbled().await {
        Ok(all) => {
            for (key, reason) in all {
                found.add(key, None, reason);
            }
        }
        Err(error) => found.failed("/", &error),
    }
    let mut todo = vec![(root.clone(), 0)];
    let mut n_nodes = 0;
    while let Some((key, depth)) = todo.pop() {
        n_nodes += 1;
        if n_nodes > MOST_NODES || depth > MOST_DEPTH {
            found.add(key.to_string(), None, "nodes nest without end");
            return;
        }
        // What fails here is a finding of whoever reads the element.
        match store.node(&key).await {
            Ok(Some(NodeKind::Array)) => {
                drop(check_chunks(store, &key, lost.get(&key), found).await);
            }
            Ok(Some(NodeKind::Group)) => {
                let children = store.children(&key).await.unwrap_or_default();
                if ["data", "indices", "indptr"]
                    .iter()
                    .all(|name| children.iter().any(|child| child == name))
                {
                    drop(check_entries(store, &key, found).await);
                }
                let below = children.iter().rev();
                todo.extend(below.map(|name| (key.child(name), depth + 1)));
            }
            _ => {}
        }
    }
}

async fn check_chunks(
    store: &Arc<dyn Store>,
    key: &ElementKey,
    lost: Option<&MissingChunks>,
    found: &mut Verification,
) -> Result<()> {
    if let Some(chunks) = lost {
        let doubt = "which can hardly be meant; the chunks are probably lost";
        found.notes.push(format!("{key}: {chunks}, {doubt}"));
        return Ok(());
    }
    let array = store.array(key).await?;
    // A value that is the fill value, as of `null`, has no chunk by right.
    if array.info().shape.is_empty() {
        return Ok(());
    }
    let chunks = array.missing_chunks().await?;
    let missing = chunks.filter(|chunks| chunks.missing > 0);
    let missing = missing.map(|chunks| format!("{key}: {chunks}"));
    found.notes.extend(missing);
    Ok(())
}

/// Whether a sparse matrix holds more entries than its rows.
async fn check_entries(
    store: &Arc<dyn Store>,
    key: &ElementKey,
    found: &mut Verification,
) -> Result<()> {
    let indptr = store.array(&key.child("indptr")).await?;
    let Some(last) = indptr.info().len().checked_sub(1) else {
        return Ok(());
    };
    let row = RowSelection::range(last..last + 1);
    let pointer = indptr.read(&row, &ReadMetrics::default()).await?;
    let pointer = cast(&pointer, &DataType::Int64)?;
    let Some(end) = pointer
        .as_primitive::<Int64Type>()
        .values()
        .first()
        .copied()
    else {
        return Ok(());
    };
    for name in ["data", "indices"] {
        let len = store.array(&key.child(name)).await?.info().len();
        if u64::try_from(end).is_ok_and(|end| end < len) {
            found.notes.push(format!(
                "{key}: {name} hold {len} entries, but the last pointer is {end}: those behind it belong to no row"
            ));
        }
    }
    Ok(())
}
