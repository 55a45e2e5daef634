//! How large chunks and shards are.

use crate::store::Pieces;
use crate::store::encode::RawResult;
use crate::store::zarr::cut::Cut;

/// Bytes of a shard at most, where nobody said (anndata's `target_shard_size_bytes`).
const SHARD_BYTES: u64 = 1_000_000_000;
/// Chunks of a shard at most, whose index is kept while it is written.
const MOST_CHUNKS: u64 = 1 << 20;
/// The same where the array may turn out short.
const MOST_CHUNKS_GROWING: u64 = 1 << 12;
/// Bytes that an array of unknown length is taken to have.
const GROWING_BYTES: u64 = 4 << 20;
/// Bytes of a chunk at most: readers hold it whole, and blosc counts them in 31 bits.
const LARGEST_CHUNK: u64 = 1 << 30;

/// The cut of an array whose rows are as `tail` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grid {
    cut: Cut,
    /// Chunks of a shard along each axis, where there are shards.
    per_shard: Option<Vec<u64>>,
}

impl Grid {
    /// One element.
    pub(super) fn scalar() -> Self {
        Self {
            cut: Cut::new(Vec::new(), Vec::new()),
            per_shard: None,
        }
    }

    /// Cuts an array of `rows` rows (unknown while it grows) of lengths `tail`, whose elements have
    /// `size` bytes, into the pieces asked for or else by zarr-python's rule.
    ///
    /// # Errors
    /// Where a chunk would be too large.
    pub(super) fn new(
        rows: Option<u64>,
        tail: &[u64],
        size: u64,
        sharded: bool,
        pieces: Option<Pieces>,
    ) -> RawResult<Self> {
        let row_bytes = tail.iter().fold(size, |p, n| p.saturating_mul(*n)).max(1);
        let (chunk, per_shard) = match pieces {
            Some(Pieces { chunk, shard }) => {
                let most = match rows {
                    Some(_) => MOST_CHUNKS,
                    None => MOST_CHUNKS_GROWING,
                };
                let mut per_shard = vec![(shard / chunk).clamp(1, most)];
                per_shard.resize(1 + tail.len(), 1);
                let axes = std::iter::once(chunk).chain(tail.iter().map(|n| (*n).max(1)));
                (axes.collect(), per_shard)
            }
            None => {
                let assumed = rows.unwrap_or((GROWING_BYTES / row_bytes).max(1));
                let shape = [&[assumed], tail].concat();
                let chunk = guess_chunk(&shape, size);
                let known = [&[rows.unwrap_or(u64::MAX)], tail].concat();
                let k = guess_shard(&known, &chunk, size);
                let per_shard = vec![k; chunk.len()];
                (chunk, per_shard)
            }
        };
        let bytes = chunk.iter().fold(size, |p, n: &u64| p.saturating_mul(*n));
        if bytes > LARGEST_CHUNK {
            return Err(format!(
                "a chunk of {chunk:?} elements has {bytes} bytes; {LARGEST_CHUNK} is the most"
            )
            .into());
        }
        Ok(Self {
            cut: Cut::new(tail.to_vec(), chunk),
            per_shard: sharded.then_some(per_shard),
        })
    }

    /// The chunks.
    pub(super) fn cut(&self) -> &Cut {
        &self.cut
    }

    /// Chunks of a shard along each axis.
    pub(super) fn per_shard(&self) -> Option<&[u64]> {
        self.per_shard.as_deref()
    }

    /// Lengths of a shard.
    pub(super) fn shard(&self) -> Option<Vec<u64>> {
        let per_shard = self.per_shard.as_ref()?;
        let axes = self.cut.chunk().iter().zip(per_shard);
        Some(axes.map(|(chunk, n)| chunk.saturating_mul(*n)).collect())
    }
}

/// zarr-python's chunks: axes are halved in turn until a chunk has about 256 KiB times
/// 2^log10(MiB of the array) (`_guess_regular_chunks`).
fn guess_chunk(shape: &[u64], size: u64) -> Vec<u64> {
    const STEP: f64 = 262_144.0;
    const LEAST: f64 = 131_072.0;
    const MOST: f64 = 67_108_864.0;
    let mut chunk: Vec<u64> = shape.iter().map(|n| (*n).max(1)).collect();
    if size == 0 || chunk.is_empty() {
        return chunk;
    }
    #[expect(clippy::cast_precision_loss, reason = "as the rule has it")]
    let bytes = |chunk: &[u64]| chunk.iter().map(|n| *n as f64).product::<f64>() * size as f64;
    let mebibytes = bytes(&chunk) / 1_048_576.0;
    let target = (STEP * mebibytes.log10().exp2()).clamp(LEAST, MOST);
    for axis in (0..chunk.len()).cycle() {
        let now = bytes(&chunk);
        let is_near = now < target || (now - target).abs() / target < 0.5;
        if (is_near && now < MOST) || chunk.iter().all(|n| *n == 1) {
            break;
        }
        chunk[axis] = chunk[axis].div_ceil(2);
    }
    chunk
}

/// zarr-python's shards: so many chunks along every axis, as many as fit into the bytes and the
/// array (`_guess_num_chunks_per_axis_shard`).
fn guess_shard(shape: &[u64], chunk: &[u64], size: u64) -> u64 {
    let bytes = chunk.iter().fold(size, |p, n| p.saturating_mul(*n));
    if chunk.is_empty() || bytes == 0 {
        return 1;
    }
    let fits = |k: u64| {
        let all = chunk.iter().fold(bytes, |p, _| p.saturating_mul(k));
        all <= SHARD_BYTES
            && chunk
                .iter()
                .zip(shape)
                .all(|(c, n)| c.saturating_mul(k) <= *n)
    };
    (1..)
        .take_while(|k| fits(k + 1))
        .last()
        .map_or(1, |k| k + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arrays of a length and an element size, and the chunks and shards of zarr-python 3.4.2.
    #[test]
    fn guesses_are_those_of_zarr_python() {
        let check = |shape: &[u64], size: u64, chunk: &[u64], shard: &[u64]| {
            let grid = Grid::new(Some(shape[0]), &shape[1..], size, true, None).unwrap();
            assert_eq!(grid.cut().chunk(), chunk, "{shape:?}");
            assert_eq!(grid.shard().unwrap(), shard, "{shape:?}");
        };
        check(&[8_000_000], 4, &[250_000], &[8_000_000]);
        check(&[20_000, 2_000], 4, &[1_250, 250], &[10_000, 2_000]);
        check(&[3_000, 20], 8, &[1_500, 20], &[1_500, 20]);
        check(&[1_000_000, 50], 4, &[62_500, 7], &[437_500, 49]);
        check(&[100, 3, 7], 8, &[100, 3, 7], &[100, 3, 7]);
    }
}
