//! What `shuffle(...)` gives to SQL: a table whose rows come in a seeded order.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs, StatisticsContext};

use super::build::{ShuffleRequest, ShuffledObject, ShuffledScan};
use super::choose::{ROW_BYTES, ShuffleMemory};
use super::exec::ShuffleExec;
use super::spec::{Shuffle, ShuffleSpec, ShuffleWay};
use crate::error::Error;
use crate::kernel::OrderCut;
use crate::model::{CategoryRegistry, FieldMeta, RowOrder, RowSelection};
use crate::table::{AnnDataTable, LEAST_PARTITION, NumberedTable, RowWeight, even_partitions};

/// Bytes of rows that a shuffle holds where the session sets no limit.
pub const DEFAULT_SHUFFLE_BYTES: u64 = 448 << 20;
/// Windows of rows whose number is not known, and at least.
const WINDOWS: u64 = 32;

/// Rows of tables in a seeded order.
///
/// Tables of objects are scanned under it: predicates go into the scans and leave the order of the
/// rest as it is. Rows of any other table are numbered as it gives them.
#[derive(Debug, Clone)]
pub struct ShuffleTable {
    inputs: Vec<Arc<dyn TableProvider>>,
    shuffle: Shuffle,
    schema: SchemaRef,
}

impl ShuffleTable {
    /// A table over the inputs' rows, which are numbered in the order of the inputs.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] for several inputs with other columns, orders of categories or
    /// genes; [`Error::InvalidOption`] for several that are not tables of objects, and for an object
    /// that is there twice.
    pub fn try_new(inputs: Vec<Arc<dyn TableProvider>>, shuffle: Shuffle) -> crate::Result<Self> {
        let [first, rest @ ..] = inputs.as_slice() else {
            return Err(Error::option("shuffle", "there is nothing to shuffle"));
        };
        let schema = first.schema();
        for other in rest {
            check_same(&schema, &other.schema())?;
        }
        let tables: Vec<&AnnDataTable> = inputs.iter().filter_map(shuffled).collect();
        if !rest.is_empty() && tables.len() < inputs.len() {
            return Err(Error::option(
                "shuffle",
                "several inputs must be tables with a row per cell or gene",
            ));
        }
        // Rows are numbered by their object, so those of a second one would be those of the first.
        let locations: Vec<_> = tables.iter().map(|t| &t.description().location).collect();
        for (at, location) in locations.iter().enumerate() {
            if locations[..at].contains(location) {
                let reason = format!("{location} is given twice");
                return Err(Error::option("shuffle", reason));
            }
        }
        Ok(Self {
            schema,
            inputs,
            shuffle,
        })
    }

    /// The tables, in their order.
    pub fn inputs(&self) -> &[Arc<dyn TableProvider>] {
        &self.inputs
    }

    /// The order, and how it is made.
    pub fn shuffle(&self) -> Shuffle {
        self.shuffle
    }

    /// Tables of objects, whose scans number their rows.
    fn of_objects(
        &self,
        tables: &[NumberedTable],
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns: Vec<usize> = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let wanted = |name: &str| {
            let mut wanted = columns.iter().map(|at| self.schema.field(*at).name());
            wanted.any(|wanted| wanted == name)
        };
        let weight = tables
            .iter()
            .map(|table| table.weigh(wanted))
            .reduce(RowWeight::heavier)
            .unwrap_or_default();
        let objects: Vec<ShuffledObject> = tables
            .iter()
            .map(|table| {
                let all = RowSelection::all(table.n_rows());
                ShuffledObject::at(&table.description().location, table.n_rows(), all)
            })
            .collect();
        let n_rows = objects.iter().map(|object| object.n_rows).sum();
        let target = match limit {
            Some(_) => 1,
            None => state.config().target_partitions(),
        };
        let request = ShuffleRequest {
            shuffle: self.shuffle,
            groups: None,
            scanned: objects.len(),
            objects,
            weight,
            // As many as may run: with fewer, nodes above would deal rows out in turn, and lose the order.
            partitions: match n_rows < LEAST_PARTITION {
                true => std::iter::once(0..n_rows).collect(),
                false => even_partitions(n_rows, target, 1),
            },
            // All of them may run at a time.
            memory: ShuffleMemory {
                at_a_time: u64::try_from(target).unwrap_or(1),
                ..memory(state)
            },
        };
        let shuffled = request.plan(|scan: ShuffledScan| {
            let table = &tables[scan.object];
            Ok(table.scan(state, &columns, filters, &scan.partitions, scan.order)?)
        })?;
        // `__object` and `__row` stand behind what was asked for; a node that writes takes them back.
        let schema = shuffled.schema();
        let visible = (0..columns.len()).map(|at| {
            let name = schema.field(at).name();
            ProjectionExpr::new(Arc::new(Column::new(name, at)), name.clone())
        });
        let visible: Vec<_> = visible.collect();
        Ok(Arc::new(ProjectionExec::try_new(visible, shuffled)?))
    }

    /// Any other table, whose rows are numbered as they come: the order is the same again only where
    /// they come in the same one. Under a limit it is one partition: DataFusion takes the first rows
    /// of whichever partition has some.
    async fn of_rows(
        &self,
        input: &Arc<dyn TableProvider>,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = input.scan(state, projection, &[], None).await?;
        let way = match self.shuffle.way {
            Some(ShuffleWay::Gather | ShuffleWay::Passes) => {
                let reason = "a query's rows are read once: scatter, or in memory";
                return Err(Error::option("way", reason).into());
            }
            Some(way) => way,
            None => ShuffleWay::Scatter,
        };
        let bytes = memory(state).bytes.max(2);
        let partitions = match limit {
            Some(_) => 1,
            None => state.config().target_partitions().max(1) as u64,
        };
        let spec = ShuffleSpec {
            order: RowOrder::new(self.shuffle.seed),
            way,
            reason: match self.shuffle.way {
                Some(_) => "as asked for".to_owned(),
                None => "a query's rows are numbered as they come".to_owned(),
            },
            in_scan: false,
            by_window: false,
            partitions: even_cuts(partitions),
            windows: match way {
                ShuffleWay::Scatter => {
                    let windows = known_bytes(&input).map_or(0, |all| all.div_ceil(bytes / 2));
                    even_cuts(partitions * windows.max(WINDOWS).div_ceil(partitions))
                }
                _ => Vec::new(),
            },
            window_bytes: bytes / 2,
            held_bytes: 0,
            objects: Vec::new(),
        };
        Ok(Arc::new(ShuffleExec::new(input, Arc::new(spec))))
    }
}

/// Bytes of all rows and of what orders them, where the plan knows how many there are, as of a merge.
fn known_bytes(input: &Arc<dyn ExecutionPlan>) -> Option<u64> {
    let context = StatisticsContext::new();
    let known = context
        .compute(input.as_ref(), &StatisticsArgs::new())
        .ok()?;
    let rows = u64::try_from(*known.num_rows.get_value()?).ok()?;
    let bytes = u64::try_from(*known.total_byte_size.get_value()?).ok()?;
    Some(rows.saturating_mul(ROW_BYTES).saturating_add(bytes))
}

/// Parts of the order that hold about as many rows each, since keys are uniform.
fn even_cuts(parts: u64) -> Vec<OrderCut> {
    let step = u64::MAX / parts.max(1);
    (1..parts)
        .map(|part| OrderCut {
            key: part * step,
            row: 0,
        })
        .collect()
}

/// What a shuffle of a session may hold: half of its limit.
fn memory(state: &dyn Session) -> ShuffleMemory {
    use datafusion::execution::memory_pool::MemoryLimit;
    let bytes = match state.runtime_env().memory_pool.memory_limit() {
        MemoryLimit::Finite(limit) => u64::try_from(limit / 2).unwrap_or(DEFAULT_SHUFFLE_BYTES),
        _ => DEFAULT_SHUFFLE_BYTES,
    };
    ShuffleMemory {
        bytes,
        at_a_time: 1,
        beside: 0,
    }
}

/// A table whose scan numbers its rows.
fn shuffled(input: &Arc<dyn TableProvider>) -> Option<&AnnDataTable> {
    let table = input.downcast_ref::<AnnDataTable>()?;
    table.has_positions().then_some(table)
}

/// Whether rows of two tables can be rows of one.
fn check_same(first: &Schema, other: &Schema) -> crate::Result<()> {
    let differ = |what: String| {
        Err(Error::IncompatibleSchemas(format!(
            "{what}; objects that differ are shuffled after merge(...)"
        )))
    };
    let names = |schema: &Schema| {
        let fields = schema.fields().iter();
        fields.map(|field| field.name().clone()).collect::<Vec<_>>()
    };
    let (ours, theirs) = (names(first), names(other));
    if ours != theirs {
        let only = |a: &[String], b: &[String]| {
            let only: Vec<_> = a.iter().filter(|name| !b.contains(name)).cloned().collect();
            only.join(", ")
        };
        return differ(format!(
            "the inputs have other columns: only in one of them are {}",
            [only(&ours, &theirs), only(&theirs, &ours)].join(", ")
        ));
    }
    for (a, b) in first.fields().iter().zip(other.fields()) {
        if a.data_type() != b.data_type() {
            return differ(format!(
                "column '{}' is {} in one input and {} in another",
                a.name(),
                a.data_type(),
                b.data_type()
            ));
        }
        if FieldMeta::of(a).axis != FieldMeta::of(b).axis {
            return differ(format!("the genes of '{}' are not the same", a.name()));
        }
        if let Some(name) = ordered_otherwise(a, b) {
            return differ(format!(
                "the categories of '{name}' are ordered, and not the same in all inputs"
            ));
        }
    }
    Ok(())
}

/// The column, or the member of a data frame, whose order of categories one set of them cannot hold.
fn ordered_otherwise(a: &Field, b: &Field) -> Option<String> {
    match (a.data_type(), b.data_type()) {
        (DataType::Dictionary(_, _), DataType::Dictionary(_, _)) => {
            let (ours, theirs) = (FieldMeta::of(a), FieldMeta::of(b));
            let ordered = [&ours, &theirs].map(|meta| meta.ordered.unwrap_or(false));
            let set = |id: Option<String>| CategoryRegistry::global().get(&id?);
            let same = || match (set(ours.categories), set(theirs.categories)) {
                (Some(ours), Some(theirs)) => ours.as_ref() == theirs.as_ref(),
                _ => false,
            };
            let differ = ordered[0] != ordered[1] || (ordered[0] && !same());
            differ.then(|| a.name().clone())
        }
        (DataType::Struct(ours), DataType::Struct(theirs)) => {
            let mut members = ours.iter().zip(theirs);
            let name = members.find_map(|(a, b)| ordered_otherwise(a, b))?;
            Some(format!("{}/{name}", a.name()))
        }
        _ => None,
    }
}

#[async_trait]
impl TableProvider for ShuffleTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let objects: Vec<&AnnDataTable> = self.inputs.iter().filter_map(shuffled).collect();
        if objects.len() < self.inputs.len() {
            return self
                .of_rows(&self.inputs[0], state, projection, limit)
                .await;
        }
        let mut tables = Vec::with_capacity(objects.len());
        for table in objects {
            tables.push(NumberedTable::open(table).await?);
        }
        self.of_objects(&tables, state, projection, filters, limit)
    }

    /// What scans take over leaves the order of the rest as it is.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        match self.inputs.iter().find_map(shuffled) {
            Some(table) => table.supports_filters_pushdown(filters),
            None => Ok(vec![
                TableProviderFilterPushDown::Unsupported;
                filters.len()
            ]),
        }
    }
}
