//! Where bytes come from: a file today, ranges of an object tomorrow.

use std::fmt;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::store::decode::Fault;
use hdf5_pure::FormatError;

/// Bytes at offsets. Length and content do not change while it is open.
pub(super) trait ByteSource: fmt::Debug + Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Fills `buf` from `offset`; fewer bytes than asked for are an error.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Fills memory that was never written and gives it back as bytes.
    fn read_uninit<'a>(
        &self,
        offset: u64,
        buf: &'a mut [MaybeUninit<u8>],
    ) -> io::Result<&'a mut [u8]>;
}

/// Reads `len` bytes, after checking that the source holds them.
pub(super) fn read_vec(source: &dyn ByteSource, offset: u64, len: u64) -> Result<Vec<u8>, Fault> {
    check_range(source, offset, len)?;
    let len =
        usize::try_from(len).map_err(|_| Fault::Corrupt(format!("{len} bytes in one run")))?;
    let mut bytes = vec![0; len];
    source.read_at(offset, &mut bytes)?;
    Ok(bytes)
}

/// Refuses a run of bytes that ends after the source does.
pub(super) fn check_range(source: &dyn ByteSource, offset: u64, len: u64) -> Result<(), Fault> {
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
pub(super) struct FileSource {
    file: File,
    len: u64,
}

impl FileSource {
    /// Opens a regular file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
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

impl ByteSource for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn read_uninit<'a>(
        &self,
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
            // SAFETY: the pointer and length are those of a live exclusive slice, and `pread`
            // only writes there. `std` has no stable positional read into uninitialised memory,
            // and zeroing a batch before filling it costs as much as reading it from the cache.
            let n = unsafe {
                libc::pread(
                    self.file.as_raw_fd(),
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
}

/// A source as the metadata parser wants it.
#[derive(Debug, Clone)]
pub(super) struct MetadataSource(pub(super) Arc<dyn ByteSource>);

impl hdf5_pure::Source for MetadataSource {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), FormatError> {
        let length = buf.len() as u64;
        let end = offset
            .checked_add(length)
            .ok_or(FormatError::OffsetOverflow { offset, length })?;
        if end > self.0.len() {
            return Err(FormatError::UnexpectedEof {
                expected: usize::try_from(end).unwrap_or(usize::MAX),
                available: usize::try_from(self.0.len()).unwrap_or(usize::MAX),
            });
        }
        self.0
            .read_at(offset, buf)
            .map_err(|e| FormatError::Source(e.to_string()))
    }
}
