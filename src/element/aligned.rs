//! Elements of `obsm` and `varm`: a dense or sparse matrix, a data frame or an awkward array.

use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use async_trait::async_trait;
use futures::future::try_join_all;

use crate::element::awkward::AwkwardColumn;
use crate::element::column::{ArrayColumn, Values};
use crate::element::matrix::{self, DenseMatrix};
use crate::element::node::{Encoding, Node};
use crate::element::{ColumnReader, Frame, column};
use crate::error::{Error, Result};
use crate::model::{ElementKey, FieldMeta, RowSelection};
use crate::store::{NodeKind, ReadMetrics};

/// Opens every element of an `obsm` or `varm`; the index of a data frame in it is called `names`.
///
/// # Errors
/// [`Error::LengthMismatch`] where an element is not as long as the axis, which `axis` names.
pub(crate) async fn open_all(
    mapping: Option<Node>,
    names: &str,
    axis: &str,
    len: u64,
) -> Result<Vec<(String, Arc<dyn ColumnReader>)>> {
    let Some(mapping) = mapping else {
        return Ok(Vec::new());
    };
    let elements = match mapping.kind {
        NodeKind::Array => records(&mapping).await?,
        NodeKind::Group => {
            let children = mapping.children().await?;
            let opened = children.into_iter().map(|name| async {
                let node = mapping.child(&name, "").await?;
                let element = open(&node, &name, names).await?;
                Ok::<_, Error>((name, element))
            });
            try_join_all(opened).await?
        }
    };
    for (name, element) in &elements {
        if element.len() != len {
            return Err(Error::LengthMismatch {
                url: mapping.store.url().to_owned(),
                element: mapping.key.child(name),
                what: "its length".to_owned(),
                actual: element.len(),
                expected_by: axis.to_owned(),
                expected: len,
            });
        }
    }
    Ok(elements)
}

async fn open(node: &Node, name: &str, names: &str) -> Result<Arc<dyn ColumnReader>> {
    match node.encoding().await? {
        Encoding::DataFrame => Ok(Arc::new(FrameColumn::open(node, name, names).await?)),
        Encoding::Csr | Encoding::Csc => Ok(matrix::open(node, name, None).await?),
        Encoding::Array | Encoding::StringArray => {
            let values = Values::of_array(node.array().await?);
            dense(node, &node.key, name, values)
        }
        Encoding::Awkward => Ok(Arc::new(AwkwardColumn::open(node, name).await?)),
        _ => column::open(node, name).await,
    }
}

/// The members of an array of records (before 0.7), each an element with its own axes.
async fn records(node: &Node) -> Result<Vec<(String, Arc<dyn ColumnReader>)>> {
    let members = Values::of_records(&node.array().await?)
        .ok_or_else(|| node.invalid("neither a group nor an array of records"))?;
    members
        .into_iter()
        .map(|(name, values)| {
            let key = node.key.child(&name);
            let element = dense(node, &key, &name, values)?;
            Ok((name, element))
        })
        .collect()
}

/// A matrix, or a plain column where there is but one axis.
fn dense(
    node: &Node,
    key: &ElementKey,
    name: &str,
    values: Values,
) -> Result<Arc<dyn ColumnReader>> {
    let store = node.store.as_ref();
    if values.dims().is_empty() {
        return Ok(Arc::new(ArrayColumn::try_new(store, key, name, values)?));
    }
    Ok(Arc::new(DenseMatrix::try_new(
        store, key, name, values, None,
    )?))
}

/// A data frame as one struct column: its index, then its columns.
#[derive(Debug)]
struct FrameColumn {
    field: FieldRef,
    frame: Frame,
    fields: Fields,
}

impl FrameColumn {
    async fn open(node: &Node, name: &str, names: &str) -> Result<Self> {
        let frame = Frame::open(node, names).await?;
        let fields: Fields = std::iter::once(frame.index())
            .chain(frame.columns())
            .map(|column| Arc::clone(column.field()))
            .collect();
        let meta = FieldMeta {
            encoding: Some(Encoding::DataFrame.name().to_owned()),
            index_name: Some(frame.index_name().to_owned()),
            ..FieldMeta::default()
        };
        let field = Field::new(name, DataType::Struct(fields.clone()), false);
        Ok(Self {
            field: Arc::new(meta.apply(field)),
            frame,
            fields,
        })
    }
}

#[async_trait]
impl ColumnReader for FrameColumn {
    fn field(&self) -> &FieldRef {
        &self.field
    }

    fn key(&self) -> &ElementKey {
        self.frame.key()
    }

    fn len(&self) -> u64 {
        self.frame.n_rows()
    }

    async fn read(&self, rows: &RowSelection, metrics: &ReadMetrics) -> Result<ArrayRef> {
        let columns = std::iter::once(self.frame.index()).chain(self.frame.columns());
        let columns = try_join_all(columns.map(|column| column.read(rows, metrics))).await?;
        Ok(Arc::new(StructArray::try_new(
            self.fields.clone(),
            columns,
            None,
        )?))
    }

    fn row_bytes(&self) -> u64 {
        let columns = self.frame.columns().iter();
        columns.map(|column| column.row_bytes()).sum::<u64>() + self.frame.index().row_bytes()
    }
}
