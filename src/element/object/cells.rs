//! The cells of several objects one after another: elements that all have, and columns that some have.

use std::sync::Arc;

use super::AnnData;
use crate::element::stacked::{AbsentColumn, StackedMatrix, stacked};
use crate::element::{ColumnReader, MatrixReader};
use crate::error::Result;
use crate::model::Location;

/// Elements of the cells of some objects. The genes of their matrices are each object's own.
#[derive(Debug, Clone)]
pub(crate) struct Cells {
    objects: Vec<Arc<AnnData>>,
    fills_obs: bool,
}

impl Cells {
    /// Those of these objects, one at least.
    pub(crate) fn new(objects: Vec<Arc<AnnData>>) -> Self {
        Self {
            objects,
            fills_obs: false,
        }
    }

    /// With the columns of `obs` that any object has: cells of the others have no value there.
    #[must_use]
    pub(crate) fn with_all_of_obs(self) -> Self {
        Self {
            fills_obs: true,
            ..self
        }
    }

    /// The objects.
    pub(crate) fn objects(&self) -> &[Arc<AnnData>] {
        &self.objects
    }

    /// Names of the columns of `obs`.
    pub(crate) fn obs_names(&self) -> Vec<&str> {
        if !self.fills_obs {
            return self.names(|object| columns(object).collect());
        }
        let mut names = Vec::new();
        for name in self.objects.iter().flat_map(|object| columns(object)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Names of the layers that all have.
    pub(crate) fn layer_names(&self) -> Vec<&str> {
        self.names(|object| keys(object.layers()))
    }

    /// Names of what all have in `obsm`.
    pub(crate) fn obsm_names(&self) -> Vec<&str> {
        self.names(|object| keys(object.obsm()))
    }

    /// A column of `obs`, [`None`] where not all have it, or none has.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`](crate::Error::IncompatibleSchemas) where it is not of the same
    /// type in all; so for the other elements.
    pub(crate) fn obs(&self, name: &str) -> Result<Option<Arc<dyn ColumnReader>>> {
        match self.fills_obs {
            true => self.filled(name),
            false => self.column(|object| column_of(object, name)),
        }
    }

    /// A column of `obs` that some may not have.
    fn filled(&self, name: &str) -> Result<Option<Arc<dyn ColumnReader>>> {
        let of_objects = self.objects.iter();
        let having = of_objects.filter_map(|object| Some((object, column_of(object, name)?)));
        let having: Vec<_> = having.collect();
        // Nulls are written as those are that somebody has.
        let nullable = having
            .iter()
            .find(|(_, column)| column.field().is_nullable());
        let Some((owner, model)) = nullable.or(having.first()) else {
            return Ok(None);
        };
        let parts = self
            .objects
            .iter()
            .map(|object| match column_of(object, name) {
                Some(column) => (object.location(), Arc::clone(column)),
                None => {
                    let absent = AbsentColumn::like(model.as_ref(), object);
                    (owner.location(), Arc::new(absent) as _)
                }
            });
        let (locations, parts): (Vec<_>, Vec<_>) = parts.unzip();
        stack(&locations, parts).map(Some)
    }

    /// An element of `obsm`.
    pub(crate) fn obsm(&self, name: &str) -> Result<Option<Arc<dyn ColumnReader>>> {
        self.column(|object| named(object.obsm(), name))
    }

    /// `X`.
    pub(crate) fn x(&self) -> Result<Option<Arc<dyn MatrixReader>>> {
        self.matrix(AnnData::x)
    }

    /// A layer.
    pub(crate) fn layer(&self, name: &str) -> Result<Option<Arc<dyn MatrixReader>>> {
        self.matrix(|object| named(object.layers(), name))
    }

    /// `raw/X`.
    pub(crate) fn raw(&self) -> Result<Option<Arc<dyn MatrixReader>>> {
        self.matrix(|object| object.raw().and_then(|raw| raw.x()))
    }

    fn names<'a>(&'a self, of: impl Fn(&'a AnnData) -> Vec<&'a str>) -> Vec<&'a str> {
        let mut objects = self.objects.iter();
        let mut names = objects.next().map(|first| of(first)).unwrap_or_default();
        for object in objects {
            let others = of(object);
            names.retain(|name| others.contains(name));
        }
        names
    }

    fn parts<'a, R: ?Sized + 'a>(
        &'a self,
        of: impl Fn(&'a AnnData) -> Option<&'a Arc<R>>,
    ) -> Option<Vec<Arc<R>>> {
        let parts = self.objects.iter().map(|object| of(object).map(Arc::clone));
        parts.collect()
    }

    fn locations(&self) -> Vec<&Location> {
        self.objects
            .iter()
            .map(|object| object.location())
            .collect()
    }

    fn column<'a>(
        &'a self,
        of: impl Fn(&'a AnnData) -> Option<&'a Arc<dyn ColumnReader>>,
    ) -> Result<Option<Arc<dyn ColumnReader>>> {
        let parts = self.parts(of);
        let parts = parts.map(|parts| stack(&self.locations(), parts));
        parts.transpose()
    }

    fn matrix<'a>(
        &'a self,
        of: impl Fn(&'a AnnData) -> Option<&'a Arc<dyn MatrixReader>>,
    ) -> Result<Option<Arc<dyn MatrixReader>>> {
        match self.parts(of) {
            None => Ok(None),
            Some(parts) if parts.len() == 1 => Ok(parts.into_iter().next()),
            Some(parts) => {
                let matrix = StackedMatrix::try_new(&self.locations(), &parts)?;
                Ok(Some(Arc::new(matrix)))
            }
        }
    }
}

fn stack(
    locations: &[&Location],
    parts: Vec<Arc<dyn ColumnReader>>,
) -> Result<Arc<dyn ColumnReader>> {
    match parts.as_slice() {
        [one] => Ok(Arc::clone(one)),
        _ => stacked(locations, parts),
    }
}

fn columns(object: &AnnData) -> impl Iterator<Item = &str> {
    let columns = object.obs().columns().iter();
    columns.map(|column| column.field().name().as_str())
}

fn column_of<'a>(object: &'a AnnData, name: &str) -> Option<&'a Arc<dyn ColumnReader>> {
    let mut columns = object.obs().columns().iter();
    columns.find(|column| column.field().name() == name)
}

fn keys<R: ?Sized>(elements: &[(String, Arc<R>)]) -> Vec<&str> {
    elements.iter().map(|(name, _)| name.as_str()).collect()
}

fn named<'a, R: ?Sized>(elements: &'a [(String, Arc<R>)], name: &str) -> Option<&'a Arc<R>> {
    let mut elements = elements.iter();
    elements
        .find(|(other, _)| other == name)
        .map(|(_, element)| element)
}
