//! Which outputs an operation has: their names, their cells, their sizes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::element::{AnnData, MatrixReader};
use crate::error::{Error, Result};
use crate::model::{MatrixKind, RowSelection, shown_path};
use crate::plan::{OutputSpec, object_paths};
use crate::store::{
    Format, Inputs, ReadMetrics, check_name, check_place, is_taken, place_of, refuse,
};

use super::genes::Genes;
use super::options::{OutputNames, RunOptions};

/// Row lengths are summed in steps of so many rows, to bound memory.
pub(super) const STEP: u64 = 1 << 20;

/// An output and its cells.
#[derive(Debug, Clone)]
pub(super) struct Shard {
    /// What it is called before other names are given: a number or a category.
    pub(super) label: String,
    pub(super) path: PathBuf,
    pub(super) rows: RowSelection,
}

impl Shard {
    /// The one output of an operation.
    pub(super) fn lone(path: &Path, rows: RowSelection) -> Self {
        Self {
            label: "0".to_owned(),
            path: path.to_owned(),
            rows,
        }
    }
}

/// Cuts `rows` every `size` of them.
pub(super) fn by_size(prefix: &Path, rows: &RowSelection, size: u64, format: Format) -> Vec<Shard> {
    // An object without cells still gives one output, as an empty object.
    let n_shards = rows.len().div_ceil(size).max(1);
    (0..n_shards)
        .map(|i| Shard {
            label: i.to_string(),
            path: shard_path(prefix, i, format),
            rows: rows.slice(i * size..(i + 1) * size),
        })
        .collect()
}

/// Shards of these cells.
pub(super) fn of_cells(prefix: &Path, cells: Vec<RowSelection>, format: Format) -> Vec<Shard> {
    let shards = cells.into_iter().enumerate().map(|(i, rows)| Shard {
        label: i.to_string(),
        path: shard_path(prefix, i, format),
        rows,
    });
    shards.collect()
}

/// Outputs with names of their own: `{prefix}_{name}.h5ad`.
///
/// # Errors
/// [`Error::InvalidOption`] where two would have one name.
pub(super) fn named(
    prefix: &Path,
    names: Vec<String>,
    cells: Vec<RowSelection>,
    format: Format,
) -> Result<Vec<Shard>> {
    let paths = object_paths(prefix, "--split", &names, format)?;
    let shards = names.into_iter().zip(paths).zip(cells);
    let shards = shards.map(|((label, path), rows)| Shard { label, path, rows });
    Ok(shards.collect())
}

/// What to say of shards of an earlier, finer cut that follow the last of `n_shards`: they look
/// like part of this one.
pub(super) fn left_behind(prefix: &Path, n_shards: usize, format: Format) -> Option<String> {
    let stale: Vec<PathBuf> = (n_shards..)
        .map(|i| shard_path(prefix, i, format))
        .take_while(|path| path.exists())
        .collect();
    let (first, last) = (stale.first()?, stale.last()?);
    Some(format!(
        "{} to {} are of an earlier run and were left: this one ends with shard {}",
        shown_path(first),
        shown_path(last),
        n_shards.saturating_sub(1)
    ))
}

/// The name of a shard.
pub(super) fn shard_path(prefix: &Path, i: impl std::fmt::Display, format: Format) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(format!("_shard_{i}.{}", format.ending()));
    PathBuf::from(path)
}

/// Gives outputs the names of a file: a name per line in the order of the outputs, or lines
/// `label,name`. Relative names are taken as they are.
pub(super) fn rename(shards: &mut [Shard], names: &OutputNames) -> Result<()> {
    let file = names.0.display();
    let text = std::fs::read_to_string(&names.0)
        .map_err(|e| Error::option("--output-names", format!("{file}: {e}")))?;
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let by_label: HashMap<&str, &str> = lines.iter().filter_map(|l| l.split_once(',')).collect();
    if by_label.len() == lines.len() && !lines.is_empty() {
        for shard in shards {
            let name = by_label.get(shard.label.as_str()).ok_or_else(|| {
                Error::option(
                    "--output-names",
                    format!("{file} has no line for '{}'", shard.label),
                )
            })?;
            shard.path = PathBuf::from(name.trim());
        }
        return Ok(());
    }
    if lines.len() != shards.len() {
        return Err(Error::option(
            "--output-names",
            format!(
                "{file} has {} names, but there are {} outputs",
                lines.len(),
                shards.len()
            ),
        ));
    }
    for (shard, name) in shards.iter_mut().zip(lines) {
        shard.path = PathBuf::from(name);
    }
    Ok(())
}

/// Checks names before work begins: all different, none an input, none there unless it may be
/// replaced.
pub(super) async fn check(paths: &[&Path], inputs: &[&str], options: &RunOptions) -> Result<()> {
    let inputs = Inputs::of(inputs.iter().copied());
    let mut seen = HashSet::new();
    for path in paths {
        if !seen.insert(place_of(path)) {
            return Err(refuse(path, "two outputs have this name"));
        }
        check_name(path, options.storage.format)?;
        check_place(path, options.storage.format)?;
        inputs.check(path)?;
        if !options.overwrite && is_taken(path).await? {
            return Err(refuse(path, "it exists; --overwrite replaces it"));
        }
    }
    Ok(())
}

/// Sparse matrices that move with cells, under the names of their columns.
pub(super) fn sparse(object: &AnnData) -> Vec<(String, &dyn MatrixReader)> {
    let mut matrices: Vec<(String, &dyn MatrixReader)> = Vec::new();
    if let Some(x) = object.x() {
        matrices.push(("X".to_owned(), x.as_ref()));
    }
    for (name, layer) in object.layers() {
        matrices.push((format!("layers_{name}"), layer.as_ref()));
    }
    for (name, element) in object.obsm() {
        if let Some(matrix) = element.as_matrix() {
            matrices.push((format!("obsm_{name}"), matrix));
        }
    }
    if let Some(x) = object.raw().and_then(|raw| raw.x()) {
        matrices.push(("raw_X".to_owned(), x.as_ref()));
    }
    matrices.retain(|(_, matrix)| matrix.shape().kind == MatrixKind::Sparse);
    matrices
}

/// The sizes of an output, from `indptr` alone. With a gene selection the entries of `X` and
/// layers are not known before they are read.
pub(super) async fn size(
    object: &AnnData,
    shard: &Shard,
    genes: Option<&Genes>,
) -> Result<OutputSpec> {
    let mut nnz = BTreeMap::new();
    for (name, matrix) in sparse(object) {
        if genes.is_some() && (name == "X" || name.starts_with("layers_")) {
            continue;
        }
        nnz.insert(name, entries(matrix, &shard.rows).await?);
    }
    Ok(OutputSpec {
        path: shard.path.clone(),
        n_obs: Some(shard.rows.len()),
        nnz,
        axis: genes.map(|genes| genes.axis.clone()),
    })
}

/// Stored entries of some rows of a matrix, from `indptr` alone.
pub(super) async fn entries(matrix: &dyn MatrixReader, rows: &RowSelection) -> Result<u64> {
    let metrics = ReadMetrics::default();
    let mut entries = 0;
    let mut start = 0;
    while start < rows.len() {
        let step = rows.slice(start..start + STEP);
        let offsets = matrix.offsets(&step, &metrics).await?;
        entries += offsets.last().copied().unwrap_or(0);
        start += STEP;
    }
    Ok(entries)
}
