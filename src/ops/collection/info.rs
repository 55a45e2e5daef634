//! What is in a collection.

use serde::Serialize;

use crate::element::{AnnData, ElementInfo};
use crate::error::{Error, Result};
use crate::model::{ElementKey, Location};

/// A collection and its datasets.
#[derive(Debug, Clone, Serialize)]
pub struct CollectionInfo {
    /// Where it is.
    pub location: String,
    /// Cells of all datasets.
    pub n_obs: u64,
    /// Genes, the same of all.
    pub n_vars: u64,
    /// The columns of `obs`.
    pub obs_columns: Vec<String>,
    /// The datasets, in the order of their numbers.
    pub datasets: Vec<DatasetInfo>,
}

/// A dataset of a collection.
#[derive(Debug, Clone, Serialize)]
pub struct DatasetInfo {
    /// Where it is.
    pub location: String,
    /// Cells.
    pub n_obs: u64,
    /// Stored entries of a sparse `X`.
    pub nnz: Option<u64>,
    /// Encoding of `X`: `csr_matrix`, `array`.
    pub encoding_type: Option<String>,
    /// Type of the values of `X`.
    pub dtype: Option<String>,
    /// Chunk of `X`: entries of a sparse one, rows and columns of a dense one.
    pub chunks: Option<Vec<u64>>,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Describes a collection, from attributes and descriptions alone.
///
/// # Errors
/// [`Error::InvalidOption`] where the location is that of one object; those of [`AnnData::open`].
pub async fn info(location: &Location) -> Result<CollectionInfo> {
    let object = AnnData::open(location).await?;
    if object.members().is_empty() {
        let reason = "it is one object, not a collection of some";
        return Err(Error::option(location.to_string(), reason));
    }
    let mut datasets = Vec::with_capacity(object.members().len());
    for member in object.members() {
        let elements = member.elements().await?;
        let x = elements.iter().find(|e| e.key == ElementKey::new("X"));
        datasets.push(DatasetInfo {
            location: member.location().to_string(),
            n_obs: member.n_obs(),
            nnz: x.and_then(|x| x.nnz),
            encoding_type: x.map(|x| x.encoding_type.clone()),
            dtype: x.map(|x| x.dtype.clone()),
            chunks: x.and_then(|x| x.chunk_shape.clone()),
            bytes: top(&elements),
        });
    }
    let columns = object.obs().columns().iter();
    Ok(CollectionInfo {
        location: location.to_string(),
        n_obs: object.n_obs(),
        n_vars: object.n_vars(),
        obs_columns: columns.map(|c| c.field().name().clone()).collect(),
        datasets,
    })
}

/// Bytes of the elements at the root, which count those below them.
fn top(elements: &[ElementInfo]) -> u64 {
    let top = elements.iter().filter(|e| !e.key.as_str().contains('/'));
    top.map(|e| e.stored_bytes).fold(0, u64::saturating_add)
}
