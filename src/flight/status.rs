//! Errors as gRPC statuses.

use tonic::Status;

use crate::error::Error;

/// The status that tells a client what it can do about an error.
pub(super) fn status(error: Error) -> Status {
    let text = error.to_string();
    match error {
        Error::InvalidOption { .. } | Error::IncompatibleSchemas(_) => {
            Status::invalid_argument(text)
        }
        Error::StoreNotFound { .. } | Error::ElementNotFound { .. } => Status::not_found(text),
        Error::OutOfRange { .. } => Status::out_of_range(text),
        Error::NotImplemented(_) | Error::UnsupportedEncoding { .. } => Status::unimplemented(text),
        Error::InvalidElement { .. } | Error::LengthMismatch { .. } => Status::data_loss(text),
        Error::DataFusion(error) => match error.find_root() {
            datafusion::error::DataFusionError::ResourcesExhausted(_) => {
                Status::resource_exhausted(text)
            }
            datafusion::error::DataFusionError::Internal(_)
            | datafusion::error::DataFusionError::Execution(_) => Status::internal(text),
            _ => Status::invalid_argument(text),
        },
        _ => Status::internal(text),
    }
}
