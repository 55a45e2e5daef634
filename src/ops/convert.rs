//! [`convert`]: an object in another format, layout or choice of elements.

use super::options::ConvertOptions;
use super::outputs::Shard;
use super::prepare::{Prepared, Work};
use super::{genes, prepare};
use crate::element::{AnnData, Frame, inspect_elements, stored_name};
use crate::error::{Error, Result};
use crate::model::{ElementKey, RowSelection};

/// Plans the writing of a whole object: from and to any format, with the encodings of today, sparse
/// matrices by rows. Memory does not depend on the number of cells, but for 4 bytes a cell where the
/// number of entries is not known before; records of `uns` that hold text are in memory whole.
///
/// # Errors
/// [`Error::InvalidOption`] for elements to drop that are not there or cannot be left out, and
/// genes that are not on the axis; [`Error::OutputRefused`] where the output may not be written;
/// whatever opening the input meets.
pub async fn convert(options: &ConvertOptions) -> Result<Prepared> {
    let (session, object) = prepare::open(&options.input, &options.run).await?;
    check(&object, &options.drop).await?;
    let genes = genes::chosen(&object, options.genes.as_ref()).await?;
    let shard = Shard::lone(&options.output, RowSelection::all(object.n_obs()));
    let work = Work {
        session,
        object,
        shards: vec![shard],
        genes,
        order: None,
        attached: None,
        drop: options.drop.clone(),
        what: "convert".to_owned(),
        warnings: Vec::new(),
    };
    Prepared::try_new(work, &options.run).await
}

/// Whether the elements are there and may be left out: whole ones, columns of `obs` and `var` but
/// for their names, and anything in `uns`.
async fn check(object: &AnnData, drop: &[ElementKey]) -> Result<()> {
    if drop.is_empty() {
        return Ok(());
    }
    let elements = inspect_elements(object.store(), object.root()).await?;
    for key in drop {
        let refuse = |reason: &str| Error::option("--drop", format!("{key} {reason}"));
        if !elements.iter().any(|element| element.key.is_in(key)) {
            return Err(refuse(&format!("is no element of {}", object.location())));
        }
        let parts: Vec<&str> = key.as_str().split('/').collect();
        let frame = |frame: &Frame, name: &str| {
            frame
                .columns()
                .iter()
                .any(|c| stored_name(c.field()) == name)
        };
        let may_go = match parts[..] {
            ["X" | "raw" | "layers" | "obsm" | "varm" | "obsp" | "varp"] | ["uns", ..] => true,
            ["layers" | "obsm" | "varm" | "obsp" | "varp", _] | ["raw", "varm", _] => true,
            ["obs", name] => frame(object.obs(), name),
            ["var", name] => frame(object.var(), name),
            _ => false,
        };
        if !may_go {
            return Err(refuse(
                "cannot be left out: whole elements, columns of obs and var, and what is in uns can",
            ));
        }
    }
    Ok(())
}
