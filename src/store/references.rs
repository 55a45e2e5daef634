//! Where the bytes of an array lie, for readers that fetch and decode them by themselves.

/// What can be said of an array's place in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// Its chunks lie in the file, encoded as others decode them, too.
    Chunks(References),
    /// Nobody else can read it where it lies, and why.
    Nowhere(String),
}

/// The chunks of an array in its file.
///
/// All chunks have one shape, those at the ends of axes too; what sticks out of the array is noise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct References {
    /// Lengths of a chunk, none of them 0.
    pub chunk_shape: Vec<u64>,
    /// Whether the most significant byte of a number comes first.
    pub big_endian: bool,
    /// What was done to a chunk's bytes, in the order of encoding.
    pub filters: Vec<ChunkFilter>,
    /// The element that stands where no chunk is, as it would be on disk.
    pub fill: Vec<u8>,
    /// The chunks that there are, by ascending position.
    pub chunks: Vec<ChunkReference>,
}

/// A filter that others have, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkFilter {
    /// Bytes of elements of so many bytes, regrouped by their place in the element.
    Shuffle(usize),
    /// A zlib stream.
    Zlib,
    /// Fletcher's checksum behind the bytes.
    Fletcher32,
}

/// A chunk and its encoded bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkReference {
    /// Position in the grid of chunks, row-major.
    pub index: u64,
    /// Its bytes.
    pub bytes: ChunkBytes,
}

/// Where a chunk's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkBytes {
    /// In the file.
    At {
        /// Where they begin.
        offset: u64,
        /// How many there are.
        len: u64,
    },
    /// Here, because the file does not have them as the array's filters would: the chunk skipped
    /// one, lies in the header, or is the short end of a run that is cut into chunks.
    Held(Vec<u8>),
}
