//! The categories of an obs column, and which cells are of each.

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};

use super::rows;
use crate::element::AnnData;
use crate::error::{Error, Result};
use crate::model::RowSelection;
use crate::store::ReadMetrics;

/// Rows per step when codes are read.
const BLOCK: u64 = 1 << 20;

/// The categories of a column and the cells of each.
pub(super) struct Categories {
    pub(super) names: Vec<String>,
    pub(super) cells: Vec<RowSelection>,
}

impl Categories {
    /// Reads the codes of a categorical obs column, in blocks.
    pub(super) async fn read(option: &str, object: &AnnData, column: &str) -> Result<Self> {
        let reader = rows::obs_column(option, object, column)?;
        let field = reader.field();
        if !matches!(field.data_type(), DataType::Dictionary(_, _)) {
            return Err(Error::option(
                option,
                format!(
                    "{column} is {}, not a categorical; give it as a CSV, or use query with \
                     COPY … PARTITIONED BY",
                    field.data_type()
                ),
            ));
        }
        let metrics = ReadMetrics::default();
        let mut collected: Option<Collector> = None;
        let mut start = 0;
        loop {
            let end = reader.len().min(start + BLOCK);
            let values = reader
                .read(&RowSelection::range(start..end), &metrics)
                .await?;
            match &mut collected {
                Some(collector) => collector.add(&values, start),
                None => {
                    let mut collector = Collector::try_new(&values)?;
                    collector.add(&values, start);
                    collected = Some(collector);
                }
            }
            start = end;
            if start >= reader.len() {
                break;
            }
        }
        Ok(collected.map_or_else(
            || Self {
                names: Vec::new(),
                cells: Vec::new(),
            },
            Collector::finish,
        ))
    }

    pub(super) fn of(values: &ArrayRef) -> Result<Self> {
        let mut collector = Collector::try_new(values)?;
        collector.add(values, 0);
        Ok(collector.finish())
    }
}

struct Collector {
    names: Vec<String>,
    ranges: Vec<Vec<std::ops::Range<u64>>>,
}

impl Collector {
    fn try_new(values: &ArrayRef) -> Result<Self> {
        let categories = values.as_dictionary::<Int32Type>().values();
        let text = cast(categories, &DataType::Utf8)?;
        let names: Vec<String> = text
            .as_string::<i32>()
            .iter()
            .map(|name| name.unwrap_or_default().to_owned())
            .collect();
        Ok(Self {
            ranges: vec![Vec::new(); names.len()],
            names,
        })
    }

    fn add(&mut self, values: &ArrayRef, start: u64) {
        let codes = values.as_dictionary::<Int32Type>().keys();
        for (row, code) in (start..).zip(codes) {
            let Some(ranges) = code
                .and_then(|code| usize::try_from(code).ok())
                .and_then(|code| self.ranges.get_mut(code))
            else {
                continue;
            };
            match ranges.last_mut() {
                Some(last) if last.end == row => last.end = row + 1,
                _ => ranges.push(row..row + 1),
            }
        }
    }

    fn finish(self) -> Categories {
        Categories {
            names: self.names,
            cells: self
                .ranges
                .into_iter()
                .map(RowSelection::from_ranges)
                .collect(),
        }
    }
}
