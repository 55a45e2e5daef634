//! Errors of planning, with the name that was probably meant.

use datafusion::common::DataFusionError;
use datafusion::prelude::SessionContext;

use crate::error::Error;

/// Adds the nearest table to "table … not found".
pub(super) fn explain(error: Error, context: &SessionContext) -> Error {
    let Error::DataFusion(inner) = &error else {
        return error;
    };
    let text = inner.strip_backtrace();
    let Some(name) = unknown_table(&text) else {
        return error;
    };
    let (schema, table) = match name.rsplit('.').collect::<Vec<_>>().as_slice() {
        [table, schema, ..] => ((*schema).to_owned(), (*table).to_owned()),
        _ => return error,
    };
    let catalog = context
        .state_ref()
        .read()
        .config_options()
        .catalog
        .default_catalog
        .clone();
    let Some(catalog) = context.catalog(&catalog) else {
        return error;
    };
    let hint = match catalog.schema(&schema) {
        Some(tables) => near(&table, tables.table_names()),
        None => near(&schema, catalog.schema_names()),
    };
    match hint {
        Some(near) => Error::DataFusion(DataFusionError::Plan(format!(
            "table {schema}.{table} not found; did you mean {near}?"
        ))),
        None => error,
    }
}

fn unknown_table(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("table '")?;
    rest.split_once("' not found").map(|(name, _)| name)
}

fn near(wanted: &str, names: Vec<String>) -> Option<String> {
    let wanted = wanted.to_lowercase();
    let scored = names.into_iter().map(|name| {
        let score = strsim::jaro_winkler(&wanted, &name.to_lowercase());
        (score, name)
    });
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(score, _)| *score > 0.75)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_whatever_its_case() {
        let names = || vec!["cells".to_owned(), "X".to_owned(), "obs".to_owned()];
        assert_eq!(near("cell", names()).as_deref(), Some("cells"));
        assert_eq!(near("x", names()).as_deref(), Some("X"));
        assert_eq!(near("tissue", names()), None);
        assert_eq!(
            unknown_table("Error: table 'd.p.cell' not found"),
            Some("d.p.cell")
        );
    }
}
