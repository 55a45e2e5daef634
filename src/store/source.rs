//! Bytes at offsets: of a file here, of an object in [`remote`](super::remote).

use std::fmt;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use crate::store::decode::{Fault, zeroed};
use crate::store::memory;

/// Bytes at offsets. Length and content do not change while it is open.
pub(in crate::store) trait ByteSource: fmt::Debug + Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Fills `buf` from `offset`; fewer bytes than asked for are an error.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Fills memory that was never written and gives it back as bytes.
    fn read_uninit<'a>(
        &self,
        offset: u64,
        buf: &'a mut [MaybeUninit<u8>],
    ) -> io::Result<&'a mut [u8]> {
        let bytes = zeroed(buf);
        self.read_at(offset, bytes)?;
        Ok(bytes)
    }

    /// Reads a range once, in order, so that reads of it in any order find it in the page cache; nothing
    /// where most of it is there, where memory has no room for it, or of what is far away.
    fn warm(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    /// Whether bytes come over a network, so that calls wait long and belong on threads that may.
    fn is_remote(&self) -> bool {
        false
    }

    /// Fetches ranges together that are likely to be read next, where asking for one after the other is
    /// slow. What cannot be had is found out when it is read.
    fn touch(&self, _ranges: &[Range<u64>]) {}

    /// The same bytes with these ranges at hand, fetched together; [`None`] where asking for one
    /// after the other costs nothing.
    fn ahead(self: Arc<Self>, _ranges: &[Range<u64>]) -> io::Result<Option<Ahead>> {
        Ok(None)
    }
}

/// Bytes at hand.
#[derive(Debug)]
pub(in crate::store) struct Ahead {
    /// The source that has them.
    pub(in crate::store) source: Arc<dyn ByteSource>,
    /// How many were transferred.
    pub(in crate::store) bytes: u64,
}

/// Reads `len` bytes, after checking that the source holds them.
pub(in crate::store) fn read_vec(
    source: &dyn ByteSource,
    offset: u64,
    len: u64,
) -> Result<Vec<u8>, Fault> {
    check_range(source, offset, len)?;
    let len =
        usize::try_from(len).map_err(|_| Fault::Corrupt(format!("{len} bytes in one run")))?;
    let mut bytes = vec![0; len];
    source.read_at(offset, &mut bytes)?;
    Ok(bytes)
}

/// Refuses a run of bytes that ends after the source does.
pub(in crate::store) fn check_range(
    source: &dyn ByteSource,
    offset: u64,
    len: u64,
) -> Result<(), Fault> {
    match offset.checked_add(len) {
        Some(end) if end <= source.len() => Ok(()),
        _ => Err(Fault::Corrupt(format!(
            "{len} bytes at {offset} end after the file's {} bytes",
            source.len()
        ))),
    }
}

/// A file, read at offsets; no lock, no cursor.
#[derive(Debug)]
pub(in crate::store) struct FileSource {
    file: File,
    len: u64,
}

impl FileSource {
    /// Opens a regular file.
    pub(in crate::store) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        Ok(Self {
            file,
            len: metadata.len(),
        })
    }
}

/// Places of a range that are looked at for whether the page cache has it.
const SAMPLES: u64 = 64;
/// Of them, how many may be missing.
const FEW: usize = 2;
/// Bytes of a read that is made for the page cache.
const WARM: u64 = 4 << 20;

impl FileSource {
    /// Whether the page cache has most of a range; true where the system cannot tell.
    #[cfg(target_os = "linux")]
    fn is_cached(&self, range: &Range<u64>) -> bool {
        let len = range.end.saturating_sub(range.start);
        let is_missing = |sample: &u64| {
            let at = range.start + len / SAMPLES * sample;
            let Ok(at) = libc::off_t::try_from(at) else {
                return false;
            };
            let mut byte = 0u8;
            let to = libc::iovec {
                iov_base: (&raw mut byte).cast(),
                iov_len: 1,
            };
            // SAFETY: the one vector is of one byte, which lives through the call. The flag makes it
            // fail where it would have to wait for a disk.
            let n = unsafe {
                libc::preadv2(
                    self.file.as_raw_fd(),
                    &raw const to,
                    1,
                    at,
                    libc::RWF_NOWAIT,
                )
            };
            n < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
        };
        (0..SAMPLES).filter(is_missing).count() <= FEW
    }

    #[cfg(not(target_os = "linux"))]
    fn is_cached(&self, _: &Range<u64>) -> bool {
        true
    }
}

impl ByteSource for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn warm(&self, range: Range<u64>) -> io::Result<()> {
        let len = range.end.saturating_sub(range.start);
        // Of what is available a matrix may take half, in two arrays: others need some, too.
        let has_room = memory::available().is_some_and(|bytes| len < bytes / 4);
        if !has_room || self.is_cached(&range) {
            return Ok(());
        }
        (0..len.div_ceil(WARM)).into_par_iter().try_for_each_init(
            || vec![0; usize::try_from(WARM).unwrap_or_default()],
            |bytes, at| {
                let start = range.start + at * WARM;
                let n = usize::try_from(WARM.min(range.end - start)).unwrap_or_default();
                self.read_at(start, &mut bytes[..n])
            },
        )
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn read_uninit<'a>(
        &self,
        offset: u64,
        buf: &'a mut [MaybeUninit<u8>],
    ) -> io::Result<&'a mut [u8]> {
        read_exact_uninit(&self.file, offset, buf)
    }
}

/// Fills memory that was never written from a place in a file, and gives it back as bytes.
pub(in crate::store) fn read_exact_uninit<'a>(
    file: &File,
    offset: u64,
    buf: &'a mut [MaybeUninit<u8>],
) -> io::Result<&'a mut [u8]> {
    let mut done = 0;
    while done < buf.len() {
        let rest = &mut buf[done..];
        let at = offset
            .checked_add(done as u64)
            .and_then(|at| libc::off_t::try_from(at).ok())
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the pointer and length are those of a live exclusive slice, and `pread` only
        // writes there. `std` has no stable positional read into uninitialised memory, and zeroing a
        // batch before filling it costs as much as reading it from the cache.
        let n = unsafe {
            libc::pread(
                file.as_raw_fd(),
                rest.as_mut_ptr().cast::<libc::c_void>(),
                rest.len(),
                at,
            )
        };
        match usize::try_from(n) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(n) => done += n,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    // SAFETY: the loop ended with `done` equal to the length, and `pread` wrote that many.
    Ok(unsafe { buf.assume_init_mut() })
}
