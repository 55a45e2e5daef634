//! Objects being written below a prefix: handed over at once, stored in the background.
//!
//! # Invariants
//! - Who hands over waits for [room](super::room) alone, and room is held by requests alone, which
//!   end: no object waits for another one to be ended.
//! - What fails is told by the task that met it, and to everybody who hands over after that.
//! - What is discarded is aborted and removed by the threads that do requests; [`settled`] waits.

use std::io;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::client::{Client, handle, wait};
use super::fault::{NotStored, explain};
use super::place::{Place, again};
use super::room::{Room, Sent, Waiting};

/// Bytes of an object that is sent whole, and of a part of a larger one: stores want 5 MiB at least,
/// some of them parts of one size.
pub(crate) const PART: usize = 8 << 20;

/// Clean-ups that are not done.
static CLEAN_UPS: LazyLock<watch::Sender<usize>> = LazyLock::new(watch::Sender::default);

/// Waits until what writes that failed left in object stores is removed, but no longer than so;
/// whether it is.
pub async fn settled(within: Duration) -> bool {
    let mut left = CLEAN_UPS.subscribe();
    let done = left.wait_for(|left| *left == 0);
    tokio::time::timeout(within, done).await.is_ok()
}

/// The same on a thread that runs no tasks.
pub(crate) fn settle(within: Duration) -> bool {
    if *CLEAN_UPS.borrow() == 0 {
        return true;
    }
    wait(async move { Ok(settled(within).await) }).unwrap_or(false)
}

/// A clean-up, from when it is known to be due to its end.
#[derive(Debug)]
struct CleanUp;

impl CleanUp {
    fn due() -> Self {
        CLEAN_UPS.send_modify(|left| *left += 1);
        Self
    }
}

impl Drop for CleanUp {
    fn drop(&mut self) {
        CLEAN_UPS.send_modify(|left| *left -= 1);
    }
}

/// Objects on their way to a place. Clones are of the same.
#[derive(Debug, Clone)]
pub(in crate::store) struct Uploads(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    tasks: Mutex<JoinSet<()>>,
    /// What was begun, to be deleted where the whole fails.
    begun: Mutex<Vec<Path>>,
    fate: Arc<Fate>,
}

/// What becomes of the whole.
#[derive(Debug, Default)]
struct Fate {
    /// Why it fails.
    failure: Mutex<Option<(io::ErrorKind, String)>>,
    /// Whether nobody wants it any more.
    is_cancelled: watch::Sender<bool>,
    clean_up: Mutex<Option<CleanUp>>,
}

impl Uploads {
    /// Uploads to objects below a place.
    pub(in crate::store) fn new(place: Place) -> Self {
        Self(Arc::new(Inner {
            place,
            tasks: Mutex::default(),
            begun: Mutex::default(),
            fate: Arc::default(),
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
        self.0.fate.check()?;
        let path = self.0.place.below(key)?;
        lock(&self.0.begun).push(path.clone());
        Ok(Upload {
            to: self.clone(),
            at: self.0.place.at(key),
            path,
            waiting: Waiting::default(),
            parts: None,
        })
    }

    /// Waits until everything that was handed over is stored; all objects have to be ended.
    ///
    /// # Errors
    /// Where something could not be.
    pub(in crate::store) fn flush(&self) -> io::Result<()> {
        let mut tasks = std::mem::take(&mut *lock(&self.0.tasks));
        let fate = Arc::clone(&self.0.fate);
        wait(async move {
            while let Some(ended) = tasks.join_next().await {
                fate.note_panic(ended);
            }
            Ok(())
        })?;
        self.0.fate.check()
    }

    /// Says that nobody wants them any more: who still writes is told so, what is on its way is
    /// stopped. [`discard`](Self::discard) has to follow.
    pub(in crate::store) fn cancel(&self) {
        let fate = &self.0.fate;
        lock(&fate.clean_up).get_or_insert_with(CleanUp::due);
        fate.is_cancelled.send_replace(true);
        Room::look();
    }

    /// Deletes what was stored, in the background.
    pub(in crate::store) fn discard(&self) {
        self.cancel();
        // Without threads nothing was stored.
        let Ok(handle) = handle() else { return };
        let inner = Arc::clone(&self.0);
        handle.spawn(async move {
            let clean_up = lock(&inner.fate.clean_up).take();
            let mut tasks = std::mem::take(&mut *lock(&inner.tasks));
            while tasks.join_next().await.is_some() {}
            let mut begun = std::mem::take(&mut *lock(&inner.begun));
            // The root's documents, which come last, go first: they say that all others are there.
            begun.reverse();
            // Whether it failed matters no more.
            let _ = delete(&inner.place.client(), begun).await;
            drop(clean_up);
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fate {
    fn check(&self) -> io::Result<()> {
        if let Some((kind, reason)) = lock(&self.failure).as_ref() {
            return Err(io::Error::new(*kind, NotStored(reason.clone())));
        }
        match *self.is_cancelled.borrow() {
            true => Err(io::Error::new(io::ErrorKind::Interrupted, "it was stopped")),
            false => Ok(()),
        }
    }

    fn note(&self, error: &io::Error) {
        lock(&self.failure).get_or_insert((error.kind(), error.to_string()));
        // Who waits for room need not wait any longer.
        Room::look();
    }

    fn note_panic(&self, ended: Result<(), JoinError>) {
        if let Err(panic) = ended {
            self.note(&io::Error::other(panic));
        }
    }
}

impl Inner {
    fn spawn(&self, task: impl Future<Output = io::Result<()>> + Send + 'static) -> io::Result<()> {
        let handle = handle()?;
        let fate = Arc::clone(&self.fate);
        let mut tasks = lock(&self.tasks);
        while let Some(ended) = tasks.try_join_next() {
            self.fate.note_panic(ended);
        }
        tasks.spawn_on(
            async move {
                if let Err(error) = task.await {
                    fate.note(&error);
                }
            },
            &handle,
        );
        drop(tasks);
        self.fate.check()
    }
}

/// One object: bytes follow each other until it is finished; dropped before, it is not stored.
#[derive(Debug)]
pub(in crate::store) struct Upload {
    to: Uploads,
    path: Path,
    at: String,
    /// Bytes that are no whole part yet.
    waiting: Waiting,
    /// Where parts go, once there was a whole one.
    parts: Option<UnboundedSender<Piece>>,
}

#[derive(Debug)]
enum Piece {
    Part(Bytes, Sent),
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
            self.waiting.extend(now);
            rest = later;
            self.send()?;
        }
        self.waiting.extend(rest);
        Ok(())
    }

    /// Hands the object over.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(in crate::store) fn finish(mut self) -> io::Result<()> {
        if self.parts.is_some() {
            if self.waiting.len() > 0 {
                self.send()?;
            }
            return self.tell(Piece::End);
        }
        let inner = &self.to.0;
        let (bytes, room) = self.waiting.send(|| inner.fate.check())?;
        let (client, path, at) = (inner.place.client(), self.path.clone(), self.at.clone());
        let cancelled = inner.fate.is_cancelled.subscribe();
        inner.spawn(async move {
            let _room = room;
            put(&client, &path, &at, bytes, cancelled).await
        })
    }

    /// Hands over what waits, as a part.
    fn send(&mut self) -> io::Result<()> {
        let inner = &self.to.0;
        let (part, room) = self.waiting.send(|| inner.fate.check())?;
        if self.parts.is_none() {
            let (sender, mut pieces) = unbounded_channel();
            let (client, path, at) = (inner.place.client(), self.path.clone(), self.at.clone());
            let cancelled = inner.fate.is_cancelled.subscribe();
            let fate = Arc::clone(&inner.fate);
            inner.spawn(async move {
                let ended = in_parts(client, path, at, &mut pieces, cancelled).await;
                if let Err(error) = &ended {
                    // Before the channel goes, so that who sends next learns why it went.
                    fate.note(error);
                }
                ended
            })?;
            self.parts = Some(sender);
        }
        self.tell(Piece::Part(part, room))
    }

    fn tell(&self, piece: Piece) -> io::Result<()> {
        let parts = self.parts.as_ref();
        let told = parts.is_some_and(|parts| parts.send(piece).is_ok());
        // A task that ends early has said why, before it let go of its end.
        self.to.0.fate.check()?;
        match told {
            true => Ok(()),
            false => Err(io::Error::other(NotStored(format!(
                "{}its upload was abandoned",
                self.at
            )))),
        }
    }
}

/// Whether nobody wants it any more, waited for.
async fn stopped(cancelled: &mut watch::Receiver<bool>) {
    if cancelled.wait_for(|is| *is).await.is_err() {
        // Whoever could say so is gone, and did not.
        std::future::pending().await
    }
}

/// Stores an object whole. One that is on its way is not stopped: it might arrive after it was
/// deleted.
async fn put(
    client: &Client,
    path: &Path,
    at: &str,
    bytes: Bytes,
    mut cancelled: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut attempt = 1;
    loop {
        let permit = tokio::select! {
            biased;
            () = stopped(&mut cancelled) => return Ok(()),
            permit = client.permits.acquire() => permit,
        };
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
    pieces: &mut UnboundedReceiver<Piece>,
    mut cancelled: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut attempt = 1;
    let mut upload = loop {
        match client.store.put_multipart(&path).await {
            Ok(upload) => break upload,
            Err(e) if again(&e, &mut attempt).await => {}
            Err(e) => return Err(explain(&e, client.service, &at)),
        }
    };
    let mut parts: JoinSet<object_store::Result<()>> = JoinSet::new();
    let mut is_ended = false;
    let outcome = loop {
        if is_ended && parts.is_empty() {
            break Ok(true);
        }
        tokio::select! {
            biased;
            () = stopped(&mut cancelled) => break Ok(false),
            Some(part) = parts.join_next() => {
                let part = part.map_err(io::Error::other);
                let part = part.and_then(|p| p.map_err(|e| explain(&e, client.service, &at)));
                if let Err(e) = part {
                    break Err(e);
                }
            }
            piece = pieces.recv(), if !is_ended => match piece {
                Some(Piece::Part(bytes, room)) => {
                    let part = upload.put_part(bytes.into());
                    let client = Arc::clone(&client);
                    parts.spawn(async move {
                        let _room = room;
                        let _permit = client.permits.acquire().await;
                        part.await
                    });
                }
                Some(Piece::End) => is_ended = true,
                None => break Ok(false),
            },
        }
    };
    if let Ok(true) = outcome {
        let completed = upload.complete().await;
        return completed
            .map(drop)
            .map_err(|e| explain(&e, client.service, &at));
    }
    parts.shutdown().await;
    // Stores keep the parts of what is not completed, unless they are told.
    abort(upload).await;
    outcome.map(drop)
}

async fn abort(mut upload: Box<dyn MultipartUpload>) {
    let _ = upload.abort().await;
}

/// Deletes objects; that some are not there is no failure.
async fn delete(client: &Client, paths: Vec<Path>) -> io::Result<()> {
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
}

impl Place {
    /// Deletes objects; that some are not there is no failure.
    ///
    /// # Errors
    /// Where the store refuses.
    fn delete(&self, paths: Vec<Path>) -> io::Result<()> {
        let client = self.client();
        wait(async move { delete(&client, paths).await })
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
