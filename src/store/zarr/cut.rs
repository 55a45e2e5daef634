//! Chunks as parts of an array.

use crate::error::BoxedError;

/// A regular cut of an array into chunks.
///
/// Rows are handled by bands: a band is as high as a chunk and as wide as the array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// Lengths of the array after its first axis.
    tail: Vec<u64>,
    /// Lengths of a chunk on all axes; of a scalar there are none.
    chunk: Vec<u64>,
}

/// A run of elements of a band that are adjacent in a chunk, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Where it begins in the band.
    pub(super) from: usize,
    /// Where it begins in the chunk.
    pub(super) to: usize,
    pub(super) len: usize,
}

impl Cut {
    /// The cut of an array whose rows have the lengths `tail`.
    pub(super) fn new(tail: Vec<u64>, chunk: Vec<u64>) -> Self {
        Self { tail, chunk }
    }

    /// Lengths of a chunk.
    pub(super) fn chunk(&self) -> &[u64] {
        &self.chunk
    }

    /// Rows of a band, which is as high as a chunk and as wide as the array.
    pub(super) fn band_rows(&self) -> u64 {
        self.chunk.first().copied().unwrap_or(1)
    }

    /// Elements of a row.
    pub(super) fn row_len(&self) -> u64 {
        self.tail.iter().product()
    }

    /// Elements of a chunk.
    pub(super) fn chunk_len(&self) -> u64 {
        self.chunk.iter().product()
    }

    /// Whether every chunk holds whole rows, and nothing beside them.
    pub(super) fn has_whole_rows(&self) -> bool {
        self.chunk.iter().skip(1).eq(&self.tail)
    }

    /// How many chunks stand side by side in a band.
    pub(super) fn n_across(&self) -> u64 {
        self.across().fold(1, u64::saturating_mul)
    }

    fn across(&self) -> impl Iterator<Item = u64> {
        let axes = self.tail.iter().zip(self.chunk.iter().skip(1));
        axes.map(|(n, chunk)| n.div_ceil(*chunk))
    }

    /// Where the chunks of a band are, in order; a chunk's first coordinate is its band's.
    pub(super) fn places(&self, band: u64) -> impl Iterator<Item = Vec<u64>> {
        let counts: Vec<u64> = self.across().collect();
        let rank = self.chunk.len();
        (0..self.n_across()).map(move |mut i| {
            let mut place = vec![band; rank];
            for axis in (0..counts.len()).rev() {
                place[axis + 1] = i % counts[axis];
                i /= counts[axis];
            }
            place
        })
    }

    /// The elements of a chunk in a band of `rows` rows, run by run.
    ///
    /// # Errors
    /// Where positions are beyond the address space.
    pub(super) fn runs(&self, place: &[u64], rows: u64) -> Result<Vec<Run>, BoxedError> {
        let rows = usize::try_from(rows)?;
        let of_row = self.row_runs(place)?;
        let in_band = usize::try_from(self.row_len())?;
        let in_chunk = self.chunk_row_len()?;
        if let [run] = of_row[..]
            && run.len == in_band
            && run.len == in_chunk
        {
            let len = run.len * rows;
            return Ok(vec![Run { len, ..run }]);
        }
        let runs = (0..rows).flat_map(|row| {
            of_row.iter().map(move |run| Run {
                from: run.from + row * in_band,
                to: run.to + row * in_chunk,
                len: run.len,
            })
        });
        Ok(runs.collect())
    }

    /// Elements of a row in a chunk.
    ///
    /// # Errors
    /// Where they are beyond the address space.
    pub(super) fn chunk_row_len(&self) -> Result<usize, BoxedError> {
        let len: u64 = self.chunk.iter().skip(1).product();
        Ok(usize::try_from(len)?)
    }

    /// The elements of a chunk in the first row of a band, run by run.
    ///
    /// # Errors
    /// Where positions are beyond the address space.
    pub(super) fn row_runs(&self, place: &[u64]) -> Result<Vec<Run>, BoxedError> {
        let mut runs = vec![Run {
            from: 0,
            to: 0,
            len: 1,
        }];
        // Axis by axis: the runs of an axis are those of the axes after it, once per position; as
        // long as all of the later axes lie in the chunk, they are one run.
        let (mut in_band, mut in_chunk) = (1usize, 1usize);
        for axis in (1..self.chunk.len()).rev() {
            let chunk = usize::try_from(self.chunk[axis])?;
            let len = usize::try_from(self.tail[axis - 1])?;
            let first = usize::try_from(place[axis])? * chunk;
            let n = chunk.min(len.saturating_sub(first));
            let is_one = matches!(runs[..], [run] if run.len == in_band && run.len == in_chunk);
            runs = match is_one {
                true => vec![Run {
                    from: first * in_band,
                    to: 0,
                    len: n * in_band,
                }],
                false => (0..n)
                    .flat_map(|i| {
                        runs.iter().map(move |run| Run {
                            from: run.from + (first + i) * in_band,
                            to: run.to + i * in_chunk,
                            len: run.len,
                        })
                    })
                    .collect(),
            };
            in_band *= len;
            in_chunk *= chunk;
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_a_band_once() {
        let cut = Cut::new(vec![3, 5], vec![2, 2, 2]);
        let mut seen = vec![0; 2 * 3 * 5];
        for place in cut.places(7) {
            assert_eq!(place[0], 7);
            let mut filled = [false; 8];
            for run in cut.runs(&place, 2).unwrap() {
                seen[run.from..run.from + run.len]
                    .iter_mut()
                    .for_each(|n| *n += 1);
                for to in &mut filled[run.to..run.to + run.len] {
                    assert!(!std::mem::replace(to, true));
                }
            }
        }
        assert!(seen.iter().all(|n| *n == 1), "{seen:?}");
    }

    #[test]
    fn chunks_wider_than_the_array_have_no_whole_rows() {
        let cut = Cut::new(vec![4], vec![3, 6]);
        assert!(!cut.has_whole_rows());
        let runs = cut.runs(&[0, 0], 2).unwrap();
        let starts: Vec<_> = runs.iter().map(|run| (run.from, run.to, run.len)).collect();
        assert_eq!(starts, [(0, 0, 4), (4, 6, 4)]);
    }

    #[test]
    fn whole_rows_are_one_run() {
        let cut = Cut::new(vec![4], vec![3, 4]);
        let whole = Run {
            from: 0,
            to: 0,
            len: 12,
        };
        assert_eq!(cut.runs(&[0, 0], 3).unwrap(), [whole]);
        assert_eq!(cut.runs(&[3, 0], 1).unwrap(), [Run { len: 4, ..whole }]);
    }
}
