//! The columns of tables with a row per cell or gene.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};

use crate::element::{AnnData, ColumnReader, Frame, MatrixReader};
use crate::error::{Error, Result};
use crate::kernel::genes::GeneSelection;
use crate::model::{AxisRegistry, FieldMeta, OBJECT_COLUMN, ROW_COLUMN, VarAxis};
use crate::table::description::ScanDescription;
use crate::table::layout::{AlignedColumn, AlignedLayout};

/// Columns in the making: names are unique.
pub(super) struct Columns {
    n_rows: u64,
    fields: Vec<FieldRef>,
    columns: Vec<AlignedColumn>,
    names: HashSet<String>,
}

impl Columns {
    /// Position and names of an axis.
    fn axis(axis: &str, frame: &Frame) -> Self {
        let mut columns = Self {
            n_rows: frame.n_rows(),
            fields: Vec::new(),
            columns: Vec::new(),
            names: HashSet::new(),
        };
        let position = Field::new(format!("{axis}_idx"), DataType::Int64, false);
        columns.push(Arc::new(position), AlignedColumn::Position);
        let index = frame.index();
        let name = Arc::new(
            index
                .field()
                .as_ref()
                .clone()
                .with_name(format!("{axis}_names")),
        );
        columns.push(name, AlignedColumn::Element(Arc::clone(index)));
        columns
    }

    fn push(&mut self, field: FieldRef, column: AlignedColumn) {
        self.names.insert(field.name().clone());
        self.fields.push(field);
        self.columns.push(column);
    }

    /// Adds a column of a frame; one whose name is taken or reserved becomes `<axis>.<name>` and
    /// keeps its own name in metadata.
    fn push_own(&mut self, axis: &str, field: &FieldRef, column: AlignedColumn, reserved: bool) {
        if !reserved && !self.names.contains(field.name()) {
            return self.push(Arc::clone(field), column);
        }
        let meta = FieldMeta {
            name: Some(field.name().clone()),
            ..FieldMeta::of(field)
        };
        let mut name = format!("{axis}.{}", field.name());
        while self.names.contains(&name) {
            name.push('_');
        }
        let field = meta.apply(field.as_ref().clone().with_name(name));
        self.push(Arc::new(field), column);
    }

    pub(super) fn finish(mut self, object: &AnnData, scan: &ScanDescription) -> AlignedLayout {
        if scan.provenance {
            let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            let location = object.location().text();
            let meta = FieldMeta {
                object: Some(location.clone()),
                ..FieldMeta::default()
            };
            self.push(
                Arc::new(meta.apply(Field::new(OBJECT_COLUMN, text, false))),
                AlignedColumn::Object(location),
            );
            self.push(
                Arc::new(Field::new(ROW_COLUMN, DataType::Int64, false)),
                AlignedColumn::Position,
            );
        }
        AlignedLayout {
            schema: Arc::new(Schema::new(self.fields)),
            n_rows: self.n_rows,
            columns: self.columns,
        }
    }
}

pub(super) fn frame(axis: &str, frame: &Frame) -> Columns {
    let mut columns = Columns::axis(axis, frame);
    for column in frame.columns() {
        columns.push_own(
            axis,
            column.field(),
            AlignedColumn::Element(Arc::clone(column)),
            false,
        );
    }
    columns
}

/// Names that belong to elements in `cells`, whether or not there is such an element.
fn reserved(name: &str) -> bool {
    matches!(
        name,
        "obs_idx" | "obs_names" | "X" | "raw_X" | OBJECT_COLUMN | ROW_COLUMN
    ) || name.starts_with("layers_")
        || name.starts_with("obsm_")
}

/// What an obs column is called in `cells`.
pub(crate) fn cells_name(column: &str) -> String {
    if reserved(column) {
        format!("obs.{column}")
    } else {
        column.to_owned()
    }
}

pub(super) fn cells(object: &Arc<AnnData>, scan: &ScanDescription) -> Result<Columns> {
    let mut columns = Columns::axis("obs", object.obs());
    for column in object.obs().columns() {
        let element = AlignedColumn::Element(Arc::clone(column));
        columns.push_own(
            "obs",
            column.field(),
            element,
            reserved(column.field().name()),
        );
    }
    if let Some(x) = object.x() {
        push_matrix(&mut columns, "X".to_owned(), x, scan, true)?;
    }
    for (key, layer) in object.layers() {
        push_matrix(&mut columns, format!("layers_{key}"), layer, scan, true)?;
    }
    for (key, element) in object.obsm() {
        let field = element
            .field()
            .as_ref()
            .clone()
            .with_name(format!("obsm_{key}"));
        columns.push(Arc::new(field), AlignedColumn::Element(Arc::clone(element)));
    }
    if let Some(x) = object.raw().and_then(|raw| raw.x()) {
        push_matrix(&mut columns, "raw_X".to_owned(), x, scan, false)?;
    }
    Ok(columns)
}

pub(super) fn matrix(
    object: &AnnData,
    matrix: &Arc<dyn MatrixReader>,
    scan: &ScanDescription,
    selectable: bool,
) -> Result<Columns> {
    let mut columns = Columns::axis("obs", object.obs());
    push_matrix(&mut columns, "X".to_owned(), matrix, scan, selectable)?;
    Ok(columns)
}

/// Adds a matrix column, restricted to the scan's genes where it is over `var`.
fn push_matrix(
    columns: &mut Columns,
    name: String,
    matrix: &Arc<dyn MatrixReader>,
    scan: &ScanDescription,
    selectable: bool,
) -> Result<()> {
    let element: Arc<dyn ColumnReader> = Arc::clone(matrix) as _;
    let field = matrix.field().as_ref().clone().with_name(name);
    let Some(positions) = scan.genes.as_ref().filter(|_| selectable) else {
        columns.push(Arc::new(field), AlignedColumn::Element(element));
        return Ok(());
    };
    let genes = GeneSelection::try_new(positions, matrix.shape().n_cols)?;
    let meta = FieldMeta {
        axis: matrix
            .axis()
            .map(|axis| select_axis(axis, &genes))
            .transpose()?,
        width: Some(genes.len() as u64),
        ..FieldMeta::of(&field)
    };
    let data_type = match field.data_type() {
        DataType::FixedSizeList(item, _) => {
            let width = i32::try_from(genes.len())
                .map_err(|_| Error::option("genes", "more genes than a dense row can hold"))?;
            DataType::FixedSizeList(Arc::clone(item), width)
        }
        other => other.clone(),
    };
    let field = meta.apply(field.with_data_type(data_type));
    columns.push(
        Arc::new(field),
        AlignedColumn::Genes(element, Arc::new(genes)),
    );
    Ok(())
}

/// Registers the axis of the selected genes, and gives its id.
fn select_axis(axis: &VarAxis, genes: &GeneSelection) -> Result<String> {
    let positions = UInt64Array::from(genes.positions().to_vec());
    let names = arrow::compute::take(axis.names(), &positions, None)?;
    let names = names.as_string::<i32>().clone();
    // Positions are counted in the element that describes the genes, whatever was cut before.
    let positions = genes.positions().iter().map(|p| match axis.positions() {
        Some(of) => usize::try_from(*p)
            .ok()
            .and_then(|p| of.get(p))
            .copied()
            .unwrap_or(*p),
        None => *p,
    });
    let selected = VarAxis::new(names, axis.source().cloned(), Some(positions.collect()));
    Ok(AxisRegistry::global()
        .register(Arc::new(selected))
        .id()
        .to_owned())
}

/// `obsm_*` and `varm_*`: one `value`, or the columns of a data frame.
pub(super) fn mapping(axis: &str, of: &Frame, element: &Arc<dyn ColumnReader>) -> Columns {
    let mut columns = Columns::axis(axis, of);
    match element.field().data_type() {
        DataType::Struct(fields) if !is_complex(fields) => {
            // The first member is the frame's own index, which equals the axis' names.
            for (i, field) in fields.iter().enumerate().skip(1) {
                let member = AlignedColumn::Member(Arc::clone(element), i);
                columns.push_own("value", field, member, false);
            }
        }
        _ => {
            let field = element.field().as_ref().clone().with_name("value");
            columns.push(Arc::new(field), AlignedColumn::Element(Arc::clone(element)));
        }
    }
    columns
}

fn is_complex(fields: &arrow::datatypes::Fields) -> bool {
    matches!(&fields[..], [re, im] if re.name() == "re" && im.name() == "im")
}
