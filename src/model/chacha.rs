//! ChaCha with 8 rounds as a function of a position: what a [`RowOrder`](super::RowOrder) sorts by.
//!
//! Written out here rather than taken from a crate, so that no version of a crate can change an order
//! that somebody has published; a test compares it with `rand_chacha`.

/// Blocks that are made together, side by side, which the compiler turns into vector instructions.
const LANES: usize = 8;
/// 64-bit words of a block.
const WORDS: usize = 8;
/// Words made together.
pub(super) const BATCH: usize = LANES * WORDS;

/// The constant of 256-bit keys, "expand 32-byte k".
const CONSTANT: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

type Lanes = [u32; LANES];

/// Words `batch * BATCH` to `(batch + 1) * BATCH` of the key's stream (nonce 0, little-endian).
pub(super) fn words(key: &[u32; 8], batch: u64) -> [u64; LANES * WORDS] {
    let mut state: [Lanes; 16] = [[0; LANES]; 16];
    for (lanes, word) in state.iter_mut().zip(CONSTANT.iter().chain(key)) {
        *lanes = [*word; LANES];
    }
    let first = batch.wrapping_mul(LANES as u64);
    let counters: [[u8; 8]; LANES] =
        std::array::from_fn(|lane| first.wrapping_add(lane as u64).to_le_bytes());
    state[12] = counters.map(|[a, b, c, d, ..]| u32::from_le_bytes([a, b, c, d]));
    state[13] = counters.map(|[.., e, f, g, h]| u32::from_le_bytes([e, f, g, h]));
    let mut mixed = state;
    for _ in 0..4 {
        quarter(&mut mixed, [0, 4, 8, 12]);
        quarter(&mut mixed, [1, 5, 9, 13]);
        quarter(&mut mixed, [2, 6, 10, 14]);
        quarter(&mut mixed, [3, 7, 11, 15]);
        quarter(&mut mixed, [0, 5, 10, 15]);
        quarter(&mut mixed, [1, 6, 11, 12]);
        quarter(&mut mixed, [2, 7, 8, 13]);
        quarter(&mut mixed, [3, 4, 9, 14]);
    }
    for (lanes, start) in mixed.iter_mut().zip(&state) {
        for (word, start) in lanes.iter_mut().zip(start) {
            *word = word.wrapping_add(*start);
        }
    }
    let mut words = [0; LANES * WORDS];
    for (lane, block) in words.chunks_exact_mut(WORDS).enumerate() {
        for (word, pair) in block.iter_mut().zip(mixed.chunks_exact(2)) {
            *word = u64::from(pair[0][lane]) | u64::from(pair[1][lane]) << 32;
        }
    }
    words
}

#[inline]
fn quarter(state: &mut [Lanes; 16], [a, b, c, d]: [usize; 4]) {
    step(state, [a, b, d], 16);
    step(state, [c, d, b], 12);
    step(state, [a, b, d], 8);
    step(state, [c, d, b], 7);
}

/// `x += y; z = (z ^ x) <<< by`.
#[inline]
fn step(state: &mut [Lanes; 16], [x, y, z]: [usize; 3], by: u32) {
    let added = state[y];
    for (lane, y) in state[x].iter_mut().zip(added) {
        *lane = lane.wrapping_add(y);
    }
    let mixed = state[x];
    for (lane, x) in state[z].iter_mut().zip(mixed) {
        *lane = (*lane ^ x).rotate_left(by);
    }
}
