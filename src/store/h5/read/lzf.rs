//! Marc Lehmann's LZF, the filter that h5py calls `lzf`.

/// Unpacks `input` into exactly `output.len()` bytes; [`None`] where the two do not fit.
///
/// Runs of up to 32 bytes are copied as whole 32-byte blocks where both sides have room, since the
/// length of a block copy is known to the compiler and most runs are shorter than that.
pub(super) fn decompress(input: &[u8], output: &mut [u8]) -> Option<()> {
    let (mut ip, mut op) = (0usize, 0usize);
    while ip < input.len() {
        let ctrl = usize::from(input[ip]);
        ip += 1;
        if ctrl < 32 {
            let len = ctrl + 1;
            match (input.get(ip..ip + 32), output.get_mut(op..op + 32)) {
                (Some(from), Some(to)) => to.copy_from_slice(from),
                _ => output
                    .get_mut(op..op + len)?
                    .copy_from_slice(input.get(ip..ip + len)?),
            }
            ip += len;
            op += len;
            if op > output.len() {
                return None;
            }
            continue;
        }
        let mut len = ctrl >> 5;
        if len == 7 {
            len += usize::from(*input.get(ip)?);
            ip += 1;
        }
        len += 2;
        let distance = ((ctrl & 0x1f) << 8) + usize::from(*input.get(ip)?) + 1;
        ip += 1;
        let from = op.checked_sub(distance)?;
        let end = op + len;
        if end > output.len() {
            return None;
        }
        if distance >= 16 && end + 16 <= output.len() {
            let (mut s, mut d) = (from, op);
            while d < end {
                let block: [u8; 16] = output[s..s + 16].try_into().ok()?;
                output[d..d + 16].copy_from_slice(&block);
                s += 16;
                d += 16;
            }
        } else if distance >= len {
            output.copy_within(from..from + len, op);
        } else if distance == 1 {
            let value = output[from];
            output[op..end].fill(value);
        } else {
            // The source runs into the target: what was copied doubles with every step.
            let mut copied = distance;
            let mut at = op;
            while at < end {
                let n = copied.min(end - at);
                output.copy_within(from..from + n, at);
                at += n;
                copied += n;
            }
        }
        op = end;
    }
    (op == output.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::decompress;

    #[test]
    fn literals_matches_and_overlaps() {
        // "abcd", then 12 bytes from 4 back, then 5 bytes from 1 back.
        let packed = [3, b'a', b'b', b'c', b'd', 0xe0, 3, 3, 0x60, 0];
        let mut out = [0; 21];
        decompress(&packed, &mut out).unwrap();
        assert_eq!(&out, b"abcdabcdabcdabcdddddd");
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let mut out = [0; 4];
        assert!(decompress(&[3, 1, 2, 3], &mut out).is_none());
        assert!(decompress(&[0x20, 9], &mut out).is_none());
        assert!(decompress(&[3, 1, 2, 3, 4, 0, 5], &mut out).is_none());
        assert!(decompress(&[0xe0], &mut out).is_none());
        assert!(decompress(&[0, 1], &mut out).is_none());
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut state = 1u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            u8::try_from(state & 0xff).unwrap()
        };
        for len in 0..400 {
            let input: Vec<u8> = (0..len).map(|_| next()).collect();
            let mut out = vec![0; 3 * len];
            let _ = decompress(&input, &mut out);
        }
    }
}
