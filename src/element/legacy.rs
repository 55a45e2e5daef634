//! What files before 0.8 keep in other places: categories in `uns`, neighbour graphs in
//! `uns/neighbors`, `obsm` as an array of records. Follows anndata's `_clean_uns` and
//! `_move_adj_mtx`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};

use crate::element::categorical::read_categories;
use crate::element::column::Values;
use crate::element::node::{Encoding, Node};
use crate::error::Result;
use crate::model::{ElementKey, RowSelection};
use crate::store::{NodeKind, ReadMetrics};

const SUFFIX: &str = "_categories";

/// The `<column>_categories` of `uns`, for frames that are arrays of records.
#[derive(Debug, Default)]
pub(crate) struct UnsCategories {
    sets: BTreeMap<String, (ElementKey, ArrayRef)>,
    used: Mutex<BTreeSet<String>>,
}

impl UnsCategories {
    /// Reads the category sets of the `uns` group.
    pub(crate) async fn read(uns: Option<&Node>) -> Result<Self> {
        let mut found = Self::default();
        let Some(uns) = uns else {
            return Ok(found);
        };
        for child in uns.children().await? {
            let Some(column) = child.strip_suffix(SUFFIX) else {
                continue;
            };
            let node = uns.child(&child, "").await?;
            if node.kind == NodeKind::Array {
                let categories = read_categories(&node).await?;
                found.sets.insert(column.to_owned(), (node.key, categories));
            }
        }
        Ok(found)
    }

    /// The categories of a column of integers. anndata takes a set for a column only where every
    /// code fits, because `obs` and `var` share the names; so the codes are read here.
    pub(crate) async fn of_column(&self, name: &str, values: &Values) -> Result<Option<ArrayRef>> {
        let Some((_, categories)) = self.sets.get(name) else {
            return Ok(None);
        };
        if !values.dtype().is_integer() || !values.dims().is_empty() {
            return Ok(None);
        }
        let rows = RowSelection::all(values.len());
        let codes = cast(
            &values.read(&rows, &ReadMetrics::default()).await?,
            &DataType::Int64,
        )?;
        let n = i64::try_from(categories.len()).unwrap_or(i64::MAX);
        let codes = codes.as_primitive::<Int64Type>();
        if !codes.iter().all(|code| code.is_some_and(|code| code < n)) {
            return Ok(None);
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert(name.to_owned());
        Ok(Some(ArrayRef::clone(categories)))
    }

    /// The elements of `uns` that became categories.
    pub(crate) fn consumed(&self) -> Vec<ElementKey> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.iter()
            .filter_map(|name| self.sets.get(name))
            .map(|(key, _)| key.clone())
            .collect()
    }
}

/// The graphs in `uns/neighbors` that belong in `obsp`, by name.
pub(crate) async fn neighbor_graphs(uns: Option<&Node>) -> Result<Vec<Node>> {
    let mut graphs = Vec::new();
    let neighbors = match uns {
        Some(uns) => uns.find_child("neighbors").await?,
        None => None,
    };
    let Some(neighbors) = neighbors else {
        return Ok(graphs);
    };
    for name in ["connectivities", "distances"] {
        let Some(node) = neighbors.find_child(name).await? else {
            continue;
        };
        let is_matrix = match node.encoding().await? {
            Encoding::Csr | Encoding::Csc => true,
            Encoding::Array => node.array().await?.info().shape.len() == 2,
            _ => false,
        };
        if is_matrix {
            graphs.push(node);
        }
    }
    Ok(graphs)
}
