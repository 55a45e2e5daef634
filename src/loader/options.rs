//! What a loader is asked for.

use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use super::split::Split;
use crate::error::{Error, Result};
use crate::plan::merge::Join;

/// The largest number that is taken.
const MOST: u64 = 1 << 40;
/// Cells of a minibatch that is filled up, at most: of one cell they are so many ranges.
const MOST_PADDED: u64 = 1 << 20;

/// Which cells come, and in which order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sampling {
    /// Every cell once, in the order of the objects.
    Sequential,
    /// Every cell once: blocks of adjacent cells in random order, those of a window mixed.
    Random,
    /// Blocks that are drawn again and again, so that cells may come more than once or not at all.
    Replacement {
        /// Cells of an epoch; as many as there are by default.
        num_samples: Option<u64>,
    },
    /// Cells that are drawn one by one: a class by its weight, and of it a cell, each with the same
    /// chance. Nothing has to be sorted before.
    Classes {
        /// The categorical obs column; cells without a category are not drawn.
        column: String,
        /// The weights of its categories; balanced by default.
        #[serde(default)]
        weights: ClassWeights,
        /// Cells of an epoch; as many as there are by default.
        num_samples: Option<u64>,
    },
}

/// How often cells of a class are drawn.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// Those of every class as often as those of any other.
    #[default]
    Balanced,
    /// In proportion to these weights; classes that are not named are not drawn.
    By(Vec<(String, f64)>),
}

/// The type that values of matrices are given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// Single precision.
    Float32,
    /// Double precision.
    Float64,
}

impl ValueType {
    /// The Arrow type.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
        }
    }
}

/// What is loaded and how; the words and defaults are annbatch's where it has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoaderOptions {
    /// Cells of a minibatch; 4096 by default.
    pub batch_size: u64,
    /// Adjacent cells that are fetched together; 512 by default. 1 is a perfectly random order.
    pub chunk_size: u64,
    /// Blocks of a window, whose cells are mixed in memory; 32 by default.
    pub preload_nchunks: u64,
    /// Whether the last round of an epoch is left out where it is no whole minibatch for every rank; no
    /// by default.
    pub drop_last: bool,
    /// Whether it is filled up with cells from the beginning instead; no by default.
    pub pad: bool,
    /// Over which genes the cells of objects with different ones come: those that any has, or that all
    /// have. By default objects must have the same genes, columns and elements; with it, those that are
    /// asked for. Under an outer join a column of `obs` that an object lacks is null for its cells.
    pub join: Option<Join>,
    /// Which cells come; [`Sampling::Random`] by default.
    pub sampling: Sampling,
    /// Chooses the order; 0 by default.
    pub seed: u64,
    /// A SQL condition over `cells` that loaded cells fulfil; `where` in JSON.
    #[serde(rename = "where")]
    pub predicate: Option<String>,
    /// The part of those cells that is loaded; all by default.
    pub split: Option<Split>,
    /// Columns of `obs`, by name; none by default.
    pub obs: Vec<String>,
    /// Whether `X` is loaded; it is by default.
    pub x: bool,
    /// Layers, by name; none by default.
    pub layers: Vec<String>,
    /// Elements of `obsm`, by name; none by default.
    pub obsm: Vec<String>,
    /// Whether `raw/X` is loaded.
    pub raw: bool,
    /// Whether each cell's position comes with it, as `obs_idx`.
    pub return_index: bool,
    /// Whether matrices over genes come dense; as they are stored by default.
    pub dense: bool,
    /// The type of the values of matrices over genes; their own by default.
    pub dtype: Option<ValueType>,
    /// Genes of `X` and layers, in this order; all by default. They are chosen after cells are
    /// normalised.
    pub genes: Option<Vec<String>>,
    /// What the counts of a cell in `X` are scaled to, as `scanpy.pp.normalize_total` does.
    pub normalize_total: Option<f64>,
    /// Whether values `x` of `X` become `ln(1 + x)`, as `scanpy.pp.log1p` has it.
    pub log1p: bool,
    /// Which part of an epoch's minibatches comes, of `world_size` that are equal in number; 0 by
    /// default.
    pub rank: u64,
    /// How many parts there are; 1 by default. The cells of a last round that is not whole are divided
    /// evenly.
    pub world_size: u64,
    /// Which part of the rank's minibatches comes, of `parts`; 0 by default.
    pub part: u64,
    /// How many parts there are, whose sizes differ by one at most: for readers side by side that
    /// together want all. 1 by default.
    pub parts: u64,
    /// Bytes of cells that are read ahead, at least a window's; half a gigabyte by default.
    pub read_ahead: u64,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self {
            batch_size: 4096,
            chunk_size: 512,
            preload_nchunks: 32,
            drop_last: false,
            pad: false,
            join: None,
            sampling: Sampling::Random,
            seed: 0,
            predicate: None,
            split: None,
            obs: Vec::new(),
            x: true,
            layers: Vec::new(),
            obsm: Vec::new(),
            raw: false,
            return_index: false,
            dense: false,
            dtype: None,
            genes: None,
            normalize_total: None,
            log1p: false,
            rank: 0,
            world_size: 1,
            part: 0,
            parts: 1,
            read_ahead: 500_000_000,
        }
    }
}

/// What becomes of the last round, where it is no whole minibatch for every rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastRound {
    /// Its cells are divided evenly.
    Divided,
    /// It is filled up with cells from the beginning.
    Padded,
    /// It is left out.
    Dropped,
}

impl LoaderOptions {
    /// What becomes of the last round.
    pub(super) fn last_round(&self) -> LastRound {
        match (self.drop_last, self.pad) {
            (true, _) => LastRound::Dropped,
            (false, true) => LastRound::Padded,
            (false, false) => LastRound::Divided,
        }
    }

    /// Cells of a window.
    pub fn window(&self) -> u64 {
        self.chunk_size.saturating_mul(self.preload_nchunks)
    }

    /// Holds the numbers against each other.
    pub(super) fn check(&self) -> Result<()> {
        let positive = [
            ("batch_size", self.batch_size),
            ("chunk_size", self.chunk_size),
            ("preload_nchunks", self.preload_nchunks),
            ("world_size", self.world_size),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, n)| *n == 0) {
            return Err(Error::option(*name, "it is 0, and has to be 1 at least"));
        }
        let asked = match &self.sampling {
            Sampling::Replacement { num_samples } | Sampling::Classes { num_samples, .. } => {
                num_samples.unwrap_or(0)
            }
            Sampling::Sequential | Sampling::Random => 0,
        };
        let sizes = [
            ("batch_size", self.batch_size),
            ("chunk_size", self.chunk_size),
            ("preload_nchunks", self.preload_nchunks),
            ("world_size", self.world_size),
            ("parts", self.parts),
            ("num_samples", asked),
        ];
        if let Some((name, n)) = sizes.iter().find(|(_, n)| *n > MOST) {
            return Err(Error::option(*name, format!("{n} is more than {MOST}")));
        }
        for (what, names) in [
            ("obs", &self.obs),
            ("layers", &self.layers),
            ("obsm", &self.obsm),
        ] {
            let twice = names
                .iter()
                .enumerate()
                .find(|(at, name)| names[..*at].contains(name));
            if let Some((_, name)) = twice {
                return Err(Error::option(what, format!("'{name}' is there twice")));
            }
        }
        if self.parts == 0 || self.part >= self.parts {
            let reason = format!("there is no part {} of {}", self.part, self.parts);
            return Err(Error::option("part", reason));
        }
        if self.pad && self.batch_size > MOST_PADDED {
            let reason = format!("minibatches of more than {MOST_PADDED} cells are not filled up");
            return Err(Error::option("pad", reason));
        }
        if self.drop_last && self.pad {
            let reason = "the last round is left out (drop_last) or filled up (pad), not both";
            return Err(Error::option("pad", reason));
        }
        if self.rank >= self.world_size {
            let reason = format!("there is no part {} of {}", self.rank, self.world_size);
            return Err(Error::option("rank", reason));
        }
        let window = self.window();
        if self.batch_size > window || !window.is_multiple_of(self.batch_size) {
            return Err(Error::option(
                "batch_size",
                format!(
                    "a window of preload_nchunks {} × chunk_size {} has {window} cells, which is no \
                     whole number of minibatches of {}",
                    self.preload_nchunks, self.chunk_size, self.batch_size
                ),
            ));
        }
        if self
            .normalize_total
            .is_some_and(|total| !(total > 0.0 && total.is_finite()))
        {
            return Err(Error::option("normalize_total", "it has to be above 0"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        let of = |change: fn(&mut LoaderOptions)| {
            let mut options = LoaderOptions::default();
            change(&mut options);
            options.check()
        };
        assert!(of(|_| ()).is_ok());
        assert!(of(|o| o.batch_size = 0).is_err());
        assert!(of(|o| o.batch_size = 100_000).is_err());
        assert!(of(|o| o.batch_size = 1000).is_err());
        assert!(of(|o| o.rank = 1).is_err());
        assert!(of(|o| (o.pad, o.drop_last) = (true, true)).is_err());
        assert!(of(|o| o.normalize_total = Some(f64::NAN)).is_err());
    }
}
