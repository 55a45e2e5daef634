//! The choice of a matrix reader.

use std::sync::Arc;

use crate::element::MatrixReader;
use crate::element::column::Values;
use crate::element::matrix::csc::CscMatrix;
use crate::element::matrix::csr::CsrMatrix;
use crate::element::matrix::dense::DenseMatrix;
use crate::element::node::{Encoding, Node};
use crate::error::Result;
use crate::model::VarAxis;

/// Opens the matrix at `node` as a field called `name`; `axis` says which genes its columns are,
/// where they are genes.
///
/// # Errors
/// [`Error::UnsupportedEncoding`] where the node is not a matrix.
pub(crate) async fn open(
    node: &Node,
    name: &str,
    axis: Option<&Arc<VarAxis>>,
) -> Result<Arc<dyn MatrixReader>> {
    let axis = axis.map(Arc::clone);
    match node.encoding().await? {
        Encoding::Csr => Ok(Arc::new(CsrMatrix::open(node, name, axis).await?)),
        Encoding::Csc => Ok(Arc::new(CscMatrix::open(node, name, axis).await?)),
        Encoding::Array | Encoding::StringArray => {
            let values = Values::of_array(node.array().await?);
            let store = node.store.as_ref();
            let matrix = DenseMatrix::try_new(store, &node.key, name, values, axis)?;
            Ok(Arc::new(matrix))
        }
        _ => Err(node.unsupported()),
    }
}
