//! What a URL names, and requests for it.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectMeta};

use super::client::{Client, wait};
use super::fault::{Service, changed, explain, is_transient};
use crate::error::Result;
use crate::model::shown;

/// Requests of one call that are in flight at most.
const AT_A_TIME: usize = 32;
/// Attempts at an answer that is cut off.
const ATTEMPTS: u32 = 5;

/// An object, or the objects below a prefix.
#[derive(Debug, Clone)]
pub(in crate::store) struct Place {
    client: Arc<Client>,
    path: Path,
    url: String,
}

/// What tells one content of an object from another, as far as its store says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::store) struct Version {
    /// Bytes of the object.
    pub(in crate::store) size: u64,
    tag: Option<String>,
    /// In milliseconds of the epoch.
    modified: i64,
}

impl Version {
    fn of(meta: &ObjectMeta) -> Self {
        Self {
            size: meta.size,
            tag: meta.e_tag.clone(),
            modified: meta.last_modified.timestamp_millis(),
        }
    }

    /// Whether it was written after the other.
    pub(in crate::store) fn is_after(&self, other: &Self) -> bool {
        self.modified > other.modified
    }

    /// Whether the other may be the same content.
    pub(in crate::store) fn agrees(&self, other: &Self) -> bool {
        self.size == other.size
            && match (&self.tag, &other.tag) {
                (Some(one), Some(other)) => one == other,
                _ => self.modified == other.modified,
            }
    }

    /// All of it in one word.
    pub(in crate::store) fn tag(&self) -> String {
        let tag = self.tag.as_deref().unwrap_or_default();
        format!("{}-{}-{tag}", self.size, self.modified)
    }

    /// The tag that a server compares byte for byte.
    fn strong_tag(&self) -> Option<String> {
        self.tag.clone().filter(|tag| !tag.starts_with("W/"))
    }
}

/// Which bytes of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Span {
    /// All of them.
    Whole,
    /// Those of a range.
    Range(Range<u64>),
    /// So many at the end, or all where there are fewer.
    End(u64),
}

/// Bytes that are asked for.
#[derive(Debug, Clone)]
pub(in crate::store) struct Part {
    /// The object, below the place.
    pub(in crate::store) key: String,
    pub(in crate::store) span: Span,
    /// The version that they have to be of, where one was seen already.
    pub(in crate::store) version: Option<Version>,
}

impl Part {
    /// All bytes of an object.
    pub(in crate::store) fn whole(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            span: Span::Whole,
            version: None,
        }
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(in crate::store) struct Got {
    pub(in crate::store) bytes: Bytes,
    /// Where in the object they begin.
    pub(in crate::store) start: u64,
    pub(in crate::store) version: Version,
}

impl Place {
    /// The place of a URL; asks nobody.
    ///
    /// # Errors
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) where the URL, or what the environment
    /// says of its store, makes no sense.
    pub(in crate::store) fn parse(text: &str) -> Result<Self> {
        let (client, path) = Client::of(text)?;
        Ok(Self {
            client,
            path,
            url: shown(text).trim_end_matches('/').to_owned(),
        })
    }

    /// The URL, without what may be secret.
    pub(in crate::store) fn shown(&self) -> &str {
        &self.url
    }

    /// Whether the URL has a name after its bucket or host.
    pub(in crate::store) fn has_path(&self) -> bool {
        !self.path.is_root()
    }

    /// Whether objects can be written there.
    pub(in crate::store) fn is_writable(&self) -> bool {
        self.client.service != Service::Web
    }

    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    /// The path of an object, or of the place.
    pub(super) fn below(&self, key: &str) -> io::Result<Path> {
        if key.is_empty() {
            return Ok(self.path.clone());
        }
        let path = match self.path.is_root() {
            true => Path::parse(key),
            false => Path::parse(format!("{}/{key}", self.path)),
        };
        path.map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))
    }

    /// What messages about an object begin with; who passes them on names the place.
    pub(super) fn at(&self, key: &str) -> String {
        match key {
            "" => String::new(),
            key => format!("{key}: "),
        }
    }

    /// The version of an object, [`None`] where there is none.
    ///
    /// # Errors
    /// Where the store does not answer, or refuses.
    pub(in crate::store) fn head(&self, key: &str) -> io::Result<Option<Version>> {
        let (client, path, at) = (Arc::clone(&self.client), self.below(key)?, self.at(key));
        wait(async move {
            let _permit = client.permits.acquire().await;
            let options = GetOptions {
                head: true,
                ..GetOptions::default()
            };
            match client.store.get_opts(&path, options).await {
                Ok(answer) => Ok(Some(Version::of(&answer.meta))),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(e) => Err(explain(&e, client.service, &at)),
            }
        })
    }

    /// The same by a request for the first byte: a presigned URL is signed for one method.
    ///
    /// # Errors
    /// As [`head`](Self::head).
    pub(in crate::store) fn probe(&self, key: &str) -> io::Result<Option<Version>> {
        let first = Part {
            span: Span::Range(0..1),
            ..Part::whole(key)
        };
        match self.fetch(vec![first]) {
            Ok(got) => Ok(got.into_iter().next().flatten().map(|got| got.version)),
            // Of nothing there is no first byte; some servers have no ranges.
            Err(error) => match error.kind() {
                io::ErrorKind::Other | io::ErrorKind::Unsupported => self.head(key),
                _ => Err(error),
            },
        }
    }

    /// Parts of objects, in the order asked for; [`None`] where there is no object. Many are asked
    /// for at a time.
    ///
    /// # Errors
    /// Where the store does not answer or refuses, where a range ends after its object, and where an
    /// object changed meanwhile.
    pub(in crate::store) fn fetch(&self, parts: Vec<Part>) -> io::Result<Vec<Option<Got>>> {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let mut requests = Vec::with_capacity(parts.len());
        for part in parts {
            requests.push(Request {
                client: Arc::clone(&self.client),
                path: self.below(&part.key)?,
                at: self.at(&part.key),
                part,
            });
        }
        wait(
            stream::iter(requests)
                .map(Request::answer)
                .buffered(AT_A_TIME)
                .try_collect(),
        )
    }

    /// Names that follow a prefix (empty, or ended by `/`), up to their next `/`, in order.
    ///
    /// # Errors
    /// Where the store does not list.
    pub(in crate::store) fn children(&self, prefix: &str) -> io::Result<BTreeSet<String>> {
        let path = self.below(prefix.trim_end_matches('/'))?;
        let (client, at) = (Arc::clone(&self.client), self.at(prefix));
        client.service.check_listing()?;
        wait(async move {
            let _permit = client.permits.acquire().await;
            let listed = client.store.list_with_delimiter(Some(&path)).await;
            let listed = listed.map_err(|e| explain(&e, client.service, &at))?;
            let folders = listed.common_prefixes.into_iter();
            let objects = listed.objects.into_iter().map(|meta| meta.location);
            let names = folders.chain(objects);
            Ok(names
                .filter_map(|path| path.filename().map(str::to_owned))
                .collect())
        })
    }

    /// The objects below a prefix and their sizes, by what follows the place.
    ///
    /// # Errors
    /// Where the store does not list.
    pub(in crate::store) fn sizes(&self, prefix: &str) -> io::Result<Vec<(String, u64)>> {
        let path = self.below(prefix.trim_end_matches('/'))?;
        let (client, at) = (Arc::clone(&self.client), self.at(prefix));
        client.service.check_listing()?;
        let skip = match self.path.is_root() {
            true => 0,
            false => self.path.as_ref().len() + 1,
        };
        wait(async move {
            let _permit = client.permits.acquire().await;
            let listed = client.store.list(Some(&path));
            let sizes = listed.map_ok(|meta| {
                let key = meta.location.as_ref().get(skip..).unwrap_or_default();
                (key.to_owned(), meta.size)
            });
            let sizes = sizes.try_collect().await;
            sizes.map_err(|e| explain(&e, client.service, &at))
        })
    }
}

/// Whether another attempt may help that the client itself does not make; waits before it.
pub(super) async fn again(error: &Error, attempt: &mut u32) -> bool {
    if *attempt >= ATTEMPTS || !is_transient(error) {
        return false;
    }
    tokio::time::sleep(Duration::from_millis(100) * 2u32.pow(*attempt)).await;
    *attempt += 1;
    true
}

/// One request.
struct Request {
    client: Arc<Client>,
    path: Path,
    /// What messages begin with.
    at: String,
    part: Part,
}

impl Request {
    async fn answer(self) -> io::Result<Option<Got>> {
        let mut attempt = 1;
        loop {
            let error = match self
                .attempt(&self.part.span, self.part.version.as_ref())
                .await
            {
                Ok(got) => return Ok(Some(got)),
                Err(Failure::Store(Error::NotFound { .. })) => return Ok(None),
                // Azure has no ranges from the end.
                Err(Failure::Store(Error::NotSupported { .. }))
                    if matches!(self.part.span, Span::End(_)) =>
                {
                    return self.end().await;
                }
                Err(Failure::Other(error)) => return Err(error),
                Err(Failure::Store(error)) => error,
            };
            if !again(&error, &mut attempt).await {
                return Err(explain(&error, self.client.service, &self.at));
            }
        }
    }

    /// So many bytes at the end, by two requests.
    async fn end(&self) -> io::Result<Option<Got>> {
        let Span::End(len) = self.part.span else {
            return Ok(None);
        };
        let mut attempt = 1;
        loop {
            let error = match self.attempt_end(len).await {
                Ok(got) => return Ok(Some(got)),
                Err(Failure::Store(Error::NotFound { .. })) => return Ok(None),
                Err(Failure::Other(error)) => return Err(error),
                Err(Failure::Store(error)) => error,
            };
            if !again(&error, &mut attempt).await {
                return Err(explain(&error, self.client.service, &self.at));
            }
        }
    }

    async fn attempt_end(&self, len: u64) -> std::result::Result<Got, Failure> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let permit = self.client.permits.acquire().await;
        let answer = self.client.store.get_opts(&self.path, options).await?;
        drop(permit);
        let found = Version::of(&answer.meta);
        let wanted = self.part.version.as_ref();
        if wanted.is_some_and(|wanted| !wanted.agrees(&found)) {
            return Err(Failure::Other(changed(&self.at)));
        }
        let range = Span::Range(found.size.saturating_sub(len)..found.size);
        self.attempt(&range, Some(&found)).await
    }

    /// Asks for bytes, of this version where one is given.
    async fn attempt(
        &self,
        span: &Span,
        wanted: Option<&Version>,
    ) -> std::result::Result<Got, Failure> {
        let _permit = self.client.permits.acquire().await;
        let range = match span {
            Span::Whole => None,
            Span::Range(range) => Some(GetRange::Bounded(range.clone())),
            Span::End(len) => Some(GetRange::Suffix(*len)),
        };
        let options = GetOptions {
            range,
            if_match: wanted.and_then(Version::strong_tag),
            ..GetOptions::default()
        };
        let answer = self.client.store.get_opts(&self.path, options).await?;
        let version = Version::of(&answer.meta);
        if wanted.is_some_and(|wanted| !wanted.agrees(&version)) {
            return Err(Failure::Other(changed(&self.at)));
        }
        let range = answer.range.clone();
        let bytes = answer.bytes().await?;
        if bytes.len() as u64 != range.end - range.start {
            return Err(Failure::Other(io::Error::other(format!(
                "{}{} bytes came of {}",
                self.at,
                bytes.len(),
                range.end - range.start
            ))));
        }
        Ok(Got {
            bytes,
            start: range.start,
            version,
        })
    }
}

enum Failure {
    Store(Error),
    Other(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}
