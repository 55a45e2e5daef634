//! The objects of a collection as one.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use futures::future::try_join_all;
use tokio::sync::OnceCell;

use super::{AnnData, Columns, Matrices, Raw};
use crate::element::frame::Frame;
use crate::element::stacked::{StackedMatrix, stacked};
use crate::element::{ColumnReader, ElementInfo, MatrixReader};
use crate::error::{Error, Result};
use crate::model::{ElementKey, Location, VarAxis};

/// Collections this process has open, held weakly. The cache of objects says whether their members
/// still are what they were.
static OPEN: LazyLock<Mutex<HashMap<Location, Weak<AnnData>>>> = LazyLock::new(Mutex::default);

/// Opens the members and puts them together.
pub(super) async fn open(location: &Location, members: Vec<Location>) -> Result<Arc<AnnData>> {
    let members = try_join_all(members.iter().map(AnnData::open)).await?;
    let lock = || OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(open) = lock().get(location).and_then(Weak::upgrade)
        && open.members.len() == members.len()
        && open
            .members
            .iter()
            .zip(&members)
            .all(|(a, b)| Arc::ptr_eq(a, b))
    {
        return Ok(open);
    }
    let object = Arc::new(Members::new(&members)?.stack(location)?);
    let mut open = lock();
    open.retain(|_, object| object.strong_count() > 0);
    open.insert(location.clone(), Arc::downgrade(&object));
    Ok(object)
}

/// Objects as one.
pub(super) fn stack(objects: &[Arc<AnnData>]) -> Result<Arc<AnnData>> {
    let members = Members::new(objects)?;
    let location = members.first.location.clone();
    Ok(Arc::new(members.stack(&location)?))
}

/// Objects to put together, and how they are called in messages.
struct Members<'a> {
    all: &'a [Arc<AnnData>],
    first: &'a AnnData,
    locations: Vec<&'a Location>,
}

impl<'a> Members<'a> {
    fn new(all: &'a [Arc<AnnData>]) -> Result<Self> {
        let Some(first) = all.first() else {
            return Err(Error::option("collection", "it has no members"));
        };
        Ok(Self {
            all,
            first,
            locations: all.iter().map(|member| &member.location).collect(),
        })
    }

    fn stack(&self, location: &Location) -> Result<AnnData> {
        let first = self.first;
        self.same_genes("var", |member| Some(&member.var_axis))?;
        Ok(AnnData {
            location: location.clone(),
            store: Arc::clone(&first.store),
            root: first.root.clone(),
            obs: self.obs()?,
            var: first.var.clone(),
            var_axis: Arc::clone(&first.var_axis),
            x: self.optional("X", |member| member.x.as_ref())?,
            layers: self.layers()?,
            obsm: self.obsm()?,
            varm: first.varm.clone(),
            // Neighbours of cells in other members are not known.
            obsp: Vec::new(),
            varp: first.varp.clone(),
            raw: self.raw()?,
            uns: first.uns.clone(),
            uns_skip: first.uns_skip.clone(),
            strays: OnceCell::new(),
            lost: OnceCell::new(),
            members: self.all.to_vec(),
        })
    }

    fn obs(&self) -> Result<Frame> {
        let first = &self.first.obs;
        let mut index = Vec::with_capacity(self.all.len());
        let mut columns: Vec<Vec<Arc<dyn ColumnReader>>> =
            vec![Vec::with_capacity(self.all.len()); first.columns().len()];
        for member in self.all {
            index.push(Arc::clone(member.obs.index()));
            let of_member = member.obs.columns();
            self.same_names("obs", member, [first.columns(), of_member].map(names))?;
            for (column, parts) in first.columns().iter().zip(&mut columns) {
                let name = column.field().name();
                let mut same = of_member
                    .iter()
                    .filter(|other| other.field().name() == name);
                parts.extend(same.next().map(Arc::clone));
            }
        }
        let columns = columns.into_iter();
        let columns = columns.map(|parts| stacked(&self.locations, parts));
        Ok(Frame::of_columns(
            first.key().clone(),
            first.index_name(),
            stacked(&self.locations, index)?,
            columns.collect::<Result<_>>()?,
        ))
    }

    fn layers(&self) -> Result<Matrices> {
        let layers = self.by_name("layers", |member| &member.layers)?.into_iter();
        let layers = layers.map(|(name, parts)| Ok((name, self.matrix(&parts)?)));
        layers.collect()
    }

    fn obsm(&self) -> Result<Columns> {
        let obsm = self.by_name("obsm", |member| &member.obsm)?.into_iter();
        let obsm = obsm.map(|(name, parts)| Ok((name, stacked(&self.locations, parts)?)));
        obsm.collect()
    }

    fn raw(&self) -> Result<Option<Raw>> {
        let Some(first) = &self.first.raw else {
            self.optional("raw/X", |member| member.raw.as_ref()?.x.as_ref())?;
            return Ok(None);
        };
        self.same_genes("raw/var", |member| Some(&member.raw.as_ref()?.var_axis))?;
        Ok(Some(Raw {
            x: self.optional("raw/X", |member| member.raw.as_ref()?.x.as_ref())?,
            var: first.var.clone(),
            var_axis: Arc::clone(&first.var_axis),
            varm: first.varm.clone(),
        }))
    }

    /// A matrix that all members have, or none.
    fn optional(
        &self,
        element: &str,
        of: impl Fn(&'a AnnData) -> Option<&'a Arc<dyn MatrixReader>>,
    ) -> Result<Option<Arc<dyn MatrixReader>>> {
        let mut parts = Vec::with_capacity(self.all.len());
        for member in self.all {
            match (of(member), of(self.first)) {
                (Some(part), Some(_)) => parts.push(Arc::clone(part)),
                (None, None) => {}
                (has, _) => return Err(self.lacks(element, member, has.is_some())),
            }
        }
        match parts.is_empty() {
            true => Ok(None),
            false => self.matrix(&parts).map(Some),
        }
    }

    fn matrix(&self, parts: &[Arc<dyn MatrixReader>]) -> Result<Arc<dyn MatrixReader>> {
        Ok(Arc::new(StackedMatrix::try_new(&self.locations, parts)?))
    }

    /// Readers of each name of a mapping, one per member.
    fn by_name<R: ?Sized + 'a>(
        &self,
        mapping: &str,
        of: impl Fn(&'a AnnData) -> &'a [(String, Arc<R>)],
    ) -> Result<Vec<(String, Vec<Arc<R>>)>> {
        let names = |entries: &'a [(String, Arc<R>)]| -> Vec<&'a str> {
            entries.iter().map(|(name, _)| name.as_str()).collect()
        };
        let first = of(self.first);
        for member in self.all {
            self.same_names(mapping, member, [first, of(member)].map(names))?;
        }
        let parts = |name: &str| {
            let parts = self.all.iter().flat_map(|member| of(member));
            let parts = parts.filter(|(other, _)| other == name);
            parts.map(|(_, part)| Arc::clone(part)).collect()
        };
        let first = first.iter();
        Ok(first.map(|(name, _)| (name.clone(), parts(name))).collect())
    }

    fn same_names(&self, group: &str, member: &AnnData, names: [Vec<&str>; 2]) -> Result<()> {
        let [first, other] = names;
        if let Some(name) = first.iter().find(|name| !other.contains(name)) {
            return Err(self.lacks(&format!("{group}/{name}"), member, false));
        }
        match other.iter().find(|name| !first.contains(name)) {
            Some(name) => Err(self.lacks(&format!("{group}/{name}"), member, true)),
            None => Ok(()),
        }
    }

    /// A member has an element that the first has not, or the other way round.
    fn lacks(&self, element: &str, member: &AnnData, has: bool) -> Error {
        let (with, without) = match has {
            true => (&member.location, &self.first.location),
            false => (&self.first.location, &member.location),
        };
        Error::IncompatibleSchemas(format!(
            "element {element} is in {with} and not in {without}, which are of one collection; merge \
             makes one object of them"
        ))
    }

    fn same_genes(
        &self,
        element: &str,
        of: impl Fn(&'a AnnData) -> Option<&'a Arc<VarAxis>>,
    ) -> Result<()> {
        for member in self.all {
            match (of(self.first), of(member)) {
                (Some(a), Some(b)) if a.id() == b.id() => {}
                (Some(a), Some(b)) => {
                    return Err(Error::IncompatibleSchemas(format!(
                        "{element} of {} ({} genes) and of {} ({} genes) are not the same, which are of \
                         one collection; merge makes one object of them",
                        self.first.location,
                        a.len(),
                        member.location,
                        b.len()
                    )));
                }
                (_, has) => return Err(self.lacks(element, member, has.is_some())),
            }
        }
        Ok(())
    }
}

fn names(columns: &[Arc<dyn ColumnReader>]) -> Vec<&str> {
    let names = columns.iter().map(|column| column.field().name().as_str());
    names.collect()
}

/// The elements of a collection: the first member's, with the cells and bytes of all.
pub(super) async fn elements(members: &[Arc<AnnData>]) -> Result<Vec<ElementInfo>> {
    let lists = try_join_all(members.iter().map(|member| member.elements())).await?;
    let mut lists = lists.into_iter();
    let mut all = lists.next().unwrap_or_default();
    all.retain(|element| !element.key.is_in(&ElementKey::new("obsp")));
    for element in lists.flatten() {
        let Some(whole) = all.iter_mut().find(|whole| whole.key == element.key) else {
            continue;
        };
        whole.stored_bytes = whole.stored_bytes.saturating_add(element.stored_bytes);
        if is_of_cells(&element.key)
            && let (Some(rows), Some(more)) = (whole.shape.first_mut(), element.shape.first())
        {
            *rows += more;
            whole.nnz = whole.nnz.zip(element.nnz).map(|(nnz, more)| nnz + more);
        }
    }
    Ok(all)
}

fn is_of_cells(key: &ElementKey) -> bool {
    let groups = ["X", "obs", "obsm", "layers", "raw/X"];
    let mut groups = groups.iter().map(|group| ElementKey::new(*group));
    groups.any(|group| key.is_in(&group))
}

/// What members hold that is part of no element.
pub(super) async fn strays(members: &[Arc<AnnData>]) -> Result<Vec<ElementKey>> {
    let mut all: Vec<ElementKey> = Vec::new();
    for member in members {
        for key in Box::pin(member.strays()).await? {
            if !all.contains(key) {
                all.push(key.clone());
            }
        }
    }
    Ok(all)
}
