//! A loader, open.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::columns::Columns;
use super::genes::Joined;
use super::load::Source;
use super::minibatches::Minibatches;
use super::options::{ClassWeights, LoaderOptions, Sampling};
use super::position::Position;
use super::sequence::{Pool, Sequence, order_of};
use super::share::Share;
use super::split::categories;
use crate::element::{AnnData, Cells};
use crate::error::{Error, Result};
use crate::kernel::Blocks;
use crate::model::{Location, RowSelection};
use crate::plan::merge::Join;
use crate::session::Session;
use crate::store::ReadMetrics;

/// Windows that are read at a time, at most: one is decoded while another is fetched and cut.
const MOST_AHEAD: u64 = 2;

/// Minibatches of the cells of one or several objects. Opening reads descriptions, the pointers of
/// sparse matrices and what a predicate or classes need; no entries.
#[derive(Debug, Clone)]
pub struct Loader {
    options: LoaderOptions,
    columns: Arc<Columns>,
    rows: RowSelection,
    /// Cells by class, and the sums of weights up to each, where classes are drawn.
    classes: Option<(Vec<Vec<u64>>, Vec<f64>)>,
    metrics: Arc<ReadMetrics>,
}

impl Loader {
    /// Opens the objects at locations: collections, `.zarr` and `.h5ad` of any kind, whose cells have
    /// the same genes and columns, unless these are to be joined, and are numbered one object after another.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for options that contradict each other or name what is not there;
    /// [`Error::IncompatibleSchemas`] for objects that differ; those of opening them.
    pub async fn open(locations: &[Location], options: LoaderOptions) -> Result<Self> {
        options.check()?;
        let objects = AnnData::open_all(locations).await?;
        let joined = match options.join {
            Some(join) => Joined::of(&objects, join).await?,
            None => None,
        };
        let mut cells = Cells::new(match (objects.as_slice(), options.join) {
            ([_], _) | (_, Some(_)) => objects.clone(),
            (several, None) => vec![AnnData::stack(several).map_err(joinable)?],
        });
        if options.join == Some(Join::Outer) {
            cells = cells.with_all_of_obs();
        }
        let mut rows = rows(&objects, options.predicate.as_deref()).await?;
        if let Some(split) = &options.split {
            rows = split.rows(&cells, &rows).await?;
        }
        let classes = match &options.sampling {
            Sampling::Classes {
                column, weights, ..
            } => Some(classes(&cells, column, weights, &rows).await?),
            _ => None,
        };
        Ok(Self {
            columns: Arc::new(Columns::open(&cells, joined, &options).await?),
            rows,
            classes,
            options,
            metrics: Arc::default(),
        })
    }

    /// What was asked for.
    pub fn options(&self) -> &LoaderOptions {
        &self.options
    }

    /// The schema of minibatches. Columns have the names that they have in `cells`. Where objects are
    /// joined, the names of genes are a JSON list in its metadata, as `genes`, up to 3 MB of it.
    pub fn schema(&self) -> &SchemaRef {
        self.columns.schema()
    }

    /// Cells that are loaded: those that fulfil the predicate, and are in the part of the split.
    pub fn n_obs(&self) -> u64 {
        self.rows.len()
    }

    /// Cells of an epoch, of all ranks.
    pub fn n_samples(&self) -> u64 {
        let asked = match &self.options.sampling {
            Sampling::Replacement { num_samples } | Sampling::Classes { num_samples, .. } => {
                *num_samples
            }
            Sampling::Sequential | Sampling::Random => None,
        };
        asked.unwrap_or_else(|| self.n_obs())
    }

    /// Minibatches of an epoch, of all ranks.
    pub fn n_minibatches(&self) -> u64 {
        let of = &self.options;
        let share = self.share_of_rank(&Position::start(0));
        share.len().saturating_mul(of.world_size)
    }

    /// Bytes of the cells of a window, by estimate: what is held at least.
    pub fn window_bytes(&self) -> u64 {
        let cells = self.options.window().min(self.n_samples().max(1));
        cells.saturating_mul(self.columns.row_bytes())
    }

    /// Cells of what is left at a position, of this rank and part.
    pub fn n_left(&self, position: &Position) -> u64 {
        self.share(position).n_cells()
    }

    /// Bytes that a stream of minibatches holds at most, by estimate: windows that are read ahead and
    /// the one in use, and minibatches that are computed.
    pub fn stream_bytes(&self) -> u64 {
        let windows = self
            .ahead()
            .saturating_add(1)
            .saturating_mul(self.window_bytes());
        let computed = self
            .options
            .batch_size
            .saturating_mul(self.columns.made_bytes());
        windows.saturating_add(computed.saturating_mul(3))
    }

    /// What is left at a position, of this rank and part.
    fn share(&self, position: &Position) -> Share {
        let share = self.share_of_rank(position);
        share.part(self.options.part, self.options.parts)
    }

    fn share_of_rank(&self, position: &Position) -> Share {
        let of = &self.options;
        let left = position.left(self.n_samples());
        let ranks = (of.rank, of.world_size);
        Share::new(&left, of.batch_size, ranks, of.last_round())
    }

    /// Windows that are read at a time.
    fn ahead(&self) -> u64 {
        let ahead = self.options.read_ahead / self.window_bytes().max(1);
        ahead.clamp(1, MOST_AHEAD)
    }

    /// Bytes read from stores since the loader was opened.
    pub fn bytes_read(&self) -> u64 {
        self.metrics.bytes()
    }

    /// The minibatches of an epoch, this rank's part. Within a tokio runtime.
    pub fn epoch(&self, epoch: u64) -> Minibatches {
        self.resume(&Position::start(epoch))
    }

    /// The minibatches that are left of an epoch, this rank's part of them: those of all ranks are equal
    /// in number, and the cells of a last round that is not whole are divided evenly, unless it is to be
    /// padded or dropped. Of fewer cells than there are ranks there are none.
    pub fn resume(&self, position: &Position) -> Minibatches {
        let source = Source {
            columns: Arc::clone(&self.columns),
            sequence: self.sequence(position.epoch),
            metrics: Arc::clone(&self.metrics),
        };
        let ahead = usize::try_from(self.ahead()).unwrap_or(1);
        Minibatches::start(
            Arc::new(source),
            self.share(position),
            ahead,
            position.clone(),
        )
    }

    fn sequence(&self, epoch: u64) -> Sequence {
        let order = order_of(self.options.seed, epoch);
        let window = self.options.window();
        let blocks = Blocks {
            rows: self.options.chunk_size,
            per_window: self.options.preload_nchunks,
        };
        let pool = match (&self.options.sampling, &self.classes) {
            (Sampling::Sequential, _) => {
                return Sequence::InOrder {
                    rows: self.rows.clone(),
                    window,
                };
            }
            (Sampling::Random, _) => return Sequence::mixed(order, &self.rows, blocks),
            (_, Some((rows, sums))) => Pool::Classes {
                rows: rows.clone(),
                sums: sums.clone(),
            },
            (_, None) => Pool::Blocks {
                rows: self.rows.iter().collect(),
                size: self.options.chunk_size,
            },
        };
        Sequence::drawn(order, self.n_samples(), window, pool)
    }
}

/// Objects that differ can be joined, of which who puts them together knows nothing.
fn joinable(error: Error) -> Error {
    match error {
        Error::IncompatibleSchemas(reason) => Error::IncompatibleSchemas(format!(
            "{reason}; a loader's join (outer or inner) loads objects with different genes and columns"
        )),
        other => other,
    }
}

/// The cells that fulfil a predicate, numbered over all objects.
async fn rows(objects: &[Arc<AnnData>], predicate: Option<&str>) -> Result<RowSelection> {
    let mut ranges = Vec::new();
    let mut first = 0;
    for object in objects {
        let of_object = match predicate {
            None => RowSelection::all(object.n_obs()),
            Some(predicate) => {
                // Whoever asks may be a client of a server, who reads what is served and nothing else.
                let session = Session::builder().only_opened().build()?;
                session.add(Some("input"), Arc::clone(object))?;
                session.rows_matching(predicate).await?
            }
        };
        let moved = of_object.ranges().iter();
        ranges.extend(moved.map(|rows| first + rows.start..first + rows.end));
        first += object.n_obs();
    }
    let rows = RowSelection::from_ranges(ranges);
    match rows.is_empty() {
        true => Err(Error::option("loader", "there are no cells to load")),
        false => Ok(rows),
    }
}

/// The cells of each class that is drawn, and the sums of weights.
async fn classes(
    cells: &Cells,
    name: &str,
    weights: &ClassWeights,
    rows: &RowSelection,
) -> Result<(Vec<Vec<u64>>, Vec<f64>)> {
    let bad = |reason: String| Error::option("classes", reason);
    let (names, members) = categories(cells, "classes", name, rows).await?;
    let of_class = |class: &str| match weights {
        ClassWeights::Balanced => 1.0,
        ClassWeights::By(weights) => {
            let weight = weights.iter().find(|(name, _)| name == class);
            weight.map_or(0.0, |(_, weight)| *weight)
        }
    };
    if let ClassWeights::By(weights) = weights {
        if let Some((unknown, _)) = weights.iter().find(|(name, _)| !names.contains(name)) {
            return Err(bad(format!("{name} has no category '{unknown}'")));
        }
        if weights.iter().any(|(_, w)| !(*w >= 0.0 && w.is_finite())) {
            return Err(bad("a weight is a number, 0 or above".to_owned()));
        }
    }
    let mut sum = 0.0;
    let sums = names.iter().zip(&members).map(|(name, rows)| {
        // What has no cells cannot be drawn.
        sum += if rows.is_empty() { 0.0 } else { of_class(name) };
        sum
    });
    let sums: Vec<f64> = sums.collect();
    match sum > 0.0 && sum.is_finite() {
        true => Ok((members, sums)),
        false => Err(bad(
            "no class with a weight has cells, or the weights are beyond all numbers".to_owned(),
        )),
    }
}
