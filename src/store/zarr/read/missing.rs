//! Which chunks are not stored: their values are fill values.

use super::array::Core;
use super::tree::prefix;
use crate::store::MissingChunks;
use crate::store::decode::Fault;

impl Core {
    /// Chunks, or shards where there are some, without a value. Those that are there are listed:
    /// the shape may claim more than could be asked for one by one.
    pub(super) fn missing_chunks(&self) -> Result<MissingChunks, Fault> {
        let grid = self.array.chunk_grid_shape();
        let of = grid.iter().fold(1u64, |p, n| p.saturating_mul(*n));
        let place = vec![0; grid.len()];
        let key = self.array.chunk_key(&place).to_string();
        // The key of the first chunk says how keys are made: what stands around its numbers.
        let folder = match key.starts_with("c/") {
            true => "c/",
            false => "",
        };
        let prefix = format!("{}{folder}", prefix(&self.info.key));
        let present = self.chunks_below(&prefix, grid, 0)?;
        Ok(MissingChunks {
            missing: of.saturating_sub(present),
            of,
        })
    }

    /// Chunks among the values below a prefix, whose names hold the numbers of the axes from `axis`
    /// on, by `.` or by folders.
    fn chunks_below(&self, prefix: &str, grid: &[u64], axis: usize) -> Result<u64, Fault> {
        let mut present = 0u64;
        for name in self.files.children(prefix)? {
            if grid.is_empty() {
                let is_chunk = name == "0" || name == "c";
                present +=
                    u64::from(is_chunk && self.files.size(&format!("{prefix}{name}"))?.is_some());
                continue;
            }
            let numbers: Option<Vec<u64>> = name
                .trim_start_matches("c.")
                .split('.')
                .map(|number| number.parse().ok())
                .collect();
            let Some(numbers) = numbers else { continue };
            let axes = grid.get(axis..axis + numbers.len());
            if !axes.is_some_and(|axes| axes.iter().zip(&numbers).all(|(n, at)| at < n)) {
                continue;
            }
            let below = axis + numbers.len();
            present += match below == grid.len() {
                true => 1,
                false => self.chunks_below(&format!("{prefix}{name}/"), grid, below)?,
            };
        }
        Ok(present)
    }
}
