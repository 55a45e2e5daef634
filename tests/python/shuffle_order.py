"""The order of a shuffle, worked out from its definition alone."""

import struct

CONSTANT = struct.unpack("<4I", b"expand 32-byte k")
MASK = 0xFFFFFFFF


def chacha8(key, block):
    """Block `block` of the stream, as eight 64-bit words."""
    start = [*CONSTANT, *struct.unpack("<8I", key), block & MASK, block >> 32, 0, 0]
    state = list(start)

    def step(x, y, z, by):
        state[x] = (state[x] + state[y]) & MASK
        mixed = state[z] ^ state[x]
        state[z] = ((mixed << by) | (mixed >> (32 - by))) & MASK

    columns = [(i, 4 + i, 8 + i, 12 + i) for i in range(4)]
    diagonals = [(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4) for i in range(4)]
    for a, b, c, d in (columns + diagonals) * 4:
        step(a, b, d, 16), step(c, d, b, 12), step(a, b, d, 8), step(c, d, b, 7)
    words = [(x + y) & MASK for x, y in zip(state, start)]
    return [words[i] | words[i + 1] << 32 for i in range(0, 16, 2)]


def order(seed, n):
    """The rows 0 to n in the order of a seed."""
    key = struct.pack("<Q", seed) + b"annfusion row order 1\0\0\0"
    keys = [word for block in range(n // 8 + 1) for word in chacha8(key, block)]
    return sorted(range(n), key=lambda row: (keys[row], row))
