//! What no batch holds: `var`, `varm`, `varp`, `raw`, `obsp` and `uns`, from the rows' source.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field};

use crate::element::{AnnData, FrameWriter, Place, UnsNode, encoding, not_written, write_uns};
use crate::error::Result;
use crate::kernel::{AxisMap, Positions};
use crate::model::{ElementKey, Location, RowSelection, VarAxis};
use crate::sink::aligned::{write_batch, write_column, write_frame, write_pairwise};
use crate::sink::genes::{Genes, Side, kept};
use crate::sink::layout::Layout;
use crate::sink::origin::{GeneSide, Origin, Sources};
use crate::sink::provenance::Provenance;

/// What there is to say of the rest of an object.
#[derive(Debug)]
pub(super) struct Rest {
    /// What could not be kept, and why.
    pub(super) warnings: Vec<String>,
    /// Whether the rows are cells of one object, which gave its pairs and `uns`.
    pub(super) of_one_object: bool,
    /// Whether it has genes.
    pub(super) has_genes: bool,
}

/// What decides which elements there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) layout: &'a Layout,
    /// Elements that are left out, with all below them.
    pub(super) drop: &'a [ElementKey],
}

impl Parts<'_> {
    /// Whether an element of this place is written.
    fn keep(&self, place: &Place) -> bool {
        !self.drop.iter().any(|dropped| place.key.is_in(dropped))
    }
}

/// Writes the rest of an object whose rows are written. `sources` are what some may come from.
pub(super) async fn write_rest(
    root: &Place,
    parts: Parts<'_>,
    provenance: Provenance,
    sources: &Sources,
    rows: u64,
) -> Result<Rest> {
    let layout = parts.layout;
    let mut warnings = Vec::new();
    let (source, positions) = source(layout, provenance, &sources.merges, rows).await?;
    let kept = match source {
        Some(_) => None,
        None => kept(layout.frame.as_deref(), layout.axis.as_deref()),
    };
    if let Some(frame) = &kept {
        write_batch(frame, root.child("var"), |p| parts.keep(p)).await?;
    }
    let at_hand: Vec<Arc<Origin>> = source.iter().chain(&sources.merges).cloned().collect();
    let others = match source {
        Some(_) => &[],
        None => sources.objects.as_slice(),
    };
    let genes = match &layout.axis {
        Some(axis) => Genes::of(axis, Side::Var, &at_hand, others).await?,
        None => source
            .as_ref()
            .filter(|origin| layout.n_vars.is_none_or(|n| n == origin.var.frame.n_rows()))
            .map(Genes::all),
    };
    if kept.is_none() {
        write_var(root, parts, genes.as_ref(), &mut warnings).await?;
    }
    let has_genes = kept.is_some() || genes.is_some() || layout.n_vars.is_some();
    let known = (at_hand.as_slice(), others);
    write_raw(root, parts, source.as_ref(), known, &mut warnings).await?;
    match source.as_ref().zip(positions) {
        Some((origin, positions)) => {
            write_obsp(root, parts, origin, positions).await?;
            write_unstructured(root, parts, origin.uns.as_ref()).await?;
            warnings.extend(origin.strays.iter().map(not_written));
        }
        None => write_unstructured(root, parts, None).await?,
    }
    Ok(Rest {
        warnings,
        of_one_object: source.is_some(),
        has_genes,
    })
}

/// What the rows came from, and which of its rows they are.
async fn source(
    layout: &Layout,
    provenance: Provenance,
    merges: &[Arc<Origin>],
    rows: u64,
) -> Result<(Option<Arc<Origin>>, Option<Positions>)> {
    if let Some((object, positions)) = provenance.finish() {
        return Ok((Some(origin(&object, merges).await?), Some(positions)));
    }
    // No row, so no row said where it came from; the schema may.
    if rows == 0
        && layout.provenance.is_some()
        && let Some(object) = &layout.object
    {
        let none = Positions::Sorted(RowSelection::default());
        return Ok((Some(origin(object, merges).await?), Some(none)));
    }
    Ok((None, None))
}

async fn origin(id: &str, merges: &[Arc<Origin>]) -> Result<Arc<Origin>> {
    if let Some(merge) = merges.iter().find(|merge| merge.id == id) {
        return Ok(Arc::clone(merge));
    }
    let object = AnnData::open(&Location::parse(id)).await?;
    Ok(Arc::new(Origin::of_object(&object).await?))
}

async fn write_var(
    root: &Place,
    parts: Parts<'_>,
    genes: Option<&Genes>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let layout = parts.layout;
    let place = root.child("var");
    let Some(genes) = genes else {
        if let (None, Some(n)) = (&layout.axis, layout.n_vars) {
            warnings.push(format!(
                "var_names: the query lost the names of the {n} genes, so they are numbered"
            ));
        }
        return write_names(place, layout.axis.as_deref(), layout.n_vars).await;
    };
    write_frame(genes.frame(), &genes.positions, place, |p| parts.keep(p)).await?;
    write_varm(root, parts, genes.side(), &genes.positions).await?;
    if genes.raw {
        return Ok(());
    }
    let map = AxisMap::new(genes.positions.clone(), genes.frame().n_rows())?;
    for (name, reader) in &genes.origin.varp {
        let place = root.child("varp").child(name);
        if parts.keep(&place) {
            write_pairwise(reader, &map, place).await?;
        }
    }
    Ok(())
}

async fn write_varm(
    at: &Place,
    parts: Parts<'_>,
    side: &GeneSide,
    positions: &Positions,
) -> Result<()> {
    for (name, reader) in &side.varm {
        let place = at.child("varm").child(name);
        if parts.keep(&place) {
            write_column(reader, positions, place).await?;
        }
    }
    Ok(())
}

/// `raw/var` and `raw/varm`, beside the `raw/X` that batches held, or where `raw` has no `X`.
async fn write_raw(
    root: &Place,
    parts: Parts<'_>,
    source: Option<&Arc<Origin>>,
    (at_hand, others): (&[Arc<Origin>], &[Location]),
    warnings: &mut Vec<String>,
) -> Result<()> {
    let layout = parts.layout;
    let place = root.child("raw");
    if !parts.keep(&place) {
        return write_no_raw(&place).await;
    }
    let came = match (&layout.raw, source) {
        (Some(raw), None) => kept(raw.frame.as_deref(), raw.axis.as_deref()),
        _ => None,
    };
    if let Some(frame) = came {
        let varm = place.child("varm");
        varm.group(&encoding("dict", "0.1.0")).await?;
        return write_batch(&frame, place.child("var"), |p| parts.keep(p)).await;
    }
    let genes = match (&layout.raw, source) {
        (Some(raw), _) => match &raw.axis {
            Some(axis) => Genes::of(axis, Side::Raw, at_hand, others).await?,
            None => None,
        },
        (None, Some(origin)) => match &origin.raw {
            Some(side) if !origin.raw_has_x => {
                place.group(&encoding("raw", "0.1.0")).await?;
                Some(Genes {
                    positions: side.all(),
                    origin: Arc::clone(origin),
                    raw: true,
                })
            }
            _ => return write_no_raw(&place).await,
        },
        (None, None) => return write_no_raw(&place).await,
    };
    place
        .child("varm")
        .group(&encoding("dict", "0.1.0"))
        .await?;
    match genes {
        Some(genes) => {
            let var = place.child("var");
            write_frame(genes.frame(), &genes.positions, var, |p| parts.keep(p)).await?;
            write_varm(&place, parts, genes.side(), &genes.positions).await
        }
        None => {
            let (axis, n_vars) = match &layout.raw {
                Some(raw) => (raw.axis.as_deref(), raw.n_vars),
                None => (None, None),
            };
            if let (None, Some(n)) = (axis, n_vars) {
                warnings.push(format!(
                    "raw/var: the query lost the names of the {n} genes, so they are numbered"
                ));
            }
            write_names(place.child("var"), axis, n_vars).await
        }
    }
}

/// What there is of a `raw` that is not there.
async fn write_no_raw(place: &Place) -> Result<()> {
    match place.storage.like_annbatch {
        true => place.null().await,
        false => Ok(()),
    }
}

/// A `var` of which only the names are known, or their number.
async fn write_names(mut place: Place, axis: Option<&VarAxis>, n_vars: Option<u64>) -> Result<()> {
    let names: ArrayRef = match axis {
        Some(axis) => Arc::new(axis.names().clone()),
        None => Arc::new(StringArray::from_iter_values(
            (0..n_vars.unwrap_or_default()).map(|gene| gene.to_string()),
        )),
    };
    place.size.rows = Some(names.len() as u64);
    let index = Field::new("var_names", DataType::Utf8, false);
    let mut frame = FrameWriter::create(place, &index, &[]).await?;
    frame.append(&names, &[]).await?;
    frame.finish().await
}

async fn write_obsp(
    root: &Place,
    parts: Parts<'_>,
    origin: &Origin,
    positions: Positions,
) -> Result<()> {
    if origin.obsp.is_empty() {
        return Ok(());
    }
    let map = AxisMap::new(positions, origin.n_obs)?;
    for (name, reader) in &origin.obsp {
        let place = root.child("obsp").child(name);
        if parts.keep(&place) {
            write_pairwise(reader, &map, place).await?;
        }
    }
    Ok(())
}

async fn write_unstructured(root: &Place, parts: Parts<'_>, uns: Option<&UnsNode>) -> Result<()> {
    let place = root.child("uns");
    let Some(uns) = uns.filter(|_| parts.keep(&place)) else {
        return place.group(&encoding("dict", "0.1.0")).await;
    };
    let below = |dropped: &ElementKey| dropped.as_str().strip_prefix("uns/").map(str::to_owned);
    let drop: Vec<String> = parts.drop.iter().filter_map(below).collect();
    write_uns(uns, &place, &drop).await
}
