//! What a context needs to know of this crate.

use std::sync::Arc;

use datafusion::prelude::SessionContext;

use crate::error::Result;
use crate::functions;
use crate::plan::H5adFormatFactory;
use crate::session::external::H5adTableFactory;
use crate::session::read_anndata::ReadAnnData;

/// Gives a context the matrix functions, `read_anndata`, and `STORED AS H5AD`.
///
/// # Errors
/// [`Error::DataFusion`](crate::Error::DataFusion) if the context refuses a registration.
pub fn register(context: &SessionContext) -> Result<()> {
    for function in functions::all() {
        context.register_udf(function.as_ref().clone());
    }
    context.register_udtf("read_anndata", Arc::new(ReadAnnData));
    let state = context.state_ref();
    let mut state = state.write();
    let factories = state.table_factories_mut();
    factories.insert("H5AD".to_owned(), Arc::new(H5adTableFactory));
    state.register_file_format(Arc::new(H5adFormatFactory), true)?;
    Ok(())
}
