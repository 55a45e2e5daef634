//! One part of a split of the cells: for training, validation and test without files of their own.

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use serde::{Deserialize, Serialize};

use crate::element::Cells;
use crate::error::{Error, Result};
use crate::kernel::{SplitParts, split};
use crate::model::{RowOrder, RowSelection};
use crate::store::ReadMetrics;

/// Rows of a column of classes that are read at a time.
const STEP: u64 = 1 << 20;

/// A split of the cells that a loader has, and which part of it comes. Parts are disjoint and together
/// all cells; which cell is in which depends on the seed, the fractions and the cells alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Names of parts and their fractions, which add up to one.
    pub parts: Vec<(String, f64)>,
    /// The part that is loaded.
    pub take: String,
    /// A categorical obs column whose groups stay whole, such as the donor; sizes are then only near
    /// the fractions.
    #[serde(default)]
    pub by: Option<String>,
    /// A categorical obs column of whose every category each part has its fraction, to a cell.
    #[serde(default)]
    pub stratify: Option<String>,
    /// Chooses the split; 0 by default. That of the order has no say.
    #[serde(default)]
    pub seed: u64,
}

impl Split {
    /// The cells of the part that is taken.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for fractions that do not add up, a part that is not there, columns that
    /// are not categorical, and both ways to split at once.
    pub(super) async fn rows(&self, cells: &Cells, kept: &RowSelection) -> Result<RowSelection> {
        let parts = SplitParts::try_new(self.parts.clone())?;
        let names = parts.names();
        let at = names.iter().position(|name| *name == self.take);
        let at = at.ok_or_else(|| {
            let reason = format!("'{}' is no part; there are {}", self.take, names.join(", "));
            Error::option("split", reason)
        })?;
        let order = RowOrder::new(self.seed);
        let mut split = match (&self.by, &self.stratify) {
            (Some(_), Some(_)) => {
                let reason = "groups stay whole (by) or come in proportion (stratify), not both";
                return Err(Error::option("split", reason));
            }
            (Some(column), None) => {
                let groups = selections(cells, column, kept).await?;
                split::groups(&parts, &groups, kept, order)
            }
            (None, Some(column)) => {
                let groups = selections(cells, column, kept).await?;
                split::stratified(&parts, &groups, kept, &order)
            }
            (None, None) => split::cells(&parts, kept, order),
        };
        let rows = split.swap_remove(at);
        match rows.is_empty() {
            true => Err(Error::option(
                "split",
                format!("there are no cells in '{}'", self.take),
            )),
            false => Ok(rows),
        }
    }
}

/// The cells of each category.
async fn selections(cells: &Cells, column: &str, kept: &RowSelection) -> Result<Vec<RowSelection>> {
    let (_, members) = categories(cells, "split", column, kept).await?;
    let members = members.into_iter();
    Ok(members
        .map(|rows| RowSelection::from_sorted(rows).unwrap_or_default())
        .collect())
}

/// The categories of a column, and the cells of each, in order.
///
/// # Errors
/// [`Error::InvalidOption`] where there is no such column, or it is not categorical.
pub(super) async fn categories(
    cells: &Cells,
    option: &str,
    name: &str,
    rows: &RowSelection,
) -> Result<(Vec<String>, Vec<Vec<u64>>)> {
    let bad = |reason: String| Error::option(option, reason);
    let column = cells.obs(name)?;
    let column = column.ok_or_else(|| bad(format!("obs has no column '{name}'")))?;
    if !matches!(column.field().data_type(), DataType::Dictionary(_, _)) {
        let of = column.field().data_type();
        return Err(bad(format!("{name} is {of}, not a categorical")));
    }
    let mut names: Vec<String> = Vec::new();
    let mut members: Vec<Vec<u64>> = Vec::new();
    let mut start = 0;
    while start < rows.len() {
        let part = rows.slice(start..start + STEP);
        let values = column.read(&part, &ReadMetrics::default()).await?;
        let values = values.as_dictionary::<Int32Type>();
        if names.is_empty() {
            let texts = cast(values.values(), &DataType::Utf8)?;
            let texts = texts.as_string::<i32>().iter();
            names = texts
                .map(|text| text.unwrap_or_default().to_owned())
                .collect();
            members = vec![Vec::new(); names.len()];
        }
        for (row, code) in part.iter().zip(values.keys()) {
            let class = code.and_then(|code| usize::try_from(code).ok());
            if let Some(class) = class.and_then(|class| members.get_mut(class)) {
                class.push(row);
            }
        }
        start += STEP;
    }
    Ok((names, members))
}
