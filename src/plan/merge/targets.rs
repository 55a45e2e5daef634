//! The columns of what is stacked (cells, or genes where objects stand beside each other): what there
//! is in which object, and what becomes of it.

mod elements;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};

use super::adapt::{Source, Target};
use super::columns::{ColumnCast, MergedFrame, categorical_field, stack};
use super::genes::common_name;
use super::spec::MergeSpec;
use crate::element::{AnnData, ColumnReader, Frame};
use crate::error::{Error, Result};
use crate::model::{CategoryRegistry, FieldMeta};
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
        self.label_column()
    }

    /// The column that says which object a row came from: the last, unless one of its name is there.
    fn label_column(&mut self) -> Result<()> {
        let Some(label) = &self.spec.label else {
            return Ok(());
        };
        let of_name = self.as_row(&Arc::new(Field::new(label, DataType::Null, true)));
        let taken = self
            .targets
            .iter()
            .position(|other| other.field.name() == of_name.name());
        if self.spec.extends
            && let Some(at) = taken
        {
            return self.complete_label(at, label);
        }
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
        match taken.and_then(|at| self.targets.get_mut(at)) {
            Some(taken) => {
                self.warnings.push(format!(
                    "{}/{label}: replaced by --label, which gives its name to the objects' keys",
                    self.axis.frame
                ));
                *taken = target;
            }
            None => self.targets.push(target),
        }
        Ok(())
    }

    /// Gives objects without the label's column their keys in it.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where it is not one of text categories in all that have it.
    fn complete_label(&mut self, at: usize, label: &str) -> Result<()> {
        let taken = &self.targets[at];
        let known = FieldMeta::of(&taken.field).categories;
        let known = known.and_then(|id| CategoryRegistry::global().get(&id));
        let Some(known) = known
            .as_ref()
            .and_then(|known| known.as_string_opt::<i32>())
        else {
            return Err(Error::IncompatibleSchemas(format!(
                "{}/{label} says where rows came from, and is no categorical of text in all of the \
                 inputs that have it",
                self.axis.frame
            )));
        };
        // What is known keeps its codes: new ones come behind.
        let mut names: Vec<&str> = known.iter().flatten().collect();
        let n_known = i32::try_from(names.len()).unwrap_or(i32::MAX);
        let mut codes = vec![None; taken.sources.len()];
        for ((source, key), code) in taken.sources.iter().zip(self.keys).zip(&mut codes) {
            if !matches!(source, Source::Missing) {
                continue;
            }
            let place = names.iter().position(|name| *name == key.as_str());
            let place = place.unwrap_or_else(|| {
                names.push(key);
                names.len() - 1
            });
            *code = i32::try_from(place).ok();
        }
        let values: ArrayRef = Arc::new(StringArray::from(names));
        let id = CategoryRegistry::global().register(&values);
        let values = CategoryRegistry::global().get(&id).unwrap_or(values);
        let sources = taken.sources.iter().zip(codes).map(|(source, code)| {
            let values = Arc::clone(&values);
            match (source, code) {
                (Source::Column { name, cast }, _) => Source::Column {
                    name: name.clone(),
                    cast: ColumnCast::Codes {
                        codes: match cast {
                            ColumnCast::Codes { codes, .. } => Arc::clone(codes),
                            _ => (0..n_known).collect(),
                        },
                        values,
                    },
                },
                (_, Some(code)) => Source::Label { code, values },
                (other, None) => other.clone(),
            }
        });
        let sources = sources.collect();
        let field = categorical_field(label, &DataType::Utf8, &id, false);
        self.targets[at] = Target {
            field: Arc::new(self.as_row(&Arc::new(field))),
            sources,
        };
        Ok(())
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
        let name = common_name(self.sides.iter().map(|side| side.frame));
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
}
