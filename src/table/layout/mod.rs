//! The columns of each table, and where each is read from.

mod columns;
mod entries;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::element::{AnnData, ColumnReader, MatrixReader};
use crate::error::{Error, Result};
use crate::kernel::genes::GeneSelection;
use crate::model::{MatrixKind, VarAxis};
use crate::table::description::ScanDescription;
use crate::table::kind::TableKind;
pub(crate) use crate::table::layout::columns::cells_name;
use crate::table::layout::columns::{cells, frame, mapping, matrix};
use crate::table::layout::entries::{coo, pairs};

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

    /// Bytes that a value of a column takes on the average.
    pub(crate) fn row_bytes(&self, column: usize) -> u64 {
        match self {
            Self::Aligned(aligned) => match aligned.columns.get(column) {
                Some(
                    AlignedColumn::Element(element)
                    | AlignedColumn::Member(element, _)
                    | AlignedColumn::Genes(element, _),
                ) => element.row_bytes(),
                _ => 8,
            },
            Self::Entries(_) | Self::Listing(_) => 8,
        }
    }

    /// Bytes that a row of a column takes on the average, where that is a matrix; else 0.
    pub(crate) fn matrix_row_bytes(&self, column: usize) -> u64 {
        let Self::Aligned(aligned) = self else {
            return 0;
        };
        match aligned.columns.get(column) {
            Some(AlignedColumn::Element(element) | AlignedColumn::Genes(element, _))
                if element.as_matrix().is_some() =>
            {
                element.row_bytes()
            }
            _ => 0,
        }
    }
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
