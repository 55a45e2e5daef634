//! The columns of a sparse row, and how many of them come before one.

/// Columns of one row, a bit for each that the axis has.
#[derive(Default)]
pub(super) struct RowColumns {
    words: Vec<u64>,
    /// Of each word, how many columns are in the words before it, once that was summed up.
    before: Vec<usize>,
}

impl RowColumns {
    /// Whether counting so many columns costs less than sorting so many entries: by estimate, a word of 64
    /// columns takes a nanosecond, and an entry that is sorted ten more than one that is counted.
    pub(super) fn pay(n_entries: usize, n_columns: usize) -> bool {
        n_columns / 64 <= n_entries.saturating_mul(8)
    }

    /// Takes all columns out; there may be so many.
    pub(super) fn clear(&mut self, n_columns: usize) {
        self.words.clear();
        self.words.resize(n_columns.div_ceil(64), 0);
    }

    /// Adds a column, if it is one: not below 0, and on the axis.
    #[inline(always)]
    pub(super) fn add(&mut self, column: i32) {
        let bit = u64::from(column >= 0) << (column & 63);
        let word = usize::try_from(column).unwrap_or(0) / 64;
        if let Some(word) = self.words.get_mut(word) {
            *word |= bit;
        }
    }

    /// Counts the columns, as [`before`](Self::before) needs it; how many there are.
    #[inline(always)]
    pub(super) fn sum_up(&mut self) -> usize {
        let mut n = 0;
        self.before.clear();
        self.before.extend(self.words.iter().map(|word| {
            let before = n;
            n += word.count_ones() as usize;
            before
        }));
        n
    }

    /// How many columns come before one, if it is one.
    #[inline(always)]
    pub(super) fn before(&self, column: i32) -> Option<usize> {
        let at = usize::try_from(column).ok()?;
        let (word, before) = (self.words.get(at / 64)?, self.before.get(at / 64)?);
        let below = word & ((1 << (at % 64)) - 1);
        Some(before + below.count_ones() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_counted_over_words() {
        let mut row = RowColumns::default();
        row.clear(200);
        for column in [199, 0, 63, 64, -1, 63] {
            row.add(column);
        }
        assert_eq!(row.sum_up(), 4);
        let before = [0, 1, 63, 64, 199].map(|column| row.before(column));
        assert_eq!(before, [0, 1, 1, 2, 3].map(Some));
        assert_eq!((row.before(-1), row.before(i32::MAX)), (None, None));
        row.clear(3);
        assert_eq!(row.sum_up(), 0);
    }
}
