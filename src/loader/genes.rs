//! The genes of a loader's cells: those of its objects, which may differ.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;

use crate::element::{AnnData, MatrixReader};
use crate::error::{Error, Result};
use crate::kernel::reindex::ColumnMap;
use crate::kernel::with_indices;
use crate::model::{MatrixKind, VarAxis, matrix_type};
use crate::plan::merge::{Join, JoinedAxis};

/// The genes that rows come over, and how each object's own become those.
#[derive(Debug)]
pub(super) struct Joined {
    axis: Arc<VarAxis>,
    /// The first row of each object.
    starts: Vec<u64>,
    maps: Vec<Arc<ColumnMap>>,
}

impl Joined {
    /// Joins the genes of objects, [`None`] where they are the same.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where they differ and a name stands twice in one;
    /// [`Error::InvalidOption`] where no gene is left.
    pub(super) async fn of(objects: &[Arc<AnnData>], join: Join) -> Result<Option<Arc<Self>>> {
        let mut axes = Vec::with_capacity(objects.len());
        for object in objects {
            axes.push(object.var_axis().await?.names().clone());
        }
        let name = |at: usize| {
            let object = objects.get(at);
            object.map_or_else(String::new, |object| format!("{}: var", object.location()))
        };
        let joined = JoinedAxis::try_new(&axes, join, name)?;
        if joined.maps.iter().all(|map| map.is_identity()) {
            return Ok(None);
        }
        if joined.names.is_empty() {
            return Err(Error::option("join", "the objects have no gene in common"));
        }
        let mut starts = Vec::with_capacity(objects.len());
        let mut start = 0;
        for object in objects {
            starts.push(start);
            start += object.n_obs();
        }
        Ok(Some(Arc::new(Self {
            axis: Arc::new(VarAxis::new(joined.names, None, None)),
            starts,
            maps: joined.maps,
        })))
    }

    /// The genes.
    pub(super) fn axis(&self) -> &Arc<VarAxis> {
        &self.axis
    }

    /// The type of rows over them, of those over each object's own.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a dense matrix: all of its rows are as wide.
    pub(super) fn data_type(&self, matrix: &dyn MatrixReader, of: &DataType) -> Result<DataType> {
        let data = match of {
            DataType::List(item) => match item.data_type() {
                DataType::Struct(members) if members.len() == 2 => members.last(),
                _ => None,
            },
            _ => None,
        };
        match data {
            Some(data) if matrix.shape().kind == MatrixKind::Sparse => {
                Ok(matrix_type(data.data_type().clone(), DataType::Int32))
            }
            _ => Err(Error::option(
                "join",
                format!(
                    "{} is dense, and the objects have different genes; convert --sparse makes it sparse",
                    matrix.key()
                ),
            )),
        }
    }

    /// Sparse rows of these cells over the joined genes.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where an index lies off its object's axis.
    pub(super) fn apply(&self, rows: ArrayRef, cells: &[u64], to: &DataType) -> Result<ArrayRef> {
        let rows = with_indices(rows, to)?;
        let Some(rows) = rows.as_list_opt::<i32>() else {
            return Err(Error::IncompatibleSchemas("rows are not sparse".to_owned()));
        };
        let map_of = |row: usize| {
            let cell = cells.get(row).copied().unwrap_or_default();
            let after = self.starts.partition_point(|start| *start <= cell);
            self.maps.get(after.saturating_sub(1)).map(Arc::as_ref)
        };
        Ok(Arc::new(ColumnMap::sparse_each(rows, map_of)?))
    }
}
