//! `merge('a.h5ad', 'b.h5ad', …[, {join: 'outer', …}])`.

use std::sync::Arc;

use arrow::array::Array;
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
                (Some(path), _) => inputs.extend(expand(&path)?),
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
            MergeOutline::of(Arc::new(spec))
                .await
                .map_err(DataFusionError::from)
        })?;
        Ok(Arc::new(MergeTable::new(outline)))
    }
}

/// Sets an option of `anndata.concat`'s.
fn set(spec: &mut MergeSpec, name: &str, texts: &[String]) -> Result<(), Error> {
    fn parsed<T: std::str::FromStr<Err = String>>(name: &str, text: &str) -> Result<T, Error> {
        text.parse().map_err(|reason| Error::option(name, reason))
    }
    let one = || match texts {
        [text] => Ok(text.clone()),
        texts => Err(Error::option(
            name,
            format!("{} values where one belongs", texts.len()),
        )),
    };
    match name {
        "axis" => spec.axis = parsed(name, &one()?)?,
        "join" => spec.join = parsed(name, &one()?)?,
        "merge" => spec.merge = Some(parsed(name, &one()?)?),
        "uns_merge" => spec.uns_merge = Some(parsed(name, &one()?)?),
        "label" => spec.label = Some(one()?),
        "keys" => spec.keys = Some(texts.to_vec()),
        "index_unique" => spec.index_unique = Some(one()?),
        "fill_value" => spec.fill_value = Some(parsed(name, &one()?)?),
        "align_on" => spec.align_on = Some(one()?),
        "drop" => spec.drop = texts.iter().map(ElementKey::new).collect(),
        "pairwise" => {
            spec.pairwise = match one()?.as_str() {
                "true" => true,
                "false" => false,
                other => {
                    return Err(Error::option(
                        name,
                        format!("'{other}' is neither true nor false"),
                    ));
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

/// The members of a struct literal as texts: one of a value, one per item of a list. The planner has
/// evaluated it, or not.
fn pairs(expr: &Expr) -> Option<Vec<(String, Vec<String>)>> {
    match expr {
        Expr::Literal(ScalarValue::Struct(row), _) => {
            let members = row.fields().iter().zip(row.columns());
            let members = members.map(|(field, column)| {
                let value = ScalarValue::try_from_array(column, 0).ok()?;
                Some((field.name().clone(), items(&value)?))
            });
            members.collect()
        }
        Expr::ScalarFunction(call) if call.name() == "named_struct" => {
            let pairs = call.args.chunks_exact(2);
            pairs
                .map(|pair| Some((text(&pair[0])?, texts(&pair[1])?)))
                .collect()
        }
        _ => None,
    }
}

fn texts(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Literal(value, _) => items(value),
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

fn items(value: &ScalarValue) -> Option<Vec<String>> {
    let ScalarValue::List(list) = value else {
        return (!value.is_null()).then(|| vec![value.to_string()]);
    };
    let items = list.values();
    let item = |at| {
        ScalarValue::try_from_array(items, at)
            .ok()
            .map(|item| item.to_string())
    };
    (0..items.len()).map(item).collect()
}
