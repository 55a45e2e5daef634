//! What is in an object, without reading values.

use crate::element::{ElementInfo, inspect_elements};
use crate::error::Result;
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
}

/// Lists an object's elements: reads attributes and descriptions only, and works on objects that
/// cannot be opened because something in them is broken.
///
/// # Errors
/// [`Error::StoreNotFound`](crate::Error::StoreNotFound) where there is no store, or no such group;
/// those of the store.
pub async fn inspect(location: &Location) -> Result<Inspection> {
    let store = store::open(location).await?;
    let root = ElementKey::new(location.group());
    let elements = inspect_elements(&store, &root).await?;
    let rows_of = |name: &str| {
        elements
            .iter()
            .find(|element| element.key.as_str() == name)
            .and_then(|element| element.shape.first().copied())
    };
    Ok(Inspection {
        location: location.clone(),
        format: store.format(),
        bytes: store.bytes(),
        n_obs: rows_of("obs"),
        n_vars: rows_of("var"),
        elements,
    })
}
