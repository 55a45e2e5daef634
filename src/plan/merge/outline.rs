//! A merge thought through: what comes out, and what becomes of each object's rows.

use std::sync::Arc;

use arrow::array::{Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tokio::sync::OnceCell;
use twox_hash::XxHash3_128;

use super::adapt::{POSITION, Source, Target};
use super::axis::JoinedAxis;
use super::beside::{self, Beside};
use super::genes::{names, raw_align_on};
use super::rest;
use super::spec::{Join, MergeAxis, MergeSpec};
use super::targets::{AxisNames, Side, Targets};
use crate::element::AnnData;
use crate::error::Result;
use crate::model::{AxisRegistry, FieldMeta, OBJECT_COLUMN, ROW_COLUMN, RowSelection, VarAxis};
use crate::sink::Origin;
use crate::table::{CellsScan, DEFAULT_BATCH_BYTES, RowWeight, scan_cells, weigh_cells};

/// What a [`MergeSpec`] means for the objects it names. Made from their descriptions, `var_names` and
/// categories; no row is read.
#[derive(Debug)]
pub struct MergeOutline {
    spec: Arc<MergeSpec>,
    id: String,
    keys: Vec<String>,
    objects: Vec<Arc<AnnData>>,
    schema: SchemaRef,
    rows: Rows,
    warnings: Vec<String>,
    /// What stands beside the rows; made when somebody asks.
    rest: OnceCell<rest::Rest>,
}

/// Where rows come from.
#[derive(Debug)]
pub(super) enum Rows {
    /// One object's after the other's.
    Below(Below),
    /// Each from all objects.
    Beside(Beside),
}

/// Cells below each other.
#[derive(Debug)]
pub(super) struct Below {
    pub(super) targets: Vec<Target>,
    /// The first row of each object, and behind them the number of all.
    pub(super) starts: Vec<u64>,
    /// The columns of each object's own cells.
    cells: Vec<SchemaRef>,
    pub(super) genes: Genes,
    pub(super) raw: Option<Genes>,
}

/// An axis of genes that objects' matrices are brought onto.
#[derive(Debug)]
pub(super) struct Genes {
    pub(super) axis: Arc<VarAxis>,
    pub(super) joined: JoinedAxis,
}

impl Genes {
    fn of(
        names: &[StringArray],
        join: Join,
        chosen: Option<&[String]>,
        label: impl Fn(usize) -> String,
    ) -> Result<Self> {
        let joined = match chosen {
            Some(chosen) => JoinedAxis::onto(StringArray::from_iter_values(chosen), names, label)?,
            None => JoinedAxis::try_new(names, join, label)?,
        };
        let axis = Arc::new(VarAxis::new(joined.names.clone(), None, None));
        AxisRegistry::global().register(Arc::clone(&axis));
        Ok(Self { axis, joined })
    }
}

impl MergeOutline {
    /// Opens the objects and thinks the merge through.
    ///
    /// # Errors
    /// Those of [`AnnData::open`]; [`Error::InvalidOption`](crate::Error::InvalidOption) for options
    /// that objects do not meet; [`Error::IncompatibleSchemas`](crate::Error::IncompatibleSchemas) for
    /// elements that cannot be merged.
    pub async fn of(spec: Arc<MergeSpec>) -> Result<Arc<Self>> {
        let keys = spec.keys()?;
        let objects = AnnData::open_all(&spec.inputs).await?;
        let (rows, schema, warnings) = match spec.axis {
            MergeAxis::Obs => below(&spec, &objects, &keys).await?,
            MergeAxis::Var => beside_each_other(&spec, &objects, &keys).await?,
        };
        Ok(Arc::new(Self {
            id: id_of(&spec),
            spec,
            keys,
            objects,
            schema,
            rows,
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

    /// What the heaviest object has in a row of its cells, or as many bytes as that grows to.
    ///
    /// # Errors
    /// Those of [`scan_cells`].
    pub(crate) fn weigh(&self) -> Result<RowWeight> {
        let weights = self.objects.iter();
        let weights = weights.map(|object| weigh_cells(&whole(object, None, DEFAULT_BATCH_BYTES)));
        let weights = weights.collect::<Result<Vec<_>>>()?.into_iter();
        let weight = weights.reduce(RowWeight::heavier).unwrap_or_default();
        Ok(RowWeight {
            bytes: weight.bytes.max(self.widest_row()),
            ..weight
        })
    }

    /// The rows of each object among chosen ones of the merge; none where rows are of all objects.
    pub(crate) fn rows_of_objects(&self, rows: &RowSelection) -> Vec<RowSelection> {
        let Rows::Below(below) = &self.rows else {
            return Vec::new();
        };
        let bounds = below.starts.iter().zip(below.starts.iter().skip(1));
        let of = bounds.map(|(start, end)| {
            let rows = rows.clip(*start..*end);
            let ranges = rows.ranges().iter();
            RowSelection::from_ranges(ranges.map(|rows| rows.start - start..rows.end - start))
        });
        of.collect()
    }

    /// Cells of the merged object.
    pub fn n_obs(&self) -> u64 {
        match &self.rows {
            Rows::Below(below) => below.starts.last().copied().unwrap_or_default(),
            Rows::Beside(beside) => beside.joined.names.len() as u64,
        }
    }

    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }

    pub(super) fn keys(&self) -> &[String] {
        &self.keys
    }

    /// Genes of the merged object.
    pub fn axis(&self) -> &Arc<VarAxis> {
        match &self.rows {
            Rows::Below(below) => &below.genes.axis,
            Rows::Beside(beside) => &beside.axis,
        }
    }

    /// Genes of the merged `raw`.
    pub fn raw_axis(&self) -> Option<&Arc<VarAxis>> {
        match &self.rows {
            Rows::Below(below) => below.raw.as_ref().map(|genes| &genes.axis),
            Rows::Beside(beside) => beside.raw_axis.as_ref(),
        }
    }

    /// How many genes (cells, where objects are beside each other) of each object come to stand on the
    /// merged axis, and how many it has.
    pub fn kept(&self) -> Vec<(u64, u64)> {
        let joined = match &self.rows {
            Rows::Below(below) => &below.genes.joined,
            Rows::Beside(beside) => &beside.joined,
        };
        let maps = joined.maps.iter();
        maps.map(|map| (map.n_kept() as u64, map.n_old() as u64))
            .collect()
    }

    /// The columns of merged cells.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What rows call the merge in `__object`.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether every object has the column, of the same type and with the same values.
    pub(super) fn is_own(&self, column: &str) -> bool {
        let Rows::Below(below) = &self.rows else {
            return false;
        };
        let target = below
            .targets
            .iter()
            .find(|target| target.field.name() == column);
        target.is_some_and(|target| {
            let sources = target.sources.iter().zip(&below.cells);
            sources.into_iter().all(|(source, cells)| {
                let own = cells.field_with_name(column);
                source.keeps_values()
                    && source.reads() == [column]
                    && own.is_ok_and(|own| own.data_type() == target.field.data_type())
            })
        })
    }

    /// Sparse columns whose stored entries are just those of the objects.
    pub fn keeps_entries(&self, column: &str) -> bool {
        let Rows::Below(below) = &self.rows else {
            return false;
        };
        let target = below
            .targets
            .iter()
            .find(|target| target.field.name() == column);
        target.is_some_and(|target| {
            let mut matrices = target.sources.iter().map(Source::matrix);
            matrices.all(|matrix| matrix.is_some_and(|matrix| matrix.keeps_entries))
        })
    }

    /// Bytes of matrices in a row of the widest kind, of some columns.
    pub(super) fn row_bytes(&self, columns: &[usize]) -> u64 {
        let of_object = |at| self.row_bytes_of(columns.iter().copied(), at);
        let all = (0..self.objects.len()).map(of_object);
        all.max().unwrap_or(0)
    }

    /// Bytes of matrices in the widest row of all columns.
    pub fn widest_row(&self) -> u64 {
        let columns: Vec<usize> = (0..self.schema.fields().len()).collect();
        self.row_bytes(&columns)
    }

    /// Bytes of all rows of all matrices, by estimate.
    pub fn matrix_bytes(&self) -> u64 {
        let row = |at| self.row_bytes_of(0..self.schema.fields().len(), at);
        match &self.rows {
            Rows::Below(_) => {
                let objects = self.objects.iter().enumerate();
                let bytes = objects.map(|(at, object)| row(at).saturating_mul(object.n_obs()));
                bytes.fold(0, u64::saturating_add)
            }
            Rows::Beside(_) => row(0).saturating_mul(self.n_obs()),
        }
    }

    /// Bytes of matrices in a row that comes from an object.
    fn row_bytes_of(&self, mut columns: impl Iterator<Item = usize>, object: usize) -> u64 {
        let bytes = |column: usize| match &self.rows {
            Rows::Below(below) => {
                let source = below.targets.get(column)?.sources.get(object)?;
                Some(source.matrix()?.row_bytes(object))
            }
            Rows::Beside(beside) => {
                // Positions come before the columns that are read.
                let column = beside.columns.get(column.checked_sub(1)?)?;
                column.as_matrix().map(|_| column.row_bytes())
            }
        };
        columns
            .try_fold(0u64, |sum, column| {
                sum.checked_add(bytes(column).unwrap_or(0))
            })
            .unwrap_or(u64::MAX)
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

/// What rows come from, what columns they have, and what is dropped.
type Planned = (Rows, SchemaRef, Vec<String>);

async fn below(spec: &MergeSpec, objects: &[Arc<AnnData>], keys: &[String]) -> Result<Planned> {
    let mut starts = vec![0];
    for object in objects {
        let end = starts.last().copied().unwrap_or_default();
        starts.push(object.n_obs().saturating_add(end));
    }
    let label = |element: &'static str| {
        move |at: usize| {
            let location = objects.get(at).map(|object| object.location().to_string());
            format!("{element} of {}", location.unwrap_or_default())
        }
    };
    let mut warnings = Vec::new();
    let mut var_names = Vec::with_capacity(objects.len());
    for object in objects {
        var_names.push(names(object, object.var(), spec.align_on.as_deref()).await?);
    }
    let genes = Genes::of(&var_names, spec.join, spec.genes.as_deref(), label("var"))?;
    let had_some = genes.joined.maps.iter().all(|map| map.n_old() > 0);
    if genes.axis.is_empty() && had_some && !objects.is_empty() {
        warnings.push(
            "var: no gene is in all objects, so the merged one has none; are their names of one kind? \
             --join outer keeps the genes of all, --align-on matches them by a column of var"
                .to_owned(),
        );
    }
    let raw = raw_names(spec, objects, &mut warnings).await?;
    let raw = raw
        .map(|names| Genes::of(&names, spec.join, None, label("raw/var")))
        .transpose()?;
    let mut cells = Vec::with_capacity(objects.len());
    for object in objects {
        cells.push(scan_cells(whole(object, None, DEFAULT_BATCH_BYTES))?.schema());
    }
    let sides = objects.iter().map(|object| Side {
        object,
        frame: object.obs(),
        elements: object.obsm(),
    });
    let mut targets = Targets::new(spec, AxisNames::OBS, sides.collect(), keys);
    targets.index(&starts)?;
    targets.columns(&cells)?;
    targets.genes(&genes.joined, genes.axis.id())?;
    targets.mapping()?;
    if let Some(raw) = &raw {
        targets.raw(&raw.joined, raw.axis.id())?;
    }
    let (targets, said) = targets.finish();
    warnings.extend(said);
    let fields: Vec<_> = targets
        .iter()
        .map(|target| Arc::clone(&target.field))
        .collect();
    let rows = Below {
        targets,
        starts,
        cells,
        genes,
        raw,
    };
    Ok((Rows::Below(rows), Arc::new(Schema::new(fields)), warnings))
}

async fn beside_each_other(
    spec: &MergeSpec,
    objects: &[Arc<AnnData>],
    keys: &[String],
) -> Result<Planned> {
    let mut obs_names = Vec::with_capacity(objects.len());
    for object in objects {
        obs_names.push(names(object, object.obs(), spec.align_on.as_deref()).await?);
    }
    let label = |at: usize| {
        let location = objects.get(at).map(|object| object.location().to_string());
        format!("obs of {}", location.unwrap_or_default())
    };
    let joined = JoinedAxis::try_new(&obs_names, spec.join, label)?;
    let mut rows = beside::of(spec, objects, keys, joined).await?;
    let position = Arc::new(Field::new(POSITION, DataType::Int64, false));
    let columns = rows.columns.iter().map(|column| Arc::clone(column.field()));
    let fields: Vec<_> = std::iter::once(position).chain(columns).collect();
    let warnings = std::mem::take(&mut rows.warnings);
    Ok((Rows::Beside(rows), Arc::new(Schema::new(fields)), warnings))
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
        rows: RowSelection::all(n_obs),
        partitions: std::iter::once(0..n_obs).collect(),
        order: None,
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
    let align_on = raw_align_on(spec, objects);
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
