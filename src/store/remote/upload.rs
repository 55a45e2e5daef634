//! Objects being written below a prefix: handed over at once, stored in the background.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::client::{Client, handle, wait};
use super::fault::explain;
use super::place::{Place, again};

/// Bytes of an object that is sent whole, and of a part of a larger one: stores want 5 MiB at least,
/// some of them parts of one size.
const PART: usize = 8 << 20;
/// Bytes that wait to be stored at most, in units of [`UNIT`].
const ROOM: usize = 64;
/// What room is counted in.
const UNIT: usize = 1 << 20;

/// Objects on their way to a place. Clones are of the same.
#[derive(Debug, Clone)]
pub(in crate::store) struct Uploads(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    room: Arc<Semaphore>,
    tasks: Mutex<JoinSet<io::Result<()>>>,
    /// What was begun, to be deleted where the whole fails.
    begun: Mutex<Vec<Path>>,
    /// Why the whole fails.
    failure: Mutex<Option<(io::ErrorKind, String)>>,
}

impl Uploads {
    /// Uploads to objects below a place.
    pub(in crate::store) fn new(place: Place) -> Self {
        Self(Arc::new(Inner {
            place,
            room: Arc::new(Semaphore::new(ROOM)),
            tasks: Mutex::default(),
            begun: Mutex::default(),
            failure: Mutex::default(),
        }))
    }

    /// The place.
    pub(in crate::store) fn place(&self) -> &Place {
        &self.0.place
    }

    /// Begins an object.
    ///
    /// # Errors
    /// Where the key is none, or an earlier object could not be stored.
    pub(in crate::store) fn begin(&self, key: &str) -> io::Result<Upload> {
        self.0.check()?;
        let path = self.0.place.below(key)?;
        lock(&self.0.begun).push(path.clone());
        Ok(Upload {
            to: self.clone(),
            at: self.0.place.at(key),
            path,
            waiting: Vec::new(),
            parts: None,
        })
    }

    /// Waits until everything that was handed over is stored.
    ///
    /// # Errors
    /// Where something could not be.
    pub(in crate::store) fn flush(&self) -> io::Result<()> {
        let mut tasks = std::mem::take(&mut *lock(&self.0.tasks));
        let failed = wait(async move {
            let mut failed = Ok(());
            while let Some(ended) = tasks.join_next().await {
                let ended = ended.map_err(io::Error::other).flatten();
                failed = failed.and(ended);
            }
            failed
        });
        self.0.note(failed);
        self.0.check()
    }

    /// Deletes what was stored.
    pub(in crate::store) fn discard(&self) {
        // Whether it failed matters no more.
        let _ = self.flush();
        let begun = std::mem::take(&mut *lock(&self.0.begun));
        let _ = self.0.place.delete(begun);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn check(&self) -> io::Result<()> {
        match lock(&self.failure).as_ref() {
            Some((kind, reason)) => Err(io::Error::new(*kind, reason.clone())),
            None => Ok(()),
        }
    }

    fn note(&self, ended: io::Result<()>) {
        if let Err(error) = ended {
            lock(&self.failure).get_or_insert((error.kind(), error.to_string()));
        }
    }

    /// Waits for room for bytes.
    fn room(&self, bytes: usize) -> io::Result<OwnedSemaphorePermit> {
        let n = u32::try_from(bytes.div_ceil(UNIT).clamp(1, ROOM)).map_err(io::Error::other)?;
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(n) {
            return Ok(room);
        }
        let room = Arc::clone(&self.room).acquire_many_owned(n);
        wait(async move { room.await.map_err(io::Error::other) })
    }

    fn spawn(&self, task: impl Future<Output = io::Result<()>> + Send + 'static) -> io::Result<()> {
        let handle = handle()?;
        let mut tasks = lock(&self.tasks);
        while let Some(ended) = tasks.try_join_next() {
            self.note(ended.map_err(io::Error::other).flatten());
        }
        tasks.spawn_on(task, &handle);
        drop(tasks);
        self.check()
    }
}

/// One object: bytes follow each other until it is finished; dropped before, it is not stored.
#[derive(Debug)]
pub(in crate::store) struct Upload {
    to: Uploads,
    path: Path,
    at: String,
    /// Bytes that are no whole part yet.
    waiting: Vec<u8>,
    /// Where parts go, once there was a whole one.
    parts: Option<UnboundedSender<Piece>>,
}

#[derive(Debug)]
enum Piece {
    Part(Bytes, OwnedSemaphorePermit),
    End,
}

impl Upload {
    /// Adds bytes; waits for room where more than some tens of megabytes are on their way.
    ///
    /// # Errors
    /// Where an object of the store could not be stored.
    pub(in crate::store) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while self.waiting.len() + rest.len() >= PART {
            let (now, later) = rest.split_at(PART - self.waiting.len());
            self.waiting.extend_from_slice(now);
            rest = later;
            let part = std::mem::take(&mut self.waiting);
            self.send(part.into())?;
        }
        self.waiting.extend_from_slice(rest);
        Ok(())
    }

    /// Hands the object over.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(in crate::store) fn finish(mut self) -> io::Result<()> {
        let rest = Bytes::from(std::mem::take(&mut self.waiting));
        if self.parts.is_some() {
            if !rest.is_empty() {
                self.send(rest)?;
            }
            return self.tell(Piece::End);
        }
        let inner = &self.to.0;
        let room = inner.room(rest.len())?;
        let (client, path, at) = (inner.place.client(), self.path.clone(), self.at.clone());
        inner.spawn(async move {
            let _room = room;
            put(&client, &path, &at, rest).await
        })
    }

    fn send(&mut self, part: Bytes) -> io::Result<()> {
        let inner = &self.to.0;
        let room = inner.room(part.len())?;
        if self.parts.is_none() {
            let (sender, receiver) = unbounded_channel();
            let (client, path) = (inner.place.client(), self.path.clone());
            inner.spawn(in_parts(client, path, self.at.clone(), receiver))?;
            self.parts = Some(sender);
        }
        self.tell(Piece::Part(part, room))
    }

    fn tell(&self, piece: Piece) -> io::Result<()> {
        let told = self
            .parts
            .as_ref()
            .is_some_and(|parts| parts.send(piece).is_ok());
        if told {
            return self.to.0.check();
        }
        // The task ended, so it failed; why, it says itself.
        self.to.flush()?;
        Err(io::Error::other(format!(
            "{}its upload was abandoned",
            self.at
        )))
    }
}

async fn put(client: &Client, path: &Path, at: &str, bytes: Bytes) -> io::Result<()> {
    let mut attempt = 1;
    loop {
        let permit = client.permits.acquire().await;
        let ended = client
            .store
            .put(path, PutPayload::from(bytes.clone()))
            .await;
        drop(permit);
        match ended {
            Ok(_) => return Ok(()),
            Err(e) if again(&e, &mut attempt).await => {}
            Err(e) => return Err(explain(&e, client.service, at)),
        }
    }
}

/// Stores an object in parts, some of them at a time. Where it is not ended, nothing is left of it.
async fn in_parts(
    client: Arc<Client>,
    path: Path,
    at: String,
    mut pieces: UnboundedReceiver<Piece>,
) -> io::Result<()> {
    let failed = |e: &Error| explain(e, client.service, &at);
    let mut attempt = 1;
    let mut upload = loop {
        match client.store.put_multipart(&path).await {
            Ok(upload) => break upload,
            Err(e) if again(&e, &mut attempt).await => {}
            Err(e) => return Err(failed(&e)),
        }
    };
    let mut parts: JoinSet<object_store::Result<()>> = JoinSet::new();
    let ended = loop {
        match pieces.recv().await {
            Some(Piece::Part(bytes, room)) => {
                let part = upload.put_part(bytes.into());
                let client = Arc::clone(&client);
                parts.spawn(async move {
                    let _room = room;
                    let _permit = client.permits.acquire().await;
                    part.await
                });
            }
            Some(Piece::End) => break true,
            None => break false,
        }
        if let Some(Ok(Err(e))) = parts.try_join_next() {
            drop(parts);
            abort(upload).await;
            return Err(failed(&e));
        }
    };
    while let Some(part) = parts.join_next().await {
        let part = part.map_err(io::Error::other);
        if let Err(e) = part.and_then(|part| part.map_err(|e| failed(&e))) {
            abort(upload).await;
            return Err(e);
        }
    }
    if !ended {
        abort(upload).await;
        return Ok(());
    }
    upload.complete().await.map(drop).map_err(|e| failed(&e))
}

/// Stores keep the parts of what is not completed, unless they are told.
async fn abort(mut upload: Box<dyn MultipartUpload>) {
    let _ = upload.abort().await;
}

impl Place {
    /// Deletes objects; that some are not there is no failure.
    ///
    /// # Errors
    /// Where the store refuses.
    fn delete(&self, paths: Vec<Path>) -> io::Result<()> {
        let client = self.client();
        wait(async move {
            let paths = stream::iter(paths.into_iter().map(Ok)).boxed();
            let mut deleted = client.store.delete_stream(paths);
            let mut failed = Ok(());
            while let Some(ended) = deleted.next().await {
                match ended {
                    Ok(_) | Err(Error::NotFound { .. }) => {}
                    Err(e) => failed = failed.and(Err(explain(&e, client.service, ""))),
                }
            }
            failed
        })
    }

    /// Deletes everything below the place: the objects named first before all others.
    ///
    /// # Errors
    /// Where the store refuses.
    pub(in crate::store) fn delete_all(&self, first: &[&str]) -> io::Result<()> {
        let first = first.iter().map(|key| self.below(key));
        self.delete(first.collect::<io::Result<_>>()?)?;
        let path = self.below("")?;
        let client = self.client();
        let rest = wait(async move {
            let listed = client.store.list(Some(&path));
            let listed = listed.map_ok(|meta| meta.location).try_collect().await;
            listed.map_err(|e| explain(&e, client.service, ""))
        })?;
        self.delete(rest)
    }

    /// Whether there is any object below the place.
    ///
    /// # Errors
    /// Where the store does not list.
    pub(in crate::store) fn is_taken(&self) -> io::Result<bool> {
        let path = self.below("")?;
        let client = self.client();
        wait(async move {
            let mut listed = client.store.list(Some(&path));
            match listed.next().await {
                None => Ok(false),
                Some(Ok(_)) => Ok(true),
                Some(Err(e)) => Err(explain(&e, client.service, "")),
            }
        })
    }
}
