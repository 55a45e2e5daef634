//! Which column of a batch goes where.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};

use crate::element::stored_name;
use crate::error::{Error, Result};
use crate::model::{
    AxisRegistry, ElementKey, FieldMeta, FrameRegistry, MatrixKind, OBJECT_COLUMN, ROW_COLUMN,
    VarAxis,
};

/// The places of a batch's columns, by position in the schema.
#[derive(Debug)]
pub(super) struct Layout {
    /// `obs_names`.
    pub(super) index: Option<usize>,
    /// Columns of `obs`.
    pub(super) obs: Vec<usize>,
    /// Columns that are elements of their own: `X`, layers, `obsm`, `raw/X`.
    pub(super) elements: Vec<(usize, ElementKey)>,
    /// Where rows say which object and which row of it they are.
    pub(super) provenance: Option<(usize, usize)>,
    /// The object that all rows come from, where the schema says.
    pub(super) object: Option<String>,
    /// The genes of `X` and the layers, where a column says.
    pub(super) axis: Option<Arc<VarAxis>>,
    /// How many genes, where a column says.
    pub(super) n_vars: Option<u64>,
    /// The frame of those genes that came with the rows.
    pub(super) frame: Option<Arc<RecordBatch>>,
    /// The genes of `raw/X`, where it is there.
    pub(super) raw: Option<Raw>,
}

/// What the schema says of the genes of a matrix.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) axis: Option<Arc<VarAxis>>,
    pub(super) n_vars: Option<u64>,
    pub(super) frame: Option<Arc<RecordBatch>>,
}

impl Layout {
    /// The layout of a schema.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where `X` and layers are over different genes, or two columns
    /// would be one element.
    pub(super) fn of(schema: &Schema) -> Result<Self> {
        let mut layout = Self {
            index: None,
            obs: Vec::new(),
            elements: Vec::new(),
            provenance: None,
            object: None,
            axis: None,
            n_vars: None,
            frame: None,
            raw: None,
        };
        let (mut object, mut row) = (None, None);
        let mut over: Option<&Field> = None;
        for (i, field) in schema.fields().iter().enumerate() {
            match field.name().as_str() {
                OBJECT_COLUMN => {
                    object = Some(i);
                    layout.object = FieldMeta::of(field).object;
                }
                ROW_COLUMN => row = Some(i),
                "obs_names" => layout.index = Some(i),
                "obs_idx" => {}
                _ => match element(field)? {
                    None => layout.obs.push(i),
                    Some(key) => {
                        let genes = Raw {
                            axis: axis(field),
                            n_vars: width(field),
                            frame: frame(field),
                        };
                        if key.as_str() == "raw/X" {
                            layout.raw = Some(genes);
                        } else if !key.as_str().starts_with("obsm/") {
                            layout.over(field, &genes, over)?;
                            over = Some(field);
                        }
                        layout.element(i, key)?;
                    }
                },
            }
        }
        layout.provenance = object.zip(row);
        Ok(layout)
    }

    fn element(&mut self, i: usize, key: ElementKey) -> Result<()> {
        if self.elements.iter().any(|(_, other)| *other == key) {
            return Err(Error::IncompatibleSchemas(format!(
                "two columns would be written as {key}: give one another name with AS"
            )));
        }
        self.elements.push((i, key));
        Ok(())
    }

    /// Notes the genes of `X` or a layer.
    fn over(&mut self, field: &Field, genes: &Raw, before: Option<&Field>) -> Result<()> {
        let differs = match (&self.axis, &genes.axis) {
            (Some(a), Some(b)) => a.id() != b.id(),
            _ => false,
        } || matches!((self.n_vars, genes.n_vars), (Some(a), Some(b)) if a != b);
        if differs {
            return Err(Error::IncompatibleSchemas(format!(
                "'{}' ({} genes) and '{}' ({} genes) are over different genes, so they cannot be written to one object",
                before.map_or("X", |field| field.name()),
                self.n_vars.unwrap_or_default(),
                field.name(),
                genes.n_vars.unwrap_or_default()
            )));
        }
        self.axis = self.axis.take().or_else(|| genes.axis.clone());
        self.n_vars = self.n_vars.or(genes.n_vars);
        self.frame = self.frame.take().or_else(|| genes.frame.clone());
        Ok(())
    }
}

/// The element that a column of cells is written as.
///
/// # Errors
/// [`Error::IncompatibleSchemas`] where its name is none for an element.
pub(crate) fn element_of(field: &FieldRef) -> Result<ElementKey> {
    let of_obs = || ElementKey::new("obs").child(&stored_name(field));
    Ok(element(field)?.unwrap_or_else(of_obs))
}

/// The element that a column is, [`None`] for a column of `obs`.
fn element(field: &FieldRef) -> Result<Option<ElementKey>> {
    let name = field.name().as_str();
    let matrix = MatrixKind::of(field.data_type());
    let (group, child) = match (matrix, name.split_once('_')) {
        (Some(_), _) if name == "X" => return Ok(Some(ElementKey::new("X"))),
        (Some(_), _) if name == "raw_X" => return Ok(Some(ElementKey::new("raw/X"))),
        (Some(_), Some(("layers", child))) => ("layers", child),
        (_, Some(("obsm", child))) => ("obsm", child),
        (Some(MatrixKind::Sparse), _) if FieldMeta::of(field).axis.is_some() => ("layers", name),
        (Some(_), _) => ("obsm", name),
        (None, _) if is_frame(field.data_type()) => ("obsm", name),
        (None, _) => return Ok(None),
    };
    if child.is_empty() || child == "." || child.contains('/') {
        return Err(Error::IncompatibleSchemas(format!(
            "column '{name}' cannot be written to {group}: '{child}' is not a name for an element, give it another with AS"
        )));
    }
    Ok(Some(ElementKey::new(group).child(child)))
}

/// A struct that is a data frame: it starts with its index.
fn is_frame(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Struct(fields)
        if fields.first().is_some_and(|field| field.name() == "obs_names"))
}

fn axis(field: &Field) -> Option<Arc<VarAxis>> {
    let id = FieldMeta::of(field).axis?;
    AxisRegistry::global().get(&id)
}

fn frame(field: &Field) -> Option<Arc<RecordBatch>> {
    let id = FieldMeta::of(field).var?;
    FrameRegistry::global().get(&id)
}

/// Number of columns of a matrix column.
fn width(field: &Field) -> Option<u64> {
    match field.data_type() {
        DataType::FixedSizeList(_, width) => u64::try_from(*width).ok(),
        _ => FieldMeta::of(field)
            .width
            .or_else(|| axis(field).map(|axis| axis.len() as u64)),
    }
}
