//! What went wrong, in words that hold no secret.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use object_store::client::{HttpError, HttpErrorKind};
use object_store::{Error, ObjectStoreScheme};

use crate::model::shown;

/// Bytes of a server's message that are shown.
const MESSAGE_BYTES: usize = 300;

/// Who answers, for advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Aws,
    Azure,
    Google,
    Web,
    /// A store that a program registered.
    Registered,
}

impl Service {
    pub(super) fn of(scheme: &ObjectStoreScheme) -> Self {
        match scheme {
            ObjectStoreScheme::AmazonS3 => Self::Aws,
            ObjectStoreScheme::GoogleCloudStorage => Self::Google,
            ObjectStoreScheme::MicrosoftAzure => Self::Azure,
            ObjectStoreScheme::Http => Self::Web,
            _ => Self::Registered,
        }
    }

    /// Whether names below a prefix can be asked for.
    ///
    /// # Errors
    /// Where they cannot, and what helps.
    pub(super) fn check_listing(self) -> io::Result<()> {
        match self {
            Self::Web => Err(io::Error::new(
                ErrorKind::Unsupported,
                "names have to be listed, which web servers do not do, because the store has no \
                 consolidated metadata; zarr.consolidate_metadata(store) adds it",
            )),
            _ => Ok(()),
        }
    }

    /// Where credentials come from.
    fn credentials(self) -> &'static str {
        match self {
            Self::Aws => {
                "credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN \
                 (or the machine's role), the server from AWS_REGION and AWS_ENDPOINT_URL; \
                 AWS_SKIP_SIGNATURE=true asks without any"
            }
            Self::Azure => {
                "credentials come from AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, \
                 AZURE_STORAGE_SAS_KEY or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID; \
                 AZURE_SKIP_SIGNATURE=true asks without any"
            }
            Self::Google => {
                "credentials come from GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS; \
                 GOOGLE_SKIP_SIGNATURE=true asks without any"
            }
            Self::Registered => "a program registered the store, and its credentials",
            Self::Web => {
                "a user and a password stand in the URL before an @, a signature in its query"
            }
        }
    }
}

/// The error of a request; `at` is what its message begins with.
pub(super) fn explain(error: &Error, service: Service, at: &str) -> io::Error {
    let cause = cause(error);
    match error {
        Error::NotFound { .. } => {
            io::Error::new(ErrorKind::NotFound, format!("{at}there is nothing"))
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::Error::new(
            ErrorKind::PermissionDenied,
            format!("{at}permission denied ({cause}); {}", service.credentials()),
        ),
        Error::Precondition { .. } => changed(at),
        Error::NotSupported { .. } => io::Error::new(
            ErrorKind::Unsupported,
            format!(
                "{at}the server answers no requests for parts of a file, which h5ad and shards of \
                 zarr take; zarr without shards (--no-shards) is read file by file"
            ),
        ),
        _ => {
            let hint = match service {
                Service::Aws if cause.contains("redirect") => {
                    "; AWS_REGION names the bucket's region"
                }
                Service::Aws if cause.contains("169.254.169.254") => {
                    "; no credentials were found: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY hold \
                     them, AWS_SKIP_SIGNATURE=true asks without any"
                }
                _ => "",
            };
            io::Error::new(kind(error), format!("{at}{cause}{hint}"))
        }
    }
}

/// Why an object could not be stored: its key, and the cause. Whoever hands over the next bytes is
/// told, mostly of another array.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotStored(pub(super) String);

/// Whether an error is of an object that it names itself, not of what was asked for.
pub(in crate::store) fn names_its_key(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error
        .and_then(io::Error::get_ref)
        .is_some_and(|inner| inner.is::<NotStored>())
}

/// An object that is not the one that was opened.
pub(in crate::store) fn changed(at: &str) -> io::Error {
    io::Error::other(format!("{at}it was changed while it was read"))
}

fn kind(error: &Error) -> ErrorKind {
    match transport(error) {
        Some(HttpErrorKind::Timeout) => ErrorKind::TimedOut,
        Some(HttpErrorKind::Connect) => ErrorKind::NotConnected,
        _ => ErrorKind::Other,
    }
}

/// Whether another attempt may help that the client itself does not make: the connection was lost
/// while an answer came.
pub(super) fn is_transient(error: &Error) -> bool {
    matches!(
        transport(error),
        Some(
            HttpErrorKind::Unknown
                | HttpErrorKind::Decode
                | HttpErrorKind::Interrupted
                | HttpErrorKind::Request
        )
    )
}

fn transport(error: &Error) -> Option<HttpErrorKind> {
    chain(error).find_map(|e| e.downcast_ref::<HttpError>().map(HttpError::kind))
}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |e: &&'a (dyn StdError + 'static)| {
        (*e).source()
    })
}

/// The first cause, in a few words: of an answer its status, code and message, else what the system
/// says.
fn cause(error: &Error) -> String {
    const ANSWER: &str = "Server returned non-2xx status code: ";
    for e in chain(error) {
        let text = e.to_string();
        if let Some(answer) = text.strip_prefix(ANSWER) {
            return answered(answer);
        }
    }
    let last = chain(error).last().map(ToString::to_string);
    let last = last.unwrap_or_default();
    let whole = error.to_string();
    let tries = match whole.split_once(", after ") {
        Some((_, rest)) => rest
            .split_once(" retries")
            .map(|(n, _)| format!(" (after {n} retries)"))
            .unwrap_or_default(),
        None => String::new(),
    };
    let host = match whole.contains("169.254.169.254") && !last.contains("169.254.169.254") {
        true => "169.254.169.254: ",
        false => "",
    };
    clipped(&format!("{host}{}{tries}", redacted(&last)))
}

/// `403 Forbidden: <xml>` as `403 Forbidden, AccessDenied: the message`.
fn answered(text: &str) -> String {
    let (status, body) = text.split_once(": ").unwrap_or((text, ""));
    let tag = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once('<')?;
        Some(text.lines().next().unwrap_or_default().trim().to_owned())
    };
    let mut shown = status.trim_end_matches(':').to_owned();
    if let Some(code) = tag("Code") {
        shown.push_str(", ");
        shown.push_str(&redacted(&code));
    }
    if let Some(message) = tag("Message") {
        shown.push_str(": ");
        shown.push_str(&redacted(&message));
    }
    clipped(&shown)
}

fn clipped(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= MESSAGE_BYTES) {
        Some((at, _)) => format!("{} …", &text[..at]),
        None => text.to_owned(),
    }
}

/// Text whose URLs are without passwords and queries.
pub(super) fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, word) in text.split(' ').enumerate() {
        if i > 0 {
            out.push(' ');
        }
        let start = ["https://", "http://"]
            .iter()
            .filter_map(|scheme| word.find(scheme))
            .min();
        match start {
            Some(at) => {
                let (before, url) = word.split_at(at);
                out.push_str(before);
                out.push_str(&shown(url));
                // What closes around a URL closes still.
                let closing = url.trim_end_matches(['"', ')', '>', ',', ';', ':', '.', '\'']);
                if url.contains('?') {
                    out.push_str(&url[closing.len()..]);
                }
            }
            None => out.push_str(word),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_answer_the_code_and_the_message_are_shown() {
        let body = "403 Forbidden: <?xml?><Error><Code>AccessDenied</Code><Message>No.</Message>\
                    <StringToSign>secret</StringToSign></Error>";
        assert_eq!(answered(body), "403 Forbidden, AccessDenied: No.");
        assert_eq!(answered("404 Not Found: <html>"), "404 Not Found");
        assert_eq!(
            answered("503 Service Unavailable: "),
            "503 Service Unavailable"
        );
    }

    #[test]
    fn queries_are_cut_out_of_text() {
        let text =
            "error sending request for url (http://u:p@h/a?X-Amz-Signature=1) to \"https://h/b\"";
        assert_eq!(
            redacted(text),
            "error sending request for url (http://h/a) to \"https://h/b\""
        );
    }
}
