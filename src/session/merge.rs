//! `merge('a.h5ad', 'b.h5ad', …[, {join: 'outer', …}])`.

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::Expr;

use crate::error::Error;
use crate::model::{ElementKey, expand};
use crate::plan::merge::{MergeOutline, MergeSpec, MergeTable};
use crate::session::blocking::block_on;

/// The cells of several objects as those of one.
#[derive(Debug)]
pub(super) struct Merge;

impl TableFunctionImpl for Merge {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let mut inputs = Vec::new();
        let mut options = Vec::new();
        for (at, expr) in args.exprs().iter().enumerate() {
            match (text(expr), pairs(expr)) {
                (Some(path), _) => inputs.extend(expand(&path)),
                (None, Some(pairs)) if at + 1 == args.exprs().len() => options = pairs,
                _ => {
                    return plan_err!(
                        "merge('a.h5ad', 'b.h5ad', …) takes locations, and options behind them \
                         as in {{'join': 'outer'}}, not {expr}"
                    );
                }
            }
        }
        let mut spec = MergeSpec::new(inputs);
        for (name, value) in &options {
            set(&mut spec, name, value).map_err(DataFusionError::from)?;
        }
        let outline = block_on(async move {
            MergeOutline::of(Arc::new(spec)).await.map_err(DataFusionError::from)
        })?;
        Ok(Arc::new(MergeTable::new(outline)))
    }
}

/// Sets an option of `anndata.concat`'s.
fn set(spec: &mut MergeSpec, name: &str, value: &Expr) -> Result<(), Error> {
    fn parsed<T: std::str::FromStr<Err = String>>(name: &str, text: &str) -> Result<T, Error> {
        text.parse().map_err(|reason| Error::option(name, reason))
    }
    let texts = || texts(value);
    let one = || {
        let mut found = texts().unwrap_or_default();
        match (found.pop(), found.is_empty()) {
            (Some(text), true) => Ok(text),
            _ => Err(Error::option(name, format!("{value} is not one literal value"))),
        }
    };
    match name {
        "axis" => spec.axis = parsed(name, &one()?)?,
        "join" => spec.join = parsed(name, &one()?)?,
        "merge" => spec.merge = Some(parsed(name, &one()?)?),
        "uns_merge" => spec.uns_merge = Some(parsed(name, &one()?)?),
        "label" => spec.label = Some(one()?),
        "keys" => spec.keys = texts(),
        "index_unique" => spec.index_unique = Some(one()?),
        "fill_value" => spec.fill_value = Some(parsed(name, &one()?)?),
        "align_on" => spec.align_on = Some(one()?),
        "drop" => spec.drop = texts().unwrap_or_default().iter().map(ElementKey::new).collect(),
        "pairwise" => {
            spec.pairwise = match one()?.as_str() {
                "true" => true,
                "false" => false,
                other => {
                    return Err(Error::option(name, format!("'{other}' is neither true nor false")));
                }
            }
        }
        _ => {
            return Err(Error::option(
                name,
                "no such option; there are axis, join, merge, uns_merge, label, keys, \
                 index_unique, fill_value, pairwise, align_on and drop",
            ));
        }
    }
    Ok(())
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    }
}

/// A literal as text, or the literals of an array.
fn texts(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Literal(ScalarValue::Null, _) => None,
        Expr::Literal(value, _) => Some(vec![value.to_string()]),
        Expr::Negative(inner) => {
            let texts = texts(inner)?;
            Some(texts.iter().map(|text| format!("-{text}")).collect())
        }
        Expr::ScalarFunction(call) if call.name() == "make_array" => {
            let items = call.args.iter().map(|item| Some(texts(item)?.concat()));
            items.collect()
        }
        _ => None,
    }
}

/// The members of a struct literal.
fn pairs(expr: &Expr) -> Option<Vec<(String, Expr)>> {
    let Expr::ScalarFunction(call) = expr else {
        return None;
    };
    if call.name() != "named_struct" {
        return None;
    }
    let pairs = call.args.chunks_exact(2);
    pairs.map(|pair| Some((text(&pair[0])?, pair[1].clone()))).collect()
}
