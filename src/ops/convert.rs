//! [`convert`]: an object in another format, layout or choice of elements.

use std::sync::Arc;

use super::options::ConvertOptions;
use super::outputs::Shard;
use super::prepare::{Prepared, Work};
use super::{genes, prepare};
use crate::element::{AnnData, Frame, MatrixReader, stored_name};
use crate::error::{Error, Result};
use crate::model::{ElementKey, MatrixKind, RowSelection};

/// Plans the writing of a whole object: from and to any format, with the encodings of today, sparse
/// matrices by rows; matrices over genes in the form asked for. Memory does not depend on the number of cells, but for 4 bytes a cell where the
/// number of entries is not known before; records of `uns` that hold text are in memory whole.
///
/// # Errors
/// [`Error::InvalidOption`] for elements to drop that are not there or cannot be left out, elements
/// that are no matrix over genes where one is to be sparse or dense, and genes that are not on the axis; [`Error::OutputRefused`] where the output may not be written;
/// whatever opening the input meets.
pub async fn convert(options: &ConvertOptions) -> Result<Prepared> {
    let (session, object) = prepare::open(&options.input, &options.run).await?;
    check_dropped(std::slice::from_ref(&object), &options.drop).await?;
    let genes = genes::chosen(&object, options.genes.as_ref()).await?;
    let forms = forms(&object, options)?;
    let shard = Shard::lone(&options.output, RowSelection::all(object.n_obs()));
    let work = Work {
        session,
        object,
        shards: vec![shard],
        genes,
        order: None,
        attached: None,
        forms,
        drop: options.drop.clone(),
        what: "convert".to_owned(),
        warnings: Vec::new(),
    };
    Prepared::try_new(work, &options.run).await
}

/// The columns of the matrices that get another form than they have.
fn forms(object: &AnnData, options: &ConvertOptions) -> Result<Vec<(String, MatrixKind)>> {
    let mut matrices: Vec<(ElementKey, String, &Arc<dyn MatrixReader>)> = Vec::new();
    matrices.extend(object.x().map(|x| ("X".into(), "X".to_owned(), x)));
    for (name, layer) in object.layers() {
        let key = ElementKey::new("layers").child(name);
        matrices.push((key, format!("layers_{name}"), layer));
    }
    let raw = object.raw().and_then(|raw| raw.x());
    matrices.extend(raw.map(|x| ("raw/X".into(), "raw_X".to_owned(), x)));
    let dropped = |key: &ElementKey| options.drop.iter().any(|other| key.is_in(other));
    matrices.retain(|(key, ..)| !dropped(key));
    let mut forms: Vec<(&str, MatrixKind, bool)> = Vec::new();
    let chosen = [
        ("--sparse", &options.sparse, MatrixKind::Sparse),
        ("--dense", &options.dense, MatrixKind::Dense),
    ];
    for (option, keys, kind) in chosen {
        for wanted in keys {
            let all = wanted.as_str() == "all";
            let found: Vec<_> = matrices
                .iter()
                .filter(|(key, ..)| all || key == wanted)
                .collect();
            if found.is_empty() && !all {
                return Err(Error::option(
                    option,
                    format!(
                        "{wanted} is no matrix over genes of {}: X, layers/<name> and raw/X are, if they are there and not dropped",
                        object.location()
                    ),
                ));
            }
            for (key, column, matrix) in found {
                match forms.iter().find(|(other, ..)| other == column) {
                    Some((_, other, _)) if *other != kind => {
                        let reason = format!("{key} cannot be both sparse and dense");
                        return Err(Error::option(option, reason));
                    }
                    Some(_) => {}
                    None => forms.push((column, kind, matrix.shape().kind == kind)),
                }
            }
        }
    }
    let new = forms.into_iter().filter(|(.., has_it)| !has_it);
    Ok(new
        .map(|(column, kind, _)| (column.to_owned(), kind))
        .collect())
}

/// Whether each of the elements is there, in one of the objects at least, and may be left out of it:
/// whole ones, columns of `obs` and `var` but for their names, and anything in `uns`.
pub(super) async fn check_dropped(objects: &[Arc<AnnData>], drop: &[ElementKey]) -> Result<()> {
    if drop.is_empty() {
        return Ok(());
    }
    let mut elements = Vec::with_capacity(objects.len());
    let mut lost = Vec::with_capacity(objects.len());
    for object in objects {
        let there = object.elements().await?;
        let mut keys: Vec<_> = there.into_iter().map(|element| element.key).collect();
        // What is lost cannot be written, so it has to be left out.
        let gone: Vec<_> = object
            .lost()
            .await?
            .iter()
            .map(|lost| lost.key.clone())
            .collect();
        keys.extend(gone.iter().cloned());
        elements.push(keys);
        lost.push(gone);
    }
    for key in drop {
        let refuse = |reason: &str| Error::option("--drop", format!("{key} {reason}"));
        let has = objects
            .iter()
            .zip(&elements)
            .filter(|(_, elements)| elements.iter().any(|element| element.is_in(key)));
        let mut has = has.map(|(object, _)| object).peekable();
        if has.peek().is_none() {
            let of = match objects {
                [object] => object.location().to_string(),
                _ => "any input".to_owned(),
            };
            let hint = match key.as_str().contains(',') {
                true => "; each element has a --drop of its own",
                false => "",
            };
            return Err(refuse(&format!("is no element of {of}{hint}")));
        }
        let is_lost = lost.iter().any(|lost| lost.contains(key));
        if !is_lost && !has.any(|object| may_go(object, key)) {
            return Err(refuse(
                "cannot be left out: whole elements, columns of obs and var, and what is in uns can",
            ));
        }
    }
    Ok(())
}

fn may_go(object: &AnnData, key: &ElementKey) -> bool {
    let parts: Vec<&str> = key.as_str().split('/').collect();
    let has = |frame: &Frame, name: &str| {
        let mut columns = frame.columns().iter();
        columns.any(|c| stored_name(c.field()) == name)
    };
    match parts[..] {
        ["X" | "raw" | "layers" | "obsm" | "varm" | "obsp" | "varp"] | ["uns", ..] => true,
        ["layers" | "obsm" | "varm" | "obsp" | "varp", _] | ["raw", "varm", _] => true,
        ["obs", name] => has(object.obs(), name),
        ["var", name] => has(object.var(), name),
        _ => false,
    }
}
