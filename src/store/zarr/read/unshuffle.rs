//! Values from their byte planes (blosc's shuffle, undone).
//!
//! ```text
//!  planes   a0 b0 c0 …   a1 b1 c1 …      values   a0 a1 │ b0 b1 │ c0 c1 │ …
//! ```

use std::mem::MaybeUninit;

use crate::store::decode::Initialised;

/// Puts the values from `first` on together in `target`, which has room for whole ones; of none that
/// the planes do not have.
pub(super) fn unshuffle(
    planes: &[&[u8]],
    first: usize,
    target: &mut [MaybeUninit<u8>],
) -> Initialised {
    let n = target.len() / planes.len().max(1);
    let parts: Option<Vec<&[u8]>> = planes
        .iter()
        .map(|plane| plane.get(first..first.checked_add(n)?))
        .collect();
    let Some(parts) = parts else {
        return Initialised::default();
    };
    let (done, largest) = match parts.as_slice() {
        [a, b] => (pairs(a, b, target), None),
        [a, b, c, d] => fours([a, b, c, d], target),
        _ => (0, None),
    };
    tail(&parts, done, target);
    let written = &mut target[..n * planes.len()];
    // SAFETY: all values from 0 to `n` were written, by the vectors and by what they left.
    let written = unsafe { written.assume_init_mut() };
    let Some(largest) = largest else {
        return Initialised::of(written);
    };
    let (rest, _) = written[4 * done..].as_chunks();
    let rest = rest.iter().map(|word| u32::from_ne_bytes(*word));
    let largest = rest.fold(largest, u32::max);
    Initialised::of_words(written, largest)
}

/// Values from `done` on, one by one.
fn tail(planes: &[&[u8]], done: usize, target: &mut [MaybeUninit<u8>]) {
    let size = planes.len();
    for (byte, plane) in planes.iter().enumerate() {
        let places = target.iter_mut().skip(done * size + byte).step_by(size);
        for (place, value) in places.zip(plane.iter().skip(done)) {
            place.write(*value);
        }
    }
}

/// Values of two bytes, sixteen at a time; how many were done.
#[cfg(target_arch = "x86_64")]
fn pairs(a: &[u8], b: &[u8], target: &mut [MaybeUninit<u8>]) -> usize {
    use std::arch::x86_64::{
        __m128i, _mm_loadu_si128, _mm_storeu_si128, _mm_unpackhi_epi8, _mm_unpacklo_epi8,
    };
    let n = a.len().min(b.len()).min(target.len() / 2) / 16;
    for i in 0..n {
        // SAFETY: SSE2 is part of x86_64; sixteen bytes of each plane and thirty-two of the target are
        // within the slices, and the loads and stores need no alignment.
        unsafe {
            let load = |plane: &[u8]| _mm_loadu_si128(plane.as_ptr().add(16 * i).cast());
            let (a, b) = (load(a), load(b));
            let to: *mut __m128i = target.as_mut_ptr().add(32 * i).cast();
            _mm_storeu_si128(to, _mm_unpacklo_epi8(a, b));
            _mm_storeu_si128(to.add(1), _mm_unpackhi_epi8(a, b));
        }
    }
    16 * n
}

/// Values from which on the largest is looked for: of pieces of a row, as minibatches take them, to add up
/// what was seen costs as much as to put them together.
const LEAST_SEEN: usize = 4096;

/// Values of four bytes, sixteen or thirty-two at a time; how many were done, and the largest of them as
/// unsigned integers where they are many.
#[cfg(target_arch = "x86_64")]
fn fours(planes: [&[u8]; 4], target: &mut [MaybeUninit<u8>]) -> (usize, Option<u32>) {
    match std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for; so below.
        true if target.len() / 4 >= LEAST_SEEN => unsafe { wide_fours::<true>(planes, target) },
        true => unsafe { wide_fours::<false>(planes, target) },
        false => (narrow_fours(planes, target), None),
    }
}

/// Thirty-two at a time, and the largest where somebody looks: while values are in registers, a look at
/// them is hidden by the waiting for memory.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn wide_fours<const LOOK: bool>(
    [a, b, c, d]: [&[u8]; 4],
    target: &mut [MaybeUninit<u8>],
) -> (usize, Option<u32>) {
    use std::arch::x86_64::{
        __m256i, _mm256_loadu_si256, _mm256_max_epu32, _mm256_permute2x128_si256,
        _mm256_setzero_si256, _mm256_storeu_si256, _mm256_unpackhi_epi8, _mm256_unpackhi_epi16,
        _mm256_unpacklo_epi8, _mm256_unpacklo_epi16,
    };
    let shortest = [a, b, c, d].map(<[u8]>::len).into_iter().min().unwrap_or(0);
    let n = shortest.min(target.len() / 4) / 32;
    let mut largest = _mm256_setzero_si256();
    for i in 0..n {
        // SAFETY: thirty-two bytes of each plane and a hundred and twenty-eight of the target are within
        // the slices, and the loads and stores need no alignment.
        unsafe {
            let load = |plane: &[u8]| _mm256_loadu_si256(plane.as_ptr().add(32 * i).cast());
            let (a, b, c, d) = (load(a), load(b), load(c), load(d));
            let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
            let (low2, high2) = (_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d));
            // Each half of a register is put together by itself: values 0 to 3 and 16 to 19, and so on.
            let first = _mm256_unpacklo_epi16(low, low2);
            let second = _mm256_unpackhi_epi16(low, low2);
            let third = _mm256_unpacklo_epi16(high, high2);
            let fourth = _mm256_unpackhi_epi16(high, high2);
            let to: *mut __m256i = target.as_mut_ptr().add(128 * i).cast();
            _mm256_storeu_si256(to, _mm256_permute2x128_si256::<0x20>(first, second));
            _mm256_storeu_si256(to.add(1), _mm256_permute2x128_si256::<0x20>(third, fourth));
            _mm256_storeu_si256(to.add(2), _mm256_permute2x128_si256::<0x31>(first, second));
            _mm256_storeu_si256(to.add(3), _mm256_permute2x128_si256::<0x31>(third, fourth));
            if LOOK {
                let low = _mm256_max_epu32(first, second);
                let high = _mm256_max_epu32(third, fourth);
                largest = _mm256_max_epu32(largest, _mm256_max_epu32(low, high));
            }
        }
    }
    let mut lanes = [0u32; 8];
    // SAFETY: the array has the register's thirty-two bytes, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), largest) };
    (32 * n, LOOK.then(|| lanes.into_iter().fold(0, u32::max)))
}

/// Sixteen at a time.
#[cfg(target_arch = "x86_64")]
fn narrow_fours([a, b, c, d]: [&[u8]; 4], target: &mut [MaybeUninit<u8>]) -> usize {
    use std::arch::x86_64::{
        __m128i, _mm_loadu_si128, _mm_storeu_si128, _mm_unpackhi_epi8, _mm_unpackhi_epi16,
        _mm_unpacklo_epi8, _mm_unpacklo_epi16,
    };
    let shortest = [a, b, c, d].map(<[u8]>::len).into_iter().min().unwrap_or(0);
    let n = shortest.min(target.len() / 4) / 16;
    for i in 0..n {
        // SAFETY: SSE2 is part of x86_64; sixteen bytes of each plane and sixty-four of the target are
        // within the slices, and the loads and stores need no alignment.
        unsafe {
            let load = |plane: &[u8]| _mm_loadu_si128(plane.as_ptr().add(16 * i).cast());
            let (a, b, c, d) = (load(a), load(b), load(c), load(d));
            let (low, high) = (_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b));
            let (low2, high2) = (_mm_unpacklo_epi8(c, d), _mm_unpackhi_epi8(c, d));
            let to: *mut __m128i = target.as_mut_ptr().add(64 * i).cast();
            _mm_storeu_si128(to, _mm_unpacklo_epi16(low, low2));
            _mm_storeu_si128(to.add(1), _mm_unpackhi_epi16(low, low2));
            _mm_storeu_si128(to.add(2), _mm_unpacklo_epi16(high, high2));
            _mm_storeu_si128(to.add(3), _mm_unpackhi_epi16(high, high2));
        }
    }
    16 * n
}

#[cfg(not(target_arch = "x86_64"))]
fn pairs(_: &[u8], _: &[u8], _: &mut [MaybeUninit<u8>]) -> usize {
    0
}

#[cfg(not(target_arch = "x86_64"))]
fn fours(_: [&[u8]; 4], _: &mut [MaybeUninit<u8>]) -> (usize, Option<u32>) {
    (0, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_together_whatever_their_size_and_number() {
        for size in [1usize, 2, 3, 4, 8] {
            for n in [0usize, 1, 15, 16, 17, 31, 32, 33, 100] {
                let values: Vec<u8> = (0..=250u8).cycle().take(size * (n + 3)).collect();
                let plane = |byte: usize| values.iter().copied().skip(byte).step_by(size);
                let planes: Vec<Vec<u8>> = (0..size).map(|byte| plane(byte).collect()).collect();
                let planes: Vec<&[u8]> = planes.iter().map(Vec::as_slice).collect();
                let mut target = vec![MaybeUninit::new(0xee); size * n];
                unshuffle(&planes, 3, &mut target);
                #[cfg(target_arch = "x86_64")]
                if let [a, b, c, d] = planes.as_slice() {
                    // What a processor without AVX2 does.
                    let mut narrow = vec![MaybeUninit::new(0xee); size * n];
                    let planes = [a, b, c, d].map(|plane| &plane[3..3 + n]);
                    let done = narrow_fours(planes, &mut narrow);
                    assert_eq!(done, n / 16 * 16);
                    // SAFETY: both were filled when they were made.
                    let same =
                        |i: usize| unsafe { narrow[i].assume_init() == target[i].assume_init() };
                    assert!((0..4 * done).all(same));
                }
                // SAFETY: it was filled when it was made.
                let found: Vec<u8> = target.iter().map(|b| unsafe { b.assume_init() }).collect();
                assert_eq!(found, values[3 * size..], "{n} values of {size} bytes");
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_largest_is_seen_wherever_it_stands() {
        if !std::arch::is_x86_feature_detected!("avx2") {
            return;
        }
        let n = LEAST_SEEN + 17;
        for at in (0..40).chain(n - 40..n) {
            let value = |i: usize| {
                if i == at {
                    [1, 2, 3, 0xff]
                } else {
                    [9, 9, 9, 0x7f]
                }
            };
            let plane = |byte: usize| (0..n).map(|i| value(i)[byte]).collect::<Vec<u8>>();
            let planes = [0, 1, 2, 3].map(plane);
            let planes = planes.each_ref().map(Vec::as_slice);
            let mut target = vec![MaybeUninit::new(0); 4 * n];
            let done = unshuffle(&planes, 0, &mut target);
            let largest = u32::from_ne_bytes([1, 2, 3, 0xff]);
            assert_eq!(done.largest_word(), Some(largest), "at {at}");
            let few = unshuffle(&planes, 0, &mut target[..4 * 40]);
            assert_eq!(few.largest_word(), None);
        }
    }
}
