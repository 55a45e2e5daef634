//! Chunks that hold parts of rows, in any number of dimensions.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::array::Core;
use super::fetch::{Fetched, byte_range, cut, fill, slice, with_chunk};
use super::storage::{Chunked, Entry};
use crate::model::RowSelection;
use crate::store::decode::{Fault, Initialised, bands, zeroed};
use crate::store::source::{Ahead, ByteSource, read_vec};

/// Reads selected rows of such an array: every band of rows is laid out with the fill value and the
/// chunks' runs are copied over it.
pub(super) fn read_grid(
    core: &Core,
    chunked: &Chunked,
    table: &[Entry],
    rows: &RowSelection,
    out: &mut [MaybeUninit<u8>],
    fetched: &mut Fetched,
) -> Result<Initialised, Fault> {
    let mut rest = out;
    let mut done = Initialised::default();
    let workers = rayon::current_num_threads() * 2;
    for (band, ranges) in bands(rows, chunked.chunk_shape[0]) {
        let n_rows: u64 = ranges.iter().map(|r| r.end - r.start).sum();
        let target = cut(&mut rest, n_rows.saturating_mul(core.row_bytes))?;
        // Cannot overflow: the grid's places were counted.
        let first = band * chunked.per_band;
        let from = table.partition_point(|e| e.index < first);
        let to = table.partition_point(|e| e.index < first + chunked.per_band);
        let entries = &table[from..to];
        let ahead = ahead(&core.source, chunked, entries, &ranges)?;
        let source = ahead.as_ref().map_or(&core.source, |ahead| &ahead.source);
        let before = fetched.bytes;
        let missing = entries.len() as u64 != chunked.per_band;
        let target = if missing {
            let gap = (first..)
                .zip(entries)
                .find_map(|(i, e)| (e.index != i).then_some(i))
                .unwrap_or(first + entries.len() as u64);
            fill(target, core.fill(band, gap - first)?)
        } else {
            zeroed(target)
        };
        for wave in entries.chunks(workers) {
            let parts: Vec<Result<(Vec<u8>, Fetched), Fault>> = wave
                .par_iter()
                .map(|entry| chunk_rows(source.as_ref(), chunked, *entry, &ranges))
                .collect();
            for (entry, part) in wave.iter().zip(parts) {
                let (bytes, took) = part?;
                *fetched += took;
                scatter(core, chunked, entry.index, &bytes, target)?;
            }
        }
        done = done.and(Initialised::of(target));
        if let Some(ahead) = &ahead {
            fetched.bytes = before + ahead.bytes;
        }
    }
    Ok(done)
}

/// The chunks of a band that is far away, fetched together.
fn ahead(
    source: &Arc<dyn ByteSource>,
    chunked: &Chunked,
    entries: &[Entry],
    rows: &[Range<u64>],
) -> Result<Option<Ahead>, Fault> {
    if !source.is_remote() {
        return Ok(None);
    }
    let row = chunked.chunk_bytes as u64 / chunked.chunk_shape[0];
    let mut ranges = Vec::new();
    for entry in entries {
        if !chunked.pipeline.is_empty() {
            if chunked.recent.recall(entry.index).is_none() {
                ranges.push(entry.address..entry.address.saturating_add(entry.size));
            }
            continue;
        }
        for range in rows {
            let range = byte_range(range, row)?;
            let at = |offset| entry.address.saturating_add(offset);
            ranges.push(at(range.start)..at(range.end));
        }
    }
    Ok(Arc::clone(source).ahead(&ranges)?)
}

/// The selected rows of one chunk, one after the other.
fn chunk_rows(
    source: &dyn ByteSource,
    chunked: &Chunked,
    entry: Entry,
    rows: &[Range<u64>],
) -> Result<(Vec<u8>, Fetched), Fault> {
    let row = chunked.chunk_bytes as u64 / chunked.chunk_shape[0];
    let ranges = rows
        .iter()
        .map(|r| byte_range(r, row))
        .collect::<Result<Vec<_>, _>>()?;
    let mut picked = Vec::new();
    if chunked.pipeline.is_empty() {
        let mut took = Fetched {
            bytes: 0,
            chunks: 1,
        };
        for range in &ranges {
            let at = entry.address.saturating_add(range.start);
            let len = range.end - range.start;
            took.bytes += len;
            picked.extend(read_vec(source, at, len)?);
        }
        return Ok((picked, took));
    }
    let took = with_chunk(source, chunked, entry, &ranges, |bytes| {
        for range in &ranges {
            picked.extend_from_slice(slice(bytes, range)?);
        }
        Ok(())
    })?;
    Ok((picked, took))
}

/// Copies a chunk's rows to their place in a band of whole rows.
fn scatter(
    core: &Core,
    chunked: &Chunked,
    index: u64,
    bytes: &[u8],
    band: &mut [u8],
) -> Result<(), Fault> {
    let overflow = || Fault::Corrupt("a chunk's rows overflow".into());
    let shape = &core.info.shape[1..];
    let chunk = &chunked.chunk_shape[1..];
    let place = chunked.inner_place(index);
    let to_usize = |n: u64| usize::try_from(n).map_err(|_| overflow());
    // Per axis: where the chunk starts, how far it reaches, strides of both sides in elements.
    let rank = shape.len();
    let element = core.element;
    let (mut start, mut extent) = (vec![0; rank], vec![0; rank]);
    let (mut chunk_stride, mut row_stride) = (vec![element; rank], vec![element; rank]);
    for axis in (0..rank).rev() {
        let first = place[axis] * chunk[axis];
        start[axis] = to_usize(first)?;
        extent[axis] = to_usize(chunk[axis].min(shape[axis] - first))?;
        if axis + 1 < rank {
            chunk_stride[axis] = chunk_stride[axis + 1] * to_usize(chunk[axis + 1])?;
            row_stride[axis] = row_stride[axis + 1] * to_usize(shape[axis + 1])?;
        }
    }
    let chunk_row = chunk_stride[0] * to_usize(chunk[0])?;
    let row_bytes = to_usize(core.row_bytes)?;
    let run = extent[rank - 1] * element;
    let lines: usize = extent[..rank - 1].iter().product();
    for (row, values) in bytes.chunks_exact(chunk_row).enumerate() {
        for line in 0..lines {
            let (mut from, mut to) = (0, row * row_bytes + start[rank - 1] * element);
            let mut rest = line;
            for axis in (0..rank - 1).rev() {
                let at = rest % extent[axis];
                rest /= extent[axis];
                from += at * chunk_stride[axis];
                to += (start[axis] + at) * row_stride[axis];
            }
            match (values.get(from..from + run), band.get_mut(to..to + run)) {
                (Some(values), Some(target)) => target.copy_from_slice(values),
                _ => return Err(overflow()),
            }
        }
    }
    Ok(())
}
