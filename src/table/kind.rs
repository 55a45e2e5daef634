//! Which table of an object a scan reads.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::element::AnnData;

/// A table of an object, as SQL names it (see [`crate::table`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TableKind {
    /// `obs`: positions, names and columns of the cells.
    Obs,
    /// `var`: positions, names and columns of the genes.
    Var,
    /// `raw_var`: the genes of raw.
    RawVar,
    /// `cells`: everything aligned to obs.
    Cells,
    /// `X`: rows of the matrix.
    X,
    /// `layers_<key>`: rows of a layer.
    Layer(String),
    /// `raw_X`: rows of raw's matrix.
    RawX,
    /// `X_coo`: stored entries of the matrix.
    XCoo,
    /// `layers_<key>_coo`: stored entries of a layer.
    LayerCoo(String),
    /// `obsm_<key>`.
    Obsm(String),
    /// `varm_<key>`.
    Varm(String),
    /// `obsp_<key>`: stored entries of a matrix of cells by cells.
    Obsp(String),
    /// `varp_<key>`: stored entries of a matrix of genes by genes.
    Varp(String),
    /// `uns`: leaves of the unstructured part.
    Uns,
    /// `elements`: what there is, with shapes, types and sizes.
    Elements,
}

impl TableKind {
    /// The tables an object has, by name, in the order users read them. Two elements of one table
    /// name (a layer called `a_coo` beside one called `a`): the first wins.
    pub fn all(object: &AnnData) -> Vec<Self> {
        let mut tables = vec![Self::Cells, Self::Obs, Self::Var];
        if object.x().is_some() {
            tables.push(Self::X);
        }
        let layers = object.layers().iter().map(|(key, _)| key.clone());
        tables.extend(layers.clone().map(Self::Layer));
        if let Some(raw) = object.raw() {
            if raw.x().is_some() {
                tables.push(Self::RawX);
            }
            tables.push(Self::RawVar);
        }
        let keys =
            |columns: &[(String, _)]| columns.iter().map(|(k, _)| k.clone()).collect::<Vec<_>>();
        tables.extend(keys(object.obsm()).into_iter().map(Self::Obsm));
        tables.extend(keys(object.varm()).into_iter().map(Self::Varm));
        tables.extend(object.obsp().iter().map(|(key, _)| Self::Obsp(key.clone())));
        tables.extend(object.varp().iter().map(|(key, _)| Self::Varp(key.clone())));
        if object.x().is_some() {
            tables.push(Self::XCoo);
        }
        tables.extend(layers.map(Self::LayerCoo));
        tables.extend([Self::Uns, Self::Elements]);
        let mut seen = std::collections::HashSet::new();
        tables.retain(|table| seen.insert(table.to_string()));
        tables
    }

    /// The table of a name, where the object has it.
    pub fn find(object: &AnnData, name: &str) -> Option<Self> {
        Self::all(object)
            .into_iter()
            .find(|table| table.to_string() == name)
    }
}

impl fmt::Display for TableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Obs => f.write_str("obs"),
            Self::Var => f.write_str("var"),
            Self::RawVar => f.write_str("raw_var"),
            Self::Cells => f.write_str("cells"),
            Self::X => f.write_str("X"),
            Self::Layer(key) => write!(f, "layers_{key}"),
            Self::RawX => f.write_str("raw_X"),
            Self::XCoo => f.write_str("X_coo"),
            Self::LayerCoo(key) => write!(f, "layers_{key}_coo"),
            Self::Obsm(key) => write!(f, "obsm_{key}"),
            Self::Varm(key) => write!(f, "varm_{key}"),
            Self::Obsp(key) => write!(f, "obsp_{key}"),
            Self::Varp(key) => write!(f, "varp_{key}"),
            Self::Uns => f.write_str("uns"),
            Self::Elements => f.write_str("elements"),
        }
    }
}
