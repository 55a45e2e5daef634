//! Two objects, element by element.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::blocks::blocks;
use super::uns::compare_uns;
use super::values::{first_difference, same_type, shorten};
use super::{Verification, VerifyOptions};
use crate::element::{AnnData, ColumnReader, Frame, MatrixReader};
use crate::error::Result;
use crate::model::{CategoryRegistry, FieldMeta, Location, RowSelection};
use crate::ops::Progress;
use crate::store::ReadMetrics;

/// Compares two objects exactly: shapes, names, types, encodings, categories and their order,
/// nulls, values. Storage is no difference: chunks, compression, width of indices, order of entries
/// in a row, storage by row or by column.
///
/// # Errors
/// Where one of the objects cannot be opened, or read.
pub async fn compare(
    first: &Location,
    second: &Location,
    options: &VerifyOptions,
    progress: &dyn Progress,
) -> Result<Verification> {
    let (a, b) = (AnnData::open(first).await?, AnnData::open(second).await?);
    let mut found = Verification::new(options);
    if (a.n_obs(), a.n_vars()) != (b.n_obs(), b.n_vars()) {
        let message = format!(
            "{} cells × {} genes here, {} × {} there",
            a.n_obs(),
            a.n_vars(),
            b.n_obs(),
            b.n_vars()
        );
        found.add("/", None, message);
        return Ok(found);
    }
    progress.start("verify", a.n_obs());
    compare_objects(&a, &b, &mut found).await?;
    progress.update(a.n_obs());
    progress.finish();
    Ok(found)
}

async fn compare_objects(
    a: &Arc<AnnData>,
    b: &Arc<AnnData>,
    found: &mut Verification,
) -> Result<()> {
    compare_frames("obs", a.obs(), b.obs(), found).await?;
    compare_frames("var", a.var(), b.var(), found).await?;
    compare_options("X", a.x(), b.x(), found).await?;
    compare_matrices("layers", a.layers(), b.layers(), found).await?;
    compare_columns("obsm", a.obsm(), b.obsm(), found).await?;
    compare_columns("varm", a.varm(), b.varm(), found).await?;
    compare_matrices("obsp", a.obsp(), b.obsp(), found).await?;
    compare_matrices("varp", a.varp(), b.varp(), found).await?;
    match (a.raw(), b.raw()) {
        (Some(a), Some(b)) => {
            compare_frames("raw/var", a.var(), b.var(), found).await?;
            compare_options("raw/X", a.x(), b.x(), found).await?;
            compare_columns("raw/varm", a.varm(), b.varm(), found).await?;
        }
        (None, None) => {}
        (a, _) => found.add("raw", None, one_side(a.is_some())),
    }
    compare_uns(a, b, found).await
}

fn one_side(here: bool) -> String {
    format!("only {}", if here { "here" } else { "there" })
}

async fn compare_options(
    name: &str,
    a: Option<&Arc<dyn MatrixReader>>,
    b: Option<&Arc<dyn MatrixReader>>,
    found: &mut Verification,
) -> Result<()> {
    match (a, b) {
        (Some(a), Some(b)) => compare_column(name, a.as_ref(), b.as_ref(), found).await,
        (None, None) => Ok(()),
        (a, _) => {
            found.add(name, None, one_side(a.is_some()));
            Ok(())
        }
    }
}

/// Names of both sides, those of one side only being findings.
pub(super) fn common<'a, T>(
    group: &str,
    a: &'a [(String, T)],
    b: &'a [(String, T)],
    found: &mut Verification,
) -> Vec<(&'a str, &'a T, &'a T)> {
    let names: BTreeSet<&str> = a.iter().chain(b).map(|(name, _)| name.as_str()).collect();
    let get = |side: &'a [(String, T)], name: &str| {
        side.iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value)
    };
    let mut pairs = Vec::new();
    for name in names {
        match (get(a, name), get(b, name)) {
            (Some(a), Some(b)) => pairs.push((name, a, b)),
            (a, _) => found.add(format!("{group}/{name}"), None, one_side(a.is_some())),
        }
    }
    pairs
}

async fn compare_matrices(
    group: &str,
    a: &[(String, Arc<dyn MatrixReader>)],
    b: &[(String, Arc<dyn MatrixReader>)],
    found: &mut Verification,
) -> Result<()> {
    for (name, a, b) in common(group, a, b, found) {
        let name = format!("{group}/{name}");
        compare_column(&name, a.as_ref(), b.as_ref(), found).await?;
    }
    Ok(())
}

async fn compare_columns(
    group: &str,
    a: &[(String, Arc<dyn ColumnReader>)],
    b: &[(String, Arc<dyn ColumnReader>)],
    found: &mut Verification,
) -> Result<()> {
    for (name, a, b) in common(group, a, b, found) {
        let name = format!("{group}/{name}");
        compare_column(&name, a.as_ref(), b.as_ref(), found).await?;
    }
    Ok(())
}

async fn compare_frames(name: &str, a: &Frame, b: &Frame, found: &mut Verification) -> Result<()> {
    if a.index_name() != b.index_name() {
        let message = format!(
            "the index is called {:?} here, {:?} there",
            a.index_name(),
            b.index_name()
        );
        found.add(name, None, message);
    }
    let index = format!("{name}/{}", a.index_name());
    compare_column(&index, a.index().as_ref(), b.index().as_ref(), found).await?;
    let own = |frame: &Frame| -> Vec<(String, Arc<dyn ColumnReader>)> {
        let columns = frame.columns().iter();
        columns
            .map(|column| (column.field().name().clone(), Arc::clone(column)))
            .collect()
    };
    let (a, b) = (own(a), own(b));
    let before = found.findings.len();
    let pairs = common(name, &a, &b, found);
    if found.findings.len() == before && a.iter().map(|(n, _)| n).ne(b.iter().map(|(n, _)| n)) {
        found.add(name, None, "columns stand in another order");
    }
    for (column, a, b) in pairs {
        let name = format!("{name}/{column}");
        compare_column(&name, a.as_ref(), b.as_ref(), found).await?;
    }
    Ok(())
}

async fn compare_column(
    name: &str,
    a: &dyn ColumnReader,
    b: &dyn ColumnReader,
    found: &mut Verification,
) -> Result<()> {
    found.elements += 1;
    if a.len() != b.len() {
        found.add(
            name,
            None,
            format!("{} rows here, {} there", a.len(), b.len()),
        );
        return Ok(());
    }
    let (left, right) = (a.field(), b.field());
    if !same_type(left.data_type(), right.data_type()) {
        let message = format!("{} here, {} there", left.data_type(), right.data_type());
        found.add(name, None, message);
        return Ok(());
    }
    compare_meta(name, &FieldMeta::of(left), &FieldMeta::of(right), found);
    let metrics = ReadMetrics::default();
    let (mut first, mut count) = (None, 0u64);
    for block in blocks(&[a, b]).await? {
        let rows = RowSelection::range(block.clone());
        let (left, right) = tokio::try_join!(a.read(&rows, &metrics), b.read(&rows, &metrics))?;
        if let Some(difference) = first_difference(&left, &right)? {
            count += difference.rows;
            first.get_or_insert((block.start + difference.row, difference.text));
        }
    }
    if let Some((row, text)) = first {
        let more = match count {
            1 => String::new(),
            n => format!("; {n} rows differ"),
        };
        found.add(name, Some(row), format!("{text}{more}"));
    }
    Ok(())
}

/// What metadata says beyond the type.
fn compare_meta(name: &str, a: &FieldMeta, b: &FieldMeta, found: &mut Verification) {
    let by_row = |encoding: &Option<String>| match encoding.as_deref() {
        Some("csc_matrix") => Some("csr_matrix".to_owned()),
        other => other.map(str::to_owned),
    };
    let (left, right) = (by_row(&a.encoding), by_row(&b.encoding));
    if left != right {
        let show = |e: Option<String>| e.unwrap_or_else(|| "no encoding".into());
        found.add(
            name,
            None,
            format!("{} here, {} there", show(left), show(right)),
        );
    }
    if a.ordered.unwrap_or(false) != b.ordered.unwrap_or(false) {
        found.add(name, None, "ordered on one side only");
    }
    if a.categories != b.categories {
        let show = |id: &Option<String>| {
            let set = id
                .as_deref()
                .and_then(|id| CategoryRegistry::global().get(id));
            set.map_or_else(|| "unknown".into(), |set| shorten(&format!("{set:?}"), 80))
        };
        let message = format!(
            "categories {} here, {} there",
            show(&a.categories),
            show(&b.categories)
        );
        found.add(name, None, message);
    }
}
