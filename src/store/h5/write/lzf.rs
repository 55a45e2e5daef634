//! LZF, as liblzf decodes it: literal runs of up to 32 bytes, references of 3 to 264 bytes that
//! reach back at most 8,192.

/// Positions the table of recent triples holds.
const TABLE_BITS: u32 = 14;
const MAX_OFFSET: usize = 1 << 13;
const MAX_LEN: usize = 264;
const MAX_LITERALS: usize = 32;

/// A compressor; holds a table of 64 KiB, so keep one per thread.
#[derive(Debug)]
pub(super) struct Lzf {
    /// For a hash of three bytes, one more than where they were last seen.
    recent: Vec<u32>,
}

impl Lzf {
    pub(super) fn new() -> Self {
        Self {
            recent: vec![0; 1 << TABLE_BITS],
        }
    }

    /// Compresses `input`, [`None`] where that does not make it smaller (or it exceeds 4 GiB).
    pub(super) fn compress(&mut self, input: &[u8]) -> Option<Vec<u8>> {
        u32::try_from(input.len()).ok()?;
        self.recent.fill(0);
        let mut output = Vec::with_capacity(input.len());
        let mut literals = 0;
        let mut at = 0;
        while at + 2 < input.len() {
            match self.look_up(input, at) {
                None => at += 1,
                Some(earlier) => {
                    put_literals(&mut output, &input[literals..at]);
                    let limit = MAX_LEN.min(input.len() - at);
                    let len = 3 + input[at + 3..at + limit]
                        .iter()
                        .zip(&input[earlier + 3..])
                        .take_while(|(a, b)| a == b)
                        .count();
                    put_reference(&mut output, at - earlier - 1, len);
                    // The last two triples of the run are remembered, the others rarely pay.
                    for inside in (at + len).saturating_sub(2)..at + len {
                        if inside + 2 < input.len() {
                            self.look_up(input, inside);
                        }
                    }
                    at += len;
                    literals = at;
                }
            }
            if output.len() >= input.len() {
                return None;
            }
        }
        put_literals(&mut output, &input[literals..]);
        (output.len() < input.len()).then_some(output)
    }

    /// Where the three bytes at `at` were seen last, if in reach; remembers that they are here.
    fn look_up(&mut self, input: &[u8], at: usize) -> Option<usize> {
        let triple =
            u32::from(input[at]) | u32::from(input[at + 1]) << 8 | u32::from(input[at + 2]) << 16;
        let slot = usize::try_from(triple.wrapping_mul(0x9E37_79B1) >> (32 - TABLE_BITS)).ok()?;
        let earlier = std::mem::replace(&mut self.recent[slot], u32::try_from(at + 1).ok()?);
        let earlier = usize::try_from(earlier).ok()?.checked_sub(1)?;
        (earlier < at
            && at - earlier <= MAX_OFFSET
            && input[earlier..earlier + 3] == input[at..at + 3])
            .then_some(earlier)
    }
}

fn put_literals(output: &mut Vec<u8>, literals: &[u8]) {
    for run in literals.chunks(MAX_LITERALS) {
        output.push(low_byte(run.len() - 1));
        output.extend_from_slice(run);
    }
}

/// A reference to `len` bytes, `offset + 1` back.
fn put_reference(output: &mut Vec<u8>, offset: usize, len: usize) {
    let len = len - 2;
    output.push(low_byte(len.min(7) << 5 | offset >> 8));
    if len >= 7 {
        output.push(low_byte(len - 7));
    }
    output.push(low_byte(offset & 0xff));
}

/// The callers' values are below 256 by construction.
fn low_byte(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::Lzf;

    #[test]
    fn what_is_compressed_decodes() {
        let mut lzf = Lzf::new();
        let repeats: Vec<u8> = (0..100_000u32)
            .flat_map(|i| (i / 7 % 900).to_le_bytes())
            .collect();
        let same = vec![7u8; 10_000];
        let texts = b"abcabcabcabcabcabcabcabcabcabcabcabcabcdabcabcd".repeat(3);
        for input in [repeats, same, texts, vec![1; 4], b"aaaab".to_vec()] {
            if let Some(output) = lzf.compress(&input) {
                assert_eq!(decode(&output), input);
                assert!(output.len() < input.len());
            }
        }
        assert!(lzf.compress(&same_free(5_000)).is_none());
        assert!(lzf.compress(&[]).is_none());
    }

    /// Bytes without a triple that comes twice.
    fn same_free(len: u32) -> Vec<u8> {
        (0..len)
            .flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes())
            .collect()
    }

    fn decode(mut input: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        while let Some((&control, rest)) = input.split_first() {
            let control = usize::from(control);
            input = rest;
            if control < 32 {
                output.extend_from_slice(&input[..=control]);
                input = &input[control + 1..];
                continue;
            }
            let mut len = (control >> 5) + 2;
            if len == 9 {
                len += usize::from(input[0]);
                input = &input[1..];
            }
            let back = ((control & 31) << 8 | usize::from(input[0])) + 1;
            input = &input[1..];
            for _ in 0..len {
                output.push(output[output.len() - back]);
            }
        }
        output
    }
}
