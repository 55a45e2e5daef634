//! [`references()`]: a zarr store that has none of an object's bytes, but says where they are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::convert::check_dropped;
use super::progress::Progress;
use super::report::{OutputReport, Report};
use crate::element::{
    AnnData, ColumnReader, CopyOptions, Frame, Place, Storage, copy_tree, encoding, not_written,
};
use crate::error::{Error, Result};
use crate::kernel::Positions;
use crate::model::{ElementKey, Location, RowSelection};
use crate::sink::{write_column, write_frame};
use crate::store::{
    Format, Inputs, StoreWriter, WriteTarget, ZarrVersion, bytes_at, create_references,
};

/// Options of [`references()`].
#[derive(Debug, Clone)]
pub struct ReferenceOptions {
    /// The h5ad to refer to.
    pub input: Location,
    /// The document to write; its name ends in `.json`.
    pub output: PathBuf,
    /// Elements to leave out, with all below them.
    pub drop: Vec<ElementKey>,
    /// Whether an existing document may be replaced.
    pub overwrite: bool,
    /// Whether it is flushed to the device before it gets its name.
    pub fsync: bool,
}

/// Writes references to an h5ad: a kerchunk JSON (version 1), through which fsspec and zarr-python
/// open the object, all of it, over the file as it is.
///
/// Numbers are referred to chunk by chunk. By value stand text, legacy frames of records, single
/// values, and arrays with a filter that numcodecs does not have (lzf), up to 64 MiB each. Elements
/// have the encodings of today; matrices by column stay so. The file must keep its place and its
/// bytes.
///
/// # Errors
/// [`Error::InvalidOption`] for an input that is no HDF5 file, an output that is not called `.json`
/// and elements to drop that are not there; [`Error::OutputRefused`] where the output may not be
/// written; [`Error::Store`] that names an array which can neither be referred to nor held; whatever
/// opening the input meets.
pub async fn references(options: &ReferenceOptions, progress: Arc<dyn Progress>) -> Result<Report> {
    let begun = Instant::now();
    let object = AnnData::open(&options.input).await?;
    if object.store().format() != "h5ad" || !object.members().is_empty() {
        return Err(Error::option(
            "--virtual",
            format!(
                "{} is no HDF5 file: only those are referred to, one at a time",
                options.input
            ),
        ));
    }
    if options.input.path() != object.store().url() && options.input.is_url() {
        return Err(Error::option(
            "--virtual",
            format!(
                "{} has a password or a query, which a document of references would make public or \
                 lack",
                options.input
            ),
        ));
    }
    Inputs::of([options.input.path()]).check(&options.output)?;
    check_dropped(std::slice::from_ref(&object), &options.drop).await?;
    progress.start("refer", object.n_obs());
    let target = WriteTarget {
        path: options.output.clone(),
        format: Format::Zarr {
            version: ZarrVersion::V2,
            sharded: false,
        },
        overwrite: options.overwrite,
        fsync: options.fsync,
        run_bytes: 0,
        consolidated: true,
    };
    let writer = create_references(&target, object.store().as_ref())?;
    let copy = Copy::new(&object, writer, &target, &options.drop);
    copy.all().await?;
    copy.writer.close().await?;
    copy.writer.commit().await?;
    progress.update(object.n_obs());
    progress.finish();
    let strays = object.strays().await?.iter();
    let warnings = strays.map(not_written);
    Ok(Report {
        outputs: vec![OutputReport {
            path: options.output.clone(),
            n_obs: object.n_obs(),
            n_vars: object.n_vars(),
            bytes: bytes_at(&options.output).await,
        }],
        warnings: warnings.collect(),
        details: Vec::new(),
        memory_bytes: 0,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// An object on its way, element by element.
struct Copy<'a> {
    object: &'a Arc<AnnData>,
    writer: Arc<dyn StoreWriter>,
    place: Place,
    drop: &'a [ElementKey],
    options: CopyOptions,
}

impl<'a> Copy<'a> {
    fn new(
        object: &'a Arc<AnnData>,
        writer: Arc<dyn StoreWriter>,
        target: &WriteTarget,
        drop: &'a [ElementKey],
    ) -> Self {
        let storage = Storage::of(target.format);
        let root = object.root();
        let mut skip = object.uns_skip().to_vec();
        skip.extend(drop.iter().map(|key| root.child(key.as_str())));
        Self {
            object,
            place: Place::root(&writer, storage),
            writer,
            drop,
            options: CopyOptions { storage, skip },
        }
    }

    async fn all(&self) -> Result<()> {
        let object = self.object;
        let root = ElementKey::root();
        let anndata = encoding("anndata", "0.1.0");
        self.writer.set_attributes(&root, &anndata).await?;
        self.frame(object.obs(), &root.child("obs")).await?;
        self.frame(object.var(), &root.child("var")).await?;
        if let Some(x) = object.x() {
            self.tree(x.key(), &root.child("X")).await?;
        }
        let layers = object.layers().iter().map(|(name, m)| (name, m.key()));
        self.matrices("layers", layers).await?;
        let obsp = object.obsp().iter().map(|(name, m)| (name, m.key()));
        self.matrices("obsp", obsp).await?;
        let varp = object.varp().iter().map(|(name, m)| (name, m.key()));
        self.matrices("varp", varp).await?;
        self.columns(&root.child("obsm"), object.obsm(), object.n_obs())
            .await?;
        self.columns(&root.child("varm"), object.varm(), object.n_vars())
            .await?;
        self.raw().await?;
        match object.uns() {
            Some(uns) if self.keeps(&root.child("uns")) => {
                self.tree(&uns, &root.child("uns")).await
            }
            _ => self.dict(&root.child("uns")).await,
        }
    }

    async fn raw(&self) -> Result<()> {
        let key = ElementKey::new("raw");
        let Some(raw) = self.object.raw().filter(|_| self.keeps(&key)) else {
            return Ok(());
        };
        self.writer
            .create_group(&key, &encoding("raw", "0.1.0"))
            .await?;
        if let Some(x) = raw.x() {
            self.tree(x.key(), &key.child("X")).await?;
        }
        self.frame(raw.var(), &key.child("var")).await?;
        let n_vars = raw.var().n_rows();
        self.columns(&key.child("varm"), raw.varm(), n_vars).await
    }

    fn keeps(&self, key: &ElementKey) -> bool {
        !self.drop.iter().any(|dropped| key.is_in(dropped))
    }

    async fn dict(&self, key: &ElementKey) -> Result<()> {
        let dict = encoding("dict", "0.1.0");
        self.writer.create_group(key, &dict).await
    }

    async fn tree(&self, from: &ElementKey, to: &ElementKey) -> Result<()> {
        match self.keeps(to) {
            true => copy_tree(self.object.store(), from, &self.writer, to, &self.options).await,
            false => Ok(()),
        }
    }

    async fn matrices(
        &self,
        group: &str,
        matrices: impl Iterator<Item = (&String, &ElementKey)>,
    ) -> Result<()> {
        let group = ElementKey::new(group);
        self.dict(&group).await?;
        for (name, from) in matrices {
            self.tree(from, &group.child(name)).await?;
        }
        Ok(())
    }

    async fn columns(
        &self,
        group: &ElementKey,
        columns: &[(String, Arc<dyn ColumnReader>)],
        len: u64,
    ) -> Result<()> {
        self.dict(group).await?;
        for (name, reader) in columns {
            let to = group.child(name);
            // The members of an array of records are no nodes of their own.
            if self.object.store().node(reader.key()).await?.is_some() {
                self.tree(reader.key(), &to).await?;
            } else if self.keeps(&to) {
                write_column(reader, &all(len), self.at(to)).await?;
            }
        }
        Ok(())
    }

    async fn frame(&self, frame: &Frame, to: &ElementKey) -> Result<()> {
        let attributes = self.object.store().attributes(frame.key()).await?;
        let tag = attributes.get("encoding-type").and_then(|tag| tag.as_str());
        if tag == Some("dataframe") {
            return copy_tree(
                self.object.store(),
                frame.key(),
                &self.writer,
                to,
                &self.options,
            )
            .await;
        }
        let keep = |place: &Place| self.keeps(&place.key);
        write_frame(frame, &all(frame.n_rows()), self.at(to.clone()), keep).await
    }

    fn at(&self, key: ElementKey) -> Place {
        Place {
            key,
            ..self.place.clone()
        }
    }
}

fn all(len: u64) -> Positions {
    Positions::Sorted(RowSelection::all(len))
}
