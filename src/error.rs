//! The one public error: variants a caller can act on, messages that name the place and both values.

use datafusion::error::DataFusionError;

use crate::model::ElementKey;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A source error of any type.
pub type BoxedError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What can go wrong, by what the caller can do about it.
///
/// Messages embed their source, so print `{err}` and never the chain as well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no file or object at the location.
    #[error("no AnnData object at {url}: {reason}")]
    StoreNotFound {
        /// Where it was looked for.
        url: String,
        /// What was found instead.
        reason: String,
    },
    /// The object has no such element.
    #[error("no element {element} in {url}{hint}")]
    ElementNotFound {
        /// The object.
        url: String,
        /// The element's path.
        element: ElementKey,
        /// Empty, or what was missing or is there instead, starting with a separator.
        hint: String,
    },
    /// The element's encoding is not one that AnnData writes.
    #[error(
        "{url}: element {element} has {}, which this version cannot read",
        encoding(encoding_type, encoding_version)
    )]
    UnsupportedEncoding {
        /// The object.
        url: String,
        /// The element's path.
        element: ElementKey,
        /// `encoding-type`, as found.
        encoding_type: String,
        /// `encoding-version`, as found.
        encoding_version: String,
    },
    /// The element breaks a rule of its encoding.
    #[error("{url}: element {element}: {reason}")]
    InvalidElement {
        /// The object.
        url: String,
        /// The element's path.
        element: ElementKey,
        /// The rule, and the two values that disagree.
        reason: String,
    },
    /// Two lengths that must agree do not.
    #[error("{url}: element {element}: {what} is {actual}, but {expected_by} says {expected}")]
    LengthMismatch {
        /// The object.
        url: String,
        /// The element's path.
        element: ElementKey,
        /// What was measured, such as `length of codes`.
        what: String,
        /// The length found.
        actual: u64,
        /// What the expectation comes from, such as `n_obs`.
        expected_by: String,
        /// The length expected.
        expected: u64,
    },
    /// A position lies outside its axis.
    #[error("{url}: element {element}: position {position} is not below {len}")]
    OutOfRange {
        /// The object.
        url: String,
        /// The element's path.
        element: ElementKey,
        /// The position asked for or found.
        position: i128,
        /// The length of the axis.
        len: u64,
    },
    /// Columns or objects that do not fit together.
    #[error("{0}")]
    IncompatibleSchemas(String),
    /// An option whose value cannot be used.
    #[error("{option}: {reason}")]
    InvalidOption {
        /// The option, as the user writes it.
        option: String,
        /// The value given and what would do.
        reason: String,
    },
    /// An output that exists, or that is also an input.
    #[error("{path}: {reason}")]
    OutputRefused {
        /// The output.
        path: String,
        /// Why it is not written.
        reason: String,
    },
    /// Something this version does not do.
    #[error("not implemented: {0}")]
    NotImplemented(String),
    /// The store underneath failed.
    #[error("{store} failed on {path}: {source}")]
    Store {
        /// Which backend.
        store: &'static str,
        /// The file and the path inside it.
        path: String,
        /// The backend's error.
        source: BoxedError,
    },
    /// Arrow refused an operation.
    #[error("arrow: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// DataFusion failed in planning or running.
    #[error("{0}")]
    DataFusion(DataFusionError),
}

/// An encoding as errors name it.
fn encoding(encoding_type: &str, version: &str) -> String {
    match encoding_type {
        "" => "no encoding-type".to_owned(),
        _ => format!("encoding-type {encoding_type:?} version {version:?}"),
    }
}

impl Error {
    /// An [`Error::InvalidElement`].
    pub fn invalid(
        url: impl Into<String>,
        element: impl Into<ElementKey>,
        reason: impl Into<String>,
    ) -> Self {
        Self::InvalidElement {
            url: url.into(),
            element: element.into(),
            reason: reason.into(),
        }
    }

    /// An [`Error::Store`].
    pub fn store(
        store: &'static str,
        path: impl Into<String>,
        source: impl Into<BoxedError>,
    ) -> Self {
        Self::Store {
            store,
            path: path.into(),
            source: source.into(),
        }
    }

    /// An [`Error::InvalidOption`].
    pub fn option(option: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidOption {
            option: option.into(),
            reason: reason.into(),
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        match error {
            Error::DataFusion(inner) => inner,
            other => Self::External(Box::new(other)),
        }
    }
}

impl From<DataFusionError> for Error {
    /// Gives back the error that went into the plan, where it was one of ours.
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(other) => Self::DataFusion(DataFusionError::External(other)),
            },
            DataFusionError::Context(context, inner) => match Self::from(*inner) {
                Self::DataFusion(inner) => {
                    Self::DataFusion(DataFusionError::Context(context, Box::new(inner)))
                }
                ours => ours,
            },
            DataFusionError::ArrowError(inner, backtrace) => match *inner {
                arrow::error::ArrowError::ExternalError(source) => {
                    Self::from(DataFusionError::External(source))
                }
                other => Self::DataFusion(DataFusionError::ArrowError(Box::new(other), backtrace)),
            },
            other => Self::DataFusion(other),
        }
    }
}
