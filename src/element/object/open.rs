//! From a store to an open object: older layouts found, lengths checked against each other.

use std::sync::Arc;

use arrow::array::AsArray;
use futures::future::try_join_all;
use tokio::sync::OnceCell;

use super::{AnnData, Columns, Matrices, Raw};
use crate::element::frame::Frame;
use crate::element::legacy::{self, UnsCategories};
use crate::element::node::{Encoding, Node};
use crate::element::{MatrixReader, aligned, matrix};
use crate::error::{Error, Result};
use crate::model::{AxisRegistry, ElementKey, Location, RowSelection, VarAxis};
use crate::store::{NodeKind, ReadMetrics, Store};

/// `obsp` and `varp`.
struct Graphs {
    obsp: Matrices,
    varp: Matrices,
    /// What of `uns` is in `obsp`.
    of_uns: Vec<ElementKey>,
}

impl AnnData {
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
            lost: OnceCell::new(),
            members: Vec::new(),
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
    // What it says it is comes first: of a collection nothing need be listed.
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
    let children = node.children().await?;
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
