//! [`convert`]: an object in another format, layout or choice of elements.

use super::options::ConvertOptions;
use super::outputs::Shard;
use super::prepare::{Prepared, Work};
use super::{genes, prepare};
use crate::element::{AnnData, inspect_elements};
use crate::error::{Error, Result};
use crate::model::{ElementKey, RowSelection};

/// Elements that every object has; they cannot be left out.
const NEEDED: [&str; 3] = ["", "obs", "var"];

/// Plans the writing of a whole object: from and to any format, with the encodings of today, sparse
/// matrices by rows. Memory does not depend on the size of the object.
///
/// # Errors
/// [`Error::InvalidOption`] for elements to drop that are not there or cannot be left out, and
/// genes that are not on the axis; [`Error::OutputRefused`] where the output may not be written;
/// whatever opening the input meets.
pub async fn convert(options: &ConvertOptions) -> Result<Prepared> {
    let (session, object) = prepare::open(&options.input, &options.run).await?;
    check(&object, &options.drop).await?;
    let genes = match &options.genes {
        Some(list) => Some(genes::chosen(&object, list).await?),
        None => None,
    };
    let shard = Shard {
        label: "0".to_owned(),
        path: options.output.clone(),
        rows: RowSelection::all(object.n_obs()),
    };
    let work = Work {
        session,
        object,
        shards: vec![shard],
        genes,
        attached: None,
        drop: options.drop.clone(),
        what: "convert".to_owned(),
        warnings: Vec::new(),
    };
    Prepared::try_new(work, &options.run).await
}

/// Whether the elements are there and may be left out.
async fn check(object: &AnnData, drop: &[ElementKey]) -> Result<()> {
    if drop.is_empty() {
        return Ok(());
    }
    let elements = inspect_elements(object.store(), object.root()).await?;
    for key in drop {
        let reason = if NEEDED.contains(&key.as_str()) {
            format!("{key} cannot be left out of an object")
        } else if !elements.iter().any(|element| element.key.is_in(key)) {
            format!("{} has no element {key}", object.location())
        } else {
            continue;
        };
        return Err(Error::option("--drop", reason));
    }
    Ok(())
}
