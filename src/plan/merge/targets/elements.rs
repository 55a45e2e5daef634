//! Elements of the stacked axis beside its data frame: matrices, arrays and frames.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};

use super::super::adapt::{Source, Target};
use super::super::axis::JoinedAxis;
use super::super::columns::{ColumnCast, stack};
use super::super::matrices::{InputMatrix, Stacking};
use super::super::spec::Join;
use super::{Side, Targets};
use crate::element::{AnnData, ColumnReader};
use crate::error::{Error, Result};
use crate::kernel::reindex::ColumnMap;
use crate::model::{FieldMeta, MatrixKind};

/// An object's element of some name.
type Element<'a> = Option<&'a Arc<dyn ColumnReader>>;

impl<'a> Targets<'a> {
    /// `X` and the layers, whose columns are genes.
    pub(in crate::plan::merge) fn genes(&mut self, joined: &JoinedAxis, axis: &str) -> Result<()> {
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
    pub(in crate::plan::merge) fn raw(&mut self, joined: &JoinedAxis, axis: &str) -> Result<()> {
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
    pub(in crate::plan::merge) fn mapping(&mut self) -> Result<()> {
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
                        cast: ColumnCast::Keep,
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
