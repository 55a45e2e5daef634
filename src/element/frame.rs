//! `dataframe`: an index and columns, of a group (0.7 on) or of an array of records (before).

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::try_join_all;
use serde_json::Value;

use crate::element::ColumnReader;
use crate::element::categorical::CategoricalColumn;
use crate::element::column::{self, ArrayColumn, Values};
use crate::element::index::IndexColumn;
use crate::element::legacy::UnsCategories;
use crate::element::missing::with_missing;
use crate::element::node::{Encoding, Node};
use crate::error::{Error, Result};
use crate::model::ElementKey;
use crate::store::NodeKind;

/// `obs`, `var` or another data frame: readers of its index and columns, no data.
#[derive(Debug, Clone)]
pub struct Frame {
    key: ElementKey,
    n_rows: u64,
    index_name: String,
    index: Arc<dyn ColumnReader>,
    columns: Vec<Arc<dyn ColumnReader>>,
}

impl Frame {
    /// Opens the data frame at `node`; its index becomes a field called `names`. Reads the
    /// categories of its categorical columns.
    ///
    /// # Errors
    /// [`Error::ElementNotFound`] where the index or a column is missing,
    /// [`Error::LengthMismatch`] where a column is not as long as the index.
    pub(crate) async fn open(node: &Node, names: &str) -> Result<Self> {
        match node.kind {
            NodeKind::Group => Self::open_group(node, names).await,
            NodeKind::Array => Self::open_records(node, names, None).await,
        }
    }

    async fn open_group(node: &Node, names: &str) -> Result<Self> {
        let encoding = node.encoding().await?;
        if !matches!(encoding, Encoding::DataFrame | Encoding::Dict) {
            return Err(node.unsupported());
        }
        let index_name = node
            .text("_index")
            .ok_or_else(|| node.invalid("attribute _index is missing, so it is no data frame"))?;
        let hint = format!(
            "; attribute _index of {} says that it is the index",
            node.key
        );
        let index_node = node.child(index_name, &hint).await?;
        let order = column_order(node)?;
        let columns = order.iter().map(|name| async move {
            let hint = format!("; attribute column-order of {} names it", node.key);
            let column = column::open(&node.child(name, &hint).await?, name).await?;
            Ok(with_missing(column))
        });
        let (index, columns) =
            futures::try_join!(column::open(&index_node, names), try_join_all(columns))?;
        Self::try_new(node, names, index_name, index, columns)
    }

    /// Opens an array of records, whose first member is the index; integer columns that
    /// `categories` knows become categorical.
    pub(crate) async fn open_records(
        node: &Node,
        names: &str,
        categories: Option<&UnsCategories>,
    ) -> Result<Self> {
        let store = node.store.as_ref();
        let records = Values::of_records(&node.array().await?)
            .ok_or_else(|| node.invalid("neither a group nor an array of records"))?;
        let mut records = records.into_iter();
        let (index_name, index) = records
            .next()
            .ok_or_else(|| node.invalid("its records have no members, so no index"))?;
        let index = ArrayColumn::try_new(store, &node.key, names, index)?;
        let mut columns: Vec<Arc<dyn ColumnReader>> = Vec::new();
        for (name, values) in records {
            let set = match categories {
                Some(categories) => categories.of_column(&name, &values).await?,
                None => None,
            };
            columns.push(match set {
                Some(set) => Arc::new(CategoricalColumn::try_new(node, &name, values, set, false)?),
                None => {
                    let column = ArrayColumn::try_new(store, &node.key, &name, values)?;
                    with_missing(Arc::new(column))
                }
            });
        }
        Self::try_new(node, names, &index_name, Arc::new(index), columns)
    }

    fn try_new(
        node: &Node,
        names: &str,
        index_name: &str,
        index: Arc<dyn ColumnReader>,
        columns: Vec<Arc<dyn ColumnReader>>,
    ) -> Result<Self> {
        for column in &columns {
            if column.len() != index.len() {
                return Err(Error::LengthMismatch {
                    url: node.store.url().to_owned(),
                    element: node.key.child(column.field().name()),
                    what: "its length".to_owned(),
                    actual: column.len(),
                    expected_by: format!("the index {index_name}"),
                    expected: index.len(),
                });
            }
        }
        Ok(Self {
            key: node.key.clone(),
            n_rows: index.len(),
            index_name: index_name.to_owned(),
            index: Arc::new(IndexColumn::new(index, names, index_name)),
            columns,
        })
    }

    /// A frame of an index, called `index_name` on disk, and columns of its length.
    pub(crate) fn of_columns(
        key: ElementKey,
        index_name: &str,
        index: Arc<dyn ColumnReader>,
        columns: Vec<Arc<dyn ColumnReader>>,
    ) -> Self {
        Self {
            key,
            n_rows: index.len(),
            index_name: index_name.to_owned(),
            index,
            columns,
        }
    }

    /// The frame's path in its store.
    pub fn key(&self) -> &ElementKey {
        &self.key
    }

    /// Length of the index.
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// What `_index` says: the name of the index, `_index` where it has none.
    pub fn index_name(&self) -> &str {
        &self.index_name
    }

    /// The index as text: the field is called `obs_names` or `var_names`.
    pub fn index(&self) -> &Arc<dyn ColumnReader> {
        &self.index
    }

    /// The columns in `column-order`.
    pub fn columns(&self) -> &[Arc<dyn ColumnReader>] {
        &self.columns
    }
}

/// The names in a `column-order`, [`None`] where it holds something else. For a frame without
/// columns h5py writes an empty float64 array, for one of one column writers in R a scalar.
pub(crate) fn column_names(attribute: &Value) -> Option<Vec<String>> {
    match attribute {
        Value::Array(list) => {
            let names = list.iter().map(|name| name.as_str().map(str::to_owned));
            names.collect()
        }
        Value::String(name) => Some(vec![name.clone()]),
        Value::Null => Some(Vec::new()),
        _ => None,
    }
}

/// Names of the columns.
fn column_order(node: &Node) -> Result<Vec<String>> {
    let attribute = node
        .attributes
        .get("column-order")
        .ok_or_else(|| node.invalid("attribute column-order is missing"))?;
    let wrong = || node.invalid(format!("attribute column-order is {attribute}, not names"));
    let names = column_names(attribute).ok_or_else(wrong)?;
    let mut seen = HashSet::with_capacity(names.len());
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        Some(name) => Err(node.invalid(format!("column-order names {name:?} twice"))),
        None => Ok(names),
    }
}
