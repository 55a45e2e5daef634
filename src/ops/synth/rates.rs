//! Rates of genes by cell type, and the draw from them.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::names;
use crate::error::{Error, Result};

/// Spread of library sizes, of their logarithm.
pub(super) const LIBRARY_SIGMA: f64 = 0.4;

/// What fixes the counts: rates per type, sizes of libraries, shares of types.
#[derive(Debug)]
pub(super) struct Rates {
    tables: Vec<AliasTable>,
    /// Running sums of the types' shares, the last being 1.
    shares: Vec<f64>,
    /// Mean number of molecules of a cell.
    pub(super) library: f64,
    /// Positions of the mitochondrial genes.
    pub(super) mitochondrial: Vec<usize>,
    /// Share of a gene in all molecules, over all types.
    pub(super) mean_share: Vec<f64>,
    /// Variability of a gene over types: variance of its rate over its mean.
    pub(super) dispersion: Vec<f64>,
}

impl Rates {
    /// Draws rates, then finds the library size that gives `mean_genes` on the average.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] where no library size does.
    pub(super) fn draw(
        genes: &[String],
        cell_types: usize,
        mean_genes: f64,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let base = base_rates(genes, rng);
        let mitochondrial = (0..genes.len())
            .filter(|g| names::MITOCHONDRIAL.contains(&genes[*g].as_str()))
            .collect();
        let types: Vec<Vec<f64>> = (0..cell_types)
            .map(|k| type_rates(&base, genes, k, rng))
            .collect::<Result<_>>()?;
        let weights: Vec<f64> = (0..cell_types)
            .map(|k| 0.8f64.powf(to_f64(k)) + 0.01)
            .collect();
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let shares = weights
            .iter()
            .map(|w| {
                sum += w / total;
                sum
            })
            .collect();
        let over_types = |g: usize, f: &dyn Fn(f64) -> f64| -> f64 {
            types
                .iter()
                .zip(&weights)
                .map(|(rates, w)| f(rates[g]) * w / total)
                .sum()
        };
        let mean_share: Vec<f64> = (0..genes.len()).map(|g| over_types(g, &|r| r)).collect();
        let dispersion = (0..genes.len())
            .map(|g| over_types(g, &|r| (r - mean_share[g]).powi(2)) / mean_share[g].max(1e-12))
            .collect();
        let library = library_for(mean_genes, &types[..types.len().min(3)])?;
        Ok(Self {
            tables: types.iter().map(|rates| AliasTable::new(rates)).collect(),
            shares,
            library,
            mitochondrial,
            mean_share,
            dispersion,
        })
    }

    /// A type, by share.
    pub(super) fn draw_type(&self, rng: &mut ChaCha8Rng) -> usize {
        let u: f64 = rng.random();
        self.shares
            .partition_point(|share| *share < u)
            .min(self.shares.len() - 1)
    }

    /// A gene, by a type's rates.
    pub(super) fn draw_gene(&self, cell_type: usize, rng: &mut ChaCha8Rng) -> usize {
        self.tables[cell_type].draw(rng)
    }
}

/// A power law over a random order of the genes; mitochondrial genes get a twentieth of all.
fn base_rates(genes: &[String], rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut rates: Vec<f64> = (0..genes.len()).map(|i| 1.0 / (to_f64(i) + 20.0)).collect();
    rates.shuffle(rng);
    // A marker that nobody expresses is of no use to the examples.
    let floor = rates.iter().sum::<f64>() / to_f64(genes.len());
    let named = |gene: &str| !gene.starts_with("GENE");
    for (rate, gene) in rates.iter_mut().zip(genes) {
        if named(gene) {
            *rate = rate.max(floor);
        }
    }
    let is_mito = |gene: &String| names::MITOCHONDRIAL.contains(&gene.as_str());
    let n_mito = genes.iter().filter(|gene| is_mito(gene)).count();
    if n_mito > 0 && n_mito < genes.len() {
        let others: f64 = rates
            .iter()
            .zip(genes)
            .filter(|(_, gene)| !is_mito(gene))
            .map(|(rate, _)| rate)
            .sum();
        for (rate, gene) in rates.iter_mut().zip(genes) {
            if is_mito(gene) {
                *rate = others * 0.05 / 0.95 / to_f64(n_mito);
            }
        }
    }
    rates
}

/// The base with a tenth of the genes raised or lowered, and the type's named markers raised.
fn type_rates(base: &[f64], genes: &[String], k: usize, rng: &mut ChaCha8Rng) -> Result<Vec<f64>> {
    let normal = Normal::new(0.5, 1.2).map_err(|e| Error::option("synth", e.to_string()))?;
    let mut rates = base.to_vec();
    let all_markers: Vec<&str> = (0..8).flat_map(names::markers).copied().collect();
    for (rate, gene) in rates.iter_mut().zip(genes) {
        let gene = gene.as_str();
        if names::markers(k).contains(&gene) {
            *rate *= 12.0;
        } else if all_markers.contains(&gene) {
            *rate *= 0.1;
        } else if !names::MITOCHONDRIAL.contains(&gene) && rng.random_bool(0.1) {
            *rate *= f64::exp(normal.sample(rng));
        }
    }
    let total: f64 = rates.iter().sum();
    rates.iter_mut().for_each(|rate| *rate /= total);
    Ok(rates)
}

/// The mean library with which cells of these types have `mean_genes` genes on the average.
fn library_for(mean_genes: f64, types: &[Vec<f64>]) -> Result<f64> {
    let n_vars = types.first().map_or(0, Vec::len);
    if !(mean_genes > 0.0 && mean_genes <= 0.9 * to_f64(n_vars)) {
        return Err(Error::option(
            "--mean-genes",
            format!("{mean_genes} is not above 0 and at most nine tenths of {n_vars} genes"),
        ));
    }
    // Expected distinct genes over five equal parts of the library's distribution.
    const QUANTILES: [f64; 5] = [-1.2816, -0.5244, 0.0, 0.5244, 1.2816];
    let expected = |library: f64| -> f64 {
        let mut sum = 0.0;
        for z in QUANTILES {
            let size = library * (LIBRARY_SIGMA * z - LIBRARY_SIGMA * LIBRARY_SIGMA / 2.0).exp();
            for rates in types {
                sum += rates.iter().map(|r| 1.0 - (-size * r).exp()).sum::<f64>();
            }
        }
        sum / to_f64(QUANTILES.len() * types.len())
    };
    let (mut low, mut high) = (mean_genes.min(1.0), mean_genes.max(1.0));
    while expected(high) < mean_genes {
        high *= 2.0;
        if high > 1e9 {
            return Err(Error::option(
                "--mean-genes",
                format!(
                    "{mean_genes} of {n_vars} genes would take more than 10^9 molecules a cell"
                ),
            ));
        }
    }
    for _ in 0..24 {
        let middle = (low + high) / 2.0;
        if expected(middle) < mean_genes {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok((low + high) / 2.0)
}

/// Walker's alias method: one random word and one look-up per draw.
#[derive(Debug)]
struct AliasTable {
    /// Per slot, the share of it (of 2^32) that is its own, and whose the rest is.
    slots: Vec<(u32, u32)>,
}

impl AliasTable {
    fn new(rates: &[f64]) -> Self {
        let n = rates.len();
        let mut scaled: Vec<f64> = rates.iter().map(|r| r * to_f64(n)).collect();
        let mut slots = vec![(u32::MAX, 0u32); n];
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..n).partition(|i| scaled[*i] < 1.0);
        while let (Some(s), Some(l)) = (small.pop(), large.last().copied()) {
            slots[s] = (threshold(scaled[s]), u32::try_from(l).unwrap_or_default());
            scaled[l] -= 1.0 - scaled[s];
            if scaled[l] < 1.0 {
                large.pop();
                small.push(l);
            }
        }
        Self { slots }
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> usize {
        let word: u64 = rng.random();
        let (low, high) = (word & 0xffff_ffff, word >> 32);
        let n = u64::try_from(self.slots.len()).unwrap_or(u64::MAX);
        let slot = usize::try_from((low * n) >> 32).unwrap_or_default();
        let (own, other) = self.slots[slot];
        if high <= u64::from(own) {
            slot
        } else {
            usize::try_from(other).unwrap_or_default()
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of 2^32, clamped"
)]
fn threshold(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32
}

/// Counts of genes and types as floats; far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(super) fn to_f64(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn the_alias_table_draws_by_rate() {
        let table = AliasTable::new(&[0.5, 0.25, 0.125, 0.125]);
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut counts = [0u32; 4];
        for _ in 0..80_000 {
            counts[table.draw(&mut rng)] += 1;
        }
        for (count, expected) in counts.iter().zip([40_000u32, 20_000, 10_000, 10_000]) {
            assert!(count.abs_diff(expected) < 600, "{counts:?}");
        }
    }

    #[test]
    fn impossible_means_are_refused() {
        let rates = vec![vec![0.1; 10]];
        assert!(library_for(9.5, &rates).is_err());
        assert!(library_for(0.0, &rates).is_err());
        assert!(library_for(5.0, &rates).is_ok());
    }
}
