//! Text of any length (`vlen-utf8`): a count, then each text after its length, all of them as
//! little-endian words of four bytes (numcodecs, `vlen.pyx`).

use crate::store::decode::Fault;

/// Texts one after the other, and where each begins and ends.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) bytes: Vec<u8>,
    /// One more than there are texts.
    pub(super) offsets: Vec<usize>,
}

/// The texts of a chunk, whose lengths are held to what is there.
pub(super) fn parse(chunk: &[u8]) -> Result<Texts, Fault> {
    let short = || {
        Fault::Corrupt(format!(
            "texts are cut short in a chunk of {} bytes",
            chunk.len()
        ))
    };
    let word = |at: &[u8]| -> Option<(usize, usize)> {
        let (word, rest) = at.split_first_chunk::<4>()?;
        let word = usize::try_from(u32::from_le_bytes(*word)).ok()?;
        Some((word, rest.len()))
    };
    let (n, mut left) = word(chunk).ok_or_else(short)?;
    // Each has a length, at least.
    if n > left / 4 {
        return Err(short());
    }
    let mut texts = Texts {
        bytes: Vec::with_capacity(left - 4 * n),
        offsets: Vec::with_capacity(n + 1),
    };
    texts.offsets.push(0);
    for _ in 0..n {
        let (len, rest) = word(&chunk[chunk.len() - left..]).ok_or_else(short)?;
        let start = chunk.len() - rest;
        let text = chunk[start..].get(..len).ok_or_else(short)?;
        texts.bytes.extend_from_slice(text);
        texts.offsets.push(texts.bytes.len());
        left = rest - len;
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_held_to_what_is_there() {
        let chunk = b"\x02\0\0\0\x01\0\0\0a\x03\0\0\0bcd";
        let texts = parse(chunk).unwrap();
        assert_eq!(
            (texts.bytes.as_slice(), texts.offsets),
            (&b"abcd"[..], vec![0, 1, 4])
        );
        for len in 0..chunk.len() {
            assert!(parse(&chunk[..len]).is_err(), "{len}");
        }
        assert!(parse(b"\xff\xff\xff\xff\x01\0\0\0a").is_err());
        assert!(parse(b"\x01\0\0\0\xff\xff\xff\xffa").is_err());
    }
}
