//! The columns of each table, and where each is read from.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use crate::element::{AnnData, ColumnReader, Frame, MatrixReader};
use crate::error::{Error, Result};
use crate::kernel::genes::GeneSelection;
use crate::model::{AxisRegistry, FieldMeta, MatrixKind, OBJECT_COLUMN, ROW_COLUMN, VarAxis};
use crate::table::description::ScanDescription;
use crate::table::kind::TableKind;

/// A table of an open object.
#[derive(Debug)]
pub(crate) enum Layout {
    /// One row per cell or gene.
    Aligned(AlignedLayout),
    /// One row per stored entry.
    Entries(EntriesLayout),
    /// `uns` or `elements`: made in one piece.
    Listing(ListingLayout),
}

/// A table with one row per cell or gene.
#[derive(Debug)]
pub(crate) struct AlignedLayout {
    pub(crate) schema: SchemaRef,
    pub(crate) n_rows: u64,
    pub(crate) columns: Vec<AlignedColumn>,
}

/// Where a column of an aligned table comes from.
#[derive(Debug, Clone)]
pub(crate) enum AlignedColumn {
    /// The row's position in the object.
    Position,
    /// An element.
    Element(Arc<dyn ColumnReader>),
    /// A column of an element that is a data frame.
    Member(Arc<dyn ColumnReader>, usize),
    /// A matrix restricted to some genes.
    Genes(Arc<dyn ColumnReader>, Arc<GeneSelection>),
    /// The object's location, the same in every row.
    Object(String),
}

/// A table with one row per stored entry of a matrix.
#[derive(Debug)]
pub(crate) struct EntriesLayout {
    pub(crate) schema: SchemaRef,
    pub(crate) matrix: Arc<dyn MatrixReader>,
    pub(crate) row_names: Option<Arc<dyn ColumnReader>>,
    pub(crate) axis: Option<Arc<VarAxis>>,
    pub(crate) columns: Vec<EntryColumn>,
}

/// A column of a table of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryColumn {
    Row,
    RowName,
    Col,
    ColName,
    Value,
}

/// `uns` or `elements`.
#[derive(Debug)]
pub(crate) struct ListingLayout {
    pub(crate) schema: SchemaRef,
    pub(crate) object: Arc<AnnData>,
    pub(crate) table: TableKind,
}

impl Layout {
    /// The layout of a described table. Reads nothing.
    pub(crate) fn of(object: &Arc<AnnData>, scan: &ScanDescription) -> Result<Self> {
        let missing = || Error::ElementNotFound {
            url: object.location().to_string(),
            element: scan.table.to_string().into(),
            hint: "; see the table elements".to_owned(),
        };
        let aligned = match &scan.table {
            TableKind::Obs => frame("obs", object.obs()),
            TableKind::Var => frame("var", object.var()),
            TableKind::RawVar => frame("var", object.raw().ok_or_else(missing)?.var()),
            TableKind::Cells => cells(object, scan)?,
            TableKind::X => matrix(object, object.x().ok_or_else(missing)?, scan, true)?,
            TableKind::Layer(key) => matrix(
                object,
                find(object.layers(), key).ok_or_else(missing)?,
                scan,
                true,
            )?,
            TableKind::RawX => {
                let raw = object.raw().ok_or_else(missing)?;
                matrix(object, raw.x().ok_or_else(missing)?, scan, false)?
            }
            TableKind::Obsm(key) => mapping(
                "obs",
                object.obs(),
                find(object.obsm(), key).ok_or_else(missing)?,
            ),
            TableKind::Varm(key) => mapping(
                "var",
                object.var(),
                find(object.varm(), key).ok_or_else(missing)?,
            ),
            TableKind::XCoo => return Ok(coo(object, object.x().ok_or_else(missing)?)),
            TableKind::LayerCoo(key) => {
                return Ok(coo(object, find(object.layers(), key).ok_or_else(missing)?));
            }
            TableKind::Obsp(key) => {
                return Ok(pairs(find(object.obsp(), key).ok_or_else(missing)?));
            }
            TableKind::Varp(key) => {
                return Ok(pairs(find(object.varp(), key).ok_or_else(missing)?));
            }
            TableKind::Uns | TableKind::Elements => {
                return Ok(Self::Listing(ListingLayout {
                    schema: listing_schema(&scan.table),
                    object: Arc::clone(object),
                    table: scan.table.clone(),
                }));
            }
        };
        Ok(Self::Aligned(aligned.finish(object, scan)))
    }

    /// The table's schema.
    pub(crate) fn schema(&self) -> &SchemaRef {
        match self {
            Self::Aligned(aligned) => &aligned.schema,
            Self::Entries(entries) => &entries.schema,
            Self::Listing(listing) => &listing.schema,
        }
    }

    /// Length of the axis that partitions are ranges of.
    pub(crate) fn axis_len(&self) -> u64 {
        match self {
            Self::Aligned(aligned) => aligned.n_rows,
            Self::Entries(entries) => entries.matrix.shape().n_rows,
            Self::Listing(_) => 1,
        }
    }

    /// Rows of the whole table, where that is known without reading.
    pub(crate) fn n_rows(&self) -> Option<u64> {
        match self {
            Self::Aligned(aligned) => Some(aligned.n_rows),
            Self::Entries(entries) => match entries.matrix.shape().kind {
                MatrixKind::Sparse => entries.matrix.shape().nnz,
                MatrixKind::Dense => None,
            },
            Self::Listing(_) => None,
        }
    }

    /// Bytes that a row of all matrix columns takes on the average.
    pub(crate) fn matrix_row_bytes(&self) -> u64 {
        let Self::Aligned(aligned) = self else {
            return 0;
        };
        let bytes = aligned.columns.iter().map(|column| match column {
            AlignedColumn::Element(element) | AlignedColumn::Genes(element, _)
                if element.as_matrix().is_some() =>
            {
                element.row_bytes()
            }
            _ => 0,
        });
        bytes.fold(0, u64::saturating_add)
    }
}

/// Columns in the making: names are unique.
struct Columns {
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

    fn finish(mut self, object: &AnnData, scan: &ScanDescription) -> AlignedLayout {
        if scan.provenance {
            let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            let location = object.location().to_string();
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

fn frame(axis: &str, frame: &Frame) -> Columns {
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

fn cells(object: &Arc<AnnData>, scan: &ScanDescription) -> Result<Columns> {
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

fn matrix(
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
    let positions = arrow::array::UInt64Array::from(genes.positions().to_vec());
    let names = arrow::compute::take(axis.names(), &positions, None)?;
    let names = arrow::array::AsArray::as_string::<i32>(&names).clone();
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
fn mapping(axis: &str, of: &Frame, element: &Arc<dyn ColumnReader>) -> Columns {
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

fn names_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn coo(object: &Arc<AnnData>, matrix: &Arc<dyn MatrixReader>) -> Layout {
    let mut columns = vec![
        (
            Field::new("obs_idx", DataType::Int64, false),
            EntryColumn::Row,
        ),
        (
            Field::new("obs_names", names_type(), false),
            EntryColumn::RowName,
        ),
        (
            Field::new("var_idx", DataType::Int64, false),
            EntryColumn::Col,
        ),
    ];
    if matrix.axis().is_some() {
        let names = Field::new("var_names", names_type(), false);
        columns.push((names, EntryColumn::ColName));
    }
    columns.push((entry_field(matrix.field()), EntryColumn::Value));
    entries(matrix, Some(Arc::clone(object.obs().index())), columns)
}

fn pairs(matrix: &Arc<dyn MatrixReader>) -> Layout {
    let columns = vec![
        (
            Field::new("row_idx", DataType::Int64, false),
            EntryColumn::Row,
        ),
        (
            Field::new("col_idx", DataType::Int64, false),
            EntryColumn::Col,
        ),
        (entry_field(matrix.field()), EntryColumn::Value),
    ];
    entries(matrix, None, columns)
}

fn entries(
    matrix: &Arc<dyn MatrixReader>,
    row_names: Option<Arc<dyn ColumnReader>>,
    columns: Vec<(Field, EntryColumn)>,
) -> Layout {
    let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    Layout::Entries(EntriesLayout {
        schema: Arc::new(Schema::new(fields)),
        matrix: Arc::clone(matrix),
        row_names,
        axis: matrix.axis().cloned(),
        columns,
    })
}

/// The field of one stored value.
fn entry_field(matrix: &Field) -> Field {
    let data_type = match matrix.data_type() {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => fields[1].data_type().clone(),
            other => other.clone(),
        },
        DataType::FixedSizeList(item, _) => item.data_type().clone(),
        other => other.clone(),
    };
    Field::new("value", data_type, false)
}

fn listing_schema(table: &TableKind) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    Arc::new(Schema::new(match table {
        TableKind::Uns => vec![text("path"), text("encoding_type"), text("value")],
        _ => vec![
            text("path"),
            text("encoding_type"),
            text("encoding_version"),
            text("shape"),
            text("dtype"),
            Field::new("nnz", DataType::Int64, true),
            Field::new("chunk_shape", DataType::Utf8, true),
            text("compression"),
            Field::new("bytes", DataType::Int64, false),
        ],
    }))
}

fn find<'a, T: ?Sized>(elements: &'a [(String, Arc<T>)], key: &str) -> Option<&'a Arc<T>> {
    elements
        .iter()
        .find(|(name, _)| name == key)
        .map(|(_, e)| e)
}
