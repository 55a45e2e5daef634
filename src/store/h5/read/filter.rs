//! Undoing the filters of a chunk.

use std::cell::RefCell;

use hdf5_pure::Filter;
use libdeflater::{CompressionLvl, Compressor, Decompressor};

use super::lzf;
use crate::store::ChunkFilter;
use crate::store::decode::Fault;

/// Scratch memory above this is given back after use.
const KEEP: usize = 8 << 20;

/// One filter, as far as this reader knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Deflate,
    Shuffle(usize),
    Fletcher32,
    Lzf,
}

/// The filters of an array, in the order in which they were applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pipeline {
    steps: Vec<Step>,
}

impl Pipeline {
    /// From the file's list; [`None`] where a filter is not ours or two of them compress, so that
    /// the length between them is written nowhere.
    pub(super) fn new(filters: &[Filter], element_size: usize) -> Option<Self> {
        let mut steps = Vec::with_capacity(filters.len());
        for filter in filters {
            steps.push(match filter.id {
                1 => Step::Deflate,
                2 => Step::Shuffle(
                    filter
                        .client_data
                        .first()
                        .and_then(|n| usize::try_from(*n).ok())
                        .filter(|n| *n > 0)
                        .unwrap_or(element_size),
                ),
                3 => Step::Fletcher32,
                32000 => Step::Lzf,
                _ => return None,
            });
        }
        let compressing = steps.iter().filter(|s| s.compresses()).count();
        (compressing <= 1 && steps.len() <= 32).then_some(Self { steps })
    }

    /// Whether chunks are stored as they are.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The most bytes that `stored` bytes can decode to: deflate packs 1,032 to 1 at best, LZF
    /// 264 bytes into 3.
    pub(super) fn bound(&self, stored: u64) -> u64 {
        if self.steps.iter().any(|s| s.compresses()) {
            stored.saturating_mul(1100).saturating_add(64 << 10)
        } else {
            stored
        }
    }

    /// The filters as other readers have them, but for those in `mask`; [`None`] where one is ours
    /// alone.
    pub(super) fn shared(&self, mask: u32) -> Option<Vec<ChunkFilter>> {
        let applied = self.applied(mask);
        let filters = applied.map(|step| match step {
            Step::Deflate => Some(ChunkFilter::Zlib),
            Step::Shuffle(size) => Some(ChunkFilter::Shuffle(size)),
            Step::Fletcher32 => Some(ChunkFilter::Fletcher32),
            Step::Lzf => None,
        });
        filters.collect()
    }

    /// Whether two masks leave the same filters.
    pub(super) fn skips_alike(&self, one: u32, other: u32) -> bool {
        self.applied(one).eq(self.applied(other))
    }

    fn applied(&self, mask: u32) -> impl Iterator<Item = Step> {
        let numbered = self.steps.iter().enumerate();
        numbered
            .filter(move |(i, _)| mask & (1 << i) == 0)
            .map(|(_, step)| *step)
    }

    /// Encodes a chunk by the filters that are not in `mask`.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] where one of them is no [shared](Self::shared) one.
    pub(super) fn encode(&self, plain: Vec<u8>, mask: u32) -> Result<Vec<u8>, Fault> {
        let mut bytes = plain;
        for step in self.applied(mask) {
            match step {
                Step::Shuffle(size) => bytes = shuffle(&bytes, size),
                Step::Deflate => {
                    let mut compressor = Compressor::new(CompressionLvl::fastest());
                    let mut packed = vec![0; compressor.zlib_compress_bound(bytes.len())];
                    let len = compressor
                        .zlib_compress(&bytes, &mut packed)
                        .map_err(|e| Fault::Unsupported(format!("a chunk: {e}")))?;
                    packed.truncate(len);
                    bytes = packed;
                }
                Step::Fletcher32 => {
                    let sum = fletcher32(&bytes);
                    bytes.extend(sum.to_le_bytes());
                }
                Step::Lzf => return Err(Fault::Unsupported("a chunk in lzf".to_owned())),
            }
        }
        Ok(bytes)
    }

    /// Bytes that checksums add to a chunk of which the filters in `mask` were skipped.
    fn checksums(&self, steps: &[Step], mask: u32) -> usize {
        steps
            .iter()
            .enumerate()
            .filter(|(i, s)| **s == Step::Fletcher32 && mask & (1 << i) == 0)
            .count()
            * 4
    }

    /// Decodes `stored`, which is in `scratch.input`, into `len` bytes and shows them to `take`.
    ///
    /// # Errors
    /// [`Fault::Corrupt`] where the bytes do not decode to that length.
    pub(super) fn decode<'a>(
        &self,
        scratch: &'a mut Scratch,
        mask: u32,
        len: usize,
    ) -> Result<&'a [u8], Fault> {
        for (i, step) in self.steps.iter().enumerate().rev() {
            if mask & (1 << i) != 0 {
                continue;
            }
            let Scratch {
                input,
                output,
                inflater,
            } = scratch;
            if *step == Step::Fletcher32 {
                strip_checksum(input)?;
                continue;
            }
            let expected = if step.compresses() {
                len + self.checksums(&self.steps[..i], mask)
            } else {
                input.len()
            };
            output.resize(expected, 0);
            match step {
                Step::Deflate => {
                    let n = inflater.zlib_decompress(input, output).map_err(|e| {
                        Fault::Corrupt(format!(
                            "a chunk of {} bytes does not inflate to {expected}: {e}",
                            input.len()
                        ))
                    })?;
                    if n != expected {
                        return Err(Fault::Corrupt(format!(
                            "a chunk inflates to {n} bytes, its shape asks for {expected}"
                        )));
                    }
                }
                Step::Lzf => lzf::decompress(input, output).ok_or_else(|| {
                    Fault::Corrupt(format!(
                        "a chunk of {} bytes does not unpack (lzf) to {expected}",
                        input.len()
                    ))
                })?,
                Step::Shuffle(size) => unshuffle(input, output, *size),
                Step::Fletcher32 => {}
            }
            std::mem::swap(input, output);
        }
        if scratch.input.len() != len {
            return Err(Fault::Corrupt(format!(
                "a chunk holds {} bytes, its shape asks for {len}",
                scratch.input.len()
            )));
        }
        Ok(&scratch.input)
    }
}

impl Step {
    fn compresses(self) -> bool {
        matches!(self, Self::Deflate | Self::Lzf)
    }
}

/// Two buffers and a decompressor, kept per thread.
pub(super) struct Scratch {
    /// Holds the stored bytes before decoding.
    pub(super) input: Vec<u8>,
    output: Vec<u8>,
    inflater: Decompressor,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        input: Vec::new(),
        output: Vec::new(),
        inflater: Decompressor::new(),
    });
}

/// Lends this thread's scratch memory. `work` must not call itself or yield to the pool.
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        let result = work(scratch);
        for buffer in [&mut scratch.input, &mut scratch.output] {
            if buffer.capacity() > KEEP {
                *buffer = Vec::new();
            }
        }
        result
    })
}

/// Byte planes back into elements; what does not fill an element stands at the end as it is.
fn unshuffle(planes: &[u8], out: &mut [u8], size: usize) {
    let n = if size < 2 { 0 } else { planes.len() / size };
    let (head, tail) = planes.split_at(n * size);
    out[n * size..].copy_from_slice(tail);
    let out = &mut out[..n * size];
    // The sizes that matter get their own loop, so that the compiler sees a constant.
    match size {
        2 => gather::<2>(head, out, n),
        4 => gather::<4>(head, out, n),
        8 => gather::<8>(head, out, n),
        _ => {
            for (plane, bytes) in head.chunks_exact(n.max(1)).enumerate() {
                for (i, byte) in bytes.iter().enumerate() {
                    out[i * size + plane] = *byte;
                }
            }
        }
    }
}

fn gather<const SIZE: usize>(planes: &[u8], out: &mut [u8], n: usize) {
    let plane: [&[u8]; SIZE] = std::array::from_fn(|k| &planes[k * n..(k + 1) * n]);
    for (i, element) in out.as_chunks_mut::<SIZE>().0.iter_mut().enumerate() {
        for k in 0..SIZE {
            element[k] = plane[k][i];
        }
    }
}

/// Elements into byte planes, the way there of [`unshuffle`].
fn shuffle(elements: &[u8], size: usize) -> Vec<u8> {
    let n = if size < 2 { 0 } else { elements.len() / size };
    let mut planes = elements.to_vec();
    for (i, element) in elements[..n * size].chunks_exact(size.max(1)).enumerate() {
        for (plane, byte) in element.iter().enumerate() {
            planes[plane * n + i] = *byte;
        }
    }
    planes
}

fn strip_checksum(input: &mut Vec<u8>) -> Result<(), Fault> {
    let Some((data, stored)) = input.split_last_chunk::<4>() else {
        return Err(Fault::Corrupt(
            "a chunk is shorter than its checksum".into(),
        ));
    };
    let stored = u32::from_le_bytes(*stored);
    let sum = fletcher32(data);
    // Before 1.6.3 the library swapped the bytes of each half on little-endian machines, and
    // reads such files still.
    let swapped = ((sum & 0x00ff_00ff) << 8) | ((sum >> 8) & 0x00ff_00ff);
    if stored != sum && stored != swapped {
        return Err(Fault::Corrupt(format!(
            "a chunk's checksum is {stored:08x}, its bytes give {sum:08x}"
        )));
    }
    input.truncate(input.len() - 4);
    Ok(())
}

fn fletcher32(data: &[u8]) -> u32 {
    let (mut a, mut b) = (0u32, 0u32);
    let fold = |s: u32| (s & 0xffff) + (s >> 16);
    let (words, rest) = data.as_chunks::<2>();
    // 360 is how many words fit before the second sum can overflow.
    for block in words.chunks(360) {
        for word in block {
            a += u32::from(u16::from_be_bytes(*word));
            b += a;
        }
        a = fold(a);
        b = fold(b);
    }
    if let Some(byte) = rest.first() {
        a += u32::from(*byte) << 8;
        b += a;
        a = fold(a);
        b = fold(b);
    }
    (fold(b) << 16) | fold(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unshuffles_every_size_and_a_tail() {
        for size in [1, 2, 3, 4, 8, 12] {
            let data: Vec<u8> = (0..size * 5 + 1)
                .map(|i| u8::try_from(i % 251).unwrap())
                .collect();
            let n = if size < 2 { 0 } else { 5 };
            let mut planes = vec![0; data.len()];
            for i in 0..n {
                for k in 0..size {
                    planes[k * n + i] = data[i * size + k];
                }
            }
            planes[n * size..].copy_from_slice(&data[n * size..]);
            let mut out = vec![0; data.len()];
            unshuffle(&planes, &mut out, size);
            assert_eq!(out, data, "size {size}");
        }
    }

    #[test]
    fn what_is_encoded_decodes() {
        let pipeline = Pipeline {
            steps: vec![Step::Shuffle(4), Step::Deflate, Step::Fletcher32],
        };
        let plain: Vec<u8> = (0u32..500).flat_map(|i| (i * i).to_le_bytes()).collect();
        for mask in 0..8 {
            let input = pipeline.encode(plain.clone(), mask).unwrap();
            let mut scratch = Scratch {
                input,
                output: Vec::new(),
                inflater: Decompressor::new(),
            };
            let decoded = pipeline.decode(&mut scratch, mask, plain.len()).unwrap();
            assert_eq!(decoded, plain, "mask {mask}");
        }
    }

    #[test]
    fn fletcher_of_known_bytes() {
        assert_eq!(fletcher32(&[]), 0);
        assert_eq!(fletcher32(&[1, 2, 3, 4]), (0x0102 + 0x0406) << 16 | 0x0406);
    }
}
