//! A merge of cells thought through: what comes out, and what becomes of each object's rows.

use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tokio::sync::OnceCell;
use twox_hash::XxHash3_128;

use super::adapt::Target;
use super::axis::JoinedAxis;
use super::genes::names;
use super::rest;
use super::spec::{MergeAxis, MergeSpec};
use super::targets::Targets;
use crate::element::AnnData;
use crate::error::{Error, Result};
use crate::model::{AxisRegistry, FieldMeta, OBJECT_COLUMN, ROW_COLUMN, VarAxis};
use crate::sink::Origin;
use crate::table::{CellsScan, DEFAULT_BATCH_BYTES, scan_cells};

/// What a [`MergeSpec`] means for the objects it names. Made from their descriptions, `var_names` and
/// categories; no row is read.
#[derive(Debug)]
pub struct MergeOutline {
    spec: Arc<MergeSpec>,
    id: String,
    objects: Vec<Arc<AnnData>>,
    /// The first row of each object, and behind them the number of all.
    starts: Vec<u64>,
    schema: SchemaRef,
    pub(super) targets: Vec<Target>,
    genes: Genes,
    raw: Option<Genes>,
    warnings: Vec<String>,
    /// What stands beside the rows; made when somebody asks.
    rest: OnceCell<rest::Rest>,
}

/// An axis of genes that objects' matrices are brought onto.
#[derive(Debug)]
pub(super) struct Genes {
    pub(super) axis: Arc<VarAxis>,
    pub(super) joined: JoinedAxis,
}

impl Genes {
    fn of(names: &[StringArray], spec: &MergeSpec, label: impl Fn(usize) -> String) -> Result<Self> {
        let joined = JoinedAxis::try_new(names, spec.join, label)?;
        let axis = Arc::new(VarAxis::new(joined.names.clone(), None, None));
        AxisRegistry::global().register(Arc::clone(&axis));
        Ok(Self { axis, joined })
    }
}

impl MergeOutline {
    /// Opens the objects and thinks the merge through.
    ///
    /// # Errors
    /// Those of [`AnnData::open`]; [`Error::InvalidOption`] for options that objects do not meet;
    /// [`Error::IncompatibleSchemas`] for elements that cannot be merged.
    pub async fn of(spec: Arc<MergeSpec>) -> Result<Arc<Self>> {
        if spec.axis == MergeAxis::Var {
            return Err(Error::NotImplemented("merging along var".to_owned()));
        }
        let keys = spec.keys()?;
        let mut objects = Vec::with_capacity(spec.inputs.len());
        for input in &spec.inputs {
            objects.push(AnnData::open(input).await?);
        }
        let mut starts = vec![0];
        for object in &objects {
            let end = starts.last().copied().unwrap_or_default();
            starts.push(object.n_obs().saturating_add(end));
        }
        let label = |element: &'static str| {
            let objects = &objects;
            move |at: usize| {
                let location = objects.get(at).map(|object| object.location().to_string());
                format!("{element} of {}", location.unwrap_or_default())
            }
        };
        let mut warnings = Vec::new();
        let mut var_names = Vec::with_capacity(objects.len());
        for object in &objects {
            var_names.push(names(object, object.var(), spec.align_on.as_deref()).await?);
        }
        let genes = Genes::of(&var_names, &spec, label("var"))?;
        let raw = raw_names(&spec, &objects, &mut warnings).await?;
        let raw = raw.map(|names| Genes::of(&names, &spec, label("raw/var"))).transpose()?;
        let mut cell_names = Vec::with_capacity(objects.len());
        for object in &objects {
            let scan = scan_cells(whole(object, None, DEFAULT_BATCH_BYTES))?;
            let schema = scan.schema();
            cell_names.push(schema.fields().iter().map(|field| field.name().clone()).collect());
        }
        let mut targets = Targets::new(&spec, &objects, &keys);
        targets.index(&starts)?;
        targets.obs(&cell_names)?;
        targets.genes(&genes.joined, genes.axis.id())?;
        targets.obsm()?;
        if let Some(raw) = &raw {
            targets.raw(&raw.joined, raw.axis.id())?;
        }
        let (targets, said) = targets.finish();
        warnings.extend(said);
        let fields: Vec<_> = targets.iter().map(|target| Arc::clone(&target.field)).collect();
        Ok(Arc::new(Self {
            id: id_of(&spec),
            spec,
            schema: Arc::new(Schema::new(fields)),
            objects,
            starts,
            targets,
            genes,
            raw,
            warnings,
            rest: OnceCell::new(),
        }))
    }

    /// What is merged and how.
    pub fn spec(&self) -> &Arc<MergeSpec> {
        &self.spec
    }

    /// The objects.
    pub fn objects(&self) -> &[Arc<AnnData>] {
        &self.objects
    }

    /// Cells of the merged object.
    pub fn n_obs(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    /// The first row of each object, and behind them the number of all.
    pub(super) fn starts(&self) -> &[u64] {
        &self.starts
    }

    /// Genes of the merged object.
    pub fn axis(&self) -> &Arc<VarAxis> {
        &self.genes.axis
    }

    pub(super) fn genes(&self) -> &Genes {
        &self.genes
    }

    pub(super) fn raw_genes(&self) -> Option<&Genes> {
        self.raw.as_ref()
    }

    /// Genes of the merged `raw`.
    pub fn raw_axis(&self) -> Option<&Arc<VarAxis>> {
        self.raw.as_ref().map(|genes| &genes.axis)
    }

    /// How many genes of each object come to stand on the merged axis, and how many it has.
    pub fn genes_kept(&self) -> Vec<(u64, u64)> {
        let maps = self.genes.joined.maps.iter().zip(&self.objects);
        let kept = maps.map(|(map, object)| {
            let kept = map.sources().iter().flatten().count();
            (kept as u64, object.n_vars())
        });
        kept.collect()
    }

    /// The columns of merged cells.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What rows call the merge in `__object`.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Sparse columns whose stored entries are just those of the objects.
    pub fn keeps_entries(&self, column: &str) -> bool {
        use super::adapt::Source;
        let target = self.targets.iter().find(|target| target.field.name() == column);
        target.is_some_and(|target| {
            target.sources.iter().all(|source| match source {
                Source::Matrix { matrix, .. } | Source::MissingMatrix { matrix } => {
                    matrix.keeps_entries
                }
                _ => false,
            })
        })
    }

    /// What the options drop of rows, and columns whose types have nothing in common; a sentence
    /// each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What the options drop beside the rows; a sentence each. Reads `var`.
    ///
    /// # Errors
    /// Where an object cannot be read.
    pub async fn rest_warnings(&self) -> Result<Vec<String>> {
        Ok(self.rest().await?.warnings.clone())
    }

    /// What stands beside the rows.
    ///
    /// # Errors
    /// Where an object cannot be read, or an element cannot be merged.
    pub(crate) async fn origin(&self) -> Result<Arc<Origin>> {
        Ok(Arc::clone(&self.rest().await?.origin))
    }

    async fn rest(&self) -> Result<&rest::Rest> {
        self.rest.get_or_try_init(|| rest::of(self)).await
    }

    /// The two columns that say where rows came from: the merge, and their place in it.
    pub(super) fn provenance_fields(&self) -> [Field; 2] {
        provenance_fields(&self.id)
    }
}

/// The hidden columns of a merge.
fn provenance_fields(id: &str) -> [Field; 2] {
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let meta = FieldMeta {
        object: Some(id.to_owned()),
        ..FieldMeta::default()
    };
    [
        meta.apply(Field::new(OBJECT_COLUMN, text, false)),
        Field::new(ROW_COLUMN, DataType::Int64, false),
    ]
}

/// A scan of all cells of an object, of some columns.
pub(super) fn whole(
    object: &Arc<AnnData>,
    columns: Option<Vec<String>>,
    batch_bytes: usize,
) -> CellsScan {
    let n_obs = object.n_obs();
    CellsScan {
        object: Arc::clone(object),
        rows: crate::model::RowSelection::all(n_obs),
        partitions: std::iter::once(0..n_obs).collect(),
        genes: None,
        provenance: false,
        columns,
        batch_bytes,
    }
}

/// Names of the genes of `raw`, where every object has one.
async fn raw_names(
    spec: &MergeSpec,
    objects: &[Arc<AnnData>],
    warnings: &mut Vec<String>,
) -> Result<Option<Vec<StringArray>>> {
    if spec.is_dropped("raw") {
        return Ok(None);
    }
    let raws: Vec<_> = objects.iter().filter_map(|object| object.raw()).collect();
    if raws.len() < objects.len() {
        let without = objects.iter().find(|object| object.raw().is_none());
        if let (Some(without), false) = (without, raws.is_empty()) {
            warnings.push(format!(
                "raw: dropped, because {} has none; it is merged where all have it",
                without.location()
            ));
        }
        return Ok(None);
    }
    let has = |column: &str| {
        raws.iter().all(|raw| {
            let mut columns = raw.var().columns().iter();
            columns.any(|c| crate::element::stored_name(c.field()) == column)
        })
    };
    let align_on = spec.align_on.as_deref().filter(|column| has(column));
    if let (Some(column), None) = (&spec.align_on, align_on) {
        warnings.push(format!(
            "raw/var: aligned on its index, because not all have a column '{column}'"
        ));
    }
    let mut found = Vec::with_capacity(raws.len());
    for (object, raw) in objects.iter().zip(raws) {
        found.push(names(object, raw.var(), align_on).await?);
    }
    Ok(Some(found))
}

/// What a merge is called in the rows that come from it: equal for equal descriptions.
fn id_of(spec: &MergeSpec) -> String {
    let mut hasher = XxHash3_128::new();
    let text = serde_json::to_string(spec).unwrap_or_else(|_| format!("{spec:?}"));
    hasher.write(text.as_bytes());
    format!("merge:{:032x}", hasher.finish_128())
}
