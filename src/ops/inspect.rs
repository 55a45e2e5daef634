//! What is in an object, without reading values.

use crate::element::{AnnData, ElementInfo, inspect_elements, lost_nodes};
use crate::error::{Error, Result};
use crate::model::{ElementKey, Location};
use crate::store;

/// An object's elements.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Where it is.
    pub location: Location,
    /// The kind of its store, `h5ad`.
    pub format: &'static str,
    /// Bytes of the whole store, where that is known without a walk.
    pub bytes: Option<u64>,
    /// Cells, where `obs` says how many.
    pub n_obs: Option<u64>,
    /// Genes, where `var` says how many.
    pub n_vars: Option<u64>,
    /// The elements, in path order.
    pub elements: Vec<ElementInfo>,
    /// What the store says it has and does not have, of one on a disk and of no collection: a line each.
    pub lost: Vec<String>,
}

/// Lists an object's elements, or those of a collection with the cells of all its members: reads
/// attributes and descriptions only, and works on objects that cannot be opened because something in
/// them is broken.
///
/// # Errors
/// [`Error::StoreNotFound`](crate::Error::StoreNotFound) where there is no store, or no such group;
/// those of the store; [`Error::IncompatibleSchemas`] for a collection whose members differ.
pub async fn inspect(location: &Location) -> Result<Inspection> {
    let found = inspect_store(location).await;
    let is_object = found.as_ref().is_ok_and(|found| found.n_obs.is_some());
    if is_object {
        return found;
    }
    // What has no `obs` may be a collection; else what was found first is said.
    match AnnData::open(location).await {
        Ok(object) => Ok(Inspection::new(
            location,
            object.store().format(),
            object.stored_bytes(),
            object.elements().await?,
        )),
        Err(error @ Error::IncompatibleSchemas(_)) => Err(error),
        Err(_) => found,
    }
}

async fn inspect_store(location: &Location) -> Result<Inspection> {
    let store = store::open(location).await?;
    let root = ElementKey::new(location.group());
    let elements = inspect_elements(&store, &root).await?;
    let mut found = Inspection::new(location, store.format(), store.bytes(), elements);
    found.lost = match lost_nodes(&store, &root).await {
        Ok(lost) => lost
            .iter()
            .map(|lost| format!("{}: {}", lost.key, lost.reason))
            .collect(),
        // What is broken is shown as far as it goes.
        Err(error) => vec![error.to_string()],
    };
    Ok(found)
}

impl Inspection {
    fn new(
        location: &Location,
        format: &'static str,
        bytes: Option<u64>,
        elements: Vec<ElementInfo>,
    ) -> Self {
        let rows_of = |name: &str| {
            elements
                .iter()
                .find(|element| element.key.as_str() == name)
                .and_then(|element| element.shape.first().copied())
        };
        Self {
            location: location.clone(),
            format,
            bytes,
            n_obs: rows_of("obs"),
            n_vars: rows_of("var"),
            elements,
            lost: Vec::new(),
        }
    }
}
