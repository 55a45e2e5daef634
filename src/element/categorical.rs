//! `categorical`: codes into categories, read as Arrow dictionaries that share one values array.
//!
//! Before 0.8 the codes were a dataset with an attribute that leads to `__categories/<name>`;
//! before 0.7 they were a member of a record, with the categories in `uns`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int32Array};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int32Type, Int64Type};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use serde_json::Value;

use crate::element::ColumnReader;
use crate::element::column::{self, Values};
use crate::element::node::{Encoding, Node};
use crate::error::{Error, Result};
use crate::model::{CategoryRegistry, ElementKey, FieldMeta, RowSelection};
use crate::store::{NodeKind, ReadMetrics};

/// Codes and the categories they stand for.
#[derive(Debug)]
pub(crate) struct CategoricalColumn {
    field: FieldRef,
    key: ElementKey,
    url: String,
    codes: Values,
    categories: ArrayRef,
}

impl CategoricalColumn {
    /// Opens the group of codes and categories, or the older dataset of codes, at `node`; reads
    /// the categories.
    pub(crate) async fn open(node: &Node, name: &str) -> Result<Self> {
        let (codes, categories, ordered) = match node.kind {
            NodeKind::Group => {
                let codes = node.member("codes").await?;
                let categories = node.child("categories", "").await?;
                let Some(ordered) = node.attributes.get("ordered") else {
                    let said: Vec<&str> = node.attributes.keys().map(String::as_str).collect();
                    return Err(node.invalid(format!(
                        "a categorical has no attribute `ordered`, which its encoding asks for; its \
                         attributes are {}",
                        said.join(", ")
                    )));
                };
                (codes, categories, truth(Some(ordered)))
            }
            NodeKind::Array => {
                let categories = linked_categories(node).await?;
                let ordered = truth(categories.attributes.get("ordered"));
                (node.array().await?, categories, ordered)
            }
        };
        let values = read_categories(&categories).await?;
        let mut column = Self::try_new(node, name, Values::of_array(codes), values, ordered)?;
        if categories.encoding().await? == Encoding::NullableString {
            let mut meta = FieldMeta::of(&column.field);
            meta.na_value = Some(categories.text("na-value").unwrap_or("NA").to_owned());
            column.field = Arc::new(meta.apply(column.field.as_ref().clone()));
        }
        Ok(column)
    }

    /// A column over codes and categories that are already at hand; `node` is where messages point.
    ///
    /// # Errors
    /// [`Error::InvalidElement`] where the codes are not integers along one axis.
    pub(crate) fn try_new(
        node: &Node,
        name: &str,
        codes: Values,
        categories: ArrayRef,
        ordered: bool,
    ) -> Result<Self> {
        if !codes.dtype().is_integer() || !codes.dims().is_empty() {
            return Err(node.invalid(format!(
                "codes are {} with {} axes, not integers along one",
                codes.dtype(),
                codes.dims().len() + 1
            )));
        }
        let data_type = DataType::Dictionary(
            Box::new(DataType::Int32),
            Box::new(categories.data_type().clone()),
        );
        let meta = FieldMeta {
            encoding: Some(Encoding::Categorical.name().to_owned()),
            ordered: Some(ordered),
            categories: Some(CategoryRegistry::global().register(&categories)),
            ..FieldMeta::default()
        };
        Ok(Self {
            field: Arc::new(meta.apply(Field::new(name, data_type, true))),
            key: node.key.clone(),
            url: node.store.url().to_owned(),
            codes,
            categories,
        })
    }
}

#[async_trait]
impl ColumnReader for CategoricalColumn {
    fn field(&self) -> &FieldRef {
        &self.field
    }

    fn key(&self) -> &ElementKey {
        &self.key
    }

    fn len(&self) -> u64 {
        self.codes.len()
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        let codes = self.codes.read(rows, metrics).await?;
        let keys = keys(&codes, self.categories.len()).map_err(|code| Error::OutOfRange {
            url: self.url.clone(),
            element: self.key.clone(),
            position: code,
            len: u64::try_from(self.categories.len()).unwrap_or(u64::MAX),
        })?;
        let array = DictionaryArray::<Int32Type>::try_new(keys, Arc::clone(&self.categories))?;
        Ok(Arc::new(array))
    }

    fn row_bytes(&self) -> u64 {
        4
    }
}

/// Reads the categories at `node`, of any encoding that one axis can have.
pub(crate) async fn read_categories(node: &Node) -> Result<ArrayRef> {
    let encoding = match node.encoding().await? {
        // Files before 0.7 hold a single category as a scalar.
        Encoding::NumericScalar | Encoding::String => {
            let values = Values::of_array(node.array().await?);
            return values
                .read(&RowSelection::all(1), &ReadMetrics::default())
                .await;
        }
        encoding => encoding,
    };
    let column = column::open_plain(node, "categories", encoding).await?;
    if i32::try_from(column.len()).is_err() {
        return Err(node.invalid(format!("{} categories are more than 2^31", column.len())));
    }
    let rows = RowSelection::all(column.len());
    column.read(&rows, &ReadMetrics::default()).await
}

/// What pandas refuses of categories, the first of it: a null or NaN, or a value that stands twice.
///
/// # Errors
/// [`Error::Arrow`] for types whose values have no order.
pub(crate) fn fault_of_categories(categories: &ArrayRef) -> Result<Option<String>> {
    let categories = match categories.data_type() {
        // To pandas NaN is a null, and 0 the same as -0.
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let wide = cast(categories, &DataType::Float64)?;
            let values = wide.as_primitive::<Float64Type>().iter();
            let plain = |value: Option<f64>| Some(value.filter(|value| !value.is_nan())? + 0.0);
            Arc::new(values.map(plain).collect::<Float64Array>())
        }
        _ => Arc::clone(categories),
    };
    let nulls = categories.nulls();
    if let Some(at) = nulls.and_then(|nulls| nulls.iter().position(|is_valid| !is_valid)) {
        return Ok(Some(format!("category {at} is null")));
    }
    let converter = RowConverter::new(vec![SortField::new(categories.data_type().clone())])?;
    let rows = converter.convert_columns(&[Arc::clone(&categories)])?;
    let mut seen = HashMap::with_capacity(rows.num_rows());
    for (at, row) in rows.iter().enumerate() {
        if let Some(before) = seen.insert(row, at) {
            let shown = array_value_to_string(&categories, at)?;
            return Ok(Some(format!(
                "category '{shown}' stands at {before} and at {at}"
            )));
        }
    }
    Ok(None)
}

/// The categories that the attribute `categories` of a dataset of codes leads to: an object
/// reference (read as the target's path), or a path relative to the frame.
async fn linked_categories(node: &Node) -> Result<Node> {
    let frame = match node.key.as_str().rsplit_once('/') {
        Some((frame, _)) => ElementKey::new(frame),
        None => ElementKey::root(),
    };
    let beside = frame.child("__categories").child(node.key.name());
    let mut places = Vec::new();
    if let Some(path) = node.text("categories") {
        if !path.starts_with('/') {
            places.push(frame.child(path));
        }
        places.push(ElementKey::new(path));
    }
    places.push(beside.clone());
    for place in places {
        if let Some(found) = Node::find(&node.store, &place).await? {
            return Ok(found);
        }
    }
    Err(Error::ElementNotFound {
        url: node.store.url().to_owned(),
        element: beside,
        hint: format!("; {} says that its categories are there", node.key),
    })
}

/// A boolean attribute; some writers give 0 and 1.
pub(crate) fn truth(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_i64() == Some(1),
        _ => false,
    }
}

/// Codes as dictionary keys, null for −1.
///
/// # Errors
/// The first code that is neither −1 nor a category.
fn keys(codes: &ArrayRef, n_categories: usize) -> Result<Int32Array, i128> {
    let n = i32::try_from(n_categories).unwrap_or(i32::MAX);
    let first_bad = || {
        let wide = cast(codes, &DataType::Int64).ok();
        let wide = wide.as_ref().map(|wide| wide.as_primitive::<Int64Type>());
        let bad = |code: &Option<i64>| code.is_none_or(|code| code < -1 || code >= i64::from(n));
        wide.and_then(|wide| wide.iter().find(bad).flatten())
            .map_or(i128::from(u64::MAX), i128::from)
    };
    let keys = cast(codes, &DataType::Int32).map_err(|_| first_bad())?;
    let keys = keys.as_primitive::<Int32Type>();
    let (min, max) = keys
        .values()
        .iter()
        .fold((0, -1), |(min, max), code| (min.min(*code), max.max(*code)));
    if keys.null_count() > 0 || min < -1 || max >= n {
        return Err(first_bad());
    }
    if min >= 0 {
        return Ok(keys.clone());
    }
    let valid = BooleanBuffer::collect_bool(keys.len(), |i| keys.value(i) >= 0);
    let keys: ScalarBuffer<i32> = keys.values().iter().map(|code| (*code).max(0)).collect();
    Ok(Int32Array::new(keys, Some(NullBuffer::new(valid))))
}
