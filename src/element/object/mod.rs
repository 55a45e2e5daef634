//! An open AnnData object: readers of all its elements, lengths checked against each other.

mod open;
mod members;
mod cells;
mod collection;

pub(crate) use cells::Cells;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;

use crate::element::frame::Frame;
use crate::element::losses::{lost_chunks, lost_nodes};
use crate::element::strays::strays;
use crate::element::{ColumnReader, ElementInfo, MatrixReader, UnsLeaf, cache, info, uns};
use crate::error::{Error, Result};
use crate::model::{ElementKey, Location, VarAxis};
use crate::store::{self, Contradiction, MissingChunks, Store};

/// Objects that are opened at a time.
const AT_A_TIME: usize = 8;

/// An open object: readers and descriptions, no data but `var_names` and categories.
#[derive(Debug)]
pub struct AnnData {
    location: Location,
    store: Arc<dyn Store>,
    root: ElementKey,
    obs: Frame,
    var: Frame,
    var_axis: Arc<VarAxis>,
    x: Option<Arc<dyn MatrixReader>>,
    layers: Vec<(String, Arc<dyn MatrixReader>)>,
    obsm: Vec<(String, Arc<dyn ColumnReader>)>,
    varm: Vec<(String, Arc<dyn ColumnReader>)>,
    obsp: Vec<(String, Arc<dyn MatrixReader>)>,
    varp: Vec<(String, Arc<dyn MatrixReader>)>,
    raw: Option<Raw>,
    uns: Option<ElementKey>,
    uns_skip: Vec<ElementKey>,
    /// Looked for once.
    strays: OnceCell<Vec<ElementKey>>,
    /// The same.
    lost: OnceCell<Vec<Contradiction>>,
    /// The objects whose cells these are, of a collection.
    members: Vec<Arc<Self>>,
}

/// Matrices by name.
type Matrices = Vec<(String, Arc<dyn MatrixReader>)>;

/// Elements of an axis by name.
type Columns = Vec<(String, Arc<dyn ColumnReader>)>;

/// `raw`: a matrix over the same cells and its own genes.
#[derive(Debug)]
pub struct Raw {
    x: Option<Arc<dyn MatrixReader>>,
    var: Frame,
    var_axis: Arc<VarAxis>,
    varm: Vec<(String, Arc<dyn ColumnReader>)>,
}

impl Raw {
    /// `raw/X`.
    pub fn x(&self) -> Option<&Arc<dyn MatrixReader>> {
        self.x.as_ref()
    }

    /// `raw/var`.
    pub fn var(&self) -> &Frame {
        &self.var
    }

    /// `raw/varm`.
    pub fn varm(&self) -> &[(String, Arc<dyn ColumnReader>)] {
        &self.varm
    }

    /// The genes of `raw/X`.
    pub fn var_axis(&self) -> &Arc<VarAxis> {
        &self.var_axis
    }
}

impl AnnData {
    /// Opens an object, or the objects of a collection as one. Held weakly per process: while somebody
    /// has it open, opening it again is a look at the file's times; a file that was rewritten is
    /// opened anew.
    ///
    /// A collection is a folder of `dataset_{i}.zarr` or `chunk_{i}.zarr` stores, a group of
    /// `dataset_{i}` groups (annbatch's layouts, old and new) or a pattern of paths; `.h5ad` files may
    /// stand in place of stores. Its cells are those of its members in the order of their numbers, all
    /// else but `obsp` is the first member's.
    ///
    /// Costs the descriptions of all elements, the categories of categorical columns and
    /// `var_names`, of every member.
    ///
    /// # Errors
    /// [`StoreNotFound`] where there is no object, saying what is there instead; [`LengthMismatch`],
    /// [`InvalidElement`], [`ElementNotFound`] where the object breaks AnnData's rules;
    /// [`UnsupportedEncoding`]; [`IncompatibleSchemas`] where members have other elements, types or
    /// genes than the first.
    ///
    /// [`StoreNotFound`]: crate::Error::StoreNotFound
    /// [`LengthMismatch`]: crate::Error::LengthMismatch
    /// [`InvalidElement`]: crate::Error::InvalidElement
    /// [`ElementNotFound`]: crate::Error::ElementNotFound
    /// [`UnsupportedEncoding`]: crate::Error::UnsupportedEncoding
    /// [`IncompatibleSchemas`]: crate::Error::IncompatibleSchemas
    pub async fn open(location: &Location) -> Result<Arc<Self>> {
        let opened = cache::open(location, || async {
            let store = store::open(location).await?;
            Self::open_in(store, location.clone()).await
        });
        match opened.await {
            Err(error) if members::may_be_there(location, &error) => {
                match Box::pin(members::find(location)).await {
                    Ok(members) if members.is_empty() => Err(error),
                    Ok(members) => Box::pin(collection::open(location, members)).await,
                    // Of a URL that is not there the first answer says it better.
                    Err(_) if location.is_url() => Err(error),
                    Err(error) => Err(error),
                }
            }
            opened => opened,
        }
    }

    /// Opens the objects at locations, some at a time, so that their round trips overlap where they are
    /// far away; in the locations' order.
    ///
    /// # Errors
    /// As [`AnnData::open`], of the first that cannot be opened.
    pub async fn open_all(locations: &[Location]) -> Result<Vec<Arc<Self>>> {
        // No tasks: whoever plans a query may have parked the runtime's only thread.
        let opened = stream::iter(locations.iter().cloned().map(Self::open_owned));
        opened.buffered(AT_A_TIME).try_collect().await
    }

    async fn open_owned(location: Location) -> Result<Arc<Self>> {
        Self::open(&location).await
    }

    /// Cells of several objects, one object after another, as those of one with the first one's
    /// location: over the same genes, with the same columns and elements, as members of a collection
    /// are.
    ///
    /// # Errors
    /// [`IncompatibleSchemas`](crate::Error::IncompatibleSchemas) for objects that differ.
    pub fn stack(objects: &[Arc<Self>]) -> Result<Arc<Self>> {
        collection::stack(objects)
    }

    /// Where the object is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The objects whose cells these are, where the location is that of a collection; else none.
    pub fn members(&self) -> &[Arc<Self>] {
        &self.members
    }

    /// Where its data is: its location, of a collection those of all members.
    pub fn places(&self) -> Vec<&Location> {
        match self.members.as_slice() {
            [] => vec![&self.location],
            members => members.iter().map(|member| &member.location).collect(),
        }
    }

    /// Bytes of its store, of a collection of all members' stores, where that is known without a walk.
    pub fn stored_bytes(&self) -> Option<u64> {
        match self.members.as_slice() {
            [] => self.store.bytes(),
            members => {
                // Members may be groups of one store, which has them all.
                let mut stores: Vec<&Arc<dyn Store>> = Vec::new();
                for member in members {
                    if stores.iter().all(|store| store.url() != member.store.url()) {
                        stores.push(&member.store);
                    }
                }
                stores.into_iter().map(|store| store.bytes()).sum()
            }
        }
    }

    /// The store it is in; of a collection the first member's, which has `var` and `uns`.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Its group in that store.
    pub fn root(&self) -> &ElementKey {
        &self.root
    }

    /// Cells: the length of the index of `obs`.
    pub fn n_obs(&self) -> u64 {
        self.obs.n_rows()
    }

    /// Genes: the length of the index of `var`.
    pub fn n_vars(&self) -> u64 {
        self.var.n_rows()
    }

    /// `obs`.
    pub fn obs(&self) -> &Frame {
        &self.obs
    }

    /// `var`.
    pub fn var(&self) -> &Frame {
        &self.var
    }

    /// `X`.
    pub fn x(&self) -> Option<&Arc<dyn MatrixReader>> {
        self.x.as_ref()
    }

    /// `layers`, in name order.
    pub fn layers(&self) -> &[(String, Arc<dyn MatrixReader>)] {
        &self.layers
    }

    /// `obsm`, in name order: dense, sparse, data frames (structs), awkward arrays (JSON text).
    pub fn obsm(&self) -> &[(String, Arc<dyn ColumnReader>)] {
        &self.obsm
    }

    /// `varm`, in name order.
    pub fn varm(&self) -> &[(String, Arc<dyn ColumnReader>)] {
        &self.varm
    }

    /// `obsp`, in name order, with the graphs that files before 0.7 keep in `uns`.
    pub fn obsp(&self) -> &[(String, Arc<dyn MatrixReader>)] {
        &self.obsp
    }

    /// `varp`, in name order.
    pub fn varp(&self) -> &[(String, Arc<dyn MatrixReader>)] {
        &self.varp
    }

    /// `raw`.
    pub fn raw(&self) -> Option<&Raw> {
        self.raw.as_ref()
    }

    /// The `uns` group, by its path in the store.
    pub fn uns(&self) -> Option<ElementKey> {
        self.uns.clone()
    }

    /// Elements below `uns`, by their paths in the store, that were read as categories or as
    /// `obsp` and so are not part of `uns` any more.
    pub fn uns_skip(&self) -> &[ElementKey] {
        &self.uns_skip
    }

    /// Paths in the store that no element is read from: groups and arrays of the root that are no
    /// part of AnnData, and members of `obs` and `var` that `column-order` does not name.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn strays(&self) -> Result<&[ElementKey]> {
        let look = || async {
            match self.members.as_slice() {
                [] => strays(self).await,
                members => collection::strays(members).await,
            }
        };
        Ok(self.strays.get_or_try_init(look).await?)
    }

    /// Nodes of elements that its store says it has and that are not there, by their paths below the
    /// object's root; of a collection, those of all members. Of an h5ad they are links to other files.
    /// None behind a URL, whose metadata is believed. The first call reads the documents of all nodes of
    /// a zarr store, and lists the groups of an h5ad.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn lost(&self) -> Result<&[Contradiction]> {
        let look = || async {
            if self.members.is_empty() {
                return lost_nodes(&self.store, &self.root).await;
            }
            let mut all = Vec::new();
            for member in &self.members {
                all.extend_from_slice(Box::pin(member.lost()).await?);
            }
            Ok(all)
        };
        Ok(self.lost.get_or_try_init(look).await?)
    }

    /// Whether all of it is there, but for elements that are not wanted, and what checksums say. Reads an
    /// archive once, to its end.
    ///
    /// # Errors
    /// [`Error::InvalidElement`] that names what is [`lost`](Self::lost) or garbled; where the store
    /// fails.
    pub(crate) async fn check_whole(&self, dropped: &[ElementKey]) -> Result<()> {
        if !self.members.is_empty() {
            for member in &self.members {
                Box::pin(member.check_whole(dropped)).await?;
            }
            return Ok(());
        }
        let wanted = |key: &ElementKey| !dropped.iter().any(|dropped| key.is_in(dropped));
        let garbled = self.store.garbled().await?.into_iter();
        let mut garbled = garbled.map(|(key, reason)| (ElementKey::new(key), reason));
        if let Some((key, reason)) = garbled.find(|(key, _)| wanted(key)) {
            return Err(Error::invalid(self.store.url(), key, reason));
        }
        let mut lost = self.lost().await?.iter().filter(|lost| wanted(&lost.key));
        let Some(Contradiction { key, reason, .. }) = lost.next() else {
            return Ok(());
        };
        Err(Error::invalid(
            self.store.url(),
            key,
            format!(
                "{reason}; it is lost, or it was deleted and the root's metadata tells of it still"
            ),
        ))
    }

    /// Arrays of wanted elements of this object's own store with chunks that are not stored, where the
    /// fill values that stand for them can hardly be meant: entries of sparse matrices, categories,
    /// names of rows; by their paths below the root. Lists the chunks of every such array of a zarr
    /// store on a disk.
    pub(crate) async fn own_lost_chunks(
        &self,
        dropped: &[ElementKey],
    ) -> Vec<(ElementKey, MissingChunks)> {
        match self.members.is_empty() {
            true => lost_chunks(self, dropped).await,
            false => Vec::new(),
        }
    }

    /// Warnings of [lost chunks](Self::own_lost_chunks), those of members among them.
    pub(crate) async fn chunk_warnings(&self, dropped: &[ElementKey]) -> Vec<String> {
        let mut warnings = Vec::new();
        for member in &self.members {
            warnings.extend(Box::pin(member.chunk_warnings(dropped)).await);
        }
        let lost = self.own_lost_chunks(dropped).await.into_iter();
        let location = self.location();
        warnings.extend(lost.map(|(key, chunks)| format!("{location}: {key}: {chunks}")));
        warnings
    }

    /// Warnings of all that is [`lost`](Self::lost), and of [chunks](Self::own_lost_chunks).
    ///
    /// # Errors
    /// As [`lost`](Self::lost).
    pub(crate) async fn losses(&self) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for member in &self.members {
            warnings.extend(Box::pin(member.losses()).await?);
        }
        if self.members.is_empty() {
            let (location, lost) = (self.location(), self.lost().await?.iter());
            warnings.extend(lost.map(|lost| format!("{location}: {}: {}", lost.key, lost.reason)));
            warnings.extend(self.chunk_warnings(&[]).await);
        }
        Ok(warnings)
    }

    /// The leaves of `uns` as JSON, without those of [`AnnData::uns_skip`].
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn uns_leaves(&self) -> Result<Vec<UnsLeaf>> {
        match &self.uns {
            Some(key) => uns::leaves(&self.store, key, &self.uns_skip).await,
            None => Ok(Vec::new()),
        }
    }

    /// The genes of `X` and the layers, as registered in [`AxisRegistry::global`](crate::model::AxisRegistry::global); read at opening.
    ///
    /// # Errors
    /// None today: the names are read at opening.
    pub async fn var_axis(&self) -> Result<Arc<VarAxis>> {
        Ok(Arc::clone(&self.var_axis))
    }

    /// The genes of `raw/X`.
    ///
    /// # Errors
    /// None today: the names are read at opening.
    pub async fn raw_axis(&self) -> Result<Option<Arc<VarAxis>>> {
        Ok(self.raw.as_ref().map(|raw| Arc::clone(&raw.var_axis)))
    }

    /// Every element with its encoding, shape and storage, as [`inspect_elements`] lists them; of a
    /// collection with the cells of all members.
    ///
    /// [`inspect_elements`]: crate::element::inspect_elements
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn elements(&self) -> Result<Vec<ElementInfo>> {
        match self.members.as_slice() {
            [] => info::inspect_elements(&self.store, &self.root).await,
            members => collection::elements(members).await,
        }
    }
}
