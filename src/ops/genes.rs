//! Names of genes to positions on the var axis.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::StringArray;

use super::options::GeneList;
use crate::element::AnnData;
use crate::error::{Error, Result};
use crate::model::{AxisRegistry, VarAxis};

/// Chosen genes.
#[derive(Debug, Clone)]
pub(super) struct Genes {
    /// Their positions in `var`.
    pub(super) positions: Arc<[u64]>,
    /// Id of their axis.
    pub(super) axis: String,
}

/// The listed genes, in the order of `var`; [`None`] where no list chooses. A name that stands more than once in
/// `var_names` selects every gene of that name, as a mask in Python would.
///
/// # Errors
/// [`Error::InvalidOption`] that names an unknown gene and the nearest known one.
pub(super) async fn chosen(object: &AnnData, genes: Option<&GeneList>) -> Result<Option<Genes>> {
    let Some(genes) = genes else {
        return Ok(None);
    };
    let axis = object.var_axis().await?;
    let positions = positions(&axis, genes)?;
    let names: Vec<&str> = names_at(&axis, &positions).collect();
    let chosen = VarAxis::new(
        StringArray::from(names),
        axis.source().cloned(),
        Some(positions.clone()),
    );
    let chosen = AxisRegistry::global().register(Arc::new(chosen));
    Ok(Some(Genes {
        positions: positions.into(),
        axis: chosen.id().to_owned(),
    }))
}

/// Where listed genes stand on an axis, in its order.
///
/// # Errors
/// [`Error::InvalidOption`] that names an unknown gene and the nearest known one.
pub(super) fn positions(axis: &VarAxis, genes: &GeneList) -> Result<Vec<u64>> {
    let wanted: HashSet<&str> = genes.0.iter().map(String::as_str).collect();
    let mut found = HashSet::with_capacity(wanted.len());
    let mut positions = Vec::with_capacity(wanted.len());
    for (position, name) in (0u64..).zip(axis.names()) {
        let name = name.unwrap_or_default();
        if wanted.contains(name) {
            found.insert(name);
            positions.push(position);
        }
    }
    match genes.0.iter().find(|name| !found.contains(name.as_str())) {
        None => Ok(positions),
        Some(unknown) => {
            let reason = match axis.position(unknown) {
                Err(reason) => reason,
                Ok(_) => format!("no gene '{unknown}'"),
            };
            Err(Error::option("--genes", reason))
        }
    }
}

/// The names that stand at positions of an axis.
pub(super) fn names_at<'a>(axis: &'a VarAxis, positions: &[u64]) -> impl Iterator<Item = &'a str> {
    let positions = positions.iter().filter_map(|at| usize::try_from(*at).ok());
    positions.map(|at| axis.names().value(at))
}
