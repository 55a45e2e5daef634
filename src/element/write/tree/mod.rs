//! Elements that are aligned to no axis (`uns`), copied from store to store by blocks of rows.
//!
//! Current encodings are copied as they are, member by member. Legacy ones (no tags at all,
//! `dataframe` 0.1.0, `h5sparse_*`) get the tags and the layout of today.

mod arrays;
mod groups;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;

use crate::element::info::{MAX_DEPTH, MAX_NODES};
use crate::element::write::Storage;
use crate::error::{Error, Result};
use crate::model::ElementKey;
use crate::store::{Attributes, NodeKind, ReadMetrics, Store, StoreWriter};

/// How a tree is copied.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// How arrays are stored.
    pub storage: Storage,
    /// Elements of the source that are left out, with all below them.
    pub skip: Vec<ElementKey>,
}

/// Copies an element and everything below it.
///
/// Reads and writes at most some 4 MiB at a time.
///
/// # Errors
/// [`Error::UnsupportedEncoding`] for an encoding that AnnData does not have,
/// [`Error::InvalidElement`] where members are missing or nest without end.
pub async fn copy_tree(
    store: &Arc<dyn Store>,
    from: &ElementKey,
    writer: &Arc<dyn StoreWriter>,
    to: &ElementKey,
    options: &CopyOptions,
) -> Result<()> {
    let copy = TreeCopy {
        store: Arc::clone(store),
        writer: Arc::clone(writer),
        options: options.clone(),
        nodes: AtomicUsize::new(0),
        metrics: ReadMetrics::default(),
    };
    copy.node(from.clone(), to.clone(), 0).await
}

struct TreeCopy {
    store: Arc<dyn Store>,
    writer: Arc<dyn StoreWriter>,
    options: CopyOptions,
    nodes: AtomicUsize,
    metrics: ReadMetrics,
}

impl TreeCopy {
    fn node(&self, from: ElementKey, to: ElementKey, depth: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if depth > MAX_DEPTH || self.nodes.fetch_add(1, Ordering::Relaxed) > MAX_NODES {
                return Err(self.invalid(&from, "elements nest without end"));
            }
            let attributes = self.store.attributes(&from).await?;
            match self.store.node(&from).await? {
                Some(NodeKind::Group) => self.group(&from, &to, &attributes, depth).await,
                Some(NodeKind::Array) => self.array(&from, &to, &attributes).await,
                None => Err(self.missing(&from)),
            }
        })
    }

    fn invalid(&self, key: &ElementKey, reason: impl Into<String>) -> Error {
        Error::invalid(self.store.url(), key, reason)
    }

    fn missing(&self, key: &ElementKey) -> Error {
        Error::ElementNotFound {
            url: self.store.url().to_owned(),
            element: key.clone(),
            hint: String::new(),
        }
    }

    fn unsupported(&self, key: &ElementKey, attributes: &Attributes) -> Error {
        Error::UnsupportedEncoding {
            url: self.store.url().to_owned(),
            element: key.clone(),
            encoding_type: text(attributes, "encoding-type").to_owned(),
            encoding_version: text(attributes, "encoding-version").to_owned(),
        }
    }
}

/// A text attribute, empty where it is missing.
fn text<'a>(attributes: &'a Attributes, name: &str) -> &'a str {
    attributes
        .get(name)
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default()
}
