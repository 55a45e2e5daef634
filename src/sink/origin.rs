//! Where rows came from, as far as what no batch holds is concerned: an object, or several that were
//! merged.

use std::sync::Arc;

use crate::element::{AnnData, ColumnReader, Frame, MatrixReader, UnsNode, UnsSource};
use crate::error::Result;
use crate::kernel::Positions;
use crate::model::{ElementKey, Location, RowSelection, VarAxis};

/// What stands beside the rows of an object, or of a merge, which is as good as one.
///
/// # Invariants
/// - `obsp` are over the rows, `varp` over the genes of `var`.
#[derive(Debug)]
pub(crate) struct Origin {
    /// What rows call it in `__object`.
    pub(crate) id: String,
    /// Its rows.
    pub(crate) n_obs: u64,
    pub(crate) var: GeneSide,
    pub(crate) raw: Option<GeneSide>,
    /// Whether there is a `raw/X`.
    pub(crate) raw_has_x: bool,
    pub(crate) obsp: Vec<(String, Arc<dyn MatrixReader>)>,
    pub(crate) varp: Vec<(String, Arc<dyn MatrixReader>)>,
    pub(crate) uns: Option<UnsNode>,
    /// What is stored in it and is no part of it.
    pub(crate) strays: Vec<ElementKey>,
}

/// What the rows of an output may come from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    /// Merges. Objects are opened by their names.
    pub(crate) merges: Vec<Arc<Origin>>,
    /// The objects that the plan reads, in its order: of those that have the genes of an axis the
    /// first describes them, where the rows are cells of several.
    pub(crate) objects: Vec<Location>,
}

/// `var` or `raw/var`, and `varm` beside it.
#[derive(Debug)]
pub(crate) struct GeneSide {
    pub(crate) axis: Arc<VarAxis>,
    pub(crate) frame: Frame,
    pub(crate) varm: Vec<(String, Arc<dyn ColumnReader>)>,
}

impl Origin {
    /// What an object has.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn of_object(object: &Arc<AnnData>) -> Result<Self> {
        let raw = object.raw().map(|raw| GeneSide {
            axis: Arc::clone(raw.var_axis()),
            frame: raw.var().clone(),
            varm: raw.varm().to_vec(),
        });
        let uns = object.uns().map(|key| {
            UnsNode::Copy(UnsSource {
                store: Arc::clone(object.store()),
                key,
                skip: object.uns_skip().to_vec(),
            })
        });
        Ok(Self {
            id: object.location().to_string(),
            n_obs: object.n_obs(),
            var: GeneSide {
                axis: object.var_axis().await?,
                frame: object.var().clone(),
                varm: object.varm().to_vec(),
            },
            raw,
            raw_has_x: object.raw().is_some_and(|raw| raw.x().is_some()),
            obsp: object.obsp().to_vec(),
            varp: object.varp().to_vec(),
            uns,
            strays: object.strays().await?.to_vec(),
        })
    }

    /// `raw` where that is asked for and there, else `var`.
    pub(super) fn side(&self, raw: bool) -> &GeneSide {
        match &self.raw {
            Some(side) if raw => side,
            _ => &self.var,
        }
    }
}

impl GeneSide {
    /// All genes.
    pub(super) fn all(&self) -> Positions {
        Positions::Sorted(RowSelection::all(self.frame.n_rows()))
    }
}
