//! `uns` as a list of leaves: a path and its value as JSON text.

use std::sync::Arc;

use arrow::array::ArrayRef;
use serde_json::{Map, Value, json};

use crate::element::awkward::AwkwardColumn;
use crate::element::column::{self, Values};
use crate::element::frame::Frame;
use crate::element::info::{MAX_DEPTH, MAX_NODES};
use crate::element::json;
use crate::element::matrix;
use crate::element::node::{Encoding, Node};
use crate::element::{ColumnReader, EntryParts};
use crate::error::{Error, Result};
use crate::model::{ElementKey, RowSelection};
use crate::store::{NodeKind, ReadMetrics, Store};

/// Arrays of more values than this are not spelled out.
const MAX_VALUES: u64 = 1_000_000;

/// A leaf of `uns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsLeaf {
    /// Its path below `uns`.
    pub path: String,
    /// Its encoding, older layouts by the name they upgrade to; as found where it is unknown.
    pub encoding_type: String,
    /// JSON text: arrays are nested lists, records and data frames objects, sparse matrices their
    /// three arrays, complex numbers `{"re", "im"}`. NaN, infinities and missing values are null.
    /// An array of more than a million values, or of an unknown encoding, is null as a whole.
    pub value: String,
}

/// The leaves of the `uns` group at `key` in path order.
///
/// # Errors
/// [`Error::InvalidElement`] where groups are nested more than 64 deep, or where a leaf breaks its
/// encoding's rules; [`Error::Store`] where reading fails.
pub async fn uns_leaves(store: &Arc<dyn Store>, key: &ElementKey) -> Result<Vec<UnsLeaf>> {
    leaves(store, key, &[]).await
}

/// [`uns_leaves`] without the elements of `skip`.
pub(super) async fn leaves(
    store: &Arc<dyn Store>,
    key: &ElementKey,
    skip: &[ElementKey],
) -> Result<Vec<UnsLeaf>> {
    let mut found = Vec::new();
    let mut todo = vec![(key.clone(), String::new(), 0usize)];
    let mut seen = 0usize;
    while let Some((key, path, depth)) = todo.pop() {
        if skip.contains(&key) {
            continue;
        }
        seen += 1;
        if depth > MAX_DEPTH || seen > MAX_NODES {
            let reason = format!("deeper than {MAX_DEPTH} groups or more than {MAX_NODES} nodes");
            return Err(Error::invalid(store.url(), key, reason));
        }
        let node = Node::open(store, &key).await?;
        let mut encoding = node.encoding().await.ok();
        if encoding == Some(Encoding::StringArray) && is_one_text(&node).await? {
            encoding = Some(Encoding::String);
        }
        if encoding == Some(Encoding::Dict) && node.kind == NodeKind::Group {
            for name in node.children().await?.iter().rev() {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}/{name}")
                };
                todo.push((key.child(name), path, depth + 1));
            }
            continue;
        }
        let value = match encoding {
            Some(encoding) => value(&node, encoding).await?,
            None => Value::Null,
        };
        found.push(UnsLeaf {
            path,
            encoding_type: encoding
                .map_or_else(|| node.tag().0.to_owned(), |e| e.name().to_owned()),
            value: value.to_string(),
        });
    }
    Ok(found)
}

/// Whether the node is one text as files before 0.7 have it: an array of one, of fixed width.
async fn is_one_text(node: &Node) -> Result<bool> {
    if node.kind != NodeKind::Array || !node.tag().0.is_empty() {
        return Ok(false);
    }
    let array = node.array().await?;
    let info = array.info();
    Ok(info.fixed_text && info.shape == [1])
}

async fn value(node: &Node, encoding: Encoding) -> Result<Value> {
    Ok(match encoding {
        Encoding::Array | Encoding::StringArray | Encoding::RecArray => list(array(node).await?),
        Encoding::NumericScalar | Encoding::String | Encoding::Bytes => {
            let values = array(node).await?;
            values
                .and_then(|mut values| values.pop())
                .unwrap_or(Value::Null)
        }
        Encoding::Categorical
        | Encoding::NullableInteger
        | Encoding::NullableBoolean
        | Encoding::NullableString => {
            let column = column::open(node, "value").await?;
            list(column_values(column.as_ref()).await?)
        }
        Encoding::DataFrame => {
            let frame = Frame::open(node, "index").await?;
            let mut columns = Map::new();
            for column in frame.columns() {
                let values = column_values(column.as_ref()).await?;
                columns.insert(column.field().name().clone(), list(values));
            }
            let index = list(column_values(frame.index().as_ref()).await?);
            json!({"index": index, "columns": columns})
        }
        Encoding::Csr | Encoding::Csc => sparse(node).await?,
        Encoding::Awkward => awkward(node).await?,
        Encoding::Null | Encoding::Dict | Encoding::AnnData | Encoding::Raw => Value::Null,
    })
}

/// Values along the first axis, nested for the others; none where there are too many.
async fn array(node: &Node) -> Result<Option<Vec<Value>>> {
    let reader = node.array().await?;
    let values = Values::of_array(reader);
    let dims: Option<Vec<usize>> = values
        .dims()
        .iter()
        .map(|n| usize::try_from(*n).ok())
        .collect();
    let per_row = values
        .dims()
        .iter()
        // An axis without values still has a list for each place along the axes before it.
        .fold(1u64, |product, n| product.saturating_mul((*n).max(1)));
    let (Some(dims), true) = (dims, values.len().saturating_mul(per_row) <= MAX_VALUES) else {
        return Ok(None);
    };
    let rows = RowSelection::all(values.len());
    let flat: ArrayRef = values.read(&rows, &ReadMetrics::default()).await?;
    let len = usize::try_from(values.len()).unwrap_or(0);
    Ok(Some(json::nest(json::values(&flat)?, &dims, len)))
}

async fn column_values(column: &dyn ColumnReader) -> Result<Option<Vec<Value>>> {
    if column.len() > MAX_VALUES {
        return Ok(None);
    }
    let rows = RowSelection::all(column.len());
    json::values(&column.read(&rows, &ReadMetrics::default()).await?).map(Some)
}

/// The rows of an awkward array.
async fn awkward(node: &Node) -> Result<Value> {
    let column = AwkwardColumn::open(node, "value").await?;
    let rows = column_values(&column).await?;
    let parsed = rows.map(|rows| {
        let row = |row: Value| match row {
            Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::Null),
            other => other,
        };
        rows.into_iter().map(row).collect()
    });
    Ok(list(parsed))
}

/// A list, null where there are no values to give.
fn list(values: Option<Vec<Value>>) -> Value {
    values.map_or(Value::Null, Value::Array)
}

/// `{"shape", "indptr", "indices", "data"}` by rows, whatever the layout on disk.
async fn sparse(node: &Node) -> Result<Value> {
    let matrix = matrix::open(node, "value", None).await?;
    let shape = matrix.shape();
    if shape.nnz.is_some_and(|nnz| nnz > MAX_VALUES) || shape.n_rows > MAX_VALUES {
        return Ok(Value::Null);
    }
    let rows = RowSelection::all(shape.n_rows);
    let metrics = ReadMetrics::default();
    let both = EntryParts {
        indices: true,
        data: true,
    };
    let indptr = matrix.offsets(&rows, &metrics).await?;
    let (indices, data) = matrix.entries(&rows, both, &metrics).await?;
    let part = |array: Option<ArrayRef>| array.map_or(Ok(Vec::new()), |array| json::values(&array));
    Ok(json!({
        "shape": [shape.n_rows, shape.n_cols],
        "indptr": indptr,
        "indices": part(indices)?,
        "data": part(data)?,
    }))
}
