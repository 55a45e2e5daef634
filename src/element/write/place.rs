//! Where an element is written, and the attributes that say what it is.

use std::sync::Arc;

use serde_json::Value;

use crate::element::write::{ColumnSize, Storage};
use crate::error::{Error, Result};
use crate::model::{DType, ElementKey};
use crate::store::{ArraySpec, ArrayWriter, Attributes, Compression, Extent, Pieces, StoreWriter};

/// An element to be written: its store, its path, its size, and how it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) writer: Arc<dyn StoreWriter>,
    pub(crate) key: ElementKey,
    pub(crate) size: ColumnSize,
    pub(crate) storage: Storage,
    /// How the element's arrays are cut; [`None`] leaves it to the store.
    pub(crate) pieces: Option<Pieces>,
}

impl Place {
    /// The root of a store.
    pub(crate) fn root(writer: &Arc<dyn StoreWriter>, storage: Storage) -> Self {
        Self {
            writer: Arc::clone(writer),
            key: ElementKey::root(),
            size: ColumnSize::default(),
            storage,
            pieces: None,
        }
    }

    /// The place of a member of the element.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self {
            key: self.key.child(name),
            ..self.clone()
        }
    }

    /// Starts an `array` or `string-array` of one row per row of the column, each of `row_shape`.
    pub(crate) async fn rows(
        &self,
        dtype: DType,
        row_shape: &[u64],
    ) -> Result<Box<dyn ArrayWriter>> {
        let extent = match self.size.rows {
            Some(rows) => {
                let mut shape = vec![rows];
                shape.extend(row_shape);
                Extent::Fixed(shape)
            }
            None => Extent::Growing(row_shape.to_vec()),
        };
        self.array(dtype, extent).await
    }

    /// Starts an `array`, `string-array` or `rec-array`, by the type.
    pub(crate) async fn array(&self, dtype: DType, extent: Extent) -> Result<Box<dyn ArrayWriter>> {
        let attributes = encoding(array_encoding(&dtype), "0.2.0");
        self.tagged(dtype, extent, attributes).await
    }

    /// Starts an array with the given attributes.
    pub(crate) async fn tagged(
        &self,
        dtype: DType,
        extent: Extent,
        attributes: Attributes,
    ) -> Result<Box<dyn ArrayWriter>> {
        let spec = ArraySpec {
            dtype,
            extent,
            appendable: false,
            compression: self.compression(),
            pieces: self.pieces,
            attributes,
        };
        self.writer.create_array(&self.key, spec).await
    }

    /// Starts a member of a sparse group: without attributes, and open for appending.
    pub(crate) async fn member(
        &self,
        dtype: DType,
        len: Option<u64>,
    ) -> Result<Box<dyn ArrayWriter>> {
        let spec = ArraySpec {
            dtype,
            extent: len.map_or(Extent::Growing(vec![]), |len| Extent::Fixed(vec![len])),
            appendable: true,
            compression: self.compression(),
            pieces: self.pieces,
            attributes: Attributes::new(),
        };
        self.writer.create_array(&self.key, spec).await
    }

    /// How the element's arrays are compressed: annbatch's are zstd where they are no matrices.
    fn compression(&self) -> Compression {
        match self.storage.like_annbatch && self.pieces.is_none() {
            true => Compression::Zstd(0),
            false => self.storage.compression,
        }
    }

    /// Writes a `null`.
    pub(crate) async fn null(&self) -> Result<()> {
        let attributes = encoding("null", "0.1.0");
        let array = self.tagged(DType::Float32, Extent::Null, attributes);
        array.await?.finish().await
    }

    /// Creates the element's group.
    pub(crate) async fn group(&self, attributes: &Attributes) -> Result<()> {
        self.writer.create_group(&self.key, attributes).await
    }

    /// An error about the element.
    pub(crate) fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::invalid(self.writer.url(), &self.key, reason)
    }
}

/// What an array of this type is called.
pub(crate) fn array_encoding(dtype: &DType) -> &'static str {
    match dtype {
        DType::String => "string-array",
        DType::Struct(_) => "rec-array",
        _ => "array",
    }
}

/// The two attributes that every element has.
pub(crate) fn encoding(encoding_type: &str, version: &str) -> Attributes {
    attributes([
        ("encoding-type", encoding_type.into()),
        ("encoding-version", version.into()),
    ])
}

/// Attributes from pairs.
fn attributes<const N: usize>(pairs: [(&str, Value); N]) -> Attributes {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// `attributes` and one more.
pub(crate) fn with(mut attributes: Attributes, name: &str, value: impl Into<Value>) -> Attributes {
    attributes.insert(name.to_owned(), value.into());
    attributes
}
