//! Which element describes the genes of a matrix.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt64Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::DataType;

use crate::element::{AnnData, Frame};
use crate::error::Result;
use crate::kernel::Positions;
use crate::model::{Location, VarAxis};
use crate::sink::aligned::read_frame;
use crate::sink::origin::{GeneSide, Origin, Sources};

/// A `var` or `raw/var` of an origin and the genes of it that are wanted.
#[derive(Debug)]
pub(super) struct Genes {
    pub(super) origin: Arc<Origin>,
    /// Whether they are `raw`'s.
    pub(super) raw: bool,
    pub(super) positions: Positions,
}

/// Which of the two axes of genes is looked at first; both may have the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Var,
    Raw,
}

impl Genes {
    /// All genes of `var`.
    pub(super) fn all(origin: &Arc<Origin>) -> Self {
        Self {
            positions: origin.var.all(),
            origin: Arc::clone(origin),
            raw: false,
        }
    }

    /// Where the genes of `axis` are described: in one of the origins at hand, else in the first of
    /// the objects that has them, else in the object that the axis was read from. [`None`] where
    /// nothing describes them.
    ///
    /// That object comes last because axes are known by their names alone: it is any file with these
    /// genes that this process has opened, and may be gone.
    pub(super) async fn of(
        axis: &VarAxis,
        first: Side,
        origins: &[Arc<Origin>],
        objects: &[Location],
    ) -> Result<Option<Self>> {
        let found = origins
            .iter()
            .find_map(|origin| Self::in_origin(axis, first, origin));
        if found.is_some() {
            return Ok(found);
        }
        let last = axis.source().map(|(location, _)| location);
        for location in objects.iter().chain(last) {
            let object = AnnData::open(location).await?;
            let origin = Arc::new(Origin::of_object(&object).await?);
            if let Some(found) = Self::in_origin(axis, first, &origin) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn in_origin(axis: &VarAxis, first: Side, origin: &Arc<Origin>) -> Option<Self> {
        let mut sides = [(Some(&origin.var), false), (origin.raw.as_ref(), true)];
        if first == Side::Raw {
            sides.reverse();
        }
        for (side, raw) in sides {
            let Some(side) = side else {
                continue;
            };
            if side.axis.id() == axis.id() {
                return Some(Self::at(origin, raw, side.all()));
            }
            // Before the other side is asked: a selection of var's genes may have raw's names.
            if let Some(positions) = subset(axis, &side.axis) {
                return Some(Self::at(origin, raw, Positions::new(positions)));
            }
        }
        None
    }

    fn at(origin: &Arc<Origin>, raw: bool, positions: Positions) -> Self {
        Self {
            origin: Arc::clone(origin),
            raw,
            positions,
        }
    }

    /// The side of the origin that describes them.
    pub(super) fn side(&self) -> &GeneSide {
        self.origin.side(self.raw)
    }

    /// The data frame that describes them.
    pub(super) fn frame(&self) -> &Frame {
        &self.side().frame
    }
}

/// The data frame that describes the genes of an axis, as a batch whose first column is their
/// names; [`None`] where nothing describes them.
///
/// # Errors
/// Those of opening an object and reading its `var`.
pub(crate) async fn frame_of_genes(
    axis: &VarAxis,
    raw: bool,
    sources: &Sources,
) -> Result<Option<RecordBatch>> {
    let side = if raw { Side::Raw } else { Side::Var };
    match Genes::of(axis, side, &sources.merges, &sources.objects).await? {
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
