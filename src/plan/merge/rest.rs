//! What stands beside the rows of merged cells: `var`, `varm`, `varp`, `raw`, `obsp`, `uns`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field};

use super::aligned::{Aligned, Candidate, Placed, candidates, keep};
use super::beside::{self, Beside};
use super::blocks::BlockDiagonal;
use super::genes::{columns_beside, common_name, raw_align_on};
use super::outline::{Genes, MergeOutline, Rows};
use super::spec::{Join, MergeSpec};
use super::targets::{AxisNames, Side};
use crate::element::{
    AnnData, ColumnReader, Frame, MatrixReader, MemoryColumn, UnsSource, merge_uns,
};
use crate::error::Result;
use crate::model::{ElementKey, FieldMeta};
use crate::sink::{GeneSide, Origin};

/// What stands beside the rows, and what of the objects' own does not.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) origin: Arc<Origin>,
    pub(super) warnings: Vec<String>,
}

/// Merges all of it; what it is made of is read again when it is written.
pub(super) async fn of(outline: &MergeOutline) -> Result<Rest> {
    let joined = match outline.rows() {
        Rows::Below(below) => &below.genes.joined,
        Rows::Beside(beside) => &beside.joined,
    };
    let n = match outline.spec().extends {
        true => 1,
        false => outline.objects().len(),
    };
    let mut merge = RestMerge {
        outline,
        spec: outline.spec(),
        objects: outline.objects().get(..n).unwrap_or_default(),
        places: {
            let maps = joined.maps.iter().take(n);
            maps.map(|map| Placed::new(map, &joined.names)).collect()
        },
        warnings: Vec::new(),
    };
    let (var, raw, obsp, varp) = match outline.rows() {
        Rows::Below(below) => {
            let var = GeneSide {
                axis: Arc::clone(&below.genes.axis),
                frame: merge.var(&below.genes).await?,
                varm: merge.varm().await?,
            };
            let varp = merge.aligned_pairs("varp", |object| object.varp()).await?;
            let obsp = merge.blocks("obsp", &below.starts, |object| object.obsp())?;
            (
                var,
                below.raw.as_ref().map(|genes| merge.raw(genes)),
                obsp,
                varp,
            )
        }
        Rows::Beside(beside) => {
            let (var, raw) = merge.stacked(beside).await?;
            let obsp = merge.aligned_pairs("obsp", |object| object.obsp()).await?;
            let mut starts = vec![0];
            for object in merge.objects {
                starts.push(starts.last().copied().unwrap_or_default() + object.n_vars());
            }
            let varp = merge.blocks("varp", &starts, |object| object.varp())?;
            (var, raw, obsp, varp)
        }
    };
    let sources = merge.objects.iter().filter_map(|object| {
        Some(UnsSource {
            store: Arc::clone(object.store()),
            key: object.uns()?,
            skip: object.uns_skip().to_vec(),
        })
    });
    let sources: Vec<UnsSource> = sources.collect();
    let (uns, lost) = match merge.spec.is_dropped("uns") {
        true => (None, Vec::new()),
        false => {
            let n = merge.objects.len();
            let (uns, lost) = merge_uns(&sources, n, merge.spec.uns_merge).await?;
            (Some(uns), lost)
        }
    };
    for path in lost {
        merge.drops(&format!("uns/{path}"), "--uns-merge first keeps it");
    }
    let origin = Origin {
        id: outline.id().to_owned(),
        n_obs: outline.n_obs(),
        var,
        raw,
        raw_has_x: outline.schema().index_of("raw_X").is_ok(),
        obsp,
        varp,
        uns,
        strays: merge.strays().await?,
    };
    Ok(Rest {
        origin: Arc::new(origin),
        warnings: merge.warnings,
    })
}

struct RestMerge<'a> {
    outline: &'a MergeOutline,
    spec: &'a MergeSpec,
    objects: &'a [Arc<AnnData>],
    /// Where each object stands on the axis that is aligned.
    places: Vec<Placed>,
    warnings: Vec<String>,
}

impl RestMerge<'_> {
    /// `var` and `varm`, and those of `raw`, of objects beside each other.
    async fn stacked(&mut self, beside: &Beside) -> Result<(GeneSide, Option<GeneSide>)> {
        let sides = self.objects.iter().map(|object| Side {
            object,
            frame: object.var(),
            elements: object.varm(),
        });
        let (spec, keys) = (self.spec, self.outline.keys());
        let (var, said) =
            beside::genes(spec, AxisNames::VAR, &beside.axis, sides.collect(), keys).await?;
        self.warnings.extend(said);
        let Some(axis) = &beside.raw_axis else {
            return Ok((var, None));
        };
        let sides = self.objects.iter().filter_map(|object| {
            let raw = object.raw()?;
            Some(Side {
                object,
                frame: raw.var(),
                elements: raw.varm(),
            })
        });
        let (raw, said) =
            beside::genes(spec, AxisNames::RAW_VAR, axis, sides.collect(), keys).await?;
        self.warnings.extend(said);
        Ok((var, Some(raw)))
    }

    async fn var(&mut self, genes: &Genes) -> Result<Frame> {
        let align_on = self.spec.align_on.as_deref();
        let columns = |object: &AnnData| columns_beside(object.var(), align_on);
        let mut readers: Vec<Arc<dyn ColumnReader>> = Vec::new();
        for (name, candidates) in self.candidates(columns, false) {
            let key = ElementKey::new("var").child(&name);
            if self.spec.is_dropped(key.as_str()) {
                continue;
            }
            match self.keep(&key, &candidates).await? {
                Some(column) => readers.push(Arc::new(column.named(&name))),
                None => self.drops(key.as_str(), "--merge first keeps it"),
            }
        }
        let index_name = match align_on {
            Some(column) => column,
            None => common_name(self.objects.iter().map(|object| object.var())),
        };
        Ok(frame(genes, index_name, readers))
    }

    /// `raw/var`, which keeps nothing but names.
    fn raw(&mut self, genes: &Genes) -> GeneSide {
        let raws = || self.objects.iter().filter_map(|object| object.raw());
        let align_on = raw_align_on(self.spec, self.objects);
        let mut lost: Vec<String> = Vec::new();
        let varm = raws()
            .flat_map(|raw| raw.varm())
            .map(|(name, _)| format!("raw/varm/{name}"));
        let columns = raws().flat_map(|raw| columns_beside(raw.var(), align_on));
        let columns = columns.map(|(name, _)| format!("raw/var/{name}"));
        for element in columns.chain(varm) {
            if !lost.contains(&element) {
                lost.push(element);
            }
        }
        let common = || common_name(raws().map(|raw| raw.var()));
        let index_name = align_on.unwrap_or_else(common);
        let side = GeneSide {
            axis: Arc::clone(&genes.axis),
            frame: frame(genes, index_name, Vec::new()),
            varm: Vec::new(),
        };
        if !lost.is_empty() {
            self.warnings.push(format!(
                "{}: dropped, because a merge keeps only the names of raw's genes",
                lost.join(", ")
            ));
        }
        side
    }

    async fn varm(&mut self) -> Result<Vec<(String, Arc<dyn ColumnReader>)>> {
        let mut merged: Vec<(String, Arc<dyn ColumnReader>)> = Vec::new();
        let elements = |object: &AnnData| object.varm().to_vec();
        for (name, candidates) in self.candidates(elements, false) {
            let key = ElementKey::new("varm").child(&name);
            if self.spec.is_dropped(key.as_str()) {
                continue;
            }
            match self.keep(&key, &candidates).await? {
                Some(element) => merged.push((name, Arc::new(element))),
                None => self.drops(key.as_str(), "--merge first keeps it"),
            }
        }
        Ok(merged)
    }

    /// Square matrices over the axis that is aligned.
    async fn aligned_pairs(
        &mut self,
        mapping: &str,
        elements: impl Fn(&AnnData) -> &[(String, Arc<dyn MatrixReader>)],
    ) -> Result<Vec<(String, Arc<dyn MatrixReader>)>> {
        let mut merged: Vec<(String, Arc<dyn MatrixReader>)> = Vec::new();
        let elements = |object: &AnnData| {
            let pairs = elements(object).iter();
            pairs
                .map(|(name, reader)| (name.clone(), Arc::clone(reader) as _))
                .collect()
        };
        for (name, candidates) in self.candidates(elements, true) {
            let key = ElementKey::new(mapping).child(&name);
            if self.spec.is_dropped(key.as_str()) {
                continue;
            }
            match self.keep(&key, &candidates).await? {
                Some(matrix) => merged.push((name, Arc::new(matrix))),
                None => self.drops(key.as_str(), "--merge first keeps it"),
            }
        }
        Ok(merged)
    }

    /// The elements of each name, in order of appearance.
    fn candidates(
        &self,
        elements: impl Fn(&AnnData) -> Vec<(String, Arc<dyn ColumnReader>)>,
        square: bool,
    ) -> Vec<(String, Vec<Candidate>)> {
        candidates(self.objects, &self.places, square, elements)
    }

    async fn keep(&self, key: &ElementKey, candidates: &[Candidate]) -> Result<Option<Aligned>> {
        let kept = keep(candidates, self.objects.len(), self.spec.merge).await;
        kept.map_err(|error| match error {
            crate::Error::IncompatibleSchemas(reason) => {
                crate::Error::IncompatibleSchemas(format!("{key}: {reason}"))
            }
            other => other,
        })
    }

    /// Square matrices over the axis that is stacked, whose parts begin at `starts`.
    fn blocks(
        &mut self,
        mapping: &str,
        starts: &[u64],
        elements: impl Fn(&AnnData) -> &[(String, Arc<dyn MatrixReader>)],
    ) -> Result<Vec<(String, Arc<dyn MatrixReader>)>> {
        let mut names: Vec<&String> = Vec::new();
        for (name, _) in self.objects.iter().flat_map(|object| elements(object)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut merged: Vec<(String, Arc<dyn MatrixReader>)> = Vec::new();
        let mut lost = Vec::new();
        for name in names {
            let key = ElementKey::new(mapping).child(name);
            if self.spec.is_dropped(key.as_str()) {
                continue;
            }
            if !self.spec.pairwise {
                lost.push((key, "merge --pairwise keeps it"));
                continue;
            }
            let readers = self.objects.iter().map(|object| {
                let found = elements(object).iter().find(|(other, _)| other == name);
                found.map(|(_, reader)| Arc::clone(reader))
            });
            let readers: Vec<_> = readers.collect();
            if self.spec.join == Join::Inner && readers.iter().any(Option::is_none) {
                lost.push((key, "--join outer keeps it"));
                continue;
            }
            let matrix = BlockDiagonal::try_new(key, starts, readers)?;
            merged.push((name.clone(), Arc::new(matrix)));
        }
        for (key, keeps) in lost {
            self.drops(key.as_str(), keeps);
        }
        Ok(merged)
    }

    async fn strays(&self) -> Result<Vec<ElementKey>> {
        let mut found: Vec<ElementKey> = Vec::new();
        for object in self.objects {
            for key in object.strays().await? {
                if !found.contains(key) {
                    found.push(key.clone());
                }
            }
        }
        Ok(found)
    }

    fn drops(&mut self, element: &str, keeps: &str) {
        self.warnings.push(format!("{element}: dropped; {keeps}"));
    }
}

/// The data frame of an axis of genes.
fn frame(genes: &Genes, index_name: &str, columns: Vec<Arc<dyn ColumnReader>>) -> Frame {
    let meta = FieldMeta {
        index_name: Some(index_name.to_owned()),
        encoding: Some("string-array".to_owned()),
        ..FieldMeta::default()
    };
    let field = meta.apply(Field::new("var_names", DataType::Utf8, false));
    let names: ArrayRef = Arc::new(genes.joined.names.clone());
    debug_assert_eq!(names.len(), genes.axis.len(), "an axis is its names");
    let key = ElementKey::new("var");
    let index = MemoryColumn::new(Arc::new(field), key.child(index_name), names);
    Frame::of_columns(key, index_name, Arc::new(index), columns)
}
