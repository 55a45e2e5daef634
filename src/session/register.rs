//! What a context needs to know of this crate.

use std::sync::Arc;

use datafusion::prelude::SessionContext;

use crate::error::Result;
use crate::functions;
use crate::plan::{CellsParquetFactory, ObjectFormatFactory};
use crate::session::external::ObjectTableFactory;
use crate::session::merge::Merge;
use crate::session::read_anndata::ReadAnnData;
use crate::session::shuffle::ShuffleFunction;

/// Gives a context the matrix functions, `read_anndata`, `shuffle`, `merge`, `STORED AS H5AD` and
/// `STORED AS ZARR`, and a `STORED AS PARQUET` that keeps genes and categories.
///
/// # Errors
/// [`Error::DataFusion`](crate::Error::DataFusion) if the context refuses a registration.
pub fn register(context: &SessionContext) -> Result<()> {
    for function in functions::all() {
        context.register_udf(function.as_ref().clone());
    }
    context.register_udtf("read_anndata", Arc::new(ReadAnnData));
    context.register_udtf("shuffle", Arc::new(ShuffleFunction));
    context.register_udtf("merge", Arc::new(Merge));
    let state = context.state_ref();
    let mut state = state.write();
    let factories = state.table_factories_mut();
    for format in ["h5ad", "zarr"] {
        let factory = Arc::new(ObjectTableFactory { format });
        factories.insert(format.to_uppercase(), factory);
    }
    for format in ObjectFormatFactory::ALL {
        state.register_file_format(Arc::new(format), true)?;
    }
    state.register_file_format(Arc::new(CellsParquetFactory::default()), true)?;
    Ok(())
}
