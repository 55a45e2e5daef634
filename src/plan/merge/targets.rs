//! The columns of what is stacked (cells, or genes where objects stand beside each other): what there
//! is in which object, and what becomes of it.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef};

use super::adapt::{Source, Target};
use super::axis::JoinedAxis;
use super::columns::{MergedFrame, categorical_field, stack};
use super::matrices::{InputMatrix, Stacking};
use super::spec::{Join, MergeSpec};
use crate::element::{AnnData, ColumnReader, Frame};
use crate::error::{Error, Result};
use crate::kernel::reindex::ColumnMap;
use crate::model::{CategoryRegistry, FieldMeta, MatrixKind};
use crate::table::cells_name;

/// The axis that is stacked, of one object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) object: &'a AnnData,
    /// `obs`, or `var`.
    pub(super) frame: &'a Frame,
    /// `obsm`, or `varm`.
    pub(super) elements: &'a [(String, Arc<dyn ColumnReader>)],
}

/// What the stacked axis is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct AxisNames {
    /// `obs`, `var` or `raw/var`.
    pub(super) frame: &'static str,
    /// `obsm`, `varm` or `raw/varm`.
    pub(super) mapping: &'static str,
    /// The column of positions.
    pub(super) position: &'static str,
    /// The column of names.
    pub(super) names: &'static str,
}

impl AxisNames {
    pub(super) const VAR: Self = Self {
        frame: "var",
        mapping: "varm",
        position: "var_idx",
        names: "var_names",
    };
    pub(super) const RAW_VAR: Self = Self {
        frame: "raw/var",
        mapping: "raw/varm",
        ..Self::VAR
    };
    pub(super) const OBS: Self = Self {
        frame: "obs",
        mapping: "obsm",
        position: "obs_idx",
        names: "obs_names",
    };
}

/// Columns in the making.
pub(super) struct Targets<'a> {
    spec: &'a MergeSpec,
    axis: AxisNames,
    sides: Vec<Side<'a>>,
    keys: &'a [String],
    targets: Vec<Target>,
    /// Elements that the join drops, and types that have nothing in common.
    warnings: Vec<String>,
}

/// An object's element of some name.
type Element<'a> = Option<&'a Arc<dyn ColumnReader>>;

impl<'a> Targets<'a> {
    pub(super) fn new(
        spec: &'a MergeSpec,
        axis: AxisNames,
        sides: Vec<Side<'a>>,
        keys: &'a [String],
    ) -> Self {
        Self {
            spec,
            axis,
            sides,
            keys,
            targets: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// How many columns there are so far.
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    pub(super) fn finish(self) -> (Vec<Target>, Vec<String>) {
        (self.targets, self.warnings)
    }

    /// Positions and names.
    ///
    /// # Errors
    /// [`Error::NotImplemented`] from 2^63 rows on.
    pub(super) fn index(&mut self, starts: &[u64]) -> Result<()> {
        let sources = starts.iter().take(self.sides.len()).map(|start| {
            let first = i64::try_from(*start)
                .map_err(|_| Error::NotImplemented(format!("{start} rows")))?;
            Ok(Source::Position { first })
        });
        self.targets.push(Target {
            field: Arc::new(Field::new(self.axis.position, DataType::Int64, false)),
            sources: sources.collect::<Result<_>>()?,
        });
        let field = self.names_field();
        let sources = (0..self.sides.len()).map(|at| Source::Names {
            suffix: self.suffix(at),
        });
        self.targets.push(Target {
            field: Arc::new(field),
            sources: sources.collect(),
        });
        Ok(())
    }

    fn suffix(&self, at: usize) -> Option<Arc<str>> {
        let between = self.spec.index_unique.as_ref()?;
        Some(format!("{between}{}", self.keys.get(at)?).into())
    }

    /// Columns of the data frame. `rows[i]` are the columns that object i's rows come with: positions
    /// and names, then these.
    pub(super) fn columns(&mut self, rows: &[SchemaRef]) -> Result<()> {
        let fields = |frame: &Frame| {
            frame
                .columns()
                .iter()
                .map(|c| Arc::clone(c.field()))
                .collect()
        };
        let frames: Vec<Vec<FieldRef>> = self.sides.iter().map(|side| fields(side.frame)).collect();
        let element = self.axis.frame;
        let frame = stack(&frames, self.spec, element, &|at| self.label(at))?;
        self.say(element, &frame);
        for column in frame.columns {
            let parts = column.parts.into_iter().zip(rows);
            let sources = parts.map(|(part, rows)| {
                // Positions and names stand before the columns.
                let own = part.and_then(|(at, cast)| Some((rows.fields().get(at + 2)?, cast)));
                match own {
                    Some((field, cast)) => Source::Column {
                        name: field.name().clone(),
                        cast,
                    },
                    None => Source::Missing,
                }
            });
            self.targets.push(Target {
                field: Arc::new(self.as_row(&column.field)),
                sources: sources.collect(),
            });
        }
        self.label_column();
        Ok(())
    }

    /// The column that says which object a row came from: the last, unless one of its name is there.
    fn label_column(&mut self) {
        let Some(label) = &self.spec.label else {
            return;
        };
        let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        let values: ArrayRef = Arc::new(StringArray::from(keys));
        let id = CategoryRegistry::global().register(&values);
        let values = CategoryRegistry::global().get(&id).unwrap_or(values);
        let field = categorical_field(label, &DataType::Utf8, &id, false);
        let target = Target {
            field: Arc::new(self.as_row(&Arc::new(field))),
            sources: (0..)
                .take(self.sides.len())
                .map(|code| Source::Label {
                    code,
                    values: Arc::clone(&values),
                })
                .collect(),
        };
        let name = target.field.name();
        match self
            .targets
            .iter_mut()
            .find(|other| other.field.name() == name)
        {
            Some(taken) => {
                self.warnings.push(format!(
                    "{}/{label}: replaced by --label, which gives its name to the objects' keys",
                    self.axis.frame
                ));
                *taken = target;
            }
            None => self.targets.push(target),
        }
    }

    /// `X` and the layers, whose columns are genes.
    pub(super) fn genes(&mut self, joined: &JoinedAxis, axis: &str) -> Result<()> {
        let of = |object: &'a AnnData, name: &str| match name {
            "X" => object.x(),
            name => {
                let name = name.strip_prefix("layers_")?;
                object
                    .layers()
                    .iter()
                    .find(|(key, _)| key == name)
                    .map(|(_, layer)| layer)
            }
        };
        let mut names: Vec<String> = Vec::new();
        for object in self.sides.iter().map(|side| side.object) {
            let layers = object
                .layers()
                .iter()
                .map(|(key, _)| format!("layers_{key}"));
            let x = object.x().map(|_| "X".to_owned());
            for name in x.into_iter().chain(layers) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        for name in names {
            let mut inputs = Vec::with_capacity(self.sides.len());
            for object in self.sides.iter().map(|side| side.object) {
                inputs.push(match of(object, &name) {
                    Some(matrix) => Some(InputMatrix::of(matrix.field(), matrix.shape())?),
                    None => None,
                });
            }
            let element = name.replacen("layers_", "layers/", 1);
            self.matrix(&name, &element, &inputs, &joined.maps, Some(axis))?;
        }
        Ok(())
    }

    /// `raw/X`, where every object has a raw.
    pub(super) fn raw(&mut self, joined: &JoinedAxis, axis: &str) -> Result<()> {
        let mut inputs = Vec::with_capacity(self.sides.len());
        for object in self.sides.iter().map(|side| side.object) {
            let x = object.raw().and_then(|raw| raw.x());
            inputs.push(match x {
                Some(matrix) => Some(InputMatrix::of(matrix.field(), matrix.shape())?),
                None => None,
            });
        }
        if inputs.iter().all(Option::is_none) {
            return Ok(());
        }
        self.matrix("raw_X", "raw/X", &inputs, &joined.maps, Some(axis))
    }

    fn matrix(
        &mut self,
        name: &str,
        element: &str,
        inputs: &[Option<InputMatrix>],
        maps: &[Arc<ColumnMap>],
        axis: Option<&str>,
    ) -> Result<()> {
        if self.is_dropped(element, inputs) {
            return Ok(());
        }
        let stacking = Stacking {
            name,
            maps,
            join: self.spec.join,
            fill: self.spec.fill_value,
            axis,
        };
        let matrix = Arc::new(stacking.of(inputs)?);
        let sources = matrix.parts.iter().map(|map| match map {
            Some(map) => Source::Matrix {
                name: name.to_owned(),
                map: Arc::clone(map),
                matrix: Arc::clone(&matrix),
            },
            None => Source::MissingMatrix {
                matrix: Arc::clone(&matrix),
            },
        });
        let sources = sources.collect();
        self.targets.push(Target {
            field: Arc::clone(&matrix.field),
            sources,
        });
        Ok(())
    }

    /// Elements beside the data frame: arrays, and data frames.
    pub(super) fn mapping(&mut self) -> Result<()> {
        let mut keys: Vec<&'a str> = Vec::new();
        for (key, _) in self.sides.iter().flat_map(|side| side.elements) {
            if !keys.contains(&key.as_str()) {
                keys.push(key);
            }
        }
        for key in keys {
            let of = |side: &Side<'a>| side.elements.iter().find(|(name, _)| name == key);
            let elements: Vec<Element<'a>> = self
                .sides
                .iter()
                .map(|side| of(side).map(|(_, element)| element))
                .collect();
            if !self.is_dropped(&format!("{}/{key}", self.axis.mapping), &elements) {
                self.element(key, &elements)?;
            }
        }
        Ok(())
    }

    fn element(&mut self, key: &str, elements: &[Element<'_>]) -> Result<()> {
        let present = || elements.iter().flatten();
        let mapping = self.axis.mapping;
        let (name, element) = (format!("{mapping}_{key}"), format!("{mapping}/{key}"));
        if present().all(|element| element.as_matrix().is_some()) {
            let mut inputs = Vec::with_capacity(elements.len());
            for element in elements {
                inputs.push(match element.and_then(|e| Some((e, e.as_matrix()?))) {
                    Some((e, matrix)) => Some(InputMatrix::of(e.field(), matrix.shape())?),
                    None => None,
                });
            }
            let widths = inputs.iter().flatten().map(|matrix| matrix.n_cols);
            let n_cols = match self.spec.join {
                Join::Inner => widths.min(),
                Join::Outer => widths.max(),
            };
            let maps = inputs.iter().map(|matrix| {
                let own = matrix.as_ref().map_or(0, |matrix| matrix.n_cols);
                Ok(Arc::new(ColumnMap::resized(
                    own,
                    n_cols.unwrap_or_default(),
                )?))
            });
            let maps = maps.collect::<Result<Vec<_>>>()?;
            if inputs
                .iter()
                .flatten()
                .any(|matrix| Some(matrix.n_cols) > n_cols)
            {
                self.warnings.push(format!(
                    "{element}: cut to its first {} columns, because not all objects have more; \
                     --join outer keeps them",
                    n_cols.unwrap_or_default()
                ));
            }
            return self.matrix(&name, &element, &inputs, &maps, None);
        }
        if present().all(|element| self.frame_columns(element.field()).is_some()) {
            return self.frame(&name, &element, elements);
        }
        let first = present().next();
        let same = |other: &&Arc<dyn ColumnReader>| {
            first.is_some_and(|first| {
                first.field().data_type() == other.field().data_type()
                    && FieldMeta::of(first.field()) == FieldMeta::of(other.field())
            })
        };
        if let (Some(first), true, true) = (
            first,
            present().all(same),
            present().count() == elements.len(),
        ) {
            self.targets.push(Target {
                field: Arc::new(first.field().as_ref().clone().with_name(&name)),
                sources: vec![
                    Source::Column {
                        name,
                        cast: super::columns::ColumnCast::Keep,
                    };
                    elements.len()
                ],
            });
            return Ok(());
        }
        let found = (0..).zip(elements).filter_map(|(at, e)| {
            Some(format!(
                "{} in {}",
                self.kind(e.as_ref()?.field()),
                self.label(at)
            ))
        });
        let found: Vec<String> = found.collect();
        Err(Error::IncompatibleSchemas(format!(
            "{element}: {} cannot be merged; --drop {element} leaves it out",
            found.join(" and ")
        )))
    }

    fn frame(&mut self, name: &str, element: &str, elements: &[Element<'_>]) -> Result<()> {
        let frames: Vec<Vec<FieldRef>> = elements
            .iter()
            .map(|element| {
                let columns = element.and_then(|element| self.frame_columns(element.field()));
                columns.unwrap_or_default()
            })
            .collect();
        let frame = stack(&frames, self.spec, element, &|at| self.label(at))?;
        self.say(element, &frame);
        let index = Arc::new(self.names_field());
        let columns = frame.columns.iter().map(|column| Arc::clone(&column.field));
        let fields: Fields = std::iter::once(index).chain(columns).collect();
        let sources = (0..).zip(elements).map(|(at, element)| Source::Frame {
            name: element.map(|_| name.to_owned()),
            columns: frame
                .columns
                .iter()
                .map(|c| c.parts.get(at).cloned().flatten())
                .collect(),
            suffix: self.suffix(at),
        });
        let meta = FieldMeta {
            encoding: Some("dataframe".to_owned()),
            index_name: FieldMeta::of(&fields[0]).index_name,
            ..FieldMeta::default()
        };
        let sources = sources.collect();
        let field = Field::new(name, DataType::Struct(fields), false);
        self.targets.push(Target {
            field: Arc::new(meta.apply(field)),
            sources,
        });
        Ok(())
    }

    /// Whether an element is not merged: it was asked to be left out, or an inner join drops it.
    fn is_dropped<T>(&mut self, element: &str, inputs: &[Option<T>]) -> bool {
        if self.spec.is_dropped(element) {
            return true;
        }
        let lack: Vec<usize> = (0..)
            .zip(inputs)
            .filter(|(_, input)| input.is_none())
            .map(|(at, _)| at)
            .collect();
        let dropped = self.spec.join == Join::Inner && !lack.is_empty();
        if dropped {
            self.warnings.push(self.lacking(element, &lack));
        }
        dropped
    }

    fn say(&mut self, element: &str, frame: &MergedFrame) {
        for (name, lack) in &frame.dropped {
            let warning = self.lacking(&format!("{element}/{name}"), lack);
            self.warnings.push(warning);
        }
        self.warnings.extend(frame.conflicts.iter().cloned());
    }

    fn lacking(&self, element: &str, lack: &[usize]) -> String {
        let names: Vec<String> = lack.iter().take(3).map(|at| self.label(*at)).collect();
        let more = match lack.len() - names.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        format!(
            "{element}: dropped, because {}{more} {} not have it; --join outer keeps it",
            names.join(", "),
            if lack.len() == 1 { "does" } else { "do" }
        )
    }

    fn label(&self, at: usize) -> String {
        let side = self.sides.get(at);
        side.map_or_else(String::new, |side| side.object.location().to_string())
    }

    /// The name that all objects' indexes have, as the index of the merged one.
    fn names_field(&self) -> Field {
        let mut names = self.sides.iter().map(|side| side.frame.index_name());
        let first = names.next().unwrap_or("_index");
        let name = match names.all(|name| name == first) {
            true => first,
            false => "_index",
        };
        let meta = FieldMeta {
            index_name: Some(name.to_owned()),
            encoding: Some("string-array".to_owned()),
            ..FieldMeta::default()
        };
        meta.apply(Field::new(self.axis.names, DataType::Utf8, false))
    }

    /// A column of the data frame among other columns of rows: in cells, names of elements are taken.
    fn as_row(&self, field: &FieldRef) -> Field {
        let name = match self.axis.frame {
            "obs" => cells_name(field.name()),
            _ => field.name().clone(),
        };
        if name == *field.name() {
            return field.as_ref().clone();
        }
        let meta = FieldMeta {
            name: Some(field.name().clone()),
            ..FieldMeta::of(field)
        };
        meta.apply(field.as_ref().clone().with_name(name))
    }

    /// The columns of an element that is a data frame, without its index.
    fn frame_columns(&self, field: &Field) -> Option<Vec<FieldRef>> {
        match field.data_type() {
            DataType::Struct(fields)
                if fields.first().is_some_and(|f| f.name() == self.axis.names) =>
            {
                Some(fields.iter().skip(1).map(Arc::clone).collect())
            }
            _ => None,
        }
    }

    /// What an element is, for messages.
    fn kind(&self, field: &Field) -> String {
        if self.frame_columns(field).is_some() {
            return "a data frame".to_owned();
        }
        match MatrixKind::of(field.data_type()) {
            Some(MatrixKind::Sparse) => "a sparse matrix".to_owned(),
            Some(MatrixKind::Dense) => "an array".to_owned(),
            None if FieldMeta::of(field).form.is_some() => "an awkward array".to_owned(),
            None => format!("a column of {}", field.data_type()),
        }
    }
}
