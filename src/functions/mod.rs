//! SQL functions over matrix columns: thin wrappers over [`crate::kernel`].
//!
//! `gene(X, 'CD3D')`, `n_genes(X)` and `total_counts(X)` give one number per row. Inside a scan
//! they never see a list: the scan recognises them ([`MatrixFunction`]) and computes them from the
//! parts of the matrix they need. Above a scan they run on list arrays, with the same results.

mod matrix;
mod lists;

pub use matrix::{MatrixCall, MatrixFunction};

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

/// All functions, to be registered in a session.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    [
        MatrixFunction::gene(),
        MatrixFunction::n_genes(),
        MatrixFunction::total_counts(),
    ]
    .into_iter()
    .map(|function| Arc::new(ScalarUDF::from(function)))
    .collect()
}

/// The function of a name, for codecs.
pub fn by_name(name: &str) -> Option<Arc<ScalarUDF>> {
    all().into_iter().find(|function| function.name() == name)
}
