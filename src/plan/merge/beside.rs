//! A merge of objects beside each other, thought through: genes are stacked, cells aligned.
//!
//! What is stacked or aligned where cells are stacked is aligned or stacked here: `X` has the columns
//! of all objects, `obs` and `obsm` are kept by the strategy, `var` and `varm` are put below each
//! other. Rows are read where they stand in each object.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use super::adapt::{NAMES, POSITION, adapt};
use super::aligned::{Placed, candidates, keep};
use super::axis::JoinedAxis;
use super::genes::{columns_beside, common_name};
use super::matrices::{InputMatrix, Stacking};
use super::side_by_side::{Part, SideBySide};
use super::spec::{Join, MergeSpec};
use super::targets::{AxisNames, Side, Targets};
use crate::element::{AnnData, ColumnReader, Frame, MatrixReader, MemoryColumn};
use crate::error::Result;
use crate::model::{AxisRegistry, ElementKey, FieldMeta, RowSelection, VarAxis};
use crate::sink::GeneSide;
use crate::store::ReadMetrics;
use crate::table::cells_name;

/// The columns of cells after their positions, and the genes they are over.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) columns: Vec<Arc<dyn ColumnReader>>,
    pub(super) axis: Arc<VarAxis>,
    pub(super) raw_axis: Option<Arc<VarAxis>>,
    /// The joined axis of cells.
    pub(super) joined: JoinedAxis,
    pub(super) warnings: Vec<String>,
}

/// An object's matrix of some name.
type Matrix<'a> = Option<&'a Arc<dyn MatrixReader>>;

/// Columns in the making.
struct Builder<'a> {
    spec: &'a MergeSpec,
    objects: &'a [Arc<AnnData>],
    joined: JoinedAxis,
    places: Vec<Placed>,
    columns: Vec<Arc<dyn ColumnReader>>,
    warnings: Vec<String>,
}

/// Thinks the merge through. Reads names of cells, and obs columns that must be equal to be kept.
pub(super) async fn of(
    spec: &MergeSpec,
    objects: &[Arc<AnnData>],
    keys: &[String],
    joined: JoinedAxis,
) -> Result<Beside> {
    let axis = stacked_axis(spec, keys, objects.iter().map(|object| object.var())).await?;
    let mut warnings = Vec::new();
    let raws: Vec<_> = objects.iter().filter_map(|object| object.raw()).collect();
    let raw_axis = match raws.len() == objects.len() && !spec.is_dropped("raw") {
        true => Some(stacked_axis(spec, keys, raws.iter().map(|raw| raw.var())).await?),
        false => None,
    };
    let without = objects.iter().find(|object| object.raw().is_none());
    if let (Some(without), false, false) = (without, raws.is_empty(), spec.is_dropped("raw")) {
        warnings.push(format!(
            "raw: dropped, because {} has none; it is merged where all have it",
            without.location()
        ));
    }
    let mut builder = Builder {
        spec,
        objects,
        places: {
            let maps = joined.maps.iter();
            maps.map(|map| Placed::new(map, &joined.names)).collect()
        },
        joined,
        columns: Vec::new(),
        warnings,
    };
    builder.names();
    builder.obs().await?;
    builder.matrices(&axis)?;
    builder.obsm().await?;
    if let Some(axis) = &raw_axis {
        let raws = |object: &'_ Arc<AnnData>| object.raw().map(|raw| raw.var().n_rows());
        let widths: Vec<u64> = objects.iter().filter_map(raws).collect();
        let x: Vec<Matrix<'_>> = objects
            .iter()
            .map(|object| object.raw().and_then(|raw| raw.x()))
            .collect();
        builder.matrix("raw_X", "raw/X", &x, &widths, axis)?;
    }
    Ok(Beside {
        columns: builder.columns,
        axis,
        raw_axis,
        joined: builder.joined,
        warnings: builder.warnings,
    })
}

/// The names of all frames' rows, one after another.
async fn stacked_axis(
    spec: &MergeSpec,
    keys: &[String],
    frames: impl Iterator<Item = &Frame>,
) -> Result<Arc<VarAxis>> {
    let mut names: Vec<String> = Vec::new();
    for (frame, key) in frames.zip(keys) {
        let rows = RowSelection::all(frame.n_rows());
        let own = frame.index().read(&rows, &ReadMetrics::default()).await?;
        let own: &StringArray = own.as_string();
        let name = |name: Option<&str>| {
            let name = name.unwrap_or_default();
            match &spec.index_unique {
                Some(between) => format!("{name}{between}{key}"),
                None => name.to_owned(),
            }
        };
        names.extend(own.iter().map(name));
    }
    let axis = Arc::new(VarAxis::new(StringArray::from(names), None, None));
    AxisRegistry::global().register(Arc::clone(&axis));
    Ok(axis)
}

impl<'a> Builder<'a> {
    fn names(&mut self) {
        let index_name = match &self.spec.align_on {
            Some(column) => column.as_str(),
            None => common_name(self.objects.iter().map(|object| object.obs())),
        };
        let meta = FieldMeta {
            index_name: Some(index_name.to_owned()),
            encoding: Some("string-array".to_owned()),
            ..FieldMeta::default()
        };
        let field = Arc::new(meta.apply(Field::new(NAMES, DataType::Utf8, false)));
        let values: ArrayRef = Arc::new(self.joined.names.clone());
        let key = ElementKey::new("obs").child(index_name);
        self.columns
            .push(Arc::new(MemoryColumn::new(field, key, values)));
    }

    async fn obs(&mut self) -> Result<()> {
        let align_on = self.spec.align_on.as_deref();
        let columns = |object: &'a AnnData| columns_beside(object.obs(), align_on);
        for (name, candidates) in candidates(self.objects, &self.places, false, columns) {
            let key = format!("obs/{name}");
            if self.spec.is_dropped(&key) {
                continue;
            }
            match keep(&candidates, self.objects.len(), self.spec.merge).await? {
                Some(column) => self
                    .columns
                    .push(Arc::new(column.cell(&name, &cells_name(&name)))),
                None => self
                    .warnings
                    .push(format!("{key}: dropped; --merge first keeps it")),
            }
        }
        Ok(())
    }

    async fn obsm(&mut self) -> Result<()> {
        let elements = |object: &'a AnnData| object.obsm().to_vec();
        for (name, candidates) in candidates(self.objects, &self.places, false, elements) {
            let key = format!("obsm/{name}");
            if self.spec.is_dropped(&key) {
                continue;
            }
            match keep(&candidates, self.objects.len(), self.spec.merge).await? {
                Some(element) => self
                    .columns
                    .push(Arc::new(element.named(&format!("obsm_{name}")))),
                None => self
                    .warnings
                    .push(format!("{key}: dropped; --merge first keeps it")),
            }
        }
        Ok(())
    }

    /// `X` and the layers.
    fn matrices(&mut self, axis: &VarAxis) -> Result<()> {
        let widths: Vec<u64> = self.objects.iter().map(|object| object.n_vars()).collect();
        let mut names: Vec<&'a str> = Vec::new();
        for (name, _) in self.objects.iter().flat_map(|object| object.layers()) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let x: Vec<Matrix<'a>> = self.objects.iter().map(|object| object.x()).collect();
        if x.iter().any(Option::is_some) {
            self.matrix("X", "X", &x, &widths, axis)?;
        }
        for name in names {
            let of = |object: &'a Arc<AnnData>| {
                object
                    .layers()
                    .iter()
                    .find(|(key, _)| key == name)
                    .map(|(_, layer)| layer)
            };
            let layers: Vec<Matrix<'a>> = self.objects.iter().map(of).collect();
            let column = format!("layers_{name}");
            self.matrix(&column, &format!("layers/{name}"), &layers, &widths, axis)?;
        }
        Ok(())
    }

    fn matrix(
        &mut self,
        column: &str,
        element: &str,
        matrices: &[Matrix<'_>],
        widths: &[u64],
        axis: &VarAxis,
    ) -> Result<()> {
        if self.spec.is_dropped(element) || matrices.iter().all(Option::is_none) {
            return Ok(());
        }
        let lack = matrices
            .iter()
            .zip(self.objects)
            .find(|(matrix, _)| matrix.is_none());
        if let (Join::Inner, Some((_, object))) = (self.spec.join, lack) {
            self.warnings.push(format!(
                "{element}: dropped, because {} does not have it; --join outer keeps it",
                object.location()
            ));
            return Ok(());
        }
        let mut inputs = Vec::with_capacity(matrices.len());
        for (matrix, object) in matrices.iter().zip(self.objects) {
            inputs.push(match matrix {
                Some(matrix) => Some(InputMatrix {
                    // What is brought onto the merged axis here is rows.
                    n_cols: usize::try_from(object.n_obs()).unwrap_or(usize::MAX),
                    ..InputMatrix::of(matrix.field(), matrix.shape())?
                }),
                None => None,
            });
        }
        let stacking = Stacking {
            name: column,
            maps: &self.joined.maps,
            join: self.spec.join,
            fill: self.spec.fill_value,
            axis: None,
        };
        let like = stacking.of(&inputs)?;
        let parts = matrices.iter().zip(&self.places).zip(widths);
        let parts = parts.map(|((matrix, place), width)| Part {
            reader: matrix.map(Arc::clone),
            place: place.clone(),
            n_cols: usize::try_from(*width).unwrap_or(usize::MAX),
        });
        let n_rows = self.joined.names.len();
        let matrix = SideBySide::try_new(column, &like, parts.collect(), n_rows, axis)?;
        self.columns.push(Arc::new(matrix));
        Ok(())
    }
}

/// Genes put below each other: `var` and `varm`, or those of `raw`. In memory.
pub(super) async fn genes(
    spec: &MergeSpec,
    names: AxisNames,
    axis: &Arc<VarAxis>,
    sides: Vec<Side<'_>>,
    keys: &[String],
) -> Result<(GeneSide, Vec<String>)> {
    let mut batches = Vec::with_capacity(sides.len());
    for side in &sides {
        batches.push(rows_of(side, names).await?);
    }
    let schemas: Vec<SchemaRef> = batches.iter().map(RecordBatch::schema).collect();
    let mut starts = vec![0];
    for side in &sides {
        starts.push(starts.last().copied().unwrap_or_default() + side.frame.n_rows());
    }
    let mut targets = Targets::new(spec, names, sides, keys);
    targets.index(&starts)?;
    targets.columns(&schemas)?;
    let n_columns = targets.len();
    targets.mapping()?;
    let (targets, warnings) = targets.finish();
    let fields: Vec<FieldRef> = targets
        .iter()
        .map(|target| Arc::clone(&target.field))
        .collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let mut adapted = Vec::with_capacity(batches.len());
    for (at, batch) in batches.iter().enumerate() {
        let sources = targets.iter().filter_map(|target| target.sources.get(at));
        adapted.push(adapt(batch, &schema, sources)?);
    }
    let mut readers: Vec<Arc<dyn ColumnReader>> = Vec::with_capacity(targets.len());
    for (at, field) in schema.fields().iter().enumerate() {
        let arrays: Vec<&dyn Array> = adapted
            .iter()
            .map(|batch| batch.column(at).as_ref())
            .collect();
        let values = concat(&arrays)?;
        let key = ElementKey::new(names.frame).child(field.name());
        readers.push(Arc::new(MemoryColumn::new(Arc::clone(field), key, values)));
    }
    let mut varm = Vec::new();
    let prefix = format!("{}_", names.mapping);
    for reader in readers.split_off(n_columns) {
        let name = reader
            .field()
            .name()
            .strip_prefix(&prefix)
            .unwrap_or_default()
            .to_owned();
        varm.push((name, reader));
    }
    let columns = readers.split_off(2);
    let index = readers.pop();
    let index = index.unwrap_or_else(|| {
        let field = Arc::new(Field::new(names.names, DataType::Utf8, false));
        let none: ArrayRef = Arc::new(StringArray::from(Vec::<&str>::new()));
        Arc::new(MemoryColumn::new(field, ElementKey::new(names.frame), none))
    });
    let index_name = FieldMeta::of(index.field()).index_name;
    let index_name = index_name.unwrap_or_else(|| "_index".to_owned());
    let key = ElementKey::new(names.frame);
    let side = GeneSide {
        axis: Arc::clone(axis),
        frame: Frame::of_columns(key, &index_name, index, columns),
        varm,
    };
    Ok((side, warnings))
}

/// All that stands on an object's genes, called as [`adapt`] finds it.
async fn rows_of(side: &Side<'_>, names: AxisNames) -> Result<RecordBatch> {
    let rows = RowSelection::all(side.frame.n_rows());
    let metrics = ReadMetrics::default();
    let positions: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(
        rows.iter()
            .map(|row| i64::try_from(row).unwrap_or(i64::MAX)),
    ));
    let index = side.frame.index();
    let mut fields = vec![
        Field::new(POSITION, DataType::Int64, false),
        index.field().as_ref().clone().with_name(NAMES),
    ];
    let mut columns = vec![positions, index.read(&rows, &metrics).await?];
    for column in side.frame.columns() {
        fields.push(column.field().as_ref().clone());
        columns.push(column.read(&rows, &metrics).await?);
    }
    for (name, element) in side.elements {
        let name = format!("{}_{name}", names.mapping);
        fields.push(element.field().as_ref().clone().with_name(name));
        columns.push(element.read(&rows, &metrics).await?);
    }
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns,
    )?)
}
