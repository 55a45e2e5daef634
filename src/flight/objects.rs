//! What is served.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::Location;
use crate::session::Session;

/// Objects by name, and a session that has them.
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) session: Session,
    named: Vec<(String, Location)>,
    notices: Vec<String>,
}

impl Objects {
    /// Opens what is to be served: paths and URLs, each with a name before `=` or called by its stem.
    ///
    /// # Errors
    /// Those of opening them; [`Error::InvalidOption`] where there is none, or a name is taken.
    pub(super) async fn open(texts: &[String], session: Session) -> Result<Arc<Self>> {
        let mut named = Vec::with_capacity(texts.len());
        let mut notices = Vec::new();
        for text in texts {
            let opened = session.open(text).await?;
            notices.extend(opened.notice);
            named.push((opened.schema, opened.object.location().clone()));
        }
        match named.is_empty() {
            true => Err(Error::option("serve", "there is nothing to serve")),
            false => Ok(Arc::new(Self {
                session,
                named,
                notices,
            })),
        }
    }

    /// Names, in the order they were given.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(|(name, _)| name.as_str())
    }

    /// What is to be said of them.
    pub(super) fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Where the objects of these names are.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a name that is not served.
    pub(super) fn locations(&self, names: &[String]) -> Result<Vec<Location>> {
        let location = |name: &String| {
            let found = self.named.iter().find(|(other, _)| other == name);
            found.map(|(_, location)| location.clone()).ok_or_else(|| {
                let served: Vec<&str> = self.names().collect();
                let reason = format!("'{name}' is not served; there are {}", served.join(", "));
                Error::option("ticket", reason)
            })
        };
        match names.is_empty() {
            true => Err(Error::option("ticket", "it names no object")),
            false => names.iter().map(location).collect(),
        }
    }
}
