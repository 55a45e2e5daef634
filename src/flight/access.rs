//! Who may call.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use tonic::codegen::http;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::error::{Error, Result};

/// Bearer tokens, one of which every call has to show; none where anybody may call.
#[derive(Debug, Clone, Default)]
pub(super) struct Access(Option<Arc<HashSet<Arc<str>>>>);

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
        let tokens: HashSet<Arc<str>> = tokens.map(Arc::from).collect();
        match tokens.is_empty() {
            true => Err(Error::option("--tokens", format!("{name} has no token"))),
            false => Ok(Self(Some(Arc::new(tokens)))),
        }
    }
}

/// Who calls, as far as that is known.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    /// Who has this token.
    Token(Arc<str>),
    /// Whoever calls from there.
    Address(IpAddr),
    /// Anybody else.
    Unknown,
}

/// Without the token.
impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token"),
            Self::Address(address) => write!(f, "Address({address})"),
            Self::Unknown => f.write_str("Unknown"),
        }
    }
}

impl Caller {
    /// Who calls: what [`Access`] found.
    pub(super) fn of(extensions: &http::Extensions) -> Self {
        extensions.get().cloned().unwrap_or(Self::Unknown)
    }
}

impl Interceptor for Access {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        let Some(tokens) = &self.0 else {
            if let Some(address) = request.remote_addr() {
                let caller = Caller::Address(address.ip().to_canonical());
                request.extensions_mut().insert(caller);
            }
            return Ok(request);
        };
        let shown = request.metadata().get("authorization");
        let shown = shown.and_then(|value| value.to_str().ok());
        let token = shown.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(token) = token.and_then(|token| tokens.get(token)) else {
            let reason = "a bearer token that is known here is needed";
            return Err(Status::unauthenticated(reason));
        };
        let caller = Caller::Token(Arc::clone(token));
        request.extensions_mut().insert(caller);
        Ok(request)
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
            let request = access.call(request).ok()?;
            Some(Caller::of(request.extensions()))
        };
        assert_eq!(with("Bearer one"), Some(Caller::Token("one".into())));
        assert_eq!(with("bearer two"), Some(Caller::Token("two".into())));
        for wrong in ["Bearer three", "Basic one", "one"] {
            assert_eq!(with(wrong), None);
        }
        assert!(Access::default().call(Request::new(())).is_ok());
        assert!(access.call(Request::new(())).is_err());
    }
}
