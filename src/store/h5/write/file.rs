//! The file: made beside its final name, closed, then renamed.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::ArrayRef;
use arrow::buffer::Buffer;
use async_trait::async_trait;
use hdf5::globals as h5;
use hdf5_sys::h5f::{H5F_ACC_EXCL, H5F_close_degree_t, H5F_libver_t, H5Fclose, H5Fcreate};
use hdf5_sys::h5g::{H5Gclose, H5Gcreate2, H5Gopen2};
use hdf5_sys::h5i::hid_t;
use hdf5_sys::h5p::{
    H5Pclose, H5Pcreate, H5Pset_char_encoding, H5Pset_fclose_degree, H5Pset_file_locking,
    H5Pset_libver_bounds, H5Pset_link_phase_change, H5Pset_meta_block_size, H5Pset_obj_track_times,
    H5Pset_small_data_block_size,
};
use hdf5_sys::h5t::H5T_cset_t;

use super::array;
use super::attributes::AttributeTypes;
use super::bulk;
use super::chunks::Filter;
use super::descriptor::Descriptor;
use super::heap::Heap;
use super::raw::{Handle, c_name, check, locked, reserve};
use crate::error::{BoxedError, Error, Result};
use crate::model::ElementKey;
use crate::store::encode::{OpenArrays, RawResult, Repeats, in_background};
use crate::store::temporary::{Kind, Names};
use crate::store::{ArraySpec, ArrayWriter, Attributes, StoreWriter, WriteTarget};

/// What errors call this store.
pub(super) const STORE: &str = "h5ad";
/// The file grows by so much at a time for metadata, and for small arrays: small files stay small,
/// and their parts lie together.
const BLOCK_BYTES: u64 = 16 << 10;
/// Members up to which a group keeps its links in its header, where they are cheapest.
const COMPACT_LINKS: u32 = 64;

/// Starts a file beside `target.path`.
///
/// # Errors
/// [`Error::OutputRefused`] where the output exists and may not be replaced, or has no directory;
/// [`Error::Store`] where the file cannot be made.
pub(crate) async fn create(target: &WriteTarget) -> Result<Arc<dyn StoreWriter>> {
    let names = Names::try_new(target, Kind::File)?;
    let shared = Shared::create(&names, target.run_bytes)
        .inspect_err(|_| names.remove())
        .map_err(|e| Error::store(STORE, &names.url, e))?;
    Ok(Arc::new(H5Writer {
        shared: Arc::new(shared),
        names,
        target: target.clone(),
        committed: AtomicBool::new(false),
    }))
}

/// What a file and its arrays share.
#[derive(Debug)]
pub(super) struct Shared {
    url: String,
    /// The library's file, negative once it is closed.
    file: AtomicI64,
    /// Our own descriptor of it.
    bytes: Arc<Descriptor>,
    /// How links are named.
    links: Handle,
    /// How groups are made.
    groups: Handle,
    attributes: AttributeTypes,
    heap: Mutex<Heap>,
    pub(super) open_arrays: OpenArrays,
    pub(super) repeats: Repeats<Filter>,
}

impl Shared {
    fn create(names: &Names, run_bytes: u64) -> RawResult<Self> {
        let file = create_file(&names.temporary)?;
        let bytes = OpenOptions::new().write(true).open(&names.temporary)?;
        let bytes = Descriptor::new(bytes, bulk::open(&names.temporary, run_bytes));
        locked(|| {
            // SAFETY: constants of the library, and lists of our own.
            let links = Handle::new(unsafe { H5Pcreate(*h5::H5P_LINK_CREATE) }, H5Pclose)?;
            check(unsafe { H5Pset_char_encoding(links.id(), H5T_cset_t::H5T_CSET_UTF8) })?;
            let groups = Handle::new(unsafe { H5Pcreate(*h5::H5P_GROUP_CREATE) }, H5Pclose)?;
            set_group_options(&groups)?;
            let shared = Self {
                url: names.url.clone(),
                file: AtomicI64::new(file.id()),
                bytes: Arc::new(bytes),
                links,
                groups,
                attributes: AttributeTypes::new()?,
                heap: Mutex::new(Heap::default()),
                open_arrays: OpenArrays::default(),
                repeats: Repeats::default(),
            };
            // From here on `close` is what closes it.
            std::mem::forget(file);
            Ok(shared)
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The library's file. Under the lock, which keeps it open.
    pub(super) fn file(&self) -> RawResult<hid_t> {
        match self.file.load(Ordering::Acquire) {
            closed if closed < 0 => Err("the file is closed".into()),
            file => Ok(file),
        }
    }

    /// A descriptor for writing at places the library has given.
    pub(super) fn bytes(&self) -> Arc<Descriptor> {
        Arc::clone(&self.bytes)
    }

    /// Puts the texts of a string array on the file's heap and gives their places there, which are
    /// the elements of an array of text on disk.
    ///
    /// # Errors
    /// Those of [`Heap::put`].
    pub(super) fn put_texts(&self, values: &ArrayRef) -> RawResult<Buffer> {
        let mut heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        heap.put(values, &self.bytes, |bytes| {
            locked(|| reserve(self.file()?, bytes))
        })
    }

    pub(super) fn links(&self) -> hid_t {
        self.links.id()
    }

    pub(super) fn attributes(&self) -> &AttributeTypes {
        &self.attributes
    }

    /// An error of this file, at an element of it.
    pub(super) fn failure(&self, key: &ElementKey, source: BoxedError) -> Error {
        Error::store(STORE, format!("{}: {key}", self.url), source)
    }

    fn create_group(&self, key: &ElementKey, attributes: &Attributes) -> RawResult<()> {
        let name = c_name(key.as_str())?;
        locked(|| {
            let file = self.file()?;
            // SAFETY: all identifiers are open and the name ends in NUL.
            let group = Handle::new(
                unsafe { H5Gcreate2(file, name.as_ptr(), self.links.id(), self.groups.id(), 0) },
                H5Gclose,
            )?;
            self.attributes.write(group.id(), attributes)
        })
    }

    fn set_attributes(&self, key: &ElementKey, attributes: &Attributes) -> RawResult<()> {
        let name = c_name(&format!("/{}", key.as_str()))?;
        locked(|| {
            let file = self.file()?;
            // SAFETY: the file is open and the name ends in NUL.
            let group = Handle::new(unsafe { H5Gopen2(file, name.as_ptr(), 0) }, H5Gclose)?;
            self.attributes.write(group.id(), attributes)
        })
    }

    /// Writes what the library holds back and closes its file, with all that is open in it.
    fn close(&self) -> RawResult<()> {
        locked(|| match self.file.swap(-1, Ordering::AcqRel) {
            closed if closed < 0 => Ok(()),
            // SAFETY: taken out above, so it is closed once.
            file => check(unsafe { H5Fclose(file) }),
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.close());
    }
}

/// Creates the library's file.
fn create_file(path: &Path) -> RawResult<Handle> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    locked(|| {
        // SAFETY: constants of the library, lists of our own, a name that ends in NUL.
        unsafe {
            let access = Handle::new(H5Pcreate(*h5::H5P_FILE_ACCESS), H5Pclose)?;
            // Old enough for every reader since 2008, new enough for attributes over 64 KiB.
            let version = H5F_libver_t::H5F_LIBVER_V18;
            check(H5Pset_libver_bounds(access.id(), version, version))?;
            check(H5Pset_file_locking(access.id(), 0, 1))?;
            check(H5Pset_fclose_degree(
                access.id(),
                H5F_close_degree_t::H5F_CLOSE_STRONG,
            ))?;
            check(H5Pset_meta_block_size(access.id(), BLOCK_BYTES))?;
            check(H5Pset_small_data_block_size(access.id(), BLOCK_BYTES))?;
            let root = Handle::new(H5Pcreate(*h5::H5P_FILE_CREATE), H5Pclose)?;
            set_group_options(&root)?;
            let id = H5Fcreate(name.as_ptr(), H5F_ACC_EXCL, root.id(), access.id());
            Handle::new(id, H5Fclose)
        }
    })
}

/// No times, so that equal input gives equal bytes.
fn set_group_options(list: &Handle) -> RawResult<()> {
    // SAFETY: a list of our own, for groups or (with the same properties) for the root.
    unsafe {
        check(H5Pset_obj_track_times(list.id(), 0))?;
        check(H5Pset_link_phase_change(
            list.id(),
            COMPACT_LINKS,
            COMPACT_LINKS / 2,
        ))
    }
}

/// A file being written.
#[derive(Debug)]
struct H5Writer {
    shared: Arc<Shared>,
    names: Names,
    target: WriteTarget,
    committed: AtomicBool,
}

#[async_trait]
impl StoreWriter for H5Writer {
    fn url(&self) -> &str {
        &self.names.url
    }

    async fn create_group(&self, key: &ElementKey, attributes: &Attributes) -> Result<()> {
        self.shared
            .create_group(key, attributes)
            .map_err(|e| self.shared.failure(key, e))
    }

    async fn set_attributes(&self, key: &ElementKey, attributes: &Attributes) -> Result<()> {
        self.shared
            .set_attributes(key, attributes)
            .map_err(|e| self.shared.failure(key, e))
    }

    async fn create_array(
        &self,
        key: &ElementKey,
        spec: ArraySpec,
    ) -> Result<Box<dyn ArrayWriter>> {
        array::create(&self.shared, key, spec)
    }

    async fn close(&self) -> Result<()> {
        let root = ElementKey::root();
        let finished = self.shared.open_arrays.check();
        finished.map_err(|e| self.shared.failure(&root, e))?;
        let (shared, fsync) = (Arc::clone(&self.shared), self.target.fsync);
        let close = move || -> RawResult<()> {
            shared.close()?;
            if fsync {
                shared.bytes.sync_all()?;
            }
            shared.bytes.close();
            *shared.heap.lock().unwrap_or_else(PoisonError::into_inner) = Heap::default();
            Ok(())
        };
        // The library writes what it kept of its tables, up to 32 MiB.
        in_background(close)
            .await
            .map_err(|e| self.shared.failure(&root, e))
    }

    async fn commit(&self) -> Result<()> {
        if self.shared.file.load(Ordering::Acquire) >= 0 {
            let reason = "the file is not closed";
            return Err(self.shared.failure(&ElementKey::root(), reason.into()));
        }
        self.names
            .publish(self.target.overwrite, self.target.fsync)?;
        self.committed.store(true, Ordering::Release);
        Ok(())
    }
}

impl Drop for H5Writer {
    fn drop(&mut self) {
        if !self.committed.load(Ordering::Acquire) {
            drop(self.shared.close());
            self.names.remove();
        }
    }
}
