//! `uns` of one or several objects as a tree of what is copied from where.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use futures::future::BoxFuture;
use serde_json::Value;

use crate::element::info::MAX_DEPTH;
use crate::element::node::{Encoding, Node};
use crate::element::write::{CopyOptions, Place, copy_tree, encoding};
use crate::error::Result;
use crate::model::{ElementKey, MergeStrategy, RowSelection};
use crate::store::{NodeKind, ReadMetrics, Store};

/// Rows that are compared at a time.
const BLOCK: u64 = 1 << 16;

/// `uns` of an object.
#[derive(Debug, Clone)]
pub(crate) struct UnsSource {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) key: ElementKey,
    /// Elements that are no part of it, with all below them.
    pub(crate) skip: Vec<ElementKey>,
}

/// What an element of `uns` is made of.
#[derive(Debug, Clone)]
pub(crate) enum UnsNode {
    /// A dict of elements by name.
    Dict(Vec<(String, Self)>),
    /// An element of an object, with all below it.
    Copy(UnsSource),
}

/// Merges the `uns` that some of `n` objects have: dicts that all elements of a name are, element by
/// element, everything else whole. Gives the tree, and the paths of what is not kept.
///
/// # Errors
/// Where a source cannot be read.
pub(crate) async fn merge_uns(
    sources: &[UnsSource],
    n: usize,
    strategy: Option<MergeStrategy>,
) -> Result<(UnsNode, Vec<String>)> {
    let mut dropped = Vec::new();
    let Some(strategy) = strategy else {
        for source in sources {
            for name in children(source).await? {
                if !dropped.contains(&name) {
                    dropped.push(name);
                }
            }
        }
        return Ok((UnsNode::Dict(Vec::new()), dropped));
    };
    let merged = merge_dicts(
        (sources.to_vec(), n),
        strategy,
        String::new(),
        0,
        &mut dropped,
    )
    .await?;
    Ok((UnsNode::Dict(merged), dropped))
}

fn merge_dicts(
    (sources, n): (Vec<UnsSource>, usize),
    strategy: MergeStrategy,
    path: String,
    depth: usize,
    dropped: &mut Vec<String>,
) -> BoxFuture<'_, Result<Vec<(String, UnsNode)>>> {
    Box::pin(async move {
        let mut names: Vec<String> = Vec::new();
        let mut of_source = Vec::with_capacity(sources.len());
        for source in &sources {
            let own = children(source).await?;
            names.extend(
                own.iter()
                    .filter(|name| !names.contains(name))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
            of_source.push(own);
        }
        let mut merged = Vec::new();
        for name in names {
            let having: Vec<UnsSource> = sources
                .iter()
                .zip(&of_source)
                .filter(|(_, own)| own.contains(&name))
                .map(|(source, _)| source.child(&name))
                .collect();
            let path = match path.as_str() {
                "" => name.clone(),
                path => format!("{path}/{name}"),
            };
            if strategy == MergeStrategy::Same && having.len() < n {
                dropped.push(path);
                continue;
            }
            if depth < MAX_DEPTH && all_dicts(&having).await? {
                let n = having.len();
                let below = merge_dicts((having, n), strategy, path, depth + 1, dropped).await?;
                if !below.is_empty() {
                    merged.push((name, UnsNode::Dict(below)));
                }
                continue;
            }
            match keep(&having, strategy).await? {
                Some(kept) => merged.push((name, UnsNode::Copy(kept))),
                None => dropped.push(path),
            }
        }
        Ok(merged)
    })
}

/// The element that is kept of those that objects have.
async fn keep(having: &[UnsSource], strategy: MergeStrategy) -> Result<Option<UnsSource>> {
    let Some((first, others)) = having.split_first() else {
        return Ok(None);
    };
    if !strategy.may_keep(having.len(), having.len()) {
        return Ok(None);
    }
    if strategy.compares() {
        for other in others {
            if !equal(first, other, 0).await? {
                return Ok(None);
            }
        }
    }
    Ok(Some(first.clone()))
}

impl UnsSource {
    fn child(&self, name: &str) -> Self {
        Self {
            key: self.key.child(name),
            ..self.clone()
        }
    }
}

/// Names of a dict's elements, without those that are no part of it.
async fn children(source: &UnsSource) -> Result<Vec<String>> {
    let names = source.store.children(&source.key).await?;
    let kept = names
        .into_iter()
        .filter(|name| !source.skip.contains(&source.key.child(name)));
    Ok(kept.collect())
}

async fn all_dicts(sources: &[UnsSource]) -> Result<bool> {
    for source in sources {
        let node = Node::open(&source.store, &source.key).await?;
        if node.kind != NodeKind::Group || node.encoding().await? != Encoding::Dict {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether two elements are equal as `anndata.concat` holds them equal: scalars by value whatever
/// their type (and a NaN not even itself), everything else by type, shape and value, where missing
/// values are alike.
fn equal<'a>(a: &'a UnsSource, b: &'a UnsSource, depth: usize) -> BoxFuture<'a, Result<bool>> {
    Box::pin(async move {
        let (left, right) = (
            Node::open(&a.store, &a.key).await?,
            Node::open(&b.store, &b.key).await?,
        );
        if left.kind != right.kind || depth > MAX_DEPTH {
            return Ok(false);
        }
        if left.kind == NodeKind::Array {
            return equal_arrays(&left, &right, depth == 0).await;
        }
        if left.encoding().await? != right.encoding().await? {
            return Ok(false);
        }
        for name in [
            "shape",
            "ordered",
            "_index",
            "column-order",
            "form",
            "na-value",
        ] {
            let value = |node: &Node| node.attributes.get(name).cloned().unwrap_or(Value::Null);
            if value(&left) != value(&right) {
                return Ok(false);
            }
        }
        let names = children(a).await?;
        if names != children(b).await? {
            return Ok(false);
        }
        for name in names {
            if !equal(&a.child(&name), &b.child(&name), depth + 1).await? {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

async fn equal_arrays(a: &Node, b: &Node, outermost: bool) -> Result<bool> {
    let (left, right) = (a.array().await?, b.array().await?);
    let (x, y) = (left.info(), right.info());
    if x.shape != y.shape || x.null != y.null {
        return Ok(false);
    }
    let scalar = x.shape.is_empty() && outermost;
    if x.dtype != y.dtype && !scalar {
        return Ok(false);
    }
    let metrics = ReadMetrics::default();
    let mut start = 0;
    while start < x.len() {
        let rows = RowSelection::range(start..x.len().min(start + BLOCK));
        let (p, q) = (
            left.read(&rows, &metrics).await?,
            right.read(&rows, &metrics).await?,
        );
        let same = match scalar {
            true => equal_scalars(&p, &q),
            false => p == q,
        };
        if !same {
            return Ok(false);
        }
        start += BLOCK;
    }
    Ok(true)
}

fn equal_scalars(a: &ArrayRef, b: &ArrayRef) -> bool {
    let number = |values: &ArrayRef| {
        let number = arrow::compute::cast(values, &DataType::Float64).ok()?;
        let number = number.as_primitive::<arrow::datatypes::Float64Type>();
        (!number.is_empty() && number.is_valid(0)).then(|| number.value(0))
    };
    let texts = a.data_type().is_string() || b.data_type().is_string();
    if a.data_type() == b.data_type() && !a.data_type().is_floating() {
        return a == b;
    }
    // NaN is not equal to NaN, as it is in numpy.
    !texts && matches!((number(a), number(b)), (Some(a), Some(b)) if a == b)
}

/// Writes `uns` to its place; elements of `drop` (paths below `uns`) are left out.
///
/// # Errors
/// Those of [`copy_tree`].
pub(crate) fn write_uns<'a>(
    node: &'a UnsNode,
    place: &'a Place,
    drop: &'a [String],
) -> BoxFuture<'a, Result<()>> {
    Box::pin(async move {
        match node {
            UnsNode::Copy(source) => {
                let mut skip = source.skip.clone();
                let below = drop
                    .iter()
                    .map(|path| ElementKey::new(format!("{}/{path}", source.key.as_str())));
                skip.extend(below);
                let options = CopyOptions {
                    storage: place.storage,
                    skip,
                };
                let (store, key) = (&source.store, &source.key);
                copy_tree(store, key, &place.writer, &place.key, &options).await
            }
            UnsNode::Dict(children) => {
                place.group(&encoding("dict", "0.1.0")).await?;
                for (name, child) in children {
                    if drop.contains(name) {
                        continue;
                    }
                    let prefix = format!("{name}/");
                    let below: Vec<String> = drop
                        .iter()
                        .filter_map(|path| Some(path.strip_prefix(&prefix)?.to_owned()))
                        .collect();
                    write_uns(child, &place.child(name), &below).await?;
                }
                Ok(())
            }
        }
    })
}
