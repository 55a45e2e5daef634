//! An open AnnData object: readers of all its elements, lengths checked against each other.

use std::sync::Arc;

use arrow::array::AsArray;
use futures::future::try_join_all;
use tokio::sync::OnceCell;

use crate::element::frame::Frame;
use crate::element::legacy::{self, UnsCategories};
use crate::element::node::{Encoding, Node};
use crate::element::strays::strays;
use crate::element::{
    ColumnReader, ElementInfo, MatrixReader, UnsLeaf, aligned, cache, info, matrix, uns,
};
use crate::error::{Error, Result};
use crate::model::{AxisRegistry, ElementKey, Location, RowSelection, VarAxis};
use crate::store::{self, NodeKind, ReadMetrics, Store};

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
}

/// Matrices by name.
type Matrices = Vec<(String, Arc<dyn MatrixReader>)>;

/// Elements of an axis by name.
type Columns = Vec<(String, Arc<dyn ColumnReader>)>;

/// `obsp` and `varp`.
struct Graphs {
    obsp: Matrices,
    varp: Matrices,
    /// What of `uns` is in `obsp`.
    of_uns: Vec<ElementKey>,
}

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
    /// Opens an object. Held weakly per process: while somebody has it open, opening it again is a
    /// look at the file's times; a file that was rewritten is opened anew.
    ///
    /// Costs the descriptions of all elements, the categories of categorical columns and
    /// `var_names`.
    ///
    /// # Errors
    /// [`Error::StoreNotFound`] where there is no object, saying what is there instead;
    /// [`Error::LengthMismatch`], [`Error::InvalidElement`], [`Error::ElementNotFound`] where the
    /// object breaks AnnData's rules; [`Error::UnsupportedEncoding`].
    pub async fn open(location: &Location) -> Result<Arc<Self>> {
        cache::open(location, || async {
            let store = store::open(location).await?;
            Self::open_in(store, location.clone()).await
        })
        .await
    }

    /// Opens the object at the location's group of a store that is already open, past the cache.
    ///
    /// # Errors
    /// As [`AnnData::open`].
    pub async fn open_in(store: Arc<dyn Store>, location: Location) -> Result<Self> {
        let root = open_root(&store, &location).await?;
        // What does not depend on each other is asked for together: a store may be far away.
        let (uns_node, obs_node, var_node) = futures::try_join!(
            root.find_child("uns"),
            root.child("obs", ""),
            root.child("var", "")
        )?;
        let uns_node = uns_node.filter(|node| node.kind == NodeKind::Group);
        let records = [&obs_node, &var_node].map(|node| node.kind == NodeKind::Array);
        let categories = match records.contains(&true) {
            true => UnsCategories::read(uns_node.as_ref()).await?,
            false => UnsCategories::default(),
        };
        let var = async {
            let var = open_frame(&var_node, "var_names", &categories).await?;
            let axis = read_axis(&var, &location, "var").await?;
            Ok((var, axis))
        };
        let obs = open_frame(&obs_node, "obs_names", &categories);
        let (obs, (var, var_axis)) = futures::try_join!(obs, var)?;
        let mut object = Self {
            location,
            root: root.key.clone(),
            obs,
            var,
            var_axis,
            x: None,
            layers: Vec::new(),
            obsm: Vec::new(),
            varm: Vec::new(),
            obsp: Vec::new(),
            varp: Vec::new(),
            raw: None,
            uns: uns_node.as_ref().map(|node| node.key.clone()),
            uns_skip: categories.consumed(),
            strays: OnceCell::new(),
            store,
        };
        let (x, layers, [obsm, varm], graphs, raw) = futures::try_join!(
            object.open_x(&root),
            object.open_layers(&root),
            object.open_aligned(&root),
            object.open_graphs(&root, uns_node.as_ref()),
            object.open_raw(&root)
        )?;
        (object.x, object.layers, object.raw) = (x, layers, raw);
        (object.obsm, object.varm) = (obsm, varm);
        (object.obsp, object.varp) = (graphs.obsp, graphs.varp);
        object.uns_skip.extend(graphs.of_uns);
        Ok(object)
    }

    async fn open_x(&self, root: &Node) -> Result<Option<Arc<dyn MatrixReader>>> {
        let Some(node) = present(root.find_child("X").await?).await? else {
            return Ok(None);
        };
        let x = matrix::open(&node, "X", Some(&self.var_axis)).await?;
        self.check_shape(&x, [self.n_obs(), self.n_vars()], ["obs", "var"])?;
        Ok(Some(x))
    }

    async fn open_layers(&self, root: &Node) -> Result<Matrices> {
        let layers = open_mapping(root.find_child("layers").await?, Some(&self.var_axis)).await?;
        for (_, layer) in &layers {
            self.check_shape(layer, [self.n_obs(), self.n_vars()], ["obs", "var"])?;
        }
        Ok(layers)
    }

    /// `obsm` and `varm`.
    async fn open_aligned(&self, root: &Node) -> Result<[Columns; 2]> {
        let (obsm, varm) = futures::try_join!(root.find_child("obsm"), root.find_child("varm"))?;
        let (obsm, varm) = futures::try_join!(
            aligned::open_all(obsm, "obs_names", "obs", self.n_obs()),
            aligned::open_all(varm, "var_names", "var", self.n_vars())
        )?;
        Ok([obsm, varm])
    }

    async fn open_graphs(&self, root: &Node, uns: Option<&Node>) -> Result<Graphs> {
        let mut obsp = open_mapping(root.find_child("obsp").await?, None).await?;
        let mut of_uns = Vec::new();
        for node in legacy::neighbor_graphs(uns).await? {
            let name = node.key.name().to_owned();
            let graph = matrix::open(&node, &name, None).await?;
            obsp.retain(|(other, _)| *other != name);
            obsp.push((name, graph));
            of_uns.push(node.key);
        }
        obsp.sort_by(|a, b| a.0.cmp(&b.0));
        let varp = open_mapping(root.find_child("varp").await?, None).await?;
        for (_, graph) in &obsp {
            self.check_shape(graph, [self.n_obs(); 2], ["obs", "obs"])?;
        }
        for (_, graph) in &varp {
            self.check_shape(graph, [self.n_vars(); 2], ["var", "var"])?;
        }
        Ok(Graphs { obsp, varp, of_uns })
    }

    /// `raw`, or the `raw.X`, `raw.var`, `raw.varm` of files before 0.7.
    async fn open_raw(&self, root: &Node) -> Result<Option<Raw>> {
        let raw = present(root.find_child("raw").await?).await?;
        let old = root.find_child("raw.X").await?;
        let (x, var, varm, name) = match (raw, old) {
            (Some(raw), None) => (
                present(raw.find_child("X").await?).await?,
                raw.child("var", "; raw has no var").await?,
                raw.find_child("varm").await?,
                "raw/var",
            ),
            (None, Some(x)) => (
                Some(x),
                root.child("raw.var", "; raw.X is there").await?,
                root.find_child("raw.varm").await?,
                "raw.var",
            ),
            (Some(raw), Some(old)) => {
                return Err(raw.invalid(format!("stands beside {}, which is older", old.key)));
            }
            (None, None) => return Ok(None),
        };
        let var = Frame::open(&var, "var_names").await?;
        let var_axis = read_axis(&var, &self.location, name).await?;
        let x = match x {
            Some(node) => Some(matrix::open(&node, "raw_X", Some(&var_axis)).await?),
            None => None,
        };
        if let Some(x) = &x {
            self.check_shape(x, [self.n_obs(), var.n_rows()], ["obs", name])?;
        }
        let varm = aligned::open_all(varm, "var_names", name, var.n_rows()).await?;
        Ok(Some(Raw {
            x,
            var,
            var_axis,
            varm,
        }))
    }

    fn check_shape(
        &self,
        matrix: &Arc<dyn MatrixReader>,
        expected: [u64; 2],
        axes: [&str; 2],
    ) -> Result<()> {
        let shape = matrix.shape();
        let lengths = [("rows", shape.n_rows), ("columns", shape.n_cols)];
        for ((what, actual), (expected, axis)) in
            lengths.into_iter().zip(expected.into_iter().zip(axes))
        {
            if actual != expected {
                return Err(Error::LengthMismatch {
                    url: self.store.url().to_owned(),
                    element: matrix.key().clone(),
                    what: format!("the number of its {what}"),
                    actual,
                    expected_by: axis.to_owned(),
                    expected,
                });
            }
        }
        Ok(())
    }

    /// Where the object is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The store it is in.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Its group in the store.
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
        let found = self.strays.get_or_try_init(|| strays(self)).await?;
        Ok(found)
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

    /// The genes of `X` and the layers, as registered in [`AxisRegistry::global`]; read at opening.
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

    /// Every element with its encoding, shape and storage, as [`inspect_elements`] lists them.
    ///
    /// [`inspect_elements`]: crate::element::inspect_elements
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn elements(&self) -> Result<Vec<ElementInfo>> {
        info::inspect_elements(&self.store, &self.root).await
    }
}

/// The root group, where it is that of an AnnData object.
async fn open_root(store: &Arc<dyn Store>, location: &Location) -> Result<Node> {
    let refuse = |reason: String| Error::StoreNotFound {
        url: location.to_string(),
        reason,
    };
    let root = ElementKey::new(location.group());
    let node = match Node::find(store, &root).await? {
        Some(node) if node.kind == NodeKind::Group => node,
        Some(_) => return Err(refuse(format!("{root} is an array, not a group"))),
        None => return Err(refuse(format!("the file has no group {root}"))),
    };
    let children = node.children().await?;
    match node.tag() {
        ("MuData", _) => {
            let modalities = match node.find_child("mod").await? {
                Some(mods) => mods.children().await?,
                None => Vec::new(),
            };
            let names: Vec<_> = modalities
                .iter()
                .map(|name| {
                    format!(
                        "{}#{}",
                        location.shown_path(),
                        root.child("mod").child(name)
                    )
                })
                .collect();
            let names = names.join(" or ");
            return Err(refuse(format!(
                "it is a MuData object; name one of its modalities: {names}"
            )));
        }
        ("" | "anndata", "" | "0.1.0") => {}
        ("anndata", _) => return Err(node.unsupported()),
        (other, _) => {
            return Err(refuse(format!(
                "its encoding-type is {other:?}, not \"anndata\""
            )));
        }
    }
    let missing: Vec<_> = ["obs", "var"]
        .into_iter()
        .filter(|name| !children.iter().any(|child| child == name))
        .collect();
    if !missing.is_empty() {
        let found = match children.len() {
            0 => "it is empty".to_owned(),
            n => format!(
                "it holds {}{}",
                children[..n.min(8)].join(", "),
                if n > 8 { ", …" } else { "" }
            ),
        };
        return Err(refuse(format!(
            "{} is missing; {found}",
            missing.join(" and ")
        )));
    }
    Ok(node)
}

async fn open_frame(node: &Node, names: &str, categories: &UnsCategories) -> Result<Frame> {
    match node.kind {
        NodeKind::Group => Frame::open(node, names).await,
        NodeKind::Array => Frame::open_records(node, names, Some(categories)).await,
    }
}

/// A node that is not a `null`.
async fn present(node: Option<Node>) -> Result<Option<Node>> {
    match node {
        Some(node) if node.encoding().await? != Encoding::Null => Ok(Some(node)),
        _ => Ok(None),
    }
}

/// Every matrix of a mapping such as `layers`.
async fn open_mapping(
    mapping: Option<Node>,
    axis: Option<&Arc<VarAxis>>,
) -> Result<Vec<(String, Arc<dyn MatrixReader>)>> {
    let Some(mapping) = mapping else {
        return Ok(Vec::new());
    };
    let opened = mapping.children().await?.into_iter().map(|name| {
        let mapping = &mapping;
        async move {
            let node = mapping.child(&name, "").await?;
            let matrix = matrix::open(&node, &name, axis).await?;
            Ok::<_, Error>((name, matrix))
        }
    });
    try_join_all(opened).await
}

/// Reads `var_names` and registers them. The object keeps its own axis, not the registry's, which
/// may describe the same names by another object's `var`.
async fn read_axis(var: &Frame, location: &Location, key: &str) -> Result<Arc<VarAxis>> {
    let rows = RowSelection::all(var.n_rows());
    let names = var.index().read(&rows, &ReadMetrics::default()).await?;
    let names = names.as_string::<i32>().clone();
    let source = (location.clone(), ElementKey::new(key));
    let axis = Arc::new(VarAxis::new(names, Some(source), None));
    AxisRegistry::global().register(Arc::clone(&axis));
    Ok(axis)
}
