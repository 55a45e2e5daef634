//! Opening objects by `name=path#group`.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use crate::element::AnnData;
use crate::error::{Error, Result};
use crate::model::Location;
use crate::session::Session;
use crate::table::AnnDataSchema;

/// An object that a session opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The schema its tables are in.
    pub schema: String,
    /// The object.
    pub object: Arc<AnnData>,
    /// What the user should know, such as that a name was taken.
    pub notice: Option<String>,
}

impl Session {
    /// Opens `path`, `path#group` or `name=path#group`. The schema is named after the file's stem
    /// unless a name is given; the first object's is the default schema. A file that was replaced is opened
    /// anew by the next statement.
    ///
    /// # Errors
    /// Those of [`AnnData::open`]; [`Error::InvalidOption`] for a name that is given and taken.
    pub async fn open(&self, text: &str) -> Result<Opened> {
        let (name, location) = split(text);
        let object = AnnData::open(&location).await?;
        self.register(name, object, AnnDataSchema::following)
    }

    /// Adds an open object under a name, or under its stem.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a name that is given and taken.
    pub fn add(&self, name: Option<&str>, object: Arc<AnnData>) -> Result<Opened> {
        self.register(name, object, |schema| schema)
    }

    fn register(
        &self,
        name: Option<&str>,
        object: Arc<AnnData>,
        change: impl FnOnce(AnnDataSchema) -> AnnDataSchema,
    ) -> Result<Opened> {
        let state = self.context.state_ref();
        let catalog_name = state
            .read()
            .config_options()
            .catalog
            .default_catalog
            .clone();
        let catalog = self.context.catalog(&catalog_name).ok_or_else(|| {
            Error::option("session", format!("there is no catalog {catalog_name}"))
        })?;
        let wanted = name.map_or_else(|| object.location().stem(), str::to_owned);
        let taken = |name: &str| name == "information_schema" || catalog.schema(name).is_some();
        let schema = match taken(&wanted) {
            false => wanted.clone(),
            true if name.is_some() => {
                return Err(Error::option(format!("{wanted}=…"), "the name is taken"));
            }
            true => (2..)
                .map(|n| format!("{wanted}_{n}"))
                .find(|name| !taken(name))
                .unwrap_or_else(|| wanted.clone()),
        };
        let notice = (schema != wanted).then(|| {
            format!(
                "{} is called {schema}, because {wanted} is taken",
                object.location()
            )
        });
        let tables = change(AnnDataSchema::new(Arc::clone(&object), self.batch_bytes));
        catalog.register_schema(&schema, Arc::new(tables))?;
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.is_empty() {
            state
                .write()
                .config_mut()
                .options_mut()
                .catalog
                .default_schema = schema.clone();
        }
        names.push(schema.clone());
        Ok(Opened {
            schema,
            object,
            notice,
        })
    }
}

/// Splits `name=path#group`; a path that itself holds `=` is taken as it is.
fn split(text: &str) -> (Option<&str>, Location) {
    let named = text.split_once('=').filter(|(name, _)| {
        !name.is_empty() && !name.contains(['/', '#', '.', '\\']) && !Path::new(text).exists()
    });
    match named {
        Some((name, path)) => (Some(name), Location::parse(path)),
        None => (None, Location::parse(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_before_the_first_equals_sign() {
        let (name, location) = split("pbmc=dir/x.h5mu#mod/rna");
        assert_eq!(
            (name, location.path(), location.group()),
            (Some("pbmc"), "dir/x.h5mu", "mod/rna")
        );
        assert_eq!(split("dir/a=b.h5ad").0, None);
    }
}
