//! The operation: batches of cells, drawn while the one before is written.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, BooleanArray, Float32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use super::cells::{BLOCK, COMPONENTS, Cells, Generator, to_f32};
use super::columns::{self, Columns};
use super::names;
use super::rates::{Rates, to_f64};
use crate::element::{ColumnSize, ColumnWriter, FrameWriter, Place, Storage, encoding};
use crate::error::{Error, Result};
use crate::model::{DType, ElementKey};
use crate::ops::{OutputReport, Progress, Report};
use crate::store::{self, ArraySpec, Extent, StoreWriter, WriteTarget};

/// Entries of X in a batch of cells, about.
const BATCH_ENTRIES: f64 = 1e6;

/// Options of [`synth`].
#[derive(Debug, Clone)]
pub struct SynthOptions {
    /// The file to write.
    pub output: PathBuf,
    /// Cells.
    pub n_obs: u64,
    /// Genes.
    pub n_vars: u32,
    /// Stored genes per cell, on the average; by default a tenth of the genes, at most 1,500.
    pub mean_genes: Option<f64>,
    /// Cell types.
    pub cell_types: u16,
    /// The same seed gives the same object.
    pub seed: u64,
    /// Format, compression and chunks; h5ad without compression by default.
    pub storage: Storage,
    /// Whether an existing output may be replaced.
    pub overwrite: bool,
}

impl SynthOptions {
    /// 10,000 cells of 8 types, 2,000 genes, seed 0.
    pub fn new(output: impl Into<PathBuf>) -> Self {
        Self {
            output: output.into(),
            n_obs: 10_000,
            n_vars: 2_000,
            mean_genes: None,
            cell_types: 8,
            seed: 0,
            storage: Storage::default(),
            overwrite: false,
        }
    }
}

/// Writes a synthetic object. Costs about 5 ns per molecule and core; memory does not depend on
/// the number of cells.
///
/// # Errors
/// [`Error::InvalidOption`] for shapes and means that cannot be; [`Error::OutputRefused`] where the
/// output exists; [`Error::Store`] where it cannot be written.
pub async fn synth(options: &SynthOptions, progress: &dyn Progress) -> Result<Report> {
    let began = Instant::now();
    let object = Object::draw(options)?;
    let writer = store::create(&WriteTarget {
        path: options.output.clone(),
        format: options.storage.format,
        overwrite: options.overwrite,
        fsync: false,
        run_bytes: 0,
        consolidated: true,
    })
    .await?;
    progress.start("synth", options.n_obs);
    object.write(&writer, progress).await?;
    writer.close().await?;
    writer.commit().await?;
    progress.finish();
    Ok(Report {
        outputs: vec![OutputReport {
            path: options.output.clone(),
            n_obs: options.n_obs,
            n_vars: options.n_vars.into(),
            bytes: store::bytes_at(&options.output).await,
        }],
        seconds: began.elapsed().as_secs_f64(),
        ..Report::default()
    })
}

#[derive(Debug)]
struct Object {
    options: SynthOptions,
    genes: Vec<String>,
    generator: Arc<Generator>,
    rows_per_batch: u64,
}

impl Object {
    fn draw(options: &SynthOptions) -> Result<Self> {
        let too_large = |option: &str| Error::option(option, "must be below 2^31");
        let n_vars = usize::try_from(options.n_vars).map_err(|_| too_large("--n-vars"))?;
        i32::try_from(n_vars).map_err(|_| too_large("--n-vars"))?;
        i32::try_from(options.n_obs).map_err(|_| too_large("--n-obs"))?;
        if options.cell_types == 0 {
            return Err(Error::option("--cell-types", "must be at least 1"));
        }
        let cell_types = usize::from(options.cell_types);
        let mean_genes = options
            .mean_genes
            .unwrap_or((f64::from(options.n_vars) / 10.0).clamp(0.5, 1500.0));
        let genes = names::genes(n_vars);
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let rates = Rates::draw(&genes, cell_types, mean_genes, &mut rng)?;
        let centres = (0..cell_types * COMPONENTS)
            .map(|i| {
                let z: f64 = StandardNormal.sample(&mut rng);
                z * 8.0 / (1.0 + to_f64(i % COMPONENTS))
            })
            .collect();
        let mut blocks = 1;
        while blocks < 64 && to_f64(2 * blocks) * to_f64(256) * mean_genes <= BATCH_ENTRIES {
            blocks *= 2;
        }
        Ok(Self {
            options: options.clone(),
            genes,
            generator: Arc::new(Generator {
                seed: options.seed,
                n_vars,
                rates,
                centres,
            }),
            rows_per_batch: BLOCK * u64::try_from(blocks).unwrap_or(1),
        })
    }

    async fn write(&self, writer: &Arc<dyn StoreWriter>, progress: &dyn Progress) -> Result<()> {
        let root = ElementKey::root();
        writer
            .set_attributes(&root, &encoding("anndata", "0.1.0"))
            .await?;
        for name in ["layers", "obsm", "obsp", "uns", "varm", "varp"] {
            writer
                .create_group(&root.child(name), &encoding("dict", "0.1.0"))
                .await?;
        }
        self.write_var(writer).await?;
        self.write_uns(writer).await?;
        self.write_cells(writer, progress).await
    }

    fn place(&self, writer: &Arc<dyn StoreWriter>, key: &str, rows: u64) -> Place {
        Place {
            key: ElementKey::new(key),
            size: ColumnSize {
                rows: Some(rows),
                nnz: None,
            },
            ..Place::root(writer, self.options.storage)
        }
    }

    async fn write_cells(
        &self,
        writer: &Arc<dyn StoreWriter>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let n_obs = self.options.n_obs;
        let columns = Columns::new(usize::from(self.options.cell_types), self.genes.len());
        let index = Field::new("obs_names", DataType::Utf8, false);
        let mut obs =
            FrameWriter::create(self.place(writer, "obs", n_obs), &index, &columns.obs).await?;
        let mut x = ColumnWriter::at(self.place(writer, "X", n_obs), &columns.x).await?;
        let mut pca =
            ColumnWriter::at(self.place(writer, "obsm/X_pca", n_obs), &columns.pca).await?;
        let mut start = 0;
        let mut next = self.draw_batch(start);
        while start < n_obs {
            let mut cells = next.await.map_err(|e| Error::store("synth", "cells", e))?;
            let end = (start + self.rows_per_batch).min(n_obs);
            next = self.draw_batch(end);
            let names: ArrayRef = Arc::new(StringArray::from_iter_values(
                (start..end).map(names::barcode),
            ));
            let columns = columns.obs(&cells)?;
            let (x_rows, pca_rows) = (columns::x(&mut cells)?, columns::pca(&mut cells)?);
            obs.append(&names, &columns).await?;
            x.append(&x_rows).await?;
            pca.append(&pca_rows).await?;
            start = end;
            progress.update(end);
        }
        obs.finish().await?;
        x.finish().await?;
        pca.finish().await
    }

    /// Draws the batch that begins at `start`, on all cores; nothing past the end.
    fn draw_batch(&self, start: u64) -> tokio::task::JoinHandle<Cells> {
        let generator = Arc::clone(&self.generator);
        let end = (start + self.rows_per_batch).min(self.options.n_obs);
        tokio::task::spawn_blocking(move || {
            let blocks: Vec<Range<u64>> = (start..end)
                .step_by(usize::try_from(BLOCK).unwrap_or(1))
                .map(|at| at..(at + BLOCK).min(end))
                .collect();
            let parts: Vec<Cells> = blocks
                .into_par_iter()
                .map(|rows| generator.block(rows))
                .collect();
            join(parts)
        })
    }

    async fn write_var(&self, writer: &Arc<dyn StoreWriter>) -> Result<()> {
        let rates = &self.generator.rates;
        let n = self.genes.len();
        let index = Field::new("var_names", DataType::Utf8, false);
        let fields: Vec<FieldRef> = vec![
            Arc::new(Field::new("gene_ids", DataType::Utf8, false)),
            Arc::new(Field::new("highly_variable", DataType::Boolean, false)),
            Arc::new(Field::new("mean_counts", DataType::Float32, false)),
        ];
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| rates.dispersion[*b].total_cmp(&rates.dispersion[*a]));
        let mut variable = vec![false; n];
        for gene in &order[..n.div_ceil(10)] {
            variable[*gene] = true;
        }
        let ids = (0..n).map(|g| format!("ENSG{g:011}"));
        let mean = |share: &f64| to_f32(share * rates.library);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(ids)),
            Arc::new(BooleanArray::from(variable)),
            Arc::new(Float32Array::from_iter_values(
                rates.mean_share.iter().map(mean),
            )),
        ];
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(&self.genes));
        let place = self.place(writer, "var", self.options.n_vars.into());
        let mut var = FrameWriter::create(place, &index, &fields).await?;
        var.append(&names, &columns).await?;
        var.finish().await
    }

    async fn write_uns(&self, writer: &Arc<dyn StoreWriter>) -> Result<()> {
        let types = usize::from(self.options.cell_types);
        let colors: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..types).map(names::color)));
        let place = self.place(
            writer,
            "uns/cell_type_colors",
            self.options.cell_types.into(),
        );
        let field = Field::new("cell_type_colors", DataType::Utf8, false);
        let mut column = ColumnWriter::at(place, &field).await?;
        column.append(&colors).await?;
        column.finish().await?;
        let group = ElementKey::new("uns/synth");
        writer
            .create_group(&group, &encoding("dict", "0.1.0"))
            .await?;
        let program: ArrayRef = Arc::new(StringArray::from(vec![concat!(
            "annfusion ",
            env!("CARGO_PKG_VERSION")
        )]));
        let seed = i64::try_from(self.options.seed).unwrap_or(-1);
        let scalars = [
            ("program", "string", DType::String, program),
            (
                "seed",
                "numeric-scalar",
                DType::Int64,
                Arc::new(Int64Array::from(vec![seed])),
            ),
        ];
        for (name, encoding_type, dtype, value) in scalars {
            let spec = ArraySpec {
                dtype,
                extent: Extent::Scalar,
                appendable: false,
                compression: self.options.storage.compression,
                pieces: None,
                attributes: encoding(encoding_type, "0.2.0"),
            };
            let mut array = writer.create_array(&group.child(name), spec).await?;
            array.append(value).await?;
            array.finish().await?;
        }
        Ok(())
    }
}

fn join(parts: Vec<Cells>) -> Cells {
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    for part in parts {
        all.cell_type.extend(part.cell_type);
        all.donor.extend(part.donor);
        all.n_counts.extend(part.n_counts);
        all.n_genes.extend(part.n_genes);
        all.pct_mito.extend(part.pct_mito);
        all.s_score.extend(part.s_score);
        all.is_doublet.extend(part.is_doublet);
        all.lengths.extend(part.lengths);
        all.indices.extend(part.indices);
        all.data.extend(part.data);
        all.pca.extend(part.pca);
    }
    all
}
