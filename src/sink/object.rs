//! The object being written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};

use crate::element::{ColumnSize, ColumnWriter, FrameWriter, Place, Storage, encoding};
use crate::error::{Error, Result};
use crate::model::{AxisRegistry, ElementKey, shown_path};
use crate::sink::finish::{Parts, Rest, write_rest};
use crate::sink::layout::Layout;
use crate::sink::options::{ObjectSize, SinkOptions};
use crate::sink::origin::Sources;
use crate::sink::provenance::Provenance;
use crate::store::{self, StoreWriter};

/// Writes batches of the `cells` table as an object.
///
/// Columns go where their names say: `obs_names` is the index, `X`, `layers_<key>`, `raw_X` and
/// `obsm_<key>` are elements, other matrices go to `layers` (over genes) or `obsm`, and everything
/// else to `obs`. `obs_idx` is not written.
#[derive(Debug)]
pub struct ObjectSink {
    writer: Arc<dyn StoreWriter>,
    path: PathBuf,
    schema: SchemaRef,
    layout: Layout,
    storage: Storage,
    drop: Vec<ElementKey>,
    obs: FrameWriter,
    /// In the order of `layout.elements`.
    elements: Vec<ColumnWriter>,
    provenance: Provenance,
    sources: Sources,
    rows: u64,
}

impl ObjectSink {
    /// Starts an object beside `path`, which must end as the format's names do.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where a column cannot be written or matrices are over
    /// different genes; [`Error::OutputRefused`] where the output exists and may not be replaced.
    pub async fn create(
        path: &Path,
        schema: &SchemaRef,
        size: &ObjectSize,
        options: &SinkOptions,
    ) -> Result<Self> {
        let writer = store::create(&options.object(path)).await?;
        Self::start(writer, path, schema, size, options).await
    }

    /// Starts an object at the root of a store that was begun for it.
    ///
    /// # Errors
    /// As [`create`](Self::create), but for those of the store.
    pub(super) async fn start(
        writer: Arc<dyn StoreWriter>,
        path: &Path,
        schema: &SchemaRef,
        size: &ObjectSize,
        options: &SinkOptions,
    ) -> Result<Self> {
        let mut layout = Layout::of(schema)?;
        if let (None, Some(id)) = (&layout.axis, &size.axis) {
            layout.axis = AxisRegistry::global().get(id);
        }
        let root = ElementKey::root();
        writer
            .set_attributes(&root, &encoding("anndata", "0.1.0"))
            .await?;
        let dict = encoding("dict", "0.1.0");
        for group in ["layers", "obsm", "obsp", "varm", "varp"] {
            writer.create_group(&root.child(group), &dict).await?;
        }
        if layout.raw.is_some() {
            writer
                .create_group(&root.child("raw"), &encoding("raw", "0.1.0"))
                .await?;
        }
        let place = |key: ElementKey, size: ColumnSize| Place {
            key,
            size,
            ..Place::root(&writer, options.storage)
        };
        let rows = ColumnSize {
            rows: size.rows,
            nnz: None,
        };
        let numbered: FieldRef = Arc::new(Field::new("obs_names", DataType::Utf8, false));
        let index = layout.index.map_or(&numbered, |i| &schema.fields()[i]);
        let columns: Vec<FieldRef> = layout
            .obs
            .iter()
            .map(|i| Arc::clone(&schema.fields()[*i]))
            .collect();
        let obs = FrameWriter::create(place(root.child("obs"), rows), index, &columns).await?;
        let mut elements = Vec::with_capacity(layout.elements.len());
        for (i, key) in &layout.elements {
            let field = &schema.fields()[*i];
            let place = place(key.clone(), size.column(field.name()));
            elements.push(ColumnWriter::at(place, field).await?);
        }
        Ok(Self {
            path: path.to_owned(),
            schema: Arc::clone(schema),
            storage: options.storage,
            drop: options.drop.clone(),
            provenance: Provenance::default(),
            sources: Sources::default(),
            rows: 0,
            writer,
            layout,
            obs,
            elements,
        })
    }

    /// Makes known what rows may come from.
    #[must_use]
    pub(crate) fn with_sources(mut self, sources: Sources) -> Self {
        self.sources = sources;
        self
    }

    /// Appends rows.
    ///
    /// # Errors
    /// [`Error::IncompatibleSchemas`] where the batch is not of the schema, or its rows come from
    /// a second object; those of [`ColumnWriter::append`].
    pub async fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_columns() != self.schema.fields().len() {
            return Err(Error::IncompatibleSchemas(format!(
                "{}: a batch of {} columns where the schema has {}",
                shown_path(&self.path),
                batch.num_columns(),
                self.schema.fields().len()
            )));
        }
        if let Some((object, row)) = self.layout.provenance {
            self.provenance
                .push(batch.column(object), batch.column(row))?;
        }
        let first = self.rows;
        self.rows += batch.num_rows() as u64;
        let index: ArrayRef = match self.layout.index {
            Some(i) => Arc::clone(batch.column(i)),
            None => Arc::new(StringArray::from_iter_values(
                (first..self.rows).map(|row| row.to_string()),
            )),
        };
        let columns: Vec<ArrayRef> = self
            .layout
            .obs
            .iter()
            .map(|i| Arc::clone(batch.column(*i)))
            .collect();
        let mut jobs: Vec<BoxFuture<'_, Result<()>>> =
            vec![self.obs.append(&index, &columns).boxed()];
        for ((i, _), writer) in self.layout.elements.iter().zip(&mut self.elements) {
            jobs.push(writer.append(batch.column(*i)).boxed());
        }
        try_join_all(jobs).await?;
        Ok(())
    }

    /// Rows appended so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes what no batch holds, from the rows' source, and closes the file under its temporary
    /// name.
    ///
    /// Reads `var`, `varm`, `varp`, `uns` and the selected rows of `obsp` of the source, by blocks.
    ///
    /// # Errors
    /// Those of reading the source and of writing; [`Error::LengthMismatch`] where other rows came
    /// than the size said.
    pub async fn finish(self) -> Result<FinishedObject> {
        self.obs.finish().await?;
        for element in self.elements {
            element.finish().await?;
        }
        let place = Place::root(&self.writer, self.storage);
        let parts = Parts {
            layout: &self.layout,
            drop: &self.drop,
        };
        let rest = write_rest(&place, parts, self.provenance, &self.sources, self.rows);
        let mut rest = Box::pin(rest).await?;
        if self.layout.index.is_none() && self.rows > 0 {
            let lost = "obs_names: the query does not give them, so the cells are numbered";
            rest.warnings.push(lost.to_owned());
        }
        self.writer.close().await?;
        Ok(FinishedObject {
            writer: self.writer,
            path: self.path,
            rows: self.rows,
            rest,
        })
    }
}

/// A complete object under a temporary name, which is removed unless it is committed.
#[derive(Debug)]
pub struct FinishedObject {
    writer: Arc<dyn StoreWriter>,
    path: PathBuf,
    rows: u64,
    rest: Rest,
}

impl FinishedObject {
    /// The final name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Rows written.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What could not be kept, and why; one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.rest.warnings
    }

    /// Whether its rows are cells of one object, which gave it `obsp` and `uns`.
    pub fn is_of_one_object(&self) -> bool {
        self.rest.of_one_object
    }

    /// Whether a matrix, or the object that the rows are of, gave it genes.
    pub fn has_genes(&self) -> bool {
        self.rest.has_genes
    }

    /// Gives the object its final name.
    ///
    /// # Errors
    /// [`Error::OutputRefused`] where a file has appeared there meanwhile; [`Error::Store`] where
    /// renaming fails.
    pub async fn commit(self) -> Result<()> {
        self.writer.commit().await
    }
}
