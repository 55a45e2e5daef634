//! What can go wrong below a store's surface.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::Error;
use crate::model::ElementKey;

/// An error that does not know yet which file and element it belongs to.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum Fault {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The metadata does not parse.
    #[error("{0}")]
    Format(hdf5_pure::Error),
    /// The reference library refused.
    #[error("{0}")]
    Library(#[from] hdf5::Error),
    /// Bytes or lengths contradict each other.
    #[error("{0}")]
    Corrupt(String),
    /// Valid, but beyond this reader.
    #[error("{0}")]
    Unsupported(String),
    /// Arrow refused the parts.
    #[error("{0}")]
    Arrow(#[from] arrow::error::ArrowError),
}

impl From<hdf5_pure::Error> for Fault {
    /// What the parser hands through from the bytes below it stays an error of theirs.
    fn from(error: hdf5_pure::Error) -> Self {
        match error {
            hdf5_pure::Error::Format(hdf5_pure::FormatError::Source(text)) => {
                Self::Io(std::io::Error::other(text))
            }
            other => Self::Format(other),
        }
    }
}

impl Fault {
    /// The public error, with its place.
    pub(in crate::store) fn at(self, url: &str, key: &ElementKey) -> Error {
        match self {
            Self::Corrupt(reason) => Error::invalid(url, key, reason),
            Self::Unsupported(reason) => {
                Error::NotImplemented(format!("{url}: element {key}: {reason}"))
            }
            Self::Io(source) => Error::store("storage", format!("{url}: element {key}"), source),
            Self::Arrow(source) => Error::store("arrow", format!("{url}: element {key}"), source),
            other => Error::store("hdf5", format!("{url}: element {key}"), other),
        }
    }
}

/// Runs a parser on a file's bytes and turns a panic into an error. `hdf5-pure` did not panic on
/// some thousands of broken files; this is the belt for the next one, since a panic on a worker
/// would take a query down with a message that names no file.
pub(in crate::store) fn guard<T>(parse: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(parse)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

/// The error for a caught panic.
pub(in crate::store) fn panicked(panic: &(dyn Any + Send)) -> Fault {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Fault::Corrupt(format!("the reader gave up on these bytes: {text}"))
}
