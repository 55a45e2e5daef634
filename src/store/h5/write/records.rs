//! Text, and records that hold text: written by the library, which keeps text on its heap.

use std::ptr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StructArray};
use hdf5::globals as h5;
use hdf5_sys::h5d::{H5Dget_space, H5Dset_extent, H5Dwrite};
use hdf5_sys::h5p::{H5P_DEFAULT, H5Pclose, H5Pcreate, H5Pset_buffer};
use hdf5_sys::h5s::{H5S_seloper_t, H5Sclose, H5Screate_simple, H5Sselect_hyperslab};

use super::descriptor::Descriptor;
use super::encode::{Texts, encode, mismatch};
use super::raw::{Handle, RawResult, check, disk_size, locked, memory_size, memory_type};
use crate::model::DType;

/// Elements written under one hold of the lock.
const BLOCK: u64 = 8192;

/// Room on the disk from which on a block is converted in one go, which takes half the time: more
/// than other outputs are likely to fill meanwhile.
const PLENTY: u64 = 4 << 30;

/// The rest of an array with text.
#[derive(Debug)]
pub(super) struct Records {
    file: Arc<Descriptor>,
    dataset: Handle,
    memory: Handle,
    /// How the library transfers where the disk is nearly full: see [`one_by_one`].
    careful: Handle,
    dtype: DType,
    /// Lengths after the first axis.
    tail: Vec<u64>,
    /// Whether the extent follows what is appended.
    growing: bool,
    /// Whether the array has no axis.
    scalar: bool,
    /// Rows written.
    rows: u64,
}

impl Records {
    pub(super) fn new(
        file: Arc<Descriptor>,
        dataset: Handle,
        dtype: DType,
        shape: Option<&[u64]>,
        growing: bool,
    ) -> RawResult<Self> {
        Ok(Self {
            file,
            dataset,
            memory: memory_type(&dtype)?,
            careful: one_by_one(&dtype)?,
            dtype,
            tail: shape.and_then(|s| s.get(1..)).unwrap_or_default().to_vec(),
            growing,
            scalar: shape.is_none_or(<[u64]>::is_empty),
            rows: 0,
        })
    }

    /// Writes rows, some thousand elements at a time.
    ///
    /// # Errors
    /// Where a text has a NUL character, which would end it for every reader.
    pub(super) fn append(&mut self, values: &ArrayRef) -> RawResult<()> {
        let row: u64 = self.tail.iter().product();
        if row == 0 {
            return Ok(());
        }
        let rows = u64::try_from(values.len())? / row;
        let step = (BLOCK / row).max(1);
        let mut from = 0;
        while from < rows {
            let n = step.min(rows - from);
            let block = values.slice(usize::try_from(from * row)?, usize::try_from(n * row)?);
            let image = Image::try_new(&self.dtype, &block)?;
            locked(|| self.write(&image, n))?;
            self.rows += n;
            from += n;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> RawResult<()> {
        self.dataset.close()
    }

    /// Writes the next `n` rows.
    fn write(&self, image: &Image, n: u64) -> RawResult<()> {
        let pointer = image.bytes.as_ptr().cast();
        let transfer = match self.file.room() {
            room if room < PLENTY => self.careful.id(),
            _ => H5P_DEFAULT,
        };
        // SAFETY: the image has as many elements, in the memory type's layout, as are selected;
        // its pointers stay valid as long as it is borrowed. All lengths have the dataset's rank.
        unsafe {
            if self.scalar {
                return check(H5Dwrite(
                    self.dataset.id(),
                    self.memory.id(),
                    0,
                    0,
                    transfer,
                    pointer,
                ));
            }
            let lengths = |rows: u64| [&[rows], self.tail.as_slice()].concat();
            if self.growing {
                let shape = lengths(self.rows + n);
                check(H5Dset_extent(self.dataset.id(), shape.as_ptr()))?;
            }
            let count = lengths(n);
            let mut start = vec![0; count.len()];
            start[0] = self.rows;
            let rank = i32::try_from(count.len())?;
            let memory = Handle::new(
                H5Screate_simple(rank, count.as_ptr(), ptr::null()),
                H5Sclose,
            )?;
            let file = Handle::new(H5Dget_space(self.dataset.id()), H5Sclose)?;
            check(H5Sselect_hyperslab(
                file.id(),
                H5S_seloper_t::H5S_SELECT_SET,
                start.as_ptr(),
                ptr::null(),
                count.as_ptr(),
                ptr::null(),
            ))?;
            check(H5Dwrite(
                self.dataset.id(),
                self.memory.id(),
                memory.id(),
                file.id(),
                transfer,
                pointer,
            ))
        }
    }
}

/// Makes the library convert one element at a time.
///
/// When it fails in the middle of several (the disk is full), it frees those already converted as
/// if they were pointers, and the process dies (seen in 2.2.0: `H5T__conv_vlen`).
fn one_by_one(dtype: &DType) -> RawResult<Handle> {
    let disk = disk_size(dtype).map(usize::try_from).transpose()?;
    let size = disk.max(memory_size(dtype)).unwrap_or(0);
    locked(|| {
        // SAFETY: a list of our own; the library makes the buffers.
        unsafe {
            let transfer = Handle::new(H5Pcreate(*h5::H5P_DATASET_XFER), H5Pclose)?;
            check(H5Pset_buffer(
                transfer.id(),
                size,
                ptr::null_mut(),
                ptr::null_mut(),
            ))?;
            Ok(transfer)
        }
    })
}

/// Elements as they lie in memory, text as pointers.
struct Image {
    bytes: Vec<u8>,
    /// The texts that `bytes` points to, each ended by a NUL. Never touched again.
    #[expect(dead_code, reason = "owns what the pointers in `bytes` point to")]
    texts: Vec<u8>,
}

/// An image whose pointers are still offsets.
#[derive(Default)]
struct Draft {
    bytes: Vec<u8>,
    texts: Vec<u8>,
    /// Where in `bytes` a pointer belongs, and where in `texts` it points.
    pointers: Vec<(usize, usize)>,
}

impl Image {
    fn try_new(dtype: &DType, values: &ArrayRef) -> RawResult<Self> {
        let size = memory_size(dtype).ok_or_else(|| mismatch(dtype, values.data_type()))?;
        let mut draft = Draft {
            bytes: vec![0; size * values.len()],
            ..Draft::default()
        };
        draft.fill(dtype, values, 0, size)?;
        let Draft {
            mut bytes,
            texts,
            pointers,
        } = draft;
        for (slot, offset) in pointers {
            let pointer = texts[offset..].as_ptr().expose_provenance();
            bytes[slot..slot + size_of::<usize>()].copy_from_slice(&pointer.to_ne_bytes());
        }
        Ok(Self { bytes, texts })
    }
}

impl Draft {
    /// Puts element i at `base + i * stride`.
    fn fill(
        &mut self,
        dtype: &DType,
        values: &ArrayRef,
        base: usize,
        stride: usize,
    ) -> RawResult<()> {
        match dtype {
            DType::String => {
                let texts = Texts::try_new(values)?;
                self.pointers.reserve(values.len());
                for i in 0..values.len() {
                    let text = texts.get(i).as_bytes();
                    if text.contains(&0) {
                        return Err(
                            format!("the text {:?} has a NUL character", texts.get(i)).into()
                        );
                    }
                    self.pointers.push((base + i * stride, self.texts.len()));
                    self.texts.extend_from_slice(text);
                    self.texts.push(0);
                }
            }
            DType::Struct(members) => {
                let columns = values
                    .as_any()
                    .downcast_ref::<StructArray>()
                    .map(StructArray::columns)
                    .filter(|columns| columns.len() == members.len())
                    .ok_or_else(|| mismatch(dtype, values.data_type()))?;
                let mut offset = base;
                for (member, column) in members.iter().zip(columns) {
                    self.fill(&member.dtype, column, offset, stride)?;
                    offset += memory_size(&member.dtype)
                        .ok_or_else(|| mismatch(&member.dtype, column.data_type()))?;
                }
            }
            fixed => {
                let width =
                    memory_size(fixed).ok_or_else(|| mismatch(fixed, values.data_type()))?;
                if width == 0 {
                    return Ok(());
                }
                let encoded = encode(fixed, values)?;
                for (i, value) in encoded.chunks_exact(width).enumerate() {
                    let at = base + i * stride;
                    self.bytes[at..at + width].copy_from_slice(value);
                }
            }
        }
        Ok(())
    }
}
