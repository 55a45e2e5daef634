//! A node of a store and what it says it is: `encoding-type`, or for files older than that, what
//! its kind and attributes say.

use std::sync::Arc;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::{DType, ElementKey, is_url};
use crate::store::{ArrayReader, Attributes, NodeKind, Store};

/// An encoding of AnnData, current name; older layouts are named by what they upgrade to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Encoding {
    AnnData,
    Raw,
    Dict,
    DataFrame,
    Array,
    StringArray,
    RecArray,
    Csr,
    Csc,
    Categorical,
    NullableInteger,
    NullableBoolean,
    NullableString,
    Awkward,
    NumericScalar,
    String,
    Bytes,
    Null,
}

impl Encoding {
    /// `encoding-type` as anndata writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AnnData => "anndata",
            Self::Raw => "raw",
            Self::Dict => "dict",
            Self::DataFrame => "dataframe",
            Self::Array => "array",
            Self::StringArray => "string-array",
            Self::RecArray => "rec-array",
            Self::Csr => "csr_matrix",
            Self::Csc => "csc_matrix",
            Self::Categorical => "categorical",
            Self::NullableInteger => "nullable-integer",
            Self::NullableBoolean => "nullable-boolean",
            Self::NullableString => "nullable-string-array",
            Self::Awkward => "awkward-array",
            Self::NumericScalar => "numeric-scalar",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Null => "null",
        }
    }

    /// The encoding of a tag, [`None`] where AnnData knows no such type and version. A tag without
    /// a version is taken at its word.
    pub(crate) fn of(encoding_type: &str, version: &str) -> Option<Self> {
        let all = [
            (Self::AnnData, &["0.1.0"][..]),
            (Self::Raw, &["0.1.0"]),
            (Self::Dict, &["0.1.0"]),
            (Self::DataFrame, &["0.2.0", "0.1.0"]),
            (Self::Array, &["0.2.0"]),
            (Self::StringArray, &["0.2.0"]),
            (Self::RecArray, &["0.2.0"]),
            (Self::Csr, &["0.1.0"]),
            (Self::Csc, &["0.1.0"]),
            (Self::Categorical, &["0.2.0"]),
            (Self::NullableInteger, &["0.1.0"]),
            (Self::NullableBoolean, &["0.1.0"]),
            (Self::NullableString, &["0.1.0"]),
            (Self::Awkward, &["0.1.0"]),
            (Self::NumericScalar, &["0.2.0"]),
            (Self::String, &["0.2.0"]),
            (Self::Bytes, &["0.2.0"]),
            (Self::Null, &["0.1.0"]),
        ];
        all.into_iter()
            .find(|(encoding, _)| encoding.name() == encoding_type)
            .filter(|(_, versions)| version.is_empty() || versions.contains(&version))
            .map(|(encoding, _)| encoding)
    }
}

/// A node whose attributes are at hand.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) key: ElementKey,
    pub(crate) kind: NodeKind,
    pub(crate) attributes: Arc<Attributes>,
}

impl Node {
    /// The node at `key`, [`None`] where there is nothing.
    pub(crate) async fn find(store: &Arc<dyn Store>, key: &ElementKey) -> Result<Option<Self>> {
        let Some(kind) = store.node(key).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            store: Arc::clone(store),
            key: key.clone(),
            kind,
            attributes: store.attributes(key).await?,
        }))
    }

    /// The node at `key`, which must be there.
    pub(crate) async fn open(store: &Arc<dyn Store>, key: &ElementKey) -> Result<Self> {
        Self::find(store, key)
            .await?
            .ok_or_else(|| not_found(store, key, ""))
    }

    /// A child, [`None`] where there is none (an array has none).
    pub(crate) async fn find_child(&self, name: &str) -> Result<Option<Self>> {
        match self.kind {
            NodeKind::Group => Self::find(&self.store, &self.key.child(name)).await,
            NodeKind::Array => Ok(None),
        }
    }

    /// A child, which must be there; `hint` says why.
    pub(crate) async fn child(&self, name: &str, hint: &str) -> Result<Self> {
        if let Some(child) = self.find_child(name).await? {
            return Ok(child);
        }
        let key = self.key.child(name);
        // A store on a disk may know what became of it; who asks elsewhere would ask a server.
        let told = match is_url(self.store.url()) {
            true => Vec::new(),
            false => self
                .store
                .contradictions(&self.key)
                .await
                .unwrap_or_default(),
        };
        let reason = told.into_iter().find(|told| told.key == key);
        let reason = reason.map(|told| format!(", {}", told.reason));
        let hint = format!("{}{hint}", reason.unwrap_or_default());
        Err(not_found(&self.store, &key, &hint))
    }

    /// Names of the children, in name order; none for an array.
    pub(crate) async fn children(&self) -> Result<Vec<String>> {
        match self.kind {
            NodeKind::Group => self.store.children(&self.key).await,
            NodeKind::Array => Ok(Vec::new()),
        }
    }

    /// The array at this node.
    pub(crate) async fn array(&self) -> Result<Arc<dyn ArrayReader>> {
        self.store.array(&self.key).await
    }

    /// The array that is the child `name`.
    pub(crate) async fn member(&self, name: &str) -> Result<Arc<dyn ArrayReader>> {
        self.store.array(&self.key.child(name)).await
    }

    /// A text attribute.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).and_then(Value::as_str)
    }

    /// `encoding-type` and `encoding-version` as found, empty where there are none.
    pub(crate) fn tag(&self) -> (&str, &str) {
        let text = |name| self.text(name).unwrap_or_default();
        (text("encoding-type"), text("encoding-version"))
    }

    /// What the node is. Reads an array's description only where its attributes do not say.
    ///
    /// # Errors
    /// [`Error::UnsupportedEncoding`] for a tag that AnnData does not know.
    pub(crate) async fn encoding(&self) -> Result<Encoding> {
        let (encoding_type, version) = self.tag();
        if !encoding_type.is_empty() {
            return Encoding::of(encoding_type, version).ok_or_else(|| self.unsupported());
        }
        match self.kind {
            NodeKind::Group => Ok(match self.text("h5sparse_format") {
                Some("csr") => Encoding::Csr,
                Some("csc") => Encoding::Csc,
                Some(other) => {
                    return Err(self.invalid(format!(
                        "h5sparse_format is {other:?}, neither \"csr\" nor \"csc\""
                    )));
                }
                None => Encoding::Dict,
            }),
            NodeKind::Array if self.attributes.contains_key("categories") => {
                Ok(Encoding::Categorical)
            }
            NodeKind::Array => Ok(untagged(self.array().await?.as_ref())),
        }
    }

    /// An attribute that holds the two lengths of a sparse matrix.
    pub(crate) fn sparse_shape(&self) -> Result<[u64; 2]> {
        let attribute = ["shape", "h5sparse_shape"]
            .into_iter()
            .find_map(|name| self.attributes.get(name))
            .ok_or_else(|| self.invalid("attribute shape is missing"))?;
        let lengths: Option<Vec<u64>> = attribute
            .as_array()
            .and_then(|list| list.iter().map(Value::as_u64).collect());
        lengths
            .and_then(|list| <[u64; 2]>::try_from(list).ok())
            .ok_or_else(|| self.invalid(format!("attribute shape is {attribute}, not two lengths")))
    }

    /// An [`Error::UnsupportedEncoding`] for this node.
    pub(crate) fn unsupported(&self) -> Error {
        let (encoding_type, encoding_version) = self.tag();
        Error::UnsupportedEncoding {
            url: self.store.url().to_owned(),
            element: self.key.clone(),
            encoding_type: encoding_type.to_owned(),
            encoding_version: encoding_version.to_owned(),
        }
    }

    /// An [`Error::InvalidElement`] for this node.
    pub(crate) fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::invalid(self.store.url(), &self.key, reason)
    }
}

/// What an array without a tag is, by its type and shape.
fn untagged(array: &dyn ArrayReader) -> Encoding {
    let info = array.info();
    if info.null {
        return Encoding::Null;
    }
    match (&info.dtype, info.shape.is_empty()) {
        (DType::Struct(_), _) => Encoding::RecArray,
        (DType::String, true) => Encoding::String,
        (DType::String, false) => Encoding::StringArray,
        (_, true) => Encoding::NumericScalar,
        (_, false) => Encoding::Array,
    }
}

fn not_found(store: &Arc<dyn Store>, key: &ElementKey, hint: &str) -> Error {
    Error::ElementNotFound {
        url: store.url().to_owned(),
        element: key.clone(),
        hint: hint.to_owned(),
    }
}
