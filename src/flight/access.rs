//! Who may call.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::error::{Error, Result};

/// Bearer tokens, one of which every call has to show; none where anybody may call.
#[derive(Debug, Clone, Default)]
pub(super) struct Access(Option<Arc<HashSet<String>>>);

impl Access {
    /// The tokens of a file, one a line.
    ///
    /// # Errors
    /// [`Error::Store`] where it cannot be read; [`Error::InvalidOption`] where it has none.
    pub(super) fn of_file(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| Error::store("tokens", &name, e))?;
        let tokens = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let tokens: HashSet<String> = tokens.map(str::to_owned).collect();
        match tokens.is_empty() {
            true => Err(Error::option("--tokens", format!("{name} has no token"))),
            false => Ok(Self(Some(Arc::new(tokens)))),
        }
    }
}

impl Interceptor for Access {
    fn call(&mut self, request: Request<()>) -> std::result::Result<Request<()>, Status> {
        let Some(tokens) = &self.0 else {
            return Ok(request);
        };
        let shown = request.metadata().get("authorization");
        let shown = shown.and_then(|value| value.to_str().ok());
        let token = shown.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        match token.is_some_and(|token| tokens.contains(token)) {
            true => Ok(request),
            false => Err(Status::unauthenticated(
                "a bearer token that is known here is needed",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_call_shows_a_token() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "one\n\n two ").unwrap();
        let mut access = Access::of_file(Some(file.path())).unwrap();
        let mut with = |header: &str| {
            let mut request = Request::new(());
            request
                .metadata_mut()
                .insert("authorization", header.parse().unwrap());
            access.call(request).is_ok()
        };
        assert!(with("Bearer one") && with("bearer two"));
        assert!(!with("Bearer three") && !with("Basic one") && !with("one"));
        assert!(Access::default().call(Request::new(())).is_ok());
        assert!(access.call(Request::new(())).is_err());
    }
}
