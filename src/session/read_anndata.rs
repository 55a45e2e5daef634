//! `read_anndata('url'[, 'table'])`.

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::Expr;

use crate::session::blocking::block_on;
use crate::session::external::open_table;

/// A table of a file that is not opened by name.
#[derive(Debug)]
pub(super) struct ReadAnnData;

impl TableFunctionImpl for ReadAnnData {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let texts: Vec<Option<String>> = args.exprs().iter().map(text).collect();
        match texts.as_slice() {
            [Some(url)] => open(url.clone(), "cells".to_owned()),
            [Some(url), Some(table)] => open(url.clone(), table.clone()),
            _ => {
                plan_err!("read_anndata('url'[, 'table']) takes a location and the name of a table")
            }
        }
    }
}

fn open(url: String, table: String) -> Result<Arc<dyn TableProvider>> {
    block_on(async move { open_table(&url, &table).await })
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    }
}
