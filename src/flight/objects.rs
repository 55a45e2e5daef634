//! What is served: objects by name, and those of folders as they appear.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use datafusion::common::runtime::SpawnedTask;

use crate::element::AnnData;
use crate::error::{Error, Result};
use crate::model::Location;
use crate::session::Session;

/// How often folders are looked into. What is new is served once it was the same at two looks, because
/// half of a store opens as well, and what is missing of it reads as zeros.
const LOOK: Duration = Duration::from_secs(2);
/// What names of objects in a folder end in.
const ENDINGS: [&str; 3] = [".h5ad", ".zarr", ".zarr.zip"];

/// Objects by name, and a session that has them.
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) session: Session,
    named: RwLock<Vec<(String, Location)>>,
    notices: Vec<String>,
    folders: Vec<PathBuf>,
    /// What was found in folders, as it was then, and whether it is known not to open.
    found: Mutex<HashMap<PathBuf, (Print, bool)>>,
}

impl Objects {
    /// Opens what is to be served: paths and URLs, each with a name before `=` or called by its stem,
    /// and what is in folders, of which what does not open is said, and opened again once it has
    /// changed. What has a name already is not looked at again.
    ///
    /// # Errors
    /// Those of opening the former; [`Error::InvalidOption`] where there is neither any nor a folder,
    /// or a name is taken.
    pub(super) async fn open(
        texts: &[String],
        folders: &[PathBuf],
        session: Session,
    ) -> Result<Arc<Self>> {
        let mut named = Vec::with_capacity(texts.len());
        let mut notices = Vec::new();
        for text in texts {
            let opened = session.open(text).await?;
            notices.extend(opened.notice);
            named.push((opened.schema, opened.object.location().clone()));
        }
        if named.is_empty() && folders.is_empty() {
            return Err(Error::option("serve", "there is nothing to serve"));
        }
        let mut objects = Self {
            session,
            named: RwLock::new(named),
            notices,
            folders: folders.to_vec(),
            found: Mutex::default(),
        };
        if !objects.folders.is_empty() {
            let mut more = objects.look().await;
            tokio::time::sleep(LOOK).await;
            more.extend(objects.look().await);
            objects.notices.extend(more);
        }
        Ok(Arc::new(objects))
    }

    /// Names, in the order they came.
    pub(super) fn names(&self) -> Vec<String> {
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        named.iter().map(|(name, _)| name.clone()).collect()
    }

    /// What is to be said of them.
    pub(super) fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Where the objects of these names are.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a name that is not served.
    pub(super) fn locations(&self, names: &[String]) -> Result<Vec<Location>> {
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        let location = |name: &String| {
            let found = named.iter().find(|(other, _)| other == name);
            found.map(|(_, location)| location.clone()).ok_or_else(|| {
                let served: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
                let reason = format!("'{name}' is not served; there are {}", served.join(", "));
                Error::option("ticket", reason)
            })
        };
        match names.is_empty() {
            true => Err(Error::option("ticket", "it names no object")),
            false => names.iter().map(location).collect(),
        }
    }

    /// Looks into folders until it is dropped; [`None`] where there are none.
    pub(super) fn watch(self: &Arc<Self>) -> Option<SpawnedTask<()>> {
        if self.folders.is_empty() {
            return None;
        }
        let objects = Arc::clone(self);
        Some(SpawnedTask::spawn(async move {
            let mut ticks = tokio::time::interval(LOOK);
            loop {
                ticks.tick().await;
                for notice in objects.look().await {
                    tracing::warn!("{notice}");
                }
            }
        }))
    }

    /// Opens what is new in folders; what is to be said of it.
    async fn look(&self) -> Vec<String> {
        let mut notices = Vec::new();
        for folder in &self.folders {
            let (of, served) = (folder.clone(), self.paths());
            // A folder may be on a network.
            let listed = SpawnedTask::spawn_blocking(move || objects_of(&of, &served));
            let found = match listed.join().await {
                Ok(Ok(found)) => found,
                // It may be away for a while, and others are not.
                Ok(Err(error)) => {
                    let reason = format!("{}: {error}", folder.display());
                    notices.extend(self.is_news(folder, Print::default()).then_some(reason));
                    continue;
                }
                Err(_) => continue,
            };
            for (path, print) in found {
                if !self.is_still(&path, print) {
                    continue;
                }
                match self.add(&path).await {
                    Ok(notice) => notices.extend(notice),
                    Err(error) => {
                        let is_news = self.is_news(&path, print);
                        notices.extend(is_news.then(|| format!("not served: {error}")));
                    }
                }
            }
        }
        notices
    }

    /// Where what is served is, without links.
    fn paths(&self) -> HashSet<PathBuf> {
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        let paths = named.iter().map(|(_, location)| Path::new(location.path()));
        paths.filter_map(|path| path.canonicalize().ok()).collect()
    }

    /// Whether a path is what it was at the last look, and is not known not to open.
    fn is_still(&self, path: &Path, print: Print) -> bool {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match found.get(path) {
            Some((before, refused)) if *before == print => !refused,
            _ => {
                found.insert(path.to_owned(), (print, false));
                false
            }
        }
    }

    /// Remembers that a path does not open as it is; whether that was not known.
    fn is_news(&self, path: &Path, print: Print) -> bool {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(path.to_owned(), (print, true)) != Some((print, true))
    }

    /// Serves an object, unless parts of it are missing, as while it is copied.
    async fn add(&self, path: &Path) -> Result<Option<String>> {
        let location = Location::parse(&path.to_string_lossy());
        let object = AnnData::open(&location).await?;
        object.check_whole(&[]).await?;
        drop(object);
        let opened = self.session.open(&path.to_string_lossy()).await?;
        tracing::info!(name = opened.schema, %location, "an object is served");
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        named.push((opened.schema, opened.object.location().clone()));
        Ok(opened.notice)
    }
}

/// What tells a file, or a folder with all that is in it, from what it was: how many files, their
/// bytes, and when the last of them had changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Print {
    files: u64,
    bytes: u64,
    changed: Option<SystemTime>,
}

impl Print {
    fn of(path: &Path) -> io::Result<Self> {
        let mut print = Self::default();
        print.add(path, 0)?;
        Ok(print)
    }

    fn add(&mut self, path: &Path, depth: usize) -> io::Result<()> {
        /// Folders inside of folders.
        const MOST_DEPTH: usize = 64;
        let metadata = path.metadata()?;
        self.changed = self.changed.max(metadata.modified().ok());
        if metadata.is_dir() && depth < MOST_DEPTH {
            for entry in path.read_dir()? {
                self.add(&entry?.path(), depth + 1)?;
            }
        } else {
            self.files += 1;
            self.bytes += metadata.len();
        }
        Ok(())
    }
}

/// What of a folder is called like an object, in name order, but for what is served.
fn objects_of(folder: &Path, served: &HashSet<PathBuf>) -> io::Result<Vec<(PathBuf, Print)>> {
    let mut objects = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let is_object = |name: &String| {
            !name.starts_with('.') && ENDINGS.iter().any(|ending| name.ends_with(ending))
        };
        let is_served = || path.canonicalize().is_ok_and(|path| served.contains(&path));
        if name.as_ref().is_some_and(is_object) && !is_served() {
            // What goes while it is looked at comes again, or not.
            if let Ok(print) = Print::of(&path) {
                objects.push((path, print));
            }
        }
    }
    objects.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(objects)
}
