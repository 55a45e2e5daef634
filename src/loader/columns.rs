//! What is read of cells, and what becomes of it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use futures::future::try_join_all;

use super::genes::Joined;
use super::options::LoaderOptions;
use crate::element::{
    Cells as CellElements, ColumnReader, HeldColumn, MatrixReader, RowReader, Rows,
};
use crate::error::{Error, Result};
use crate::kernel::form::densify;
use crate::kernel::genes::GeneSelection;
use crate::kernel::{Normalization, with_indices};
use crate::model::{ElementKey, FieldMeta, VarAxis, matrix_type};
use crate::store::ReadMetrics;

/// Bytes of columns of `obs` that are kept in memory, all together.
const HELD: u64 = 256 << 20;
/// The key of a schema's metadata under which the names of joined genes are.
const GENES: &str = "genes";
/// Bytes of those names at most: a schema is one message, and clients take 4 MB.
const MOST_NAMES: usize = 3_000_000;
/// The column of positions.
const POSITION: &str = "obs_idx";

/// The columns of a minibatch.
#[derive(Debug)]
pub(super) struct Columns {
    schema: SchemaRef,
    columns: Vec<Column>,
    has_index: bool,
    /// Bytes of a row, by estimate.
    row_bytes: u64,
}

#[derive(Debug)]
struct Column {
    field: FieldRef,
    reader: RowReader,
    change: Change,
}

/// What happens to rows of a matrix.
#[derive(Debug, Default)]
struct Change {
    /// How rows over the genes of their own objects become rows over those of all, and of which type.
    joined: Option<(Arc<Joined>, DataType)>,
    normalization: Normalization,
    /// Genes, and the field of what has only those.
    genes: Option<(Arc<GeneSelection>, FieldRef)>,
    /// The width of dense rows.
    dense: Option<i32>,
}

impl Columns {
    /// Opens what the options ask for.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a name that the object does not have.
    pub(super) async fn open(
        cells: &CellElements,
        joined: Option<Arc<Joined>>,
        options: &LoaderOptions,
    ) -> Result<Self> {
        let metrics = ReadMetrics::default();
        let axis = match (&joined, cells.objects()) {
            (Some(joined), _) => Arc::clone(joined.axis()),
            (None, [first, ..]) => first.var_axis().await?,
            (None, []) => return Err(Error::option("loader", "there is nothing to load")),
        };
        let genes = chosen(&axis, options)?;
        let over = Over {
            joined: joined.as_ref(),
            genes: genes.as_ref(),
        };
        let mut columns = Vec::new();
        let mut held = 0;
        for name in &options.obs {
            let column = cells.obs(name)?;
            let column = column.ok_or_else(|| lacks("obs", name, &cells.obs_names()))?;
            held += column.row_bytes().saturating_mul(column.len());
            let column: Arc<dyn ColumnReader> = match held <= HELD {
                true => Arc::new(HeldColumn::new(column)),
                false => column,
            };
            columns.push(Column::plain(&column, name, &metrics).await?);
        }
        if options.x {
            let x = cells.x()?.ok_or_else(|| absent(cells, "X"))?;
            let normalization = Normalization {
                total: options.normalize_total,
                log1p: options.log1p,
                data: options.dtype.map(|dtype| dtype.data_type()),
            };
            columns.push(Column::matrix(&x, "X", normalization, over, options).await?);
        }
        let typed = || Normalization {
            data: options.dtype.map(|dtype| dtype.data_type()),
            ..Normalization::default()
        };
        for name in &options.layers {
            let layer = cells.layer(name)?;
            let layer = layer.ok_or_else(|| lacks("layers", name, &cells.layer_names()))?;
            let column = format!("layers_{name}");
            columns.push(Column::matrix(&layer, &column, typed(), over, options).await?);
        }
        for name in &options.obsm {
            let element = cells.obsm(name)?;
            let element = element.ok_or_else(|| lacks("obsm", name, &cells.obsm_names()))?;
            columns.push(Column::plain(&element, &format!("obsm_{name}"), &metrics).await?);
        }
        if options.raw {
            same_raw_genes(cells)?;
            let raw = cells.raw()?.ok_or_else(|| absent(cells, "raw/X"))?;
            columns.push(Column::matrix(&raw, "raw_X", typed(), Over::default(), options).await?);
        }
        let mut fields: Vec<FieldRef> = columns.iter().map(|c| Arc::clone(&c.field)).collect();
        if options.return_index {
            fields.insert(0, Arc::new(Field::new(POSITION, DataType::Int64, false)));
        }
        if fields.is_empty() {
            return Err(Error::option("loader", "nothing of the cells is asked for"));
        }
        let genes = options.join.map(|_| names(&axis, options));
        let genes = genes.filter(|names| names.len() <= MOST_NAMES);
        let metadata = genes.map(|names| (GENES.to_owned(), names)).into_iter();
        let metadata: HashMap<String, String> = metadata.collect();
        let row_bytes = columns.iter().map(|column| column.reader.row_bytes());
        Ok(Self {
            row_bytes: row_bytes.fold(8, u64::saturating_add),
            schema: Arc::new(Schema::new_with_metadata(fields, metadata)),
            columns,
            has_index: options.return_index,
        })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn row_bytes(&self) -> u64 {
        self.row_bytes
    }

    /// Bytes of a row of what is computed: of dense rows all of their values.
    pub(super) fn made_bytes(&self) -> u64 {
        let made = self.columns.iter().map(|column| match column.change.dense {
            Some(width) => u64::from(width.unsigned_abs()).saturating_mul(8),
            None => column.reader.row_bytes(),
        });
        made.fold(0, u64::saturating_add)
    }

    /// Whether what is read has to be computed with.
    pub(super) fn change(&self) -> bool {
        let mut changes = self.columns.iter().map(|column| &column.change);
        changes.any(|change| {
            change.joined.is_some()
                || !change.normalization.is_none()
                || change.genes.is_some()
                || change.dense.is_some()
        })
    }

    /// Reads rows, a minibatch for each range of their places.
    pub(super) async fn read(
        &self,
        rows: &[u64],
        cuts: &[Range<usize>],
        metrics: &ReadMetrics,
    ) -> Result<Vec<Cells>> {
        let reads = self
            .columns
            .iter()
            .map(|column| column.reader.read(rows, cuts, metrics));
        let columns = try_join_all(reads).await?;
        let mut cells: Vec<Cells> = cuts
            .iter()
            .map(|cut| Cells {
                rows: rows.get(cut.clone()).unwrap_or(&[]).to_vec(),
                columns: Vec::with_capacity(columns.len()),
            })
            .collect();
        for column in columns {
            for (cells, rows) in cells.iter_mut().zip(column) {
                cells.columns.push(rows);
            }
        }
        Ok(cells)
    }

    /// Rows that were read, as a minibatch.
    pub(super) fn batch(&self, cells: Cells) -> Result<RecordBatch> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        if self.has_index {
            let places = cells.rows.iter();
            let places = places.map(|row| i64::try_from(*row).unwrap_or(i64::MAX));
            arrays.push(Arc::new(Int64Array::from_iter_values(places)));
        }
        for (column, rows) in self.columns.iter().zip(cells.columns) {
            let rows = column.reader.array(rows)?;
            arrays.push(column.change.apply(rows, &cells.rows)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), arrays)?)
    }
}

/// The cells of a minibatch, as they were read.
#[derive(Debug)]
pub(super) struct Cells {
    rows: Vec<u64>,
    columns: Vec<Rows>,
}

impl Column {
    async fn plain(
        column: &Arc<dyn ColumnReader>,
        name: &str,
        metrics: &ReadMetrics,
    ) -> Result<Self> {
        let reader = RowReader::open(column, metrics).await?;
        let field = Arc::new(reader.field().as_ref().clone().with_name(name));
        Ok(Self {
            field,
            reader,
            change: Change::default(),
        })
    }

    async fn matrix(
        matrix: &Arc<dyn MatrixReader>,
        name: &str,
        normalization: Normalization,
        over: Over<'_>,
        options: &LoaderOptions,
    ) -> Result<Self> {
        let column = Arc::clone(matrix) as Arc<dyn ColumnReader>;
        let reader = RowReader::open(&column, &ReadMetrics::default()).await?;
        let mut meta = FieldMeta::of(reader.field());
        let mut width = matrix.shape().n_cols;
        let mut data_type = reader.field().data_type().clone();
        let mut change = Change::default();
        if let Some(joined) = over.joined {
            width = joined.axis().len() as u64;
            meta.axis = None;
            meta.width = Some(width);
            data_type = joined.data_type(matrix.as_ref(), &data_type)?;
            change.joined = Some((Arc::clone(joined), data_type.clone()));
        }
        data_type = normalization.matrix_type(&data_type);
        change.normalization = normalization;
        if let Some(genes) = over.genes {
            width = genes.len() as u64;
            // Registered axes stay, and anybody may ask for any genes.
            meta.axis = None;
            meta.width = Some(width);
            data_type = narrowed(&data_type, width)?;
            let field = Arc::new(Field::new(name, data_type.clone(), false));
            change.genes = Some((Arc::clone(genes), field));
        }
        if let (true, DataType::List(item)) = (options.dense, &data_type) {
            let too_wide =
                || Error::option("dense", format!("rows of {width} values are too wide"));
            let DataType::Struct(members) = item.data_type() else {
                return Err(too_wide());
            };
            let values = Field::new("item", members[1].data_type().clone(), false);
            let width = i32::try_from(width).map_err(|_| too_wide())?;
            change.dense = Some(width);
            data_type = DataType::FixedSizeList(Arc::new(values), width);
        }
        let field = Field::new(name, data_type, false);
        Ok(Self {
            field: Arc::new(meta.apply(field)),
            reader,
            change,
        })
    }
}

impl Change {
    fn apply(&self, rows: ArrayRef, cells: &[u64]) -> Result<ArrayRef> {
        let rows = match &self.joined {
            Some((joined, data_type)) => joined.apply(rows, cells, data_type)?,
            None => rows,
        };
        let mut rows = self.normalization.apply(&rows)?;
        if let Some((genes, field)) = &self.genes {
            rows = genes.select(&with_indices(rows, field.data_type())?, field)?;
        }
        match (self.dense, rows.as_list_opt::<i32>()) {
            (Some(width), Some(sparse)) => Ok(Arc::new(densify(sparse, width)?)),
            _ => Ok(rows),
        }
    }
}

/// The type of rows of which only some genes are kept: those are chosen by indices of Int32 or Int64.
fn narrowed(data_type: &DataType, width: u64) -> Result<DataType> {
    Ok(match data_type {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(members) if members.len() == 2 => {
                let wide = match members[0].data_type() {
                    DataType::Int64 | DataType::UInt32 | DataType::UInt64 => DataType::Int64,
                    _ => DataType::Int32,
                };
                matrix_type(members[1].data_type().clone(), wide)
            }
            _ => data_type.clone(),
        },
        DataType::FixedSizeList(item, _) => {
            let width = i32::try_from(width)
                .map_err(|_| Error::option("genes", format!("{width} genes are too many")))?;
            DataType::FixedSizeList(Arc::clone(item), width)
        }
        other => other.clone(),
    })
}

/// Over which genes the rows of a matrix come.
#[derive(Debug, Clone, Copy, Default)]
struct Over<'a> {
    joined: Option<&'a Arc<Joined>>,
    genes: Option<&'a Arc<GeneSelection>>,
}

/// `raw` is not joined.
fn same_raw_genes(cells: &CellElements) -> Result<()> {
    let raws = cells.objects().iter();
    let ids = raws.map(|object| object.raw().map(|raw| raw.var_axis().id()));
    let ids: Vec<_> = ids.collect();
    match ids.iter().all(|id| Some(id) == ids.first()) {
        true => Ok(()),
        false => Err(Error::IncompatibleSchemas(
            "raw/var of the objects are not the same, and raw is not joined".to_owned(),
        )),
    }
}

/// Names of the genes that rows are over, as JSON.
fn names(axis: &VarAxis, options: &LoaderOptions) -> String {
    let names: Vec<&str> = match &options.genes {
        Some(genes) => genes.iter().map(String::as_str).collect(),
        None => axis.names().iter().flatten().collect(),
    };
    serde_json::json!(names).to_string()
}

fn chosen(axis: &VarAxis, options: &LoaderOptions) -> Result<Option<Arc<GeneSelection>>> {
    let Some(names) = &options.genes else {
        return Ok(None);
    };
    let positions = names.iter().map(|name| {
        let position = axis.position(name);
        let position = position.map_err(|reason| Error::option("genes", reason))?;
        Ok(position as u64)
    });
    let positions = positions.collect::<Result<Vec<u64>>>()?;
    let selection = GeneSelection::try_new(&positions, axis.len() as u64)?;
    Ok(Some(Arc::new(selection)))
}

fn absent(cells: &CellElements, element: &str) -> Error {
    let locations = cells
        .objects()
        .iter()
        .map(|object| object.location().to_string());
    Error::ElementNotFound {
        url: locations.collect::<Vec<_>>().join(" or "),
        element: ElementKey::new(element),
        hint: String::new(),
    }
}

fn lacks(group: &str, name: &str, known: &[&str]) -> Error {
    let reason = match known.is_empty() {
        true => format!("there is no {name}"),
        false => format!("there is no '{name}'; there are {}", known.join(", ")),
    };
    Error::option(group, reason)
}
