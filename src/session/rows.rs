//! Which cells fulfil a condition.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;

use super::Session;
use crate::error::Result;
use crate::model::RowSelection;

impl Session {
    /// The cells that fulfil a SQL expression over `cells`. Reads the columns it names, nothing else.
    ///
    /// # Errors
    /// As [`Session::sql`], also where it is not one expression: what it is put into is a statement.
    pub(crate) async fn rows_matching(&self, predicate: &str) -> Result<RowSelection> {
        let state = self.context.state();
        let dialect = state.config_options().sql_parser.dialect;
        state.sql_to_expr(predicate, &dialect)?;
        // On lines of its own, because it may end in a comment.
        let query = format!("SELECT obs_idx FROM cells WHERE (\n{predicate}\n)");
        let frame = self.sql(&query).await?;
        let streams = frame.execute_stream_partitioned().await?;
        let mut positions = PositionRanges::default();
        for mut stream in streams {
            while let Some(batch) = stream.try_next().await? {
                for row in batch.column(0).as_primitive::<Int64Type>().values() {
                    positions.push(u64::try_from(*row).unwrap_or_default());
                }
            }
        }
        Ok(positions.finish())
    }
}

/// Ascending positions, held as ranges while they come.
#[derive(Default)]
struct PositionRanges(Vec<std::ops::Range<u64>>);

impl PositionRanges {
    fn push(&mut self, row: u64) {
        match self.0.last_mut() {
            Some(last) if last.end == row => last.end = row + 1,
            _ => self.0.push(row..row + 1),
        }
    }

    fn finish(self) -> RowSelection {
        RowSelection::from_ranges(self.0)
    }
}
