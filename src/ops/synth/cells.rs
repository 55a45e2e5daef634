//! Blocks of cells.

use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::rates::{LIBRARY_SIGMA, Rates, to_f64};

/// Cells that share one stream of the generator; the unit of parallel work.
pub(super) const BLOCK: u64 = 256;
/// Components of `X_pca`.
pub(super) const COMPONENTS: usize = 50;
/// Donors, three to a batch.
pub(super) const DONORS: usize = 12;
pub(super) const DONORS_PER_BATCH: usize = 3;

/// Everything there is to know of some adjacent cells.
#[derive(Debug, Default)]
pub(super) struct Cells {
    pub(super) cell_type: Vec<i32>,
    pub(super) donor: Vec<i32>,
    pub(super) n_counts: Vec<f32>,
    pub(super) n_genes: Vec<i32>,
    pub(super) pct_mito: Vec<f32>,
    pub(super) s_score: Vec<f64>,
    pub(super) is_doublet: Vec<bool>,
    /// Entries per cell.
    pub(super) lengths: Vec<usize>,
    pub(super) indices: Vec<i32>,
    pub(super) data: Vec<f32>,
    pub(super) pca: Vec<f32>,
}

/// Draws cells.
#[derive(Debug)]
pub(super) struct Generator {
    pub(super) seed: u64,
    pub(super) n_vars: usize,
    pub(super) rates: Rates,
    /// Means of types, [`COMPONENTS`] each.
    pub(super) centres: Vec<f64>,
}

impl Generator {
    /// Draws the cells `rows`, which begin a block and lie in it.
    pub(super) fn block(&self, rows: Range<u64>) -> Cells {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(1 + rows.start / BLOCK);
        let mut out = Cells::default();
        let mut tally = Tally::new(self.n_vars);
        for _ in rows {
            self.cell(&mut rng, &mut tally, &mut out);
        }
        out
    }

    fn cell(&self, rng: &mut ChaCha8Rng, tally: &mut Tally, out: &mut Cells) {
        let cell_type = self.rates.draw_type(rng);
        let donor = rng.random_range(0..DONORS);
        let is_doublet = rng.random_bool(0.04);
        let z: f64 = StandardNormal.sample(rng);
        let depth = 0.85 + 0.1 * to_f64(donor / DONORS_PER_BATCH);
        let spread = (LIBRARY_SIGMA * z - LIBRARY_SIGMA * LIBRARY_SIGMA / 2.0).exp();
        let library = self.rates.library * depth * spread * if is_doublet { 1.7 } else { 1.0 };
        let library = to_count(library);
        for _ in 0..library {
            tally.add(self.rates.draw_gene(cell_type, rng));
        }
        let mito: u32 = self
            .rates
            .mitochondrial
            .iter()
            .map(|gene| tally.counts[*gene])
            .sum();
        out.lengths
            .push(tally.drain(&mut out.indices, &mut out.data));
        out.cell_type.push(to_i32(cell_type));
        out.donor.push(to_i32(donor));
        out.n_counts.push(to_f32(f64::from(library)));
        out.n_genes
            .push(to_i32(out.lengths.last().copied().unwrap_or_default()));
        out.pct_mito
            .push(to_f32(100.0 * f64::from(mito) / f64::from(library.max(1))));
        let score: f64 = StandardNormal.sample(rng);
        out.s_score.push(0.1 * score);
        out.is_doublet.push(is_doublet);
        for k in 0..COMPONENTS {
            let noise: f32 = StandardNormal.sample(rng);
            let scale = to_f32(1.0 / (1.0 + 0.1 * to_f64(k)));
            out.pca
                .push(to_f32(self.centres[cell_type * COMPONENTS + k]) + noise * scale);
        }
    }
}

/// Counts of one cell, and which genes have any, by bit.
struct Tally {
    counts: Vec<u32>,
    seen: Vec<u64>,
}

impl Tally {
    fn new(n_vars: usize) -> Self {
        Self {
            counts: vec![0; n_vars],
            seen: vec![0; n_vars.div_ceil(64)],
        }
    }

    fn add(&mut self, gene: usize) {
        self.counts[gene] += 1;
        self.seen[gene / 64] |= 1 << (gene % 64);
    }

    /// Moves the counts out in order of genes and says how many there were.
    fn drain(&mut self, indices: &mut Vec<i32>, data: &mut Vec<f32>) -> usize {
        let before = indices.len();
        for (word, bits) in self.seen.iter_mut().enumerate() {
            while *bits != 0 {
                let gene = word * 64 + usize::try_from(bits.trailing_zeros()).unwrap_or_default();
                indices.push(to_i32(gene));
                data.push(to_f32(f64::from(std::mem::take(&mut self.counts[gene]))));
                *bits &= *bits - 1;
            }
        }
        indices.len() - before
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a rounding is meant")]
pub(super) fn to_f32(value: f64) -> f32 {
    value as f32
}

/// Positions here are below 2^31: the options say so.
pub(super) fn to_i32(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of molecules, clamped"
)]
fn to_count(library: f64) -> u32 {
    library.round().clamp(1.0, 1e9) as u32
}
