//! Which element describes the genes of a matrix.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt64Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::DataType;

use crate::element::{AnnData, Frame};
use crate::error::Result;
use crate::kernel::Positions;
use crate::model::VarAxis;
use crate::sink::aligned::read_frame;

/// A `var` or `raw/var` of an object and the genes of it that are wanted.
#[derive(Debug)]
pub(super) struct Genes {
    pub(super) object: Arc<AnnData>,
    /// Whether they are `raw`'s.
    pub(super) raw: bool,
    pub(super) positions: Positions,
}

/// Which of an object's two axes of genes is looked at first; both may have the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Var,
    Raw,
}

impl Genes {
    /// All genes of the object's `var`.
    pub(super) fn all(object: &Arc<AnnData>) -> Self {
        Self {
            positions: all(object.n_vars()),
            object: Arc::clone(object),
            raw: false,
        }
    }

    /// Where the genes of `axis` are described: in the rows' own object if it has them, else in
    /// the object that the axis was read from. [`None`] where nothing describes them.
    ///
    /// The rows' object comes first because axes are known by their names alone: another file with
    /// the same genes may have been opened before.
    pub(super) async fn of(
        axis: &VarAxis,
        first: Side,
        source: Option<&Arc<AnnData>>,
    ) -> Result<Option<Self>> {
        if let Some(object) = source
            && let Some(found) = Self::in_object(axis, first, object).await?
        {
            return Ok(Some(found));
        }
        let Some((location, _)) = axis.source() else {
            return Ok(None);
        };
        let object = AnnData::open(location).await?;
        Self::in_object(axis, first, &object).await
    }

    async fn in_object(axis: &VarAxis, first: Side, object: &Arc<AnnData>) -> Result<Option<Self>> {
        let var = object.var_axis().await?;
        let raw = object.raw_axis().await?;
        let mut sides = [(Some(var), false), (raw, true)];
        if first == Side::Raw {
            sides.reverse();
        }
        for (side, raw) in &sides {
            if let Some(side) = side
                && side.id() == axis.id()
            {
                let positions = all(side.len() as u64);
                return Ok(Some(Self::at(object, *raw, positions)));
            }
            // Before the other side is asked: a selection of var's genes may have raw's names.
            if let Some(side) = side
                && let Some(positions) = subset(axis, side)
            {
                return Ok(Some(Self::at(object, *raw, Positions::new(positions))));
            }
        }
        Ok(None)
    }

    fn at(object: &Arc<AnnData>, raw: bool, positions: Positions) -> Self {
        Self {
            object: Arc::clone(object),
            raw,
            positions,
        }
    }

    /// The data frame that describes them.
    pub(super) fn frame(&self) -> &Frame {
        match self.object.raw() {
            Some(raw) if self.raw => raw.var(),
            _ => self.object.var(),
        }
    }
}

/// The data frame that describes the genes of an axis, as a batch whose first column is their
/// names; [`None`] where no object describes them.
///
/// # Errors
/// Those of opening an object and reading its `var`.
pub(crate) async fn frame_of_genes(
    axis: &VarAxis,
    raw: bool,
    source: Option<&Arc<AnnData>>,
) -> Result<Option<RecordBatch>> {
    let side = if raw { Side::Raw } else { Side::Var };
    match Genes::of(axis, side, source).await? {
        Some(genes) => Ok(Some(read_frame(genes.frame(), &genes.positions).await?)),
        None => Ok(None),
    }
}

/// The rows of a frame that came with rows of cells, for the genes of an axis: all of them, or those
/// that were chosen. [`None`] where the frame does not describe the axis.
pub(super) fn kept(frame: Option<&RecordBatch>, axis: Option<&VarAxis>) -> Option<RecordBatch> {
    let (frame, axis) = frame.zip(axis)?;
    let names = cast(frame.column(0), &DataType::Utf8).ok()?;
    let names = names.as_string::<i32>();
    if names == axis.names() {
        return Some(frame.clone());
    }
    let positions = subset(axis, &VarAxis::new(names.clone(), None, None))?;
    take_record_batch(frame, &UInt64Array::from(positions)).ok()
}

fn all(len: u64) -> Positions {
    Positions::Sorted(crate::model::RowSelection::all(len))
}

/// Where an axis' genes stand on another one: where the axis says, if the names there are the
/// same, else by name, if each name stands there once.
fn subset(axis: &VarAxis, side: &VarAxis) -> Option<Vec<u64>> {
    let same = |(position, gene): (&u64, usize)| {
        usize::try_from(*position)
            .is_ok_and(|at| at < side.len() && side.names().value(at) == axis.names().value(gene))
    };
    if let Some(positions) = axis.positions()
        && positions.len() == axis.len()
        && positions.iter().zip(0..).all(same)
    {
        return Some(positions.to_vec());
    }
    (0..axis.len())
        .map(|gene| side.position(axis.names().value(gene)).ok())
        .map(|position| u64::try_from(position?).ok())
        .collect()
}
