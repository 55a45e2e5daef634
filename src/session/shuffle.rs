//! `shuffle('url or table'[, …], seed)`.

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, TableReference, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;

use crate::plan::{Shuffle, ShuffleTable};
use crate::session::blocking::block_on;
use crate::session::external::open_table;

/// Rows of objects or tables in a seeded order.
#[derive(Debug)]
pub(super) struct ShuffleFunction;

/// How it is called.
const USAGE: &str = "shuffle('url or table'[, …], seed[, 'way']) takes objects or tables of a row per \
                     cell or gene, and a seed from 0 on";

impl TableFunctionImpl for ShuffleFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let Some(at) = args.exprs().iter().position(|expr| seed(expr).is_some()) else {
            return plan_err!("{USAGE}");
        };
        let (names, rest) = args.exprs().split_at(at);
        let names = names.iter().map(text).collect::<Option<Vec<_>>>();
        let (Some(names), Some(seed)) = (names, rest.first().and_then(seed)) else {
            return plan_err!("{USAGE}");
        };
        let way = match &rest[1..] {
            [] => None,
            [way] => match text(way) {
                Some(way) => Some(way.parse()?),
                None => return plan_err!("{USAGE}"),
            },
            _ => return plan_err!("{USAGE}"),
        };
        let state = args
            .session()
            .as_any()
            .downcast_ref::<SessionState>()
            .cloned();
        block_on(async move {
            let mut inputs = Vec::with_capacity(names.len());
            for name in names {
                inputs.push(input(&name, state.as_ref()).await?);
            }
            let table = ShuffleTable::try_new(
                inputs,
                Shuffle {
                    seed,
                    way,
                    block: None,
                },
            )?;
            Ok(Arc::new(table) as Arc<dyn TableProvider>)
        })
    }
}

/// The table of a name that the session knows, else the cells of the object at a location.
async fn input(name: &str, state: Option<&SessionState>) -> Result<Arc<dyn TableProvider>> {
    if let Some(state) = state {
        let reference = TableReference::parse_str_normalized(name, true);
        if let Ok(schema) = state.schema_for_ref(reference.clone())
            && let Some(table) = schema.table(reference.table()).await?
        {
            return Ok(table);
        }
        // An open object by its own name: its cells.
        let of_object = TableReference::partial(name, "cells");
        if let Ok(schema) = state.schema_for_ref(of_object)
            && let Some(table) = schema.table("cells").await?
        {
            return Ok(table);
        }
    }
    open_table(name, "cells").await
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    }
}

fn seed(expr: &Expr) -> Option<u64> {
    use datafusion::common::ScalarValue::{Int64, UInt64};
    match expr {
        Expr::Literal(Int64(Some(seed)), _) => u64::try_from(*seed).ok(),
        Expr::Literal(UInt64(Some(seed)), _) => Some(*seed),
        _ => None,
    }
}
